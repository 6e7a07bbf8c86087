"""The disk of a machine that boots plain Debian through GRUB, as one on a bench does.

The boot loader is put on the disk by Debian's own programs: the machine is booted once without it, told to run
grub-install and update-grub, and switched off.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.base.deadline import Deadline, poll
from harness.base.errors import LabError
from harness.base.process import find, run
from harness.host.stacks import Stack
from harness.nested import rootfs
from harness.nested.accelerator import Accelerator, detect
from harness.nested.apt_sources import AptMirrors, apt_lines, find_mirrors
from harness.nested.cache import Cache
from harness.nested.emulator import Emulator, ensure_emulator
from harness.nested.image import BUILD_SECONDS
from harness.nested.machine import MachineSpec
from suites.provision.plain import files as plainfiles
from suites.provision.plain.machine import BOOT_SECONDS, KernelBoot, PlainImage, await_answer, link_to, running

if TYPE_CHECKING:
    from harness.base.progress import Progress

FORMAT = 1
"""Raise it when this file changes what an image contains."""

DISK_MIB = 4096
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
class PlainRecipe:
    """How the image of a stack's Debian suite is built; its Xen packages are only in the archive on the disk."""

    emulator: Emulator
    stack: Stack
    mirrors: AptMirrors | None
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
        self.emulator.overlay(raw, "raw", disk)
        boot = KernelBoot(directory / "vmlinuz", directory / "initrd.img")
        spec = MachineSpec(self.emulator, boot, self.accelerator, {})
        with running(spec, disk, self.runs) as machine:
            transport = link_to(machine, PlainImage(self.emulator, directory))
            await_answer(transport, machine, self.deadline.sooner(BOOT_SECONDS))
            transport.run(_INSTALL_GRUB, deadline=self.deadline.sooner(BOOT_SECONDS), changes=True).check()
            with contextlib.suppress(LabError):  # the link goes down with the machine
                transport.run(["systemctl", "poweroff"], deadline=Deadline.after(60), changes=True)
            transport.close()
            if not poll(lambda: not machine.alive, Deadline.after(180), every=0.2):
                raise LabError("the new machine does not switch itself off", hint=f"see {self.log}")
        convert = [*self.emulator.images, "convert", "-O", "qcow2", str(disk), str(directory / "disk.qcow2")]
        run(convert, deadline=self.deadline, log=self.log)
        disk.unlink()
        (directory / "disk.qcow2").chmod(0o444)


def ensure_plain(stack: Stack, cache: Cache, progress: Progress, *, deadline: Deadline | None = None) -> PlainImage:
    """The image: from the cache if it is whole, else built. Raises LabError, CommandFailed, LockHeld, UsageError."""
    limit = deadline or Deadline.after(BUILD_SECONDS)
    log = cache.root / "logs" / f"plain-{stack.name}.log"
    emulator = ensure_emulator(cache, progress)
    accelerator = emulator.usable(detect())
    recipe = PlainRecipe(emulator, stack, find_mirrors(), accelerator, cache.root / "runs", progress, limit, log)
    return PlainImage(emulator, cache.obtain(recipe, deadline=limit, notice=progress.note).path)
