"""The QEMU that nested hosts run in: that of Debian's backports, unpacked into the cache, whatever is installed.

QEMU 11.1 is the first that freezes an nvme at work. Debian's stable releases have older ones, so it comes from the
backports of the newest, with the C library and all else that it needs: nothing is installed, and no root is wanted.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.base.deadline import Deadline
from harness.base.errors import LabError, UsageError
from harness.base.process import run
from harness.nested.accelerator import Accelerator, emulated
from harness.nested.apt_sources import AptMirrors, apt_lines, backports_options, find_mirrors
from harness.nested.cache import Cache, check_space
from harness.nested.devices import catalogue

if TYPE_CHECKING:
    from harness.base.progress import Progress

VARIABLE = "MASKALL_QEMU"
"""A qemu-system-x86_64 of one's own, taken instead; qemu-img is looked for beside it, then on the path."""

_SUITE = "trixie"
_PACKAGES = ("qemu-system-x86", "qemu-utils")
_FROM_BACKPORTS = ("qemu-*", "seabios", "ipxe-*")
_QEMU = "usr/bin/qemu-system-x86_64"
_IMAGES = "usr/bin/qemu-img"
_LIBRARIES = "usr/lib/x86_64-linux-gnu"
_LOADER = "usr/lib64/ld-linux-x86-64.so.2"
_DATA = ("usr/share/qemu", "usr/share/seabios")
_KEPT = (_QEMU, _IMAGES, _LIBRARIES, "usr/lib64", *_DATA)
_FACTS = "facts.json"
_ASK_SECONDS = 20.0
_BUILD_SECONDS = 1800.0
_MIB = 1024 * 1024


@dataclass(frozen=True)
class Emulator:
    """How QEMU and its image tool are started, and what this QEMU can do."""

    qemu: tuple[str, ...]
    images: tuple[str, ...]
    version: str  # as it says itself: 11.1.3
    models: frozenset[str]  # of the devices we know, those that it offers

    @property
    def release(self) -> tuple[int, ...]:
        return tuple(int(number) for number in re.findall(r"\d+", self.version)[:2])

    def usable(self, accelerator: Accelerator) -> Accelerator:
        """`accelerator` if QEMU starts with it, else emulation, with QEMU's last words as the reason.

        /dev/kvm may open and still make no machine: another hypervisor holds the CPU, a container forbids it.
        """
        if accelerator.name == "tcg":
            return accelerator
        machine = ["-machine", "q35", "-nodefaults", "-display", "none", "-S", "-monitor", "stdio"]
        argv = [*self.qemu, *machine, "-accel", accelerator.argument, "-cpu", f"{accelerator.cpu},enforce"]
        tried = run(argv, deadline=Deadline.after(_ASK_SECONDS), stdin="quit\n", check=False)
        if tried.status == 0:
            return accelerator
        words = [line for line in tried.stderr.splitlines() if line.strip()]
        return emulated(f"{accelerator.why}, but QEMU says: {words[-1].strip() if words else 'nothing'}")

    def overlay(self, backing: Path, backing_format: str, path: Path) -> None:
        """A new qcow2 whose unwritten blocks are those of `backing`."""
        arguments = ["create", "-q", "-f", "qcow2", "-F", backing_format, "-b", str(backing.resolve()), str(path)]
        run([*self.images, *arguments], deadline=Deadline.after(30))


@dataclass(frozen=True)
class EmulatorRecipe:
    """How the emulator gets into the cache; the mirror is where from, not what, and no part of the digest."""

    log: Path
    mirrors: AptMirrors | None = None

    name = "emulator"
    needs_bytes = 700 * _MIB

    @property
    def digest(self) -> str:
        packages = [*_PACKAGES, *_FROM_BACKPORTS]
        content = {"suite": _SUITE, "packages": packages, "kept": _KEPT, "models": _known_models()}
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def build(self, directory: Path) -> None:
        """Fill `directory` with the file tree and what the emulator says of itself."""
        deadline = Deadline.after(_BUILD_SECONDS)
        archive = directory / "tree.tar"
        self._download(archive, deadline)
        members = [f"./{one}" for one in _KEPT]
        argv = ["tar", "-x", "--no-same-owner", "-C", str(directory), "-f", str(archive), *members]
        run(argv, deadline=deadline, log=self.log)
        archive.unlink()
        unpacked = _unpacked(directory)
        facts = {"version": _version(unpacked), "models": sorted(_offered(unpacked))}
        (directory / _FACTS).write_text(json.dumps(facts) + "\n")

    def _download(self, target: Path, deadline: Deadline) -> None:
        env = {"LC_ALL": "C"}
        if os.geteuid() == 0:
            env["TMPDIR"] = str(target.parent)
        else:  # as for an image: a new user namespace cannot enter a private home directory
            check_space(Path(tempfile.gettempdir()), 500 * _MIB, "for the emulator's packages")
        argv = [
            "mmdebstrap",
            f"--mode={'root' if os.geteuid() == 0 else 'unshare'}",
            "--format=tar",
            "--variant=extract",
            "--architectures=amd64",
            f"--include={','.join(_PACKAGES)}",
            "--aptopt=APT::Install-Recommends false",
            *backports_options(_SUITE, _FROM_BACKPORTS),
            _SUITE,
            str(target),
            *(apt_lines(self.mirrors, _SUITE, f"{_SUITE}-security") if self.mirrors else ()),
        ]
        run(argv, deadline=deadline, log=self.log, env=env)


