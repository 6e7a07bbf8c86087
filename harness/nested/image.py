"""The disk image and boot files of one nested Xen host, built once per stack and kept in the cache."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.base.deadline import Deadline
from harness.base.errors import LabError
from harness.base.process import find, run
from harness.host.stacks import Stack
from harness.nested import rootfs
from harness.nested.apt_sources import AptMirrors, apt_lines, backports_options
from harness.nested.cache import Cache, check_space

if TYPE_CHECKING:
    from harness.base.progress import Progress

FORMAT = 1
"""Raise it when this file changes what an image contains."""

DISK_SIZE = "2560M"
BUILD_SECONDS = 3600.0
"""Longest build still believed to make progress: a slow mirror, not a slow machine, is what takes long."""

_MIB = 1024 * 1024
_EXCLUDED = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*", "/usr/share/lintian/*")
_BOOT_FILES = ("xen", "vmlinuz", "initrd.img", "packages.txt")

# Unpacking and mkfs.ext4 in one process tree: fakeroot remembers owners and modes only that long. /dev is
# left empty, the kernel fills it. Inode tables are written now, not by a kernel thread in the emulated host.
_TO_DISK = """
set -eu
mkdir "$1/root"
tar -x -p --numeric-owner --exclude='./dev/*' -C "$1/root" -f "$1/root.tar"
rm "$1/root.tar"
truncate -s "$2" "$1/root.ext4"
"$3" -q -F -L root -m 0 -E lazy_itable_init=0,lazy_journal_init=0 -d "$1/root" "$1/root.ext4"
for name in xen vmlinuz initrd.img packages.txt; do cp "$1/root/boot/maskall-$name" "$1/$name"; done
rm -r "$1/root"
"""


@dataclass(frozen=True)
class Image:
    """A finished image. Nothing in it is ever written to again: machines run on overlays."""

    stack: Stack
    path: Path
    digest: str
    fresh: bool = False

    @property
    def disk(self) -> Path:
        """Raw ext4 root file system, sparse."""
        return self.path / "root.ext4"

    @property
    def xen(self) -> Path:
        """The hypervisor, a 32-bit ELF multiboot image."""
        return self.path / "xen"

    @property
    def kernel(self) -> Path:
        return self.path / "vmlinuz"

    @property
    def initrd(self) -> Path:
        return self.path / "initrd.img"

    @property
    def host_key(self) -> Path:
        """The public ssh host key to pin, one line in OpenSSH's format."""
        return self.path / "host_key.pub"

    @property
    def user_key(self) -> Path:
        """The private key that root of the host accepts."""
        return self.path / "user_key"

    def packages(self) -> dict[str, str]:
        """The exact version of every package in the image."""
        lines = (self.path / "packages.txt").read_text().splitlines()
        return dict(line.split(maxsplit=1) for line in lines if " " in line)


@dataclass(frozen=True)
class ImageRecipe:
    """How the image of `stack` is built; the mirror is where from, not what, and no part of the digest."""

    stack: Stack
    mirrors: AptMirrors | None
    progress: Progress
    deadline: Deadline
    log: Path

    needs_bytes = 2600 * _MIB

    @property
    def name(self) -> str:
        return f"image-{self.stack.name}"

    @property
    def digest(self) -> str:
        # Boot options are QEMU's command line, not the image's content; a snapshot's recipe has to add them.
        content = {
            "format": FORMAT,
            "suite": self.stack.suite,
            "packages": self.stack.packages,
            "excluded": _EXCLUDED,
            "files": rootfs.FILES,
            "links": rootfs.LINKS,
            "disk": DISK_SIZE,
            "to_disk": _TO_DISK,
            **({"backports": self.stack.backports} if self.stack.backports else {}),
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def build(self, directory: Path) -> None:
        """Fill `directory`; see Image for what is in it."""
        host, user = rootfs.KeyPair.fresh("xenhost"), rootfs.KeyPair.fresh("maskall")
        overlay = directory / "overlay.tar"
        overlay.write_bytes(rootfs.overlay(host, user))
        with self.progress.phase(f"root file system of {self.stack.name}", 55):
            self._debootstrap(directory / "root.tar", overlay)
        with self.progress.phase(f"disk image of {self.stack.name}", 8):
            as_root = [] if os.geteuid() == 0 else ["fakeroot", "--"]
            argv = [*as_root, "/bin/sh", "-c", _TO_DISK, "to-disk", str(directory), DISK_SIZE, find("mkfs.ext4")]
            run(argv, deadline=self.deadline, log=self.log, env={"LC_ALL": "C"})
        overlay.unlink()
        (directory / "host_key.pub").write_text(host.public)
        (directory / "user_key").touch(mode=0o600)
        (directory / "user_key").write_text(user.private)
        (directory / "root.ext4").chmod(0o444)
        missing = [name for name in _BOOT_FILES if not (directory / name).stat().st_size]
        if missing:
            raise LabError(f"the image came out without {', '.join(missing)}", hint=f"see {self.log}")

    def _debootstrap(self, target: Path, overlay: Path) -> None:
        env = {"LC_ALL": "C", "INITRD": "No"}  # no initramfs by the kernel package: SETUP makes a smaller one
        if os.geteuid() == 0:
            env["TMPDIR"] = str(target.parent)
        else:
            # The new user namespace cannot enter a private home directory: mmdebstrap's own temporary directory it is.
            check_space(Path(tempfile.gettempdir()), 900 * _MIB, f"for the root file system of {self.stack.name}")
        argv = [
            "mmdebstrap",
            f"--mode={'root' if os.geteuid() == 0 else 'unshare'}",
            "--format=tar",
            "--variant=minbase",
            "--architectures=amd64",
            f"--include={','.join(self.stack.packages)}",
            "--aptopt=APT::Install-Recommends false",
            "--dpkgopt=force-unsafe-io",
            *(f"--dpkgopt=path-exclude={pattern}" for pattern in _EXCLUDED),
            # Its clean-up comes after our hooks and would take the machine-id and the host key away.
            "--skip=cleanup/reproducible",
            *backports_options(self.stack.suite, self.stack.backports),
            f"--customize-hook=tar-in {overlay} /",
            f'--customize-hook=chroot "$1" {rootfs.SETUP}',
            self.stack.suite,
            str(target),
        ]
        if self.mirrors:
            argv += apt_lines(self.mirrors, self.stack.suite, self.stack.security_suite)
        run(argv, deadline=self.deadline, log=self.log, env=env)


def ensure_image(
    stack: Stack,
    cache: Cache,
    progress: Progress,
    *,
    mirrors: AptMirrors | None = None,
    deadline: Deadline | None = None,
) -> Image:
    """The image of `stack`: from the cache if it is whole, else built (about a minute, plus the download).

    `mirrors` from `find_mirrors()`; None leaves mmdebstrap its default. The build's log is
    `<cache>/logs/image-<stack>.log`. Raises LabError, CommandFailed, LockHeld, UsageError.
    """
    log = cache.root / "logs" / f"image-{stack.name}.log"
    limit = deadline or Deadline.after(BUILD_SECONDS)
    recipe = ImageRecipe(stack, mirrors, progress, limit, log)
    entry = cache.obtain(recipe, deadline=limit, notice=progress.note)
    return Image(stack, entry.path, entry.digest, entry.fresh)
