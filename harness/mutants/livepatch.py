"""A livepatch payload for the running hypervisor, byte by byte: one small ELF relocatable, no compiler. Pure.

Xen loads a payload (common/livepatch.c), checks the build-ids it depends on and the bytes it expects, and then writes a
jump to the new code over the first bytes of each function. It can be reverted, and a reboot forgets it. The format is
docs/misc/livepatch.pandoc of Xen, version 2 of `struct livepatch_func`, and the same from 4.14 to 4.20.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from harness.base.errors import HarnessBug
from harness.mutants.change import ENDBR64

EXPECTED_BYTES = 31  # LIVEPATCH_OPAQUE_SIZE, and no more can be compared
JUMP_BYTES = 5  # jmp rel32, written behind an endbr64

_NOTE_BUILD_ID = 3  # NT_GNU_BUILD_ID
_FUNC = struct.Struct("<QQQIIB39xB31s")  # struct livepatch_func: 104 bytes
_RELOCATION = struct.Struct("<QQq")  # Elf64_Rela
_SYMBOL = struct.Struct("<IBBHQQ")  # Elf64_Sym
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")  # Elf64_Ehdr
_SECTION = struct.Struct("<IIQQQQIIQQ")  # Elf64_Shdr
_PROGBITS, _SYMTAB, _STRTAB, _RELA, _NOTE = 1, 2, 3, 4, 7
_WRITE, _ALLOC, _EXEC = 1, 2, 4
_R_X86_64_64 = 1


@dataclass(frozen=True)
class Replacement:
    """One function. `code` comes in its place; without code Xen only compares, and refuses if a byte differs.

    `address` and `size` are those of the function in the running text, `expected` its first bytes; or of some of its
    instructions, of which the first `nops` bytes do nothing then.
    """

    symbol: str
    address: int
    size: int
    expected: bytes
    code: bytes = b""
    nops: int = 0

    def __post_init__(self) -> None:
        if not self.expected or len(self.expected) > EXPECTED_BYTES:
            raise HarnessBug(f"{self.symbol}: 1 to {EXPECTED_BYTES} bytes can be compared, not {len(self.expected)}")
        if self.code and self.size < room_needed(self.expected):
            raise HarnessBug(f"{self.symbol}: {self.size} bytes hold no jump")
        if self.nops and (self.code or self.nops > min(self.size, EXPECTED_BYTES)):
            raise HarnessBug(f"{self.symbol}: {self.nops} bytes cannot become NOPs")


def room_needed(entry: bytes) -> int:
    """How long a function that begins with these bytes must be, that a jump fits."""
    return JUMP_BYTES + (len(ENDBR64) if entry.startswith(ENDBR64) else 0)


def comparison(symbol: str, address: int, size: int, text: bytes) -> Replacement:
    """What proves that the running text of a function begins as `text`, its bytes in the hypervisor's file.

    Not from an endbr64 on: Xen takes its length off the size of the new code, and a comparison has none.
    """
    skipped = len(ENDBR64) if text.startswith(ENDBR64) else 0
    text = text[skipped : skipped + EXPECTED_BYTES]
    return Replacement(symbol, address + skipped, size - skipped, text)


@dataclass
class _ElfSection:
    name: str
    type: int
    flags: int
    data: bytes
    link: int = 0
    info: int = 0
    align: int = 8
    entry: int = 0


@dataclass
class _Strings:
    data: bytearray = field(default_factory=lambda: bytearray(1))

    def add(self, text: str) -> int:
        offset = len(self.data)
        self.data += text.encode("ascii") + b"\0"
        return offset


def payload(build_id: bytes, replacements: Sequence[Replacement]) -> bytes:
    """The file for `xen-livepatch upload`. `build_id` is the running hypervisor's (`xl info`: build_id)."""
    if not replacements:
        raise HarnessBug("a payload without a function")
    names, text, funcs, relocations = bytearray(), bytearray(), bytearray(), bytearray()
    for index, one in enumerate(replacements):
        start = index * _FUNC.size
        relocations += _RELOCATION.pack(start, _relocation(_NAMES_SYMBOL), len(names))
        names += one.symbol.encode("ascii") + b"\0"
        if one.code:
            relocations += _RELOCATION.pack(start + 8, _relocation(_TEXT_SYMBOL), len(text))
            text += one.code.ljust(-len(one.code) % 16 + len(one.code), b"\xcc")
        expects = 1 | len(one.expected) << 1
        new_size = len(one.code) or one.nops  # without new code, that many NOPs
        funcs += _FUNC.pack(0, 0, one.address, new_size, one.size, 2, expects, one.expected)
    own_id = hashlib.sha1(build_id + bytes(funcs) + bytes(text), usedforsecurity=False).digest()
    text = text or bytearray(b"\xcc" * 16)  # Xen wants no empty section, and all payloads have the same ones
    return _elf(
        [
            _ElfSection(".text", _PROGBITS, _ALLOC | _EXEC, bytes(text), align=16),
            _ElfSection(".rodata.str", _PROGBITS, _ALLOC, bytes(names), align=1),
            _ElfSection(".livepatch.funcs", _PROGBITS, _ALLOC | _WRITE, bytes(funcs)),
            _ElfSection(".rela.livepatch.funcs", _RELA, 0, bytes(relocations), info=3, entry=_RELOCATION.size),
            _ElfSection(".livepatch.depends", _NOTE, _ALLOC, _note(build_id), align=4),
            _ElfSection(".livepatch.xen_depends", _NOTE, _ALLOC, _note(build_id), align=4),
            _ElfSection(".note.gnu.build-id", _NOTE, _ALLOC, _note(own_id), align=4),
        ]
    )


