"""The symbols that a hypervisor's image carries (CONFIG_KALLSYMS is always on), as /proc/xen/xensyms shows them. Pure.

Accepted: what xen/tools/symbols.c writes into .rodata, each part aligned to 4 bytes: the addresses less XEN_VIRT_START,
their number, the names (a length, then so many tokens; the first letter is nm's), a marker for each 256 names, 256
tokens, and where each token begins. Nothing says where it is: the tokens that are digits are searched for, and what
must stand before them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from harness.mutants.hypervisor_file import VIRTUAL, HypervisorFile
from harness.xen.trace.symbols import Symbol, SymbolTable

_DIGITS = b"".join(b"%d\0" % digit for digit in range(10))
_FEWEST, _MOST = 1000, 100_000  # symbols; a release has 6000
_FARTHEST = 2 << 20  # bytes of names


def symbols_in(file: HypervisorFile) -> SymbolTable | None:
    """None where the image has none that we can read."""
    data, digits = file.text, -1
    while (digits := data.find(_DIGITS, digits + 1)) >= 0:
        start = _strings_before(data, digits, ord("0"))
        tokens = data[start : start + 8192].split(b"\0", 256)[:256]
        found = _before(data, start, tokens)
        if found is not None:
            return found
    return None


def _strings_before(data: bytes, place: int, count: int) -> int:
    for _ in range(count):
        place = data.rfind(b"\0", 0, place - 1) + 1
    return place


def _before(data: bytes, table: int, tokens: list[bytes]) -> SymbolTable | None:
    """Whose names end where the markers before the table of tokens begin."""
    for markers, count in _markers(data, table):
        fewest, most = (count - 1) * 256 + 1, count * 256
        for place in range(markers - 4, max(0, markers - _FARTHEST), -4):
            (number,) = struct.unpack_from("<I", data, place)
            if fewest <= number <= most and (found := _read(data, place, number, markers, tokens)):
                return found
    return None


def _markers(data: bytes, table: int) -> Iterator[tuple[int, int]]:
    """Where they may begin, and how many that are: numbers that grow, from 0 on, up to the table (or its alignment)."""
    for end in (table, table - 4):
        end -= end % 4
        later, place, count = 1 << 32, end, 0
        while place >= 4:
            (value,) = struct.unpack_from("<I", data, place - 4)
            if value >= later:
                break
            later, place, count = value, place - 4, count + 1
            if value == 0:
                if _FEWEST <= count * 256 <= _MOST:
                    yield place, count
                break


def _read(data: bytes, place: int, number: int, markers: int, tokens: list[bytes]) -> SymbolTable | None:
    """The names behind the number at `place`, if they are just so many, and their addresses before it."""
    names, at = [], place + 4
    for _ in range(number):
        length = data[at]
        names.append(b"".join(tokens[one] for one in data[at + 1 : at + 1 + length]))
        at += 1 + length
        if at > markers:
            return None
    if not 0 <= markers - at < 4 or place < 4 * number:
        return None
    addresses = struct.unpack_from(f"<{number}I", data, place - 4 * number)
    if list(addresses) != sorted(addresses):
        return None
    return SymbolTable(
        tuple(
            Symbol(VIRTUAL + address, name[:1].decode("latin1"), name[1:].decode("latin1"))
            for address, name in zip(addresses, names, strict=True)
        )
    )