def ensure_emulator(cache: Cache, progress: Progress) -> Emulator:
    """The emulator: one's own where $MASKALL_QEMU names one, else that of the cache, unpacked when it is not there.

    Raises UsageError, LabError, CommandFailed, LockHeld.
    """
    known = known_emulator(cache)
    if known is not None:
        return known
    with progress.phase(f"the emulator, QEMU of {_SUITE}-backports", 20):
        recipe = EmulatorRecipe(_log(cache), find_mirrors())
        entry = cache.obtain(recipe, deadline=Deadline.after(_BUILD_SECONDS), notice=progress.note)
    return _stored(entry.path)


def known_emulator(cache: Cache) -> Emulator | None:
    """The emulator if it is here already: nothing is downloaded. UsageError when $MASKALL_QEMU names none."""
    own = os.environ.get(VARIABLE)
    if own:
        return installed(Path(own))
    recipe = EmulatorRecipe(_log(cache))
    return _stored(cache.path_of(recipe)) if cache.verify(recipe) is None else None


def _log(cache: Cache) -> Path:
    return cache.root / "logs" / "emulator.log"


def installed(qemu: Path) -> Emulator:
    """The QEMU at this path. UsageError when it is none, or has no qemu-img."""
    hint = f"{VARIABLE} names a qemu-system-x86_64; without it, one is downloaded"
    if not (qemu.is_file() and os.access(qemu, os.X_OK)):
        raise UsageError(f"{VARIABLE}: {qemu} is no program", hint=hint)
    beside = qemu.with_name("qemu-img")
    images = str(beside) if os.access(beside, os.X_OK) else shutil.which("qemu-img")
    if images is None:
        raise UsageError(
            f"{VARIABLE}: there is no qemu-img beside {qemu}", hint="install the Debian package qemu-utils"
        )
    command = (str(qemu.absolute()),)
    return Emulator(command, (images,), _version(command), frozenset(_offered(command)))


def _stored(tree: Path) -> Emulator:
    facts = json.loads((tree / _FACTS).read_text())
    return Emulator(_unpacked(tree), _loaded(tree, _IMAGES), facts["version"], frozenset(facts["models"]))


def _loaded(tree: Path, program: str) -> tuple[str, ...]:
    """The words that start a program of the tree, by the tree's own loader and libraries. Source: ld.so(8)."""
    name = Path(program).name
    return (str(tree / _LOADER), "--argv0", name, "--library-path", str(tree / _LIBRARIES), str(tree / program))


def _unpacked(tree: Path) -> tuple[str, ...]:
    # Its modules come first from where the variable says: those of a QEMU that is installed would make it abort.
    data = (word for folder in _DATA for word in ("-L", str(tree / folder)))
    return ("env", f"QEMU_MODULE_DIR={tree / _LIBRARIES / 'qemu'}", *_loaded(tree, _QEMU), *data)


def _version(qemu: tuple[str, ...]) -> str:
    """Accepted format: `QEMU emulator version 11.1.3 (Debian 1:11.1.3+ds-1~bpo13+1)`. LabError without it."""
    text = run([*qemu, "--version"], deadline=Deadline.after(_ASK_SECONDS)).stdout
    match = re.search(r"version (\d\S*)", text)
    if match is None:
        raise LabError(f"{qemu[0]} does not say which QEMU it is: {text[:80]!r}")
    return match[1]


def _known_models() -> list[str]:
    return sorted({device.model for device in catalogue().values()})


def _offered(qemu: tuple[str, ...]) -> Iterable[str]:
    """Of the models we know those that it has. `-device help` would load modules of a QEMU that is installed."""
    for model in _known_models():
        if run([*qemu, "-device", f"{model},help"], deadline=Deadline.after(_ASK_SECONDS), check=False).status == 0:
            yield model