_TEXT_SYMBOL, _NAMES_SYMBOL = 1, 2  # indexes in the symbol table


def _relocation(symbol: int) -> int:
    return symbol << 32 | _R_X86_64_64


def _note(build_id: bytes) -> bytes:
    return struct.pack("<III4s", 4, len(build_id), _NOTE_BUILD_ID, b"GNU\0") + build_id


def _elf(sections: Iterable[_ElfSection]) -> bytes:
    """Sections in their order from number 1 on, then the symbol table and both string tables."""
    strings = _Strings()
    symbols = _SYMBOL.pack(0, 0, 0, 0, 0, 0)
    for number, label in ((1, ".maskall_text"), (2, ".maskall_names")):  # a dot: Xen keeps no such name in its table
        symbols += _SYMBOL.pack(strings.add(label), 1, 0, number, 0, 0)  # local object
    parts = list(sections)
    table = len(parts) + 1
    for one in parts:
        one.link = table if one.type == _RELA else 0
    names = _Strings()
    parts.append(_ElfSection(".symtab", _SYMTAB, 0, symbols, link=table + 1, info=3, entry=_SYMBOL.size))
    parts.append(_ElfSection(".strtab", _STRTAB, 0, bytes(strings.data), align=1))
    parts.append(_ElfSection(".shstrtab", _STRTAB, 0, b"", align=1))
    offsets = [names.add(one.name) for one in parts]
    parts[-1].data = bytes(names.data)
    body, headers = bytearray(), bytearray(_SECTION.size)
    for one, name in zip(parts, offsets, strict=True):
        body += bytes(-(_HEADER.size + len(body)) % one.align)
        place = _HEADER.size + len(body)
        headers += _SECTION.pack(
            name, one.type, one.flags, 0, place, len(one.data), one.link, one.info, one.align, one.entry
        )
        body += one.data
    body += bytes(-(_HEADER.size + len(body)) % 8)
    identity = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    header = _HEADER.pack(
        identity, 1, 62, 1, 0, 0, _HEADER.size + len(body), 0, _HEADER.size, 0, 0, _SECTION.size, len(parts) + 1,
        len(parts),
    )  # fmt: skip
    return header + bytes(body) + bytes(headers)
