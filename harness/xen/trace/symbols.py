"""The hypervisor's symbol table, as dom0 shows it, and stacks read with its help. Pure."""

from __future__ import annotations

import bisect
import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from harness.base.errors import LabError, ParseError
from harness.model.trace import Frame

_BOUNDS = ("_stext", "_etext")  # of the permanent text, Xen xen.lds.S


@dataclass(frozen=True)
class Symbol:
    """`kind` is nm's letter (T, t: text). The name of a static symbol carries its file: `arch/x86/msi.c#dump_msi`."""

    address: int
    kind: str
    name: str

    @property
    def bare(self) -> str:
        """The name without its file."""
        return self.name.rpartition("#")[2]


@dataclass(frozen=True)
class SymbolTable:
    """All symbols, sorted by address."""

    symbols: tuple[Symbol, ...]

    def address_of(self, name: str) -> int:
        """Address of `name`, given with or without the file of a static symbol.

        Raises LabError when this hypervisor has no such symbol (naming the nearest one: functions come and go with
        the version, `.cold` and `.part.0` with the compiler) or several at different addresses.
        """
        same = {symbol.name: symbol.address for symbol in self.symbols if symbol.name == name}
        same = same or {symbol.name: symbol.address for symbol in self.symbols if symbol.bare == name}
        if len(set(same.values())) > 1:
            raise LabError(f"several functions of Xen are called {name}", hint=f"say which: {', '.join(sorted(same))}")
        if not same:
            near = difflib.get_close_matches(name, {symbol.bare for symbol in self.symbols}, n=1, cutoff=0.0)
            raise LabError(f"Xen has no symbol {name}", hint=f"the nearest is {', '.join(near)}")
        return next(iter(same.values()))

    def first_of(self, names: Sequence[str]) -> int:
        """Address of the first of these that there is, for functions are renamed. Raises LabError as `address_of`."""
        known = {symbol.bare for symbol in self.symbols}
        return self.address_of(next((name for name in names if name in known), names[0]))

    def extent_of(self, name: str) -> range:
        """From `address_of(name)` to the next symbol, or to the end of the text. Raises LabError as `address_of`."""
        start = self.address_of(name)
        later = bisect.bisect_right(self.symbols, start, key=lambda symbol: symbol.address)
        end = self.symbols[later].address if later < len(self.symbols) else self.text_range.stop
        return range(start, end)

    @cached_property
    def text_range(self) -> range:
        """Addresses of permanent code: _stext to _etext; without these symbols, first to last text symbol.

        In the second case the last function is left out, for its end is not known.
        """
        bounds = {symbol.name: symbol.address for symbol in self.symbols if symbol.name in _BOUNDS}
        text = [symbol.address for symbol in self.symbols if symbol.kind in "Tt"]
        return range(bounds.get("_stext", text[0]), bounds.get("_etext", text[-1]))

    @cached_property
    def _functions(self) -> tuple[list[int], list[str]]:
        inside = {
            symbol.address: symbol.bare
            for symbol in reversed(self.symbols)  # so that the first of several names at an address wins
            if symbol.kind in "Tt" and symbol.name not in _BOUNDS and symbol.address in self.text_range
        }
        addresses = sorted(inside)
        return addresses, [inside[address] for address in addresses]

    def lookup(self, address: int) -> tuple[str, int] | None:
        """(function without its file, offset into it); None when the address is not in the hypervisor's text."""
        addresses, names = self._functions
        place = bisect.bisect_right(addresses, address) - 1
        if address not in self.text_range or place < 0:
            return None
        return names[place], address - addresses[place]

    def extent(self, address: int) -> range:
        """From `address` to the next function, or to the end of the text."""
        addresses, _ = self._functions
        place = bisect.bisect_right(addresses, address)
        return range(address, addresses[place] if place < len(addresses) else self.text_range.stop)


_SYMBOL = re.compile(r"([0-9a-f]{16}) ([A-Za-z?]) (\S+)")


def parse_xensyms(text: str, *, file: str = "<text>") -> SymbolTable:
    """Accepted format: `/proc/xen/xensyms` (Linux xensyms.c, XENPF_get_symbol), one symbol to a line:

        ffff82d040200000 T _stext
        ffff82d04027c1f0 t arch/x86/msi.c#msi_set_mask_bit

    Raises ParseError for any other line and when there is no code at all (no permission to read it gives that).
    """
    symbols: list[Symbol] = []
    for number, line in enumerate(text.split("\n"), 1):
        line = line.rstrip()
        if not line:
            continue
        match = _SYMBOL.fullmatch(line)
        if match is None:
            raise ParseError(f"{line!r}", file=file, line=number, expected="a line 'ffff82d040200000 T name'")
        address, kind, name = match.groups()
        symbols.append(Symbol(int(address, 16), kind, name))
    if not any(symbol.kind in "Tt" for symbol in symbols):
        raise ParseError("no text symbol", file=file, expected="the hypervisor's functions")
    return SymbolTable(tuple(sorted(symbols, key=lambda symbol: symbol.address)))


def scan_stack(words: Iterable[int], table: SymbolTable) -> tuple[Frame, ...]:
    """The words that point *into* a function of Xen (offset above 0), innermost first: a call chain, with leftovers.

    Release builds have no frame pointers, so this is what `show_trace` of Xen does too; a word that points at the
    very start of a function is a function pointer, never a return address.
    """
    frames = ((index, word, table.lookup(word)) for index, word in enumerate(words))
    return tuple(Frame(index, word, hit[0], hit[1]) for index, word, hit in frames if hit is not None and hit[1] > 0)
