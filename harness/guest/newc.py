"""Writing an initramfs: a cpio archive in the "newc" format. Pure.

Source: Linux Documentation/driver-api/early-userspace/buffer-format.rst.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

_DIRECTORY = 0o040000
_FILE = 0o100000
_DEVICE = 0o020000
_TRAILER = "TRAILER!!!"


@dataclass(frozen=True)
class Member:
    """A file, directory or character device of an archive; `path` has no leading slash."""

    path: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)

    @classmethod
    def directory(cls, path: str) -> Member:
        return cls(path, _DIRECTORY | 0o755)

    @classmethod
    def file(cls, path: str, data: bytes, permissions: int = 0o644) -> Member:
        return cls(path, _FILE | permissions, data)

    @classmethod
    def character_device(cls, path: str, major: int, minor: int) -> Member:
        return cls(path, _DEVICE | 0o600, device=(major, minor))


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)


def _record(number: int, member: Member) -> bytes:
    name = member.path.encode() + b"\0"
    major, minor = member.device
    fields = (number, member.mode, 0, 0, 1, 0, len(member.data), 0, 0, major, minor, len(name), 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields)
    return _padded(header + name) + _padded(member.data)


def archive(members: Iterable[Member]) -> bytes:
    """The archive of these members, in this order; same input, same bytes."""
    records = [_record(number, member) for number, member in enumerate(members, start=1)]
    return b"".join([*records, _record(0, Member(_TRAILER, 0))])
