"""The command line of a nested host, the devices on it, and a real QEMU as far as one without a guest goes."""

from __future__ import annotations

import dataclasses
import functools
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.base.errors import LabError, UsageError
from harness.nested.accelerator import Accelerator
from harness.nested.cache import Cache
from harness.nested.devices import catalogue, root_ports, select
from harness.nested.emulator import Emulator, installed, known_emulator
from harness.nested.machine import Boot, Machine, MachineSpec
from harness.nested.rundir import RunDir, emulator_pid
from suites.selftest.fakes.patience import FOREVER

BOOT = Boot(Path("/c/xen"), Path("/c/vmlinuz"), Path("/c/initrd"), "conring_size=1M", "console=hvc0")
NOT_STARTED = Emulator(("qemu",), ("qemu-img",), "11.1.3", frozenset())
TCG = Accelerator("tcg", "qemu64,+svm", "why")
GOLDEN = """\
-nodefaults -display none -no-user-config
-machine q35,memory-backend=ram
-accel tcg,thread=multi
-cpu qemu64,+svm
-smp 1
-m 2560
-object memory-backend-file,id=ram,size=2560M,mem-path=/c/ram,share=off
-device intel-iommu,intremap=on,aw-bits=48
-drive file=disk.qcow2,if=none,id=root,format=qcow2,cache=unsafe
-device virtio-blk-pci,drive=root,addr=0x3
-netdev user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:0-10.0.2.15:22
-device virtio-net-pci,netdev=net,addr=0x4
{ports}
-netdev user,id=e1000e-net,restrict=on
-device e1000e,id=e1000e-dev,bus=rp1,netdev=e1000e-net
-object rng-random,id=virtio-rng-rng,filename=/dev/urandom
-device virtio-rng-pci,id=virtio-rng-dev,bus=rp2,rng=virtio-rng-rng,iommu_platform=on,disable-legacy=on
-kernel /c/xen
-append conring_size=1M
-initrd /c/vmlinuz console=hvc0,/c/initrd
-serial file:console.log
-qmp unix:qmp.sock,server=on,wait=off
-pidfile qemu.pid
"""


def spec(*devices: str) -> MachineSpec:
    return MachineSpec(NOT_STARTED, BOOT, TCG, {name: catalogue()[name] for name in devices})


def arguments(*devices: str, shared: bool = False) -> list[str]:
    return spec(*devices).arguments(disk=Path("disk.qcow2"), ram=Path("/c/ram"), ram_shared=shared)


def test_the_command_line() -> None:
    port = "-device pcie-root-port,id=rp{0},chassis={0},slot={0},addr={1:#x}"
    ports = [port.format(slot, 0x10 + slot) for slot in root_ports()]
    words = " ".join(arguments("e1000e", "virtio-rng"))
    assert words == " ".join(GOLDEN.format(ports=" ".join(ports)).split())


def test_with_kvm_the_cpu_is_the_machines_own() -> None:
    kvm = dataclasses.replace(spec(), accelerator=Accelerator("kvm", "host,+vmx", "why"))
    words = " ".join(kvm.arguments(disk=Path("disk.qcow2"), ram=Path("/c/ram")))
    assert "-accel kvm -cpu host,+vmx -smp 2 " in words


def test_runs_cannot_collide() -> None:
    """No port of our own choice, and no socket outside of the run directory."""
    words = arguments("e1000e", "virtio-rng")
    assert re.findall(r"hostfwd=tcp:127\.0\.0\.1:(\d+)-", " ".join(words)) == ["0"]
    assert [word for word in words if word.startswith(("unix:", "file:"))] == [
        "file:console.log",
        "unix:qmp.sock,server=on,wait=off",
    ]
    assert not [word for word in words if "tcp:" in word and "127.0.0.1:0-" not in word]


def test_every_network_is_closed() -> None:
    for word in arguments("e1000e"):
        if word.startswith("user,"):
            assert ",restrict=on" in word


def test_memory_is_shared_only_for_a_snapshot() -> None:
    assert "share=on" in " ".join(arguments(shared=True))
    assert "share=off" in " ".join(arguments())


class TestDevices:
    OFFER = frozenset({"nvme", "e1000e"})

    def test_chosen_in_the_order_asked_for(self) -> None:
        assert list(select(["e1000e", "nvme"], self.OFFER)) == ["e1000e", "nvme"]

    def test_an_unknown_device_gives_the_nearest(self) -> None:
        with pytest.raises(UsageError, match=r"there is no device 'nvm' \(did you mean nvme\? known: .*virtio-rng"):
            select(["nvm"], self.OFFER)

    def test_a_model_that_this_qemu_lacks(self) -> None:
        with pytest.raises(UsageError, match="this QEMU has no device model 'virtio-rng-pci' for virtio-rng"):
            select(["virtio-rng"], self.OFFER)

    @pytest.mark.parametrize(
        ("device", "release", "freezes"),
        [
            *[("nvme", (11, 1), True), ("nvme", (11, 0), False), ("nvme", (7, 2), False), ("nvme", (12, 0), True)],
            *[("virtio-rng", (7, 2), True), ("igb-vf", (11, 1), False)],
        ],
    )
    def test_which_release_freezes_it(self, device: str, release: tuple[int, ...], freezes: bool) -> None:
        assert catalogue()[device].freezes(release) is freezes

    def test_our_own_file(self) -> None:
        known = catalogue()
        slots = [model.slot for model in known.values()]
        assert len(slots) == len(set(slots)) and set(slots) <= set(root_ports())
        for name, model in known.items():
            backends = model.backend.model_dump().values()
            assert sum(one is not None for one in backends) == 1, f"{name}: exactly one backend"
            assert model.device_arguments(name)["bus"] == f"rp{model.slot}"


