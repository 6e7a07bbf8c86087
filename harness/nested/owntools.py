"""A developer's own Xen tools: what `make install-tools DESTDIR=DIR` leaves, laid over the host's before it boots."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from harness.base.errors import UsageError
from harness.nested.program import Program

_HINT = "give what 'make install-tools DESTDIR=DIR' left, which is dist/install in Xen's own tree"
_LIBRARY = re.compile(r"libxenctrl\.so\.(\d+)\.(\d+)(?:\.\d+)?$")
_DEVICE_MODEL = re.compile(rb"/[\x21-\x7e]+/[\x21-\x7e]*qemu-system-i386(?=\0)")
_PROGRAMS = ("xl", "xenstored", "xenconsoled")
_WANTED = (*_PROGRAMS, "hvmloader")
START = "etc/init.d/xencommons"


@dataclass(frozen=True)
class OwnTools:
    """`release` is (4, 20); `programs` are those that a host cannot be without, by their names."""

    path: Path
    sha256: str
    release: tuple[int, int]
    files: tuple[str, ...]
    programs: tuple[Program, ...]
    device_model: str
    """Where this libxl looks for qemu."""

    @classmethod
    def read(cls, path: Path) -> OwnTools:
        """UsageError, with what to give instead, for a tree without Xen's tools or with those of several releases."""
        if not path.is_dir():
            raise UsageError(f"{path} is no directory", hint=_HINT)
        found = [one for one in sorted(path.rglob("*")) if one.is_symlink() or one.is_file()]
        named = {one.name: one for one in found if one.is_file()}
        if missing := [name for name in _WANTED if name not in named]:
            raise UsageError(f"{path} holds no {missing[0]}, so these are not Xen's tools", hint=_HINT)
        releases = {(int(match[1]), int(match[2])) for name in named if (match := _LIBRARY.match(name))}
        if len(releases) != 1:
            said = " and ".join(".".join(map(str, one)) for one in sorted(releases)) or "no release, without libxenctrl"
            raise UsageError(f"{path} holds tools of {said}", hint=_HINT)
        light = next((one for name, one in named.items() if name.startswith("libxenlight.so.")), None)
        device_model = _DEVICE_MODEL.search(light.read_bytes()) if light is not None else None
        if device_model is None:
            raise UsageError(f"{path} holds no libxenlight that names a qemu-system-i386", hint=_HINT)
        summed = hashlib.sha256()
        for one in found:
            content = str(one.readlink()).encode() if one.is_symlink() else one.read_bytes()
            summed.update(f"{one.relative_to(path)} {hashlib.sha256(content).hexdigest()}\n".encode())
        files = tuple(str(one.relative_to(path)) for one in found)
        programs = tuple(Program.read(named[name]) for name in _PROGRAMS)
        return cls(path, summed.hexdigest(), releases.pop(), files, programs, device_model[0].decode())

    @property
    def starts_itself(self) -> bool:
        """Whether it has a script of its own that starts them, as upstream's has; Debian's start by the host's."""
        return START in self.files

    @property
    def xenstored(self) -> list[Path]:
        """The programs of this name, in C and in OCaml."""
        named = [self.path / name for name in self.files if Path(name).name in ("xenstored", "oxenstored")]
        return [one for one in named if one.is_file()]

    @property
    def libraries(self) -> frozenset[str]:
        """The names of its files, among which a program of it finds its libraries."""
        return frozenset(Path(name).name for name in self.files)

    def fit(self, libraries: Collection[str], libc: tuple[int, int], where: str) -> None:
        """UsageError where one of its programs would not start in this image."""
        for program in self.programs:
            program.fit({*libraries, *self.libraries}, libc, where)
