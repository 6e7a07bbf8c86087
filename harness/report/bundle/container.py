"""The container of a bundle: ustar in gzip, written in one way only, and read in no other. Pure but for its streams.

What the reader accepts is what the writer writes: each header is made anew from its name and its size, and must be the
same 512 bytes. So a link, a device, a sparse file, a pax or GNU record, an owner, a time or a second archive has no
place to stand. Formats: POSIX.1-2001 `ustar`, RFC 1952 (gzip), RFC 1951 (deflate).

    1f 8b 08 04, 4 x 00, 02 ff    deflate, with an extra field, no name, no time
    36 0, "MK" 32 0, 32 bytes     the extra field, two lengths in it: SHA-256 of every byte of the file behind it
    deflate, CRC-32, length       the archive, and nothing behind it

The seal is there for what gzip does not look at: bits that fill up a byte. It says nothing about who wrote it.
"""

from __future__ import annotations

import hashlib
import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from harness.base.errors import EvidenceError, UsageError

BASE = "maskall-evidence/"
"""The one folder that everything is in, so that unpacking a bundle by hand strews nothing about."""
MOST_MEMBERS = 200_000
MOST_BYTES = 4 << 30
MOST_OF_ONE = 256 << 20  # as much as is read back of a run's file (harness/evidence/sealed.py)

_BLOCK = 512
_CHUNK = 1 << 16
_MAGIC = bytes.fromhex("1f 8b 08 04 00000000 02 ff") + struct.pack("<H2sH", 36, b"MK", 32)
_SEALED_FROM = len(_MAGIC) + 32
_RAW_DEFLATE = -zlib.MAX_WBITS
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+=,@-]*")


class Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...


def good_name(name: str) -> bool:
    """Whether a file of a bundle may have this name: below its folder on any machine, and nothing odd to print."""
    return name.isascii() and all(_PART.fullmatch(part) for part in name.split("/"))


def header(name: str, size: int) -> bytes:
    """The one header that a file of this name and size may have. EvidenceError for a name that does not fit."""
    if not good_name(name):
        raise EvidenceError(
            f"{name!r} is no name of a file in a bundle", hint="letters, digits and ._+=,@- in each part"
        )
    prefix, base = _split(name.encode())
    fields = struct.pack(
        "100s8s8s8s12s12s8sc100s6s2s32s32s8s8s155s12x",
        base,
        b"0000644\0",
        b"0000000\0",
        b"0000000\0",
        b"%011o\0" % size,
        b"00000000000\0",
        b" " * 8,
        b"0",
        b"",
        b"ustar\0",
        b"00",
        b"",
        b"",
        b"0000000\0",
        b"0000000\0",
        prefix,
    )
    return fields[:148] + b"%06o\0 " % sum(fields) + fields[156:]


def _split(name: bytes) -> tuple[bytes, bytes]:
    """Prefix and name: nothing in the prefix where it is not needed, else as little as may be."""
    if len(name) <= 100:
        return b"", name
    cut = name.find(b"/", len(name) - 101)
    if cut < 0 or cut > 155 or cut == len(name) - 1:
        raise EvidenceError(
            f"{name.decode()!r} is too long for an archive", hint="100 letters behind a slash, 155 before it"
        )
    return name[:cut], name[cut + 1 :]


