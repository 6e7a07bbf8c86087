"""A machine that boots plain Debian through GRUB from its own disk, as one on a bench does: the image and the machine.

The boot loader is put on the disk by Debian's own programs: the machine is booted once without it, told to run
grub-install and update-grub, and switched off.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from harness.deadline import Deadline, poll
from harness.errors import HostUnreachable, LabError
from harness.lab.transport.ssh import SshTransport
from harness.nested import plainfiles, rootfs
from harness.nested.accelerator import Accelerator, detect
from harness.nested.cache import Cache
from harness.nested.devices import catalogue
from harness.nested.image import BUILD_SECONDS
from harness.nested.machine import Machine, MachineSpec
from harness.nested.mirror import Mirrors, apt_lines, find_mirrors
from harness.nested.rundir import RunDir
from harness.nested.snapshot import overlay
from harness.nested.stacks import Stack
from harness.process import find, run

if TYPE_CHECKING:
    from harness.report.progress import Progress

FORMAT = 1
"""Raise it when this file changes what an image contains."""

DISK_MIB = 4096
BOOT_SECONDS = 600
"""From power-on to an ssh answer, at worst: firmware, boot loader, initramfs and systemd, all emulated."""

NAME = "bench"
"""What its inventory calls it."""

_MIB = 1024 * 1024
_PARTITION_START_MIB = 1  # GRUB keeps its core image in the gap before it
_EXCLUDED = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*", "/usr/share/lintian/*")

# One process tree: fakeroot remembers owners and modes only that long. /dev is left empty, the kernel fills it.
_TO_DISK = """
set -eu
mkdir "$1/root"
tar -x -p --numeric-owner --exclude='./dev/*' -C "$1/root" -f "$1/root.tar"
rm "$1/root.tar"
truncate -s "$2M" "$1/disk.raw"
"$4" -q -F -L root -m 0 -E lazy_itable_init=0,lazy_journal_init=0,offset="$((1048576 * $3))" -d "$1/root" \\
    "$1/disk.raw" "$((1024 * ($2 - $3)))k"
for name in vmlinuz initrd.img packages.txt; do mv "$1/root/boot/maskall-$name" "$1/$name"; done
rm -r "$1/root"
"""

_INSTALL_GRUB = ["sh", "-c", "rm -f /boot/maskall-*; grub-install /dev/vda && update-grub && sync"]


def partition_table(start_mib: int, size_mib: int) -> bytes:
    """A master boot record with one active Linux partition; its boot code is left to grub-install.

    Offset 446: four entries of 16 bytes (status, CHS, type, CHS, first sector, sectors), then 55 aa.
    """
    sectors = _MIB // 512
    beyond_chs = b"\xfe\xff\xff"
    entry = struct.pack("<B3sB3sII", 0x80, beyond_chs, 0x83, beyond_chs, start_mib * sectors, size_mib * sectors)
    return bytes(440) + b"mkal" + bytes(2) + entry + bytes(48) + b"\x55\xaa"


@dataclass(frozen=True)
class PlainImage:
    """A finished image; machines run on overlays."""

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
class _KernelBoot:
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


@dataclass(frozen=True)
class PlainRecipe:
    """How the image of a stack's Debian suite is built; its Xen packages are only in the archive on the disk."""

    stack: Stack
    mirrors: Mirrors | None
    accelerator: Accelerator
    runs: Path
    progress: Progress
    deadline: Deadline
    log: Path

    needs_bytes = 6000 * _MIB

    @property
    def name(self) -> str:
        return f"plain-{self.stack.name}"

    @property
    def digest(self) -> str:
        content = {
            "format": FORMAT,
            "suite": self.stack.suite,
            "packages": plainfiles.PACKAGES,
            "archive": plainfiles.XEN_PACKAGES,
            "excluded": _EXCLUDED,
            "download": plainfiles.DOWNLOAD,
            "files": plainfiles.FILES,
            "links": plainfiles.LINKS,
            "disk": DISK_MIB,
            "to_disk": _TO_DISK,
            "grub": _INSTALL_GRUB,
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def build(self, directory: Path) -> None:
        """Fill `directory`; see PlainImage for what is in it."""
        host, user = rootfs.KeyPair.fresh("bench"), rootfs.KeyPair.fresh("maskall")
        archive = directory / "overlay.tar"
        archive.write_bytes(rootfs.overlay(host, user, plainfiles.FILES, plainfiles.LINKS))
        (directory / "host_key.pub").write_text(host.public)
        (directory / "user_key").touch(mode=0o600)
        (directory / "user_key").write_text(user.private)
        with self.progress.phase("root file system of a plain machine", 90):
            self._debootstrap(directory / "root.tar", archive)
        with self.progress.phase("its disk", 15):
            self._make_disk(directory)
        with self.progress.phase("its boot loader", 120):
            self._install_boot_loader(directory)
        for name in ("overlay.tar", "disk.raw"):
            (directory / name).unlink()

    def _debootstrap(self, target: Path, archive: Path) -> None:
        root = os.geteuid() == 0
        env = {"LC_ALL": "C", "INITRD": "No", "DEBIAN_FRONTEND": "noninteractive"}
        if root:
            env["TMPDIR"] = str(target.parent)
        argv = [
            "mmdebstrap",
            f"--mode={'root' if root else 'unshare'}",
            "--format=tar",
            "--variant=minbase",
            "--architectures=amd64",
            f"--include={','.join(plainfiles.PACKAGES)}",
            "--aptopt=APT::Install-Recommends false",
            "--dpkgopt=force-unsafe-io",
            *(f"--dpkgopt=path-exclude={pattern}" for pattern in _EXCLUDED),
            # Its clean-up would take away the machine-id, the host key, and the lists of the archive on the disk.
            *("--skip=cleanup/reproducible", "--skip=cleanup/apt/lists"),
            "--essential-hook=echo grub-pc grub-pc/install_devices_empty boolean true"
            ' | chroot "$1" debconf-set-selections',
            f"--customize-hook={plainfiles.DOWNLOAD}",
            # Before our files take resolv.conf away: what the machine can install later.
            '--customize-hook=chroot "$1" apt-get clean',
            f'--customize-hook=chroot "$1" apt-get install --yes --download-only {" ".join(plainfiles.XEN_PACKAGES)}',
            f"--customize-hook=tar-in {archive} /",
            f'--customize-hook=chroot "$1" {plainfiles.SETUP}',
            self.stack.suite,
            str(target),
        ]
        if self.mirrors:
            argv += apt_lines(self.mirrors, self.stack.suite, self.stack.security_suite)
        run(argv, deadline=self.deadline, log=self.log, env=env)

    def _make_disk(self, directory: Path) -> None:
        as_root = [] if os.geteuid() == 0 else ["fakeroot", "--"]
        sizes = [str(DISK_MIB), str(_PARTITION_START_MIB)]
        argv = [*as_root, "/bin/sh", "-c", _TO_DISK, "to-disk", str(directory), *sizes, find("mkfs.ext4")]
        run(argv, deadline=self.deadline, log=self.log, env={"LC_ALL": "C"})
        with (directory / "disk.raw").open("r+b") as disk:
            disk.write(partition_table(_PARTITION_START_MIB, DISK_MIB - _PARTITION_START_MIB))

    def _install_boot_loader(self, directory: Path) -> None:
        raw, disk = directory / "disk.raw", directory / "first.qcow2"
        overlay(raw, "raw", disk)
        spec = MachineSpec(_KernelBoot(directory / "vmlinuz", directory / "initrd.img"), self.accelerator, {})
        with running(spec, disk, self.runs) as machine:
            transport = _transport(machine, PlainImage(directory))
            _connect(transport, machine, self.deadline.sooner(BOOT_SECONDS))
            transport.run(_INSTALL_GRUB, deadline=self.deadline.sooner(BOOT_SECONDS), changes=True).check()
            with contextlib.suppress(LabError):  # the link goes down with the machine
                transport.run(["systemctl", "poweroff"], deadline=Deadline.after(60), changes=True)
            transport.close()
            if not poll(lambda: not machine.alive, Deadline.after(180), every=0.2):
                raise LabError("the new machine does not switch itself off", hint=f"see {self.log}")
        convert = ["qemu-img", "convert", "-O", "qcow2", str(disk), str(directory / "disk.qcow2")]
        run(convert, deadline=self.deadline, log=self.log)
        disk.unlink()
        (directory / "disk.qcow2").chmod(0o444)


@dataclass
class PlainMachine:
    """The machine, running. What happens to it is lost when it is closed."""

    machine: Machine
    image: PlainImage
    transport: SshTransport

    def connect(self, deadline: Deadline) -> None:
        """Wait until it answers ssh; LabError at once when QEMU is gone."""
        _connect(self.transport, self.machine, deadline)

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
            "devices": {},
        }
        path = folder / f"{'' if allowed else 'strict-'}inventory.yaml"
        path.write_text(yaml.safe_dump({"hosts": {NAME: entry}}, sort_keys=False))
        return path

    def console(self) -> bytes:
        """What its serial line printed."""
        return self.machine.console_log.read_bytes() if self.machine.console_log.exists() else b""


