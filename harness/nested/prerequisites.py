"""The programs the nested lab needs from this machine, and how they get there."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shlex
import shutil
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.base.deadline import Deadline
from harness.base.errors import CommandFailed, UsageError
from harness.base.process import run

if TYPE_CHECKING:
    from harness.base.progress import Progress

INSTALL_SECONDS = 1800.0

_SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")


@dataclass(frozen=True)
class Prerequisite:
    """A Debian package, the program or file that shows it is there, and what the lab uses it for."""

    package: str
    shown_by: str  # a program's name, or an absolute path
    purpose: str
    unprivileged_only: bool = False

    def present(self) -> bool:
        """Whether this machine has it."""
        if self.shown_by.startswith("/"):
            return Path(self.shown_by).exists()
        path = os.pathsep.join([os.environ.get("PATH", os.defpath), *_SBIN])
        return shutil.which(self.shown_by, path=path) is not None


PREREQUISITES = (
    Prerequisite("mmdebstrap", "mmdebstrap", "the emulator, and the nested host's root file system"),
    Prerequisite("e2fsprogs", "mkfs.ext4", "the nested host's disk"),
    Prerequisite(
        "debian-archive-keyring", "/usr/share/keyrings/debian-archive-keyring.gpg", "to check what is downloaded"
    ),
    Prerequisite("fakeroot", "fakeroot", "a disk owned by root, made by somebody else", unprivileged_only=True),
    Prerequisite("uidmap", "newuidmap", "mmdebstrap without being root", unprivileged_only=True),
)

PRACTICE = (
    Prerequisite("openipmi", "ipmi_sim", "the practice machine's management controller"),
    Prerequisite("ipmitool", "ipmitool", "to speak to a management controller"),
)
"""What a practice machine needs besides."""

LIBVIRT = (
    Prerequisite(
        "libvirt-dev", "/usr/include/libvirt/libvirt.h", "libvirt's client library, to build its Python module"
    ),
    Prerequisite("pkg-config", "pkg-config", "to find it"),
    Prerequisite("gcc", "gcc", "to build it"),
    Prerequisite("python3-dev", f"{sysconfig.get_path('include')}/Python.h", "to build it"),
)
"""What the toolstack libvirt needs besides."""


def missing(*, root: bool | None = None, besides: tuple[Prerequisite, ...] = ()) -> list[Prerequisite]:
    """What this machine lacks of the list above and of `besides`; `root` says for whom (default: who we are)."""
    privileged = os.geteuid() == 0 if root is None else root
    needs = (*PREREQUISITES, *besides)
    return [need for need in needs if not (need.unprivileged_only and privileged) and not need.present()]


def install_argv(needs: list[Prerequisite]) -> list[str]:
    """The command that brings `needs`."""
    return ["apt-get", "install", "--yes", "--no-install-recommends", *(need.package for need in needs)]


def install(
    progress: Progress,
    *,
    log: Path | None = None,
    root: bool | None = None,
    sudo: bool = False,
    besides: tuple[Prerequisite, ...] = (),
    run: Callable[..., object] = run,
) -> list[Prerequisite]:
    """Install what is missing (as root, or through `sudo`, without a question) and return what that was.

    Raises UsageError with the command to type when not root or without apt, CommandFailed when apt-get fails.
    """
    needs = missing(root=root, besides=besides)
    if not needs:
        return []
    names = ", ".join(need.package for need in needs)
    privileged = os.geteuid() == 0 if root is None else root
    if not (privileged or sudo) or shutil.which("apt-get") is None:
        raise UsageError(f"missing on this machine: {names}", hint=f"type: sudo {shlex.join(install_argv(needs))}")
    deadline = Deadline.after(INSTALL_SECONDS)
    env = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    # sudo drops the environment, hence env(1) behind it
    through = (
        [] if privileged else ["sudo", "--non-interactive", "env", *(f"{key}={value}" for key, value in env.items())]
    )
    with progress.phase(f"install {names}", 40):
        try:
            run([*through, *install_argv(needs)], deadline=deadline, env=env, log=log)
        except CommandFailed:
            # A fresh machine has no package lists, or stale ones: fetch them, then it must work.
            progress.note("fetching apt's package lists")
            run([*through, "apt-get", "update"], deadline=deadline, env=env, log=log)
            run([*through, *install_argv(needs)], deadline=deadline, env=env, log=log)
    left = missing(root=root, besides=besides)
    if left:
        hint = "install them by hand"
        raise UsageError(f"still missing after apt-get: {', '.join(need.package for need in left)}", hint=hint)
    return needs


def install_libvirt(
    progress: Progress,
    *,
    log: Path | None = None,
    root: bool | None = None,
    sudo: bool = False,
    run: Callable[..., object] = run,
) -> bool:
    """Make libvirt-python importable here; False when it was. Errors as of `install`, and UsageError without pip."""
    if importlib.util.find_spec("libvirt") is not None:
        return False
    install(progress, log=log, root=root, sudo=sudo, besides=LIBVIRT, run=run)
    wanted = libvirt_requirement(importlib.metadata.requires("maskall") or [])
    argv = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wanted]
    with progress.phase("install libvirt-python", 15):
        try:
            run(argv, deadline=Deadline.after(INSTALL_SECONDS), env={}, log=log)
        except CommandFailed as error:
            raise UsageError(
                f"libvirt-python could not be installed: {error.message}", hint=f"type: {shlex.join(argv)}"
            ) from error
    importlib.invalidate_caches()
    return True


def libvirt_requirement(requirements: list[str]) -> str:
    """Of the package's requirements the one that its extra `libvirt` adds, as pip takes it."""
    return next(one.partition(";")[0].strip() for one in requirements if one.startswith("libvirt-python"))