class Writer:
    """Writes a bundle into an empty stream that can seek. `close` seals it."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._deflate = zlib.compressobj(6, zlib.DEFLATED, _RAW_DEFLATE)
        self._seal = hashlib.sha256()
        self._crc = self._length = 0
        stream.write(_MAGIC + bytes(32))

    def add(self, name: str, size: int, chunks: Iterable[bytes]) -> None:
        """A file, whose `chunks` come to `size` bytes. EvidenceError when they do not."""
        self._put(header(BASE + name, size))
        written = 0
        for chunk in chunks:
            written += len(chunk)
            self._put(chunk)
        if written != size:
            raise EvidenceError(f"{name!r} had {size} bytes and has {written} now", hint="is the run still under way?")
        self._put(bytes(-size % _BLOCK))

    def close(self) -> None:
        self._put(bytes(2 * _BLOCK))
        self._write(self._deflate.flush() + struct.pack("<II", self._crc, self._length & 0xFFFFFFFF))
        self._stream.seek(len(_MAGIC))
        self._stream.write(self._seal.digest())

    def _put(self, data: bytes) -> None:
        self._crc = zlib.crc32(data, self._crc)
        self._length += len(data)
        self._write(self._deflate.compress(data))

    def _write(self, data: bytes) -> None:
        self._seal.update(data)
        self._stream.write(data)


@dataclass(frozen=True)
class BundleMember:
    """A file of a bundle, its name without the folder that all are in. `chunks` are read before the next member."""

    name: str
    size: int
    chunks: Iterator[bytes]

    def content(self, most: int) -> bytes:
        """All of it. EvidenceError when it is more than `most`."""
        if self.size > most:
            raise EvidenceError(f"{self.name!r} has {self.size} bytes, more than any bundle needs")
        return b"".join(self.chunks)


class BundleReader:
    """Reads a bundle, front to back, once. What it gives is only good when `members` came to its end.

    UsageError for what is no bundle at all, EvidenceError for one that is damaged or not as `Writer` makes them.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._seal = hashlib.sha256()
        self._inflate = zlib.decompressobj(_RAW_DEFLATE)
        self._waiting = b""  # compressed bytes that were read and not looked at
        self._crc = self._length = 0
        self.files = self.octets = self.compressed = 0
        start = stream.read(_SEALED_FROM)
        if start[:2] != _MAGIC[:2]:
            raise UsageError("it is no bundle: not compressed by gzip", hint="'maskall bundle RUN' makes one")
        if start[: len(_MAGIC)] != _MAGIC:
            raise EvidenceError("its head is not as maskall writes it: another program packed it, or packed it again")
        self._sealed = start[len(_MAGIC) :]

    def members(self) -> Iterator[BundleMember]:
        seen: dict[str, str] = {}  # by what is the same where case does not count
        while True:
            block = self._read(_BLOCK)
            if block == bytes(_BLOCK):
                break
            name, size = self._member(block)
            if other := seen.get(name.lower()):
                told = "is there twice" if other == name else f"and {other!r} are one file where case does not count"
                raise EvidenceError(f"{name!r} {told}")
            seen[name.lower()] = name
            self.files += 1
            self.octets += size
            if self.files > MOST_MEMBERS or self.octets > MOST_BYTES or size > MOST_OF_ONE:
                raise EvidenceError(
                    f"{name!r}: more than {MOST_MEMBERS} files, {MOST_BYTES >> 30} GiB, or 256 MiB in one"
                )
            chunks = self._chunks(size)
            yield BundleMember(name, size, chunks)
            for _ in chunks:  # what nobody wanted
                pass
            if self._read(-size % _BLOCK).strip(b"\0"):
                raise EvidenceError(f"behind {name!r} there is something where nothing belongs")
        if self._read(_BLOCK) != bytes(_BLOCK):
            raise EvidenceError("the archive does not end where it says it does")
        self._end()

    def _member(self, block: bytes) -> tuple[str, int]:
        base, prefix = (part.split(b"\0", 1)[0] for part in (block[:100], block[345:500]))
        name = (prefix + b"/" + base if prefix else base).decode("ascii", "backslashreplace")
        size = block[124:135]
        if not name.startswith(BASE) or not good_name(name) or not re.fullmatch(b"[0-7]{11}", size):
            raise EvidenceError(f"{name!r} is no name or size of a file in a bundle")
        if header(name, int(size, 8)) != block:
            raise EvidenceError(f"the header of {name!r} is not that of an ordinary file as maskall writes it")
        return name.removeprefix(BASE), int(size, 8)

    def _chunks(self, size: int) -> Iterator[bytes]:
        while size:
            chunk = self._read(min(size, _CHUNK))
            size -= len(chunk)
            yield chunk

    def _read(self, size: int) -> bytes:
        """So many bytes of the archive."""
        parts: list[bytes] = []
        while size:
            part = self._some(size)
            if not part:
                raise EvidenceError("the archive ends in the middle: it was cut off, or is damaged")
            size -= len(part)
            self._crc = zlib.crc32(part, self._crc)
            self._length += len(part)
            parts.append(part)
        return b"".join(parts)

    def _some(self, most: int) -> bytes:
        while not self._inflate.eof:
            if not self._waiting:
                self._waiting = self._more()
                if not self._waiting:
                    return b""
            try:
                part = self._inflate.decompress(self._waiting, most)
            except zlib.error as error:
                raise EvidenceError(f"the file is damaged: {error}") from error
            self._waiting = self._inflate.unconsumed_tail
            if part:
                return part
        return b""

    def _more(self) -> bytes:
        data = self._stream.read(_CHUNK)
        self.compressed += len(data)
        self._seal.update(data)
        return data

    def _end(self) -> None:
        """Nothing more comes, and sum, length and seal are right."""
        if self._some(1):
            raise EvidenceError("behind the archive there is another")
        rest = self._inflate.unused_data
        while len(rest) <= 8 and (more := self._more()):
            rest += more
        if len(rest) > 8:
            raise EvidenceError("behind the end of the bundle there is more")
        if rest != struct.pack("<II", self._crc, self._length & 0xFFFFFFFF):
            raise EvidenceError("the file is damaged: its CRC-32 or its length is another one")
        if self._seal.digest() != self._sealed:
            raise EvidenceError("the file was changed: its seal is another one")
