"""The hypervisor's file as it lies in /boot: its build-id, its text, and who calls a function. Pure.

Accepted: what `make xen.gz` makes, a multiboot ELF32 or its gzip (xen/arch/x86/boot/mkelf32.c). Refused, each with its
reason: xen-syms (ELF64), xen.efi (PE), anything else.
"""

from __future__ import annotations

import gzip
import re
import struct
import zlib
from dataclasses import dataclass

from harness.base.errors import ParseError

VIRTUAL = 0xFFFF82D040000000  # XEN_VIRT_START of 4.12 and later: a physical address of the file plus this
_LOAD, _NOTE = 1, 4
_MOST = 64 << 20  # bytes of an unpacked hypervisor; today's have 3 MB
_TRANSFER = re.compile(rb"(?:[\xe8\xe9]|\x0f[\x80-\x8f])(?=(....))", re.DOTALL)  # call, jmp, jcc: opcode, then rel32


@dataclass(frozen=True)
class HypervisorFile:
    """`text` begins at the virtual address `start`; it is all of the image, data included."""

    build_id: bytes
    start: int
    text: bytes

    @classmethod
    def parse(cls, data: bytes, file: str) -> HypervisorFile:
        """ParseError, with what to give instead, for every other kind of file."""
        data = unpacked(data, file)
        if data[:2] == b"MZ":
            raise ParseError("an EFI program", file=file, expected="xen.gz, which lies beside it")
        if data[:4] != b"\x7fELF" or len(data) < 52:
            raise ParseError("no hypervisor", file=file, expected="xen.gz or the ELF file in it")
        if data[4] != 1:
            raise ParseError("64-bit ELF, as xen-syms is", file=file, expected="xen.gz, which boots by multiboot")
        try:
            return cls._of(data, file)
        except struct.error as error:
            raise ParseError("its headers are cut", file=file, expected="a whole file") from error

    @classmethod
    def _of(cls, data: bytes, file: str) -> HypervisorFile:
        (table,) = struct.unpack_from("<I", data, 28)
        size, count = struct.unpack_from("<HH", data, 42)
        text = build_id = None
        for index in range(count):
            kind, offset, address, _, length = struct.unpack_from("<IIIII", data, table + index * size)
            found = data[offset : offset + length]
            if kind == _LOAD:
                text = (VIRTUAL + address, found)
            if kind == _NOTE and len(found) >= 16:
                name, described, what = struct.unpack_from("<III", found)
                if (name, what, found[12:16]) == (4, 3, b"GNU\0"):
                    build_id = found[16 : 16 + described]
        if text is None or build_id is None:
            missing = "no build-id" if text else "no segment to load"
            raise ParseError(missing, file=file, expected="a hypervisor with a build-id (4.7 or later)")
        return cls(build_id, *text)

    def read(self, address: int, length: int) -> bytes:
        """Bytes at a virtual address; fewer, or none, where the image ends."""
        offset = address - self.start
        return self.text[offset : offset + length] if offset >= 0 else b""

    def callers(self, target: range, within: range) -> int:
        """Places in the code of `within` that call or jump to the start of `target` from outside of it.

        A function that was inlined everywhere has none, though it stands there. An opcode that is only data of another
        instruction may be taken for a call; it would have to be followed by just the right distance.
        """
        code, places = self.read(within.start, len(within)), 0
        for match in _TRANSFER.finditer(code):
            end = within.start + match.end() + 4
            (distance,) = struct.unpack("<i", match[1])
            places += end + distance == target.start and end - 1 not in target
        return places

    def pointers(self, address: int) -> int:
        """Tables that hold this address, as those of an interrupt controller do (hw_irq_controller)."""
        return self.text.count(struct.pack("<Q", address))


def unpacked(data: bytes, file: str) -> bytes:
    """What is in a gzip file; anything else as it is. ParseError for one that is not whole."""
    if data[:2] != b"\x1f\x8b":
        return data
    try:
        stream = zlib.decompressobj(wbits=31)
        unpacked = stream.decompress(data, _MOST)
    except (zlib.error, gzip.BadGzipFile) as error:
        raise ParseError(f"cannot be unpacked: {error}", file=file, expected="a whole gzip file") from error
    if not stream.eof:
        raise ParseError("ends too early, or is too large", file=file, expected="a whole gzip file")
    return unpacked
