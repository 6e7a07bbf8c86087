"""A developer's own kernel: what it must have is asked before anything boots, and each refusal says the remedy."""

from __future__ import annotations

import hashlib
import tarfile
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.base.errors import UsageError
from harness.guest.drivers import drivers
from harness.host.stacks import stack
from harness.nested.laidover import LaidOver
from harness.nested.ownkernel import _DOM0, OwnKernel, _read, fragment
from harness.nested.ownparts import OwnParts
from harness.nested.rootfs import INIT, INIT_MODULES
from suites.selftest.fakes.kernelfile import RELEASE, bzimage, tree

MODULES = ("xenfs", "xen-privcmd", "xen-evtchn", "xen-gntdev", "xen-pciback", "virtio_pci", "virtio_blk", "virtio_net")
BUILT_IN = fragment(drivers().values())


def modular() -> str:
    """As a distribution has it: what may be a module is one."""
    wanted = {option for option, name in _DOM0.items() if name} | {"BLK_DEV_NVME"}
    lines = (line.partition("=")[0].removeprefix("CONFIG_") for line in BUILT_IN.splitlines())
    return "".join(f"CONFIG_{option}={'m' if option in wanted else 'y'}\n" for option in lines)


def kernel(folder: Path, config: str | None, **more: str) -> Path:
    path = folder / "bzImage"
    path.write_bytes(bzimage(config=config, **more))  # type: ignore[arg-type]
    return path


def modules(folder: Path) -> Path:
    return tree(folder / "installed", {**dict.fromkeys(MODULES, ""), "ext4": "jbd2", "jbd2": "", "nvme": "", "tun": ""})


def test_one_with_everything_built_in_needs_no_modules(tmp_path: Path) -> None:
    own = OwnKernel.of_dom0(kernel(tmp_path, BUILT_IN), None)
    assert own.image.release == RELEASE
    own.fit(drivers().values())
    assert (own.staged(drivers().values()), own.initial()) == ({}, {})


@pytest.mark.parametrize("lost", [*_DOM0])
def test_dom0_must_have_each(tmp_path: Path, lost: str) -> None:
    path = kernel(tmp_path, BUILT_IN.replace(f"CONFIG_{lost}=y\n", f"# CONFIG_{lost} is not set\n"))
    with pytest.raises(UsageError, match=f"is a kernel without CONFIG_{lost} ") as raised:
        OwnKernel.of_dom0(path, None)
    assert "kernel-config" in raised.value.hint


def test_a_guest_must_have_less(tmp_path: Path) -> None:
    path = kernel(tmp_path, BUILT_IN.replace("CONFIG_XEN_DOM0=y\n", ""))
    OwnKernel.of_guest(path, None)
    lost = kernel(tmp_path, BUILT_IN.replace("CONFIG_HVC_XEN_FRONTEND=y\n", ""))
    with pytest.raises(UsageError, match="without CONFIG_HVC_XEN_FRONTEND"):
        OwnKernel.of_guest(lost, None)


