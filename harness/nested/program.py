"""A program that a developer built, as its ELF headers tell what it needs of the host that it is put into."""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.base.errors import UsageError

_LIBC = re.compile(rb"\0GLIBC_(\d+)\.(\d+)(?=[.\0])")


@dataclass(frozen=True)
class Program:
    """For x86-64. `needed`: its libraries, by their sonames; `libc`: the oldest C library that will do, (2, 41)."""

    path: Path
    sha256: str
    needed: tuple[str, ...]
    libc: tuple[int, int]

    @classmethod
    def read(cls, path: Path) -> Program:
        """UsageError for whatever is no such program."""
        try:
            data = path.read_bytes()
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}", hint="give a program of your build") from error
        if data[:6] != b"\x7fELF\x02\x01" or data[18:20] != b"\x3e\x00":
            raise UsageError(
                f"{path} is no program for x86-64", hint="give a program of your build, not a script for it"
            )
        try:
            needed = tuple(_needed(data))
        except (struct.error, ValueError) as error:
            raise UsageError(f"{path}: its ELF headers are damaged", hint="build it again") from error
        libc = max(((int(match[1]), int(match[2])) for match in _LIBC.finditer(data)), default=(2, 0))
        return cls(path, hashlib.sha256(data).hexdigest(), needed, libc)

    def fit(self, there: Collection[str], libc: tuple[int, int], where: str) -> None:
        """UsageError when it would not start where these libraries are, and the C library is of this release."""
        hint = "configure it without them, or link it statically"
        if missing := [name for name in self.needed if name not in there]:
            raise UsageError(f"{self.path} needs {', '.join(missing)}, which {where} does not have", hint=hint)
        if self.libc > libc:
            wanted, has = (".".join(map(str, one)) for one in (self.libc, libc))
            raise UsageError(
                f"{self.path} needs a C library of {wanted}, and {where} has {has}",
                hint="build it on the release of the stack, or take a newer --stack",
            )


def _needed(data: bytes) -> Iterator[str]:
    """The DT_NEEDED of an ELF64 program, in its order; nothing for one that is linked statically."""
    (table,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    segments = [struct.unpack_from("<IIQQQQQ", data, table + index * size) for index in range(count)]
    loaded = [(address, offset, length) for kind, _, offset, address, _, length, _ in segments if kind == 1]
    for kind, _, offset, _, _, length, _ in segments:
        if kind != 2:
            continue
        entries = [struct.unpack_from("<QQ", data, offset + place) for place in range(0, length, 16)]
        (strings,) = [value for tag, value in entries if tag == 5][:1]  # DT_STRTAB, an address; ValueError without one
        (base,) = [at + strings - start for start, at, size in loaded if start <= strings < start + size][:1]
        for tag, value in entries:
            if tag == 0:
                return
            if tag == 1:
                yield data[base + value : data.index(b"\0", base + value)].decode("ascii")
