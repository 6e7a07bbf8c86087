"""A kernel that somebody built: what its image and its modules say of themselves."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.base.errors import ParseError, UsageError
from harness.guest.kernel import KernelImage, Modules, options
from suites.selftest.fakes.kernelfile import RELEASE, bzimage, module, tree

CONFIG = "# Linux/x86 6.12.9 Kernel Configuration\nCONFIG_XEN_DOM0=y\n# CONFIG_XENFS is not set\nCONFIG_EXT4_FS=m\n"


def _zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-qc"], input=data, stdout=subprocess.PIPE, check=True).stdout  # noqa: S607


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "bzip2": bz2.compress,
    "not packed": lambda data: data,
}
if shutil.which("zstd"):
    PACKERS["zstd"] = _zstd


@pytest.mark.parametrize("pack", PACKERS.values(), ids=PACKERS)
def test_an_image_says_its_release_and_its_config(pack: Callable[[bytes], bytes]) -> None:
    image = KernelImage.parse(bzimage(config=CONFIG, pack=pack), "bzImage")
    assert image == KernelImage(RELEASE, {"XEN_DOM0": "y", "EXT4_FS": "m"})


def test_a_config_that_is_not_in_it_is_unknown() -> None:
    assert KernelImage.parse(bzimage(), "bzImage").config is None
    assert options('CONFIG_A=y\nCONFIG_NAME="x y"\n# CONFIG_B is not set\n') == {"A": "y", "NAME": '"x y"'}


def _changed(at: int, value: bytes) -> bytes:
    data = bytearray(bzimage(config=CONFIG))
    data[at : at + len(value)] = value
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no bzImage"),
        (b"\x7fELF" + bytes(1000), "no bzImage"),
        (bzimage()[:0x250], "no bzImage"),
        (_changed(0x236, b"\0"), "32 bits"),
        (_changed(0x206, b"\x0b\x02"), "before 3.8"),
        (_changed(0x20E, b"\0\0"), "names no version"),
        (bzimage(config=CONFIG, pack=lambda data: b"\x1f\x8b" + data), "cannot be unpacked"),
    ],
)
def test_what_is_no_image_of_ours(data: bytes, words: str) -> None:
    with pytest.raises(ParseError, match=words):
        KernelImage.parse(data, "bzImage")


@given(place=st.integers(0x1F0, 0x260), value=st.binary(min_size=1, max_size=8))
def test_damaged_images(place: int, value: bytes) -> None:
    with contextlib.suppress(ParseError):
        KernelImage.parse(_changed(place, value), "bzImage")


class TestModules:
    @pytest.mark.parametrize("given", ["", "lib/modules", f"lib/modules/{RELEASE}"])
    def test_they_are_found_below_what_modules_install_was_told(self, tmp_path: Path, given: str) -> None:
        tree(tmp_path, {"ext4": ""})
        tree(tmp_path, {"ext4": ""}, "6.1.0")
        assert Modules.find(tmp_path / given, RELEASE).folder == tmp_path / f"lib/modules/{RELEASE}"

    def test_those_of_another_kernel(self, tmp_path: Path) -> None:
        tree(tmp_path, {"ext4": ""}, "6.1.0")
        with pytest.raises(UsageError, match=rf"has modules of 6\.1\.0, and the kernel is {RELEASE}") as raised:
            Modules.find(tmp_path, RELEASE)
        assert "modules_install INSTALL_MOD_PATH" in raised.value.hint

    def test_none_at_all(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="has no modules"):
            Modules.find(tmp_path, RELEASE)

    def test_each_comes_after_what_it_depends_on(self, tmp_path: Path) -> None:
        tree(tmp_path, {"a-b": "c,d_e", "c": "d_e", "d-e": "", "other": ""}, builtin=("ext4",))
        loaded = Modules.find(tmp_path, RELEASE).loading(["a_b", "ext4", "c"])
        assert list(loaded) == ["kernel/drivers/d-e.ko", "kernel/drivers/c.ko", "kernel/drivers/a-b.ko"]

    @pytest.mark.parametrize(("suffix", "pack"), [(".xz", lzma.compress), (".gz", gzip.compress), ("", bytes)])
    def test_they_are_unpacked(self, tmp_path: Path, suffix: str, pack: Callable[[bytes], bytes]) -> None:
        tree(tmp_path, {"c": ""})
        packed = tmp_path / f"lib/modules/{RELEASE}/kernel/virtio_pci.ko{suffix}"
        packed.write_bytes(pack(module(depends="c")))
        loaded = Modules.find(tmp_path, RELEASE).loading(["virtio_pci"])
        assert loaded["kernel/virtio_pci.ko"] == module(depends="c")
        assert list(loaded) == ["kernel/drivers/c.ko", "kernel/virtio_pci.ko"]

    def test_one_that_is_of_another_kernel_though_it_lies_there(self, tmp_path: Path) -> None:
        tree(tmp_path, {"ext4": ""})
        (tmp_path / f"lib/modules/{RELEASE}/kernel/drivers/ext4.ko").write_bytes(module("6.1.0"))
        with pytest.raises(UsageError, match=rf"ext4\.ko is a module of 6\.1\.0, and the kernel is {RELEASE}"):
            Modules.find(tmp_path, RELEASE).loading(["ext4"])

    def test_one_that_is_not_there(self, tmp_path: Path) -> None:
        tree(tmp_path, {"ext4": "jbd2"})
        with pytest.raises(UsageError, match="has no module jbd2"):
            Modules.find(tmp_path, RELEASE).loading(["ext4"])

    def test_another_content_is_another_digest(self, tmp_path: Path) -> None:
        tree(tmp_path, {"ext4": ""})
        before = Modules.find(tmp_path, RELEASE).sha256
        assert Modules.find(tmp_path, RELEASE).sha256 == before
        (tmp_path / f"lib/modules/{RELEASE}/kernel/drivers/ext4.ko").write_bytes(module(depends="x"))
        assert Modules.find(tmp_path, RELEASE).sha256 != before