@dataclasses.dataclass(frozen=True)
class Bare(MachineSpec):
    """A QEMU with a monitor and nothing else: no CPU runs, no image is needed."""

    words: tuple[str, ...] = ()

    def arguments(self, *, disk: Path, ram: Path, ram_shared: bool) -> list[str]:
        common = "-machine none -nodefaults -display none -S -qmp unix:qmp.sock,server=on,wait=off -pidfile qemu.pid"
        return [*common.split(), *self.words]


@pytest.fixture
def run_dir(tmp_path: Path) -> Iterator[RunDir]:
    made = RunDir.create(tmp_path / ("deep-" * 30) / "runs")  # deeper than a socket's path may be
    yield made
    made.close()


@functools.cache
def real_emulator() -> Emulator:
    """The one that runs use if it is here, else one that is installed."""
    program, disks = shutil.which("qemu-system-x86_64"), shutil.which("qemu-img")
    found = known_emulator(Cache()) or (installed(Path(program)) if program and disks else None)
    if found is None:
        pytest.skip("no QEMU is here yet, or only half of it")
    return found


def start(run_dir: RunDir, *words: str, frozen: Path | None = None, devices: tuple[str, ...] = ()) -> Machine:
    bare = Bare(real_emulator(), BOOT, TCG, {name: catalogue()[name] for name in devices}, words=words)
    return Machine.start(bare, run_dir, disk=Path("none"), ram=Path("none"), frozen=frozen)


class TestRealQemu:
    def test_it_starts_answers_and_ends(self, run_dir: RunDir) -> None:
        machine = start(run_dir)
        assert machine.alive
        assert machine.qmp("query-status")["running"] is False  # type: ignore[index]
        assert emulator_pid(run_dir.path) == machine._process.pid
        with pytest.raises(LabError, match="QEMU refused no-such-command"):
            machine.qmp("no-such-command")
        machine.close()
        assert not machine.alive
        with pytest.raises(LabError, match="monitor is closed"):
            machine.qmp("query-status")
        machine.close()

    def test_its_last_words_explain_a_failed_start(self, run_dir: RunDir) -> None:
        with pytest.raises(LabError, match=r"QEMU did not start: .*nonsense"):
            start(run_dir, "-nonsense")

    def test_a_qemu_that_dies_is_a_lab_error(self, run_dir: RunDir) -> None:
        machine = start(run_dir)
        machine._process.kill()
        machine._process.wait()
        with pytest.raises(LabError, match="does not answer query-status"):
            machine.qmp("query-status")
        machine.close()

    def test_a_closed_run_directory_leaves_no_emulator(self, run_dir: RunDir) -> None:
        machine = start(run_dir)
        run_dir.close()
        assert machine._process.wait(FOREVER) == -9
        assert not run_dir.path.exists()

    def test_a_kept_machine_survives_its_handle(self, run_dir: RunDir) -> None:
        machine = start(run_dir)
        run_dir.keep()
        machine.close()
        assert machine.alive
        machine.kill()
        assert machine._process.wait(FOREVER) == -9

    def test_no_forward_is_an_error(self, run_dir: RunDir) -> None:
        machine = start(run_dir)
        with pytest.raises(LabError, match="does not forward"):
            assert machine.ssh_port
        machine.close()

    def test_a_frozen_machine_takes_its_drives_along(self, run_dir: RunDir, tmp_path: Path) -> None:
        machine = start(run_dir, devices=("nvme", "virtio-rng"))
        drive = run_dir.path / "nvme.raw"
        assert drive.stat().st_size == 64 << 20 and not (run_dir.path / "virtio-rng.raw").exists()
        with drive.open("r+b") as written:
            written.write(b"of guest A")
        machine.save(tmp_path / "state")
        machine.close()
        drive.unlink()
        again = start(run_dir, devices=("nvme", "virtio-rng"), frozen=tmp_path / "state")
        assert drive.read_bytes()[:10] == b"of guest A"
        again.restore(tmp_path / "state")
        assert again.qmp("query-status")["running"] is True  # type: ignore[index]
        again.close()


def test_a_nested_host_is_reached_by_the_server_that_answers_soonest() -> None:
    words = " ".join(dataclasses.replace(spec(), ssh=2222).arguments(disk=Path("disk.qcow2"), ram=Path("/c/ram")))
    assert "hostfwd=tcp:127.0.0.1:0-10.0.2.15:2222 " in words