class TestConfig:
    @pytest.mark.parametrize("name", [f"config-{RELEASE}", "config", ".config"])
    def test_beside_the_image(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_text(BUILT_IN)
        OwnKernel.of_dom0(kernel(tmp_path, None), None)

    def test_in_the_tree_that_it_was_built_in(self, tmp_path: Path) -> None:
        folder = tmp_path / "arch/x86/boot"
        folder.mkdir(parents=True)
        (tmp_path / ".config").write_text(BUILT_IN)
        OwnKernel.of_dom0(kernel(folder, None), None)

    def test_unknown(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="does not say how it was configured") as raised:
            OwnKernel.of_dom0(kernel(tmp_path, None), None)
        assert f"config-{RELEASE}" in raised.value.hint and "CONFIG_IKCONFIG=y" in raised.value.hint

    def test_that_of_the_image_goes_before_one_beside_it(self, tmp_path: Path) -> None:
        (tmp_path / ".config").write_text(BUILT_IN)
        with pytest.raises(UsageError, match="without CONFIG_"):
            OwnKernel.of_dom0(kernel(tmp_path, "CONFIG_XEN=y\n"), None)


class TestModules:
    def test_they_are_needed_where_something_is_a_module(self, tmp_path: Path) -> None:
        path = kernel(tmp_path, modular())
        with pytest.raises(UsageError, match="as a module, and no modules are given") as raised:
            OwnKernel.of_dom0(path, None)
        assert "--dom0-modules" in raised.value.hint

    def test_of_another_kernel(self, tmp_path: Path) -> None:
        path = kernel(tmp_path, modular(), release="6.1.0")
        with pytest.raises(UsageError, match=rf"has modules of {RELEASE}, and the kernel is 6\.1\.0"):
            OwnKernel.of_dom0(path, modules(tmp_path))

    def test_one_that_is_wanted_and_was_not_installed(self, tmp_path: Path) -> None:
        folder = modules(tmp_path)
        (folder / f"lib/modules/{RELEASE}/kernel/drivers/xen-pciback.ko").unlink()
        with pytest.raises(UsageError, match="has no module xen_pciback"):
            OwnKernel.of_dom0(kernel(tmp_path, modular()), folder)

    def test_the_device_of_a_scenario_wants_its_driver(self, tmp_path: Path) -> None:
        own = OwnKernel.of_dom0(kernel(tmp_path, modular().replace("CONFIG_E1000E=y\n", "")), modules(tmp_path))
        known = drivers()
        OwnParts(dom0=own).fit(stack("trixie"), [known["nvme"]])
        with pytest.raises(UsageError, match="without CONFIG_E1000E "):
            OwnParts(dom0=own).fit(stack("trixie"), [known["e1000e"]])
        assert "e1000e" not in OwnParts(dom0=own).drivers(known)
        assert "nvme" in OwnParts(dom0=own).drivers(known)

    def test_what_the_host_gets(self, tmp_path: Path) -> None:
        own = OwnKernel.of_dom0(kernel(tmp_path, modular()), modules(tmp_path))
        image = SimpleNamespace(kernel=None, initrd=tmp_path / "its.img", digest="x")
        image.initrd.write_bytes(b"its own")
        recipe = LaidOver(image, own, None, drivers().values())  # type: ignore[arg-type]
        with tarfile.open(fileobj=BytesIO(recipe.over())) as tar:
            names = tar.getnames()
        folder = f"lib/modules/{RELEASE}/kernel/drivers"
        wanted = [f"{folder}/{name}.ko" for name in ("xen-pciback", "nvme", "tun", "jbd2")]
        assert {f"boot/vmlinuz-{RELEASE}", *wanted} < {*names}
        recipe.build(tmp_path)
        assert (tmp_path / "vmlinuz").read_bytes() == own.path.read_bytes()
        initrd = (tmp_path / "initrd.img").read_bytes()
        assert initrd.startswith(b"its own\x00070701")
        for name in set(INIT_MODULES) - {"crc32c_generic"}:
            assert f"lib/{name}.ko".encode() in initrd
        assert f"depmod {RELEASE}".encode() in initrd

    def test_too_much_for_the_memory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("harness.nested.laidover._MOST", 1000)
        own = OwnKernel.of_dom0(kernel(tmp_path, modular()), modules(tmp_path))
        image = SimpleNamespace(kernel=None, initrd=tmp_path / "its.img", digest="x")
        with pytest.raises(UsageError, match="are the most") as raised:
            LaidOver(image, own, None, ()).build(tmp_path)  # type: ignore[arg-type]
        assert "INSTALL_MOD_STRIP=1" in raised.value.hint


def test_the_initramfs_lays_it_over_once_the_root_is_there() -> None:
    """`_init` puts its lines before one of INIT's, which must be there exactly once."""
    init = LaidOver(None, None, None, ())._init()  # type: ignore[arg-type]
    lines = init.splitlines()
    over = next(number for number, line in enumerate(lines) if "over.tar" in line)
    mounted = next(number for number, line in enumerate(lines) if "/dev/vda /root" in line)
    moved = next(number for number, line in enumerate(lines) if "mount -o move" in line)
    assert mounted < over < moved
    assert INIT.count("$b mount -o move") == 1


def test_a_guest_of_its_own_has_its_drivers_modules(tmp_path: Path) -> None:
    config = modular().replace("CONFIG_XEN_PCIDEV_FRONTEND=y", "CONFIG_XEN_PCIDEV_FRONTEND=m")
    folder = modules(tmp_path)
    tree(tmp_path / "installed", {"xen-pcifront": ""})
    own = OwnKernel.of_guest(kernel(tmp_path, config), folder)
    found = [Path(path).name for path, _ in own.guest_modules(drivers()["nvme"])]
    assert found == ["xen-pcifront.ko", "nvme.ko"]
    image = hashlib.sha256(own.path.read_bytes()).hexdigest()
    assert own.modules is not None
    assert OwnParts(guest=own).facts == {
        "own_guest_kernel": f"bzImage, SHA-256 {image}, modules SHA-256 {own.modules.sha256}"
    }


def test_other_modules_are_another_host(tmp_path: Path) -> None:
    path, folder = kernel(tmp_path, modular()), modules(tmp_path)
    image = SimpleNamespace(digest="x")
    before = LaidOver(image, OwnKernel.of_dom0(path, folder), None, ()).digest  # type: ignore[arg-type]
    _read.cache_clear()
    assert LaidOver(image, OwnKernel.of_dom0(path, folder), None, ()).digest == before  # type: ignore[arg-type]
    tree(tmp_path / "installed", {"loop": ""})
    _read.cache_clear()
    assert LaidOver(image, OwnKernel.of_dom0(path, folder), None, ()).digest != before  # type: ignore[arg-type]
