"""A plain machine, running: what a person would have switched on, and how it is reached."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from harness.base.deadline import Deadline
from harness.base.errors import HostUnreachable, LabError
from harness.nested.accelerator import detect
from harness.nested.cache import Cache
from harness.nested.devices import catalogue
from harness.nested.emulator import Emulator
from harness.nested.machine import Machine, MachineSpec
from harness.nested.rundir import RunDir
from harness.nested.workbench import describe
from harness.transport.ssh import SshTransport

BOOT_SECONDS = 600
"""From power-on to an ssh answer, at worst: firmware, boot loader, initramfs and systemd, all emulated."""

NAME = "bench"
"""What its inventory calls it."""


@dataclass(frozen=True)
class PlainImage:
    """A finished image; machines run on overlays."""

    emulator: Emulator
    path: Path

    @property
    def disk(self) -> Path:
        """A qcow2 with everything in it."""
        return self.path / "disk.qcow2"

    @property
    def host_key(self) -> str:
        """The public ssh host key to pin."""
        return (self.path / "host_key.pub").read_text().strip()

    @property
    def user_key(self) -> Path:
        """The private key that root of the machine accepts."""
        return self.path / "user_key"


@dataclass(frozen=True)
class KernelBoot:
    """For the one boot before there is a boot loader."""

    kernel: Path
    initrd: Path

    def arguments(self) -> list[str]:
        options = "root=/dev/vda1 rw quiet console=ttyS0 net.ifnames=0 mitigations=off audit=0 fsck.mode=skip"
        return ["-kernel", str(self.kernel), "-initrd", str(self.initrd), "-append", options]


@dataclass(frozen=True)
class _DiskBoot:
    """What a machine does by itself: firmware, boot loader, kernel."""

    def arguments(self) -> list[str]:
        return ["-boot", "order=c"]


@dataclass
class PlainMachine:
    """The machine, running. What happens to it is lost when it is closed."""

    machine: Machine
    image: PlainImage
    transport: SshTransport

    def connect(self, deadline: Deadline) -> None:
        """Wait until it answers ssh; LabError at once when QEMU is gone."""
        await_answer(self.transport, self.machine, deadline)

    def inventory(self, folder: Path, *, allowed: bool = True, port: int | None = None) -> Path:
        """A file that describes it as a lab host named `bench`; `port` is that of a wire before its own."""
        entry = {
            "kind": "lab",
            "address": "127.0.0.1",
            "port": port or self.machine.ssh_port,
            "key": str(self.image.user_key),
            "host_key": self.image.host_key,
            "boot_seconds": BOOT_SECONDS,
            "allow_reboot": True,
            "allow_persistent": allowed,
            "allow_livepatch": allowed,
            "console": {"kind": "command", "argv": ["tail", "-n", "+1", "-F", str(self.machine.console_log)]},
            "devices": {name: describe(name, model) for name, model in self.machine.spec.devices.items()},
        }
        path = folder / f"{'' if allowed else 'strict-'}inventory.yaml"
        path.write_text(yaml.safe_dump({"hosts": {NAME: entry}}, sort_keys=False))
        return path

    def console(self) -> bytes:
        """What its serial line printed."""
        return self.machine.console_log.read_bytes() if self.machine.console_log.exists() else b""


@contextlib.contextmanager
def plain_machine(image: PlainImage, cache: Cache) -> Iterator[PlainMachine]:
    """Switch one on; it boots from its disk. Nobody is connected yet."""
    frozen = {name: model for name, model in catalogue().items() if name == "virtio-rng"}
    spec = MachineSpec(image.emulator, _DiskBoot(), image.emulator.usable(detect()), frozen)
    runs = cache.root / "runs"
    with _run_dir(runs) as run_dir:
        disk = run_dir.path / "disk.qcow2"
        image.emulator.overlay(image.disk, "qcow2", disk)
        with _started(spec, disk, run_dir) as machine:
            plain = PlainMachine(machine, image, link_to(machine, image))
            try:
                yield plain
            finally:
                plain.transport.close()


@contextlib.contextmanager
def running(spec: MachineSpec, disk: Path, runs: Path) -> Iterator[Machine]:
    """A machine on `disk` in a run directory of its own; both are gone afterwards, but for the disk."""
    with _run_dir(runs) as run_dir, _started(spec, disk, run_dir) as machine:
        yield machine


@contextlib.contextmanager
def _run_dir(runs: Path) -> Iterator[RunDir]:
    run_dir = RunDir.create(runs)
    try:
        yield run_dir
    finally:
        run_dir.close()


@contextlib.contextmanager
def _started(spec: MachineSpec, disk: Path, run_dir: RunDir) -> Iterator[Machine]:
    machine = Machine.start(spec, run_dir, disk=disk, ram=run_dir.path / "ram")
    try:
        yield machine
    finally:
        machine.close()


def link_to(machine: Machine, image: PlainImage) -> SshTransport:
    return SshTransport(
        NAME,
        "127.0.0.1",
        port=machine.ssh_port,
        host_key=image.host_key,
        key_file=image.user_key,
        dead_after=60.0,  # emulated unpacking leaves little time to others
    )


def await_answer(transport: SshTransport, machine: Machine, deadline: Deadline) -> None:
    while True:
        try:
            return transport.connect(deadline.sooner(10))
        except HostUnreachable as error:
            if not machine.alive:
                raise LabError(f"QEMU ended before the machine answered: {machine.last_words()}") from error
            if deadline.expired:
                words = machine.console_log.read_bytes()[-300:] if machine.console_log.exists() else b""
                raise LabError(f"the machine does not answer ssh; its console ends with {words!r}") from error