def ensure_plain(stack: Stack, cache: Cache, progress: Progress, *, deadline: Deadline | None = None) -> PlainImage:
    """The image: from the cache if it is whole, else built. Raises LabError, CommandFailed, LockHeld, UsageError."""
    limit = deadline or Deadline.after(BUILD_SECONDS)
    log = cache.root / "logs" / f"plain-{stack.name}.log"
    recipe = PlainRecipe(stack, find_mirrors(), detect(), cache.root / "runs", progress, limit, log)
    return PlainImage(cache.obtain(recipe, deadline=limit, notice=progress.note).path)


@contextlib.contextmanager
def plain_machine(image: PlainImage, cache: Cache) -> Iterator[PlainMachine]:
    """Switch one on; it boots from its disk. Nobody is connected yet."""
    frozen = {name: model for name, model in catalogue().items() if name == "virtio-rng"}
    spec = MachineSpec(_DiskBoot(), detect(), frozen)
    runs = cache.root / "runs"
    with _run_dir(runs) as run_dir:
        disk = run_dir.path / "disk.qcow2"
        overlay(image.disk, "qcow2", disk)
        with _started(spec, disk, run_dir) as machine:
            plain = PlainMachine(machine, image, _transport(machine, image))
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


def _transport(machine: Machine, image: PlainImage) -> SshTransport:
    return SshTransport(
        NAME,
        "127.0.0.1",
        port=machine.ssh_port,
        host_key=image.host_key,
        key_file=image.user_key,
        dead_after=60.0,  # emulated unpacking leaves little time to others
    )


def _connect(transport: SshTransport, machine: Machine, deadline: Deadline) -> None:
    while True:
        try:
            return transport.connect(deadline.sooner(10))
        except HostUnreachable as error:
            if not machine.alive:
                raise LabError(f"QEMU ended before the machine answered: {machine.last_words()}") from error
            if deadline.expired:
                words = machine.console_log.read_bytes()[-300:] if machine.console_log.exists() else b""
                raise LabError(f"the machine does not answer ssh; its console ends with {words!r}") from error
