"""Call chains from the words of a stack. Pure, but for the code they come from, which is read as needed."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from harness.base.errors import LabError
from harness.model.trace import Frame
from harness.xen.trace.symbols import SymbolTable, scan_stack

_THUNK = "__x86_indirect_thunk"  # what compilers make of an indirect call since Spectre
_LONGEST_CALL = 7  # bytes
_JUMP = re.compile(rb"(?=(?:\xe9|\x0f[\x80-\x8f])(.{4}))", re.DOTALL)  # jmp rel32, jcc rel32; AMD64 manual volume 3
_INDIRECT_JUMP = re.compile(rb"\xff[\xe0-\xe7]")
_LARGEST = 0x4000  # bytes of a function that are searched for jumps
_JUMPS_IN_A_ROW = 3  # Linux: pci_dev_save_and_disable, pci_write_config_word, pci_bus_write_config_word, by a register

Read = Callable[[int, int], bytes]  # virtual address, length


def words_of(stack: bytes) -> list[int]:
    """The 64-bit words of a piece of stack, lowest address (innermost) first."""
    return [int.from_bytes(stack[at : at + 8], "little") for at in range(0, len(stack) - 7, 8)]


@dataclass(frozen=True)
class _CallSite:
    """The call before a return address, and where it can have led, by jumps of what it called too.

    `anywhere`: the call or such a jump goes by a register or memory, so no reading of code tells where.
    """

    leads_to: frozenset[str] = frozenset()
    anywhere: bool = False


@dataclass(frozen=True)
class Linker:
    """Tells the call chain among the words of a stack, for one kernel. Code is read once: it does not change."""

    symbols: SymbolTable
    read: Read
    _calls: dict[int, _CallSite] = field(default_factory=dict)

    def frames(self, rip: int, words: Sequence[int]) -> list[Frame]:
        """Where the CPU stands, and every word of its stack that can be a return address; the first has index -1."""
        return [Frame(-1, rip, *(self.symbols.lookup(rip) or ("?", 0))), *scan_stack(words, self.symbols)]

    def chain(self, rip: int, words: Sequence[int], *, returns_at: int | None = None) -> tuple[Frame, ...]:
        """The call chain, innermost first, as far out as one can be followed.

        `returns_at`: index of the word that is the innermost function's return address, where that is known.
        """
        return self.linked(self.frames(rip, words), returns_at)

    def linked(self, frames: Sequence[Frame], returns_at: int | None = None) -> tuple[Frame, ...]:
        """The call chain among `frames`.

        A stack also holds return addresses of calls that ended long ago. Frames belong together when the instruction
        before the outer one's return address calls the inner one's function, or one that jumps there at its end, or is
        an indirect call, which can have called it. At a function's entry the stack begins with its return address,
        whatever was called there. Of all chains to the outermost frame that any reaches, the one counts that has most
        direct calls more than indirect ones, then the longest.
        """
        best: dict[int, tuple[int, int, tuple[Frame, ...]]] = {0: (0, 1, (frames[0],))}
        if frames[0].offset == 0 and not frames[0].symbol.endswith(".cold"):  # that is jumped to
            returns_at = 0
        for place, frame in enumerate(frames):
            if frame.index == returns_at:
                best = {place: (0, 2, (frames[0], frame))}
        for place in range(max(best) + 1, len(frames)):
            frame = frames[place]
            call = self._call(frame.address)
            chains = [
                (score + (1 if direct else -1), length + 1, (*chain, frame))
                for score, length, chain in best.values()
                if (direct := _stem(chain[-1].symbol) in call.leads_to) or call.anywhere
            ]
            if chains:
                best[place] = max(chains, key=lambda chain: chain[:2])
        return best[max(best)][2]

    def _call(self, returns_to: int) -> _CallSite:
        if returns_to not in self._calls:
            self._calls[returns_to] = self._read_call(returns_to)
        return self._calls[returns_to]

    def _read_call(self, returns_to: int) -> _CallSite:
        before = self._code(returns_to - _LONGEST_CALL, _LONGEST_CALL)
        if before[-5:-4] != b"\xe8":  # call rel32
            return _CallSite(anywhere=_is_indirect(before))
        reached = {_relative(returns_to, before[-4:])}
        names: set[str] = set()
        anywhere = False
        for jumps in range(_JUMPS_IN_A_ROW + 1):
            functions = {function: name for function in reached if (name := self._name(function)) is not None}
            thunks = {function for function, name in functions.items() if name.startswith(_THUNK)}
            anywhere = anywhere or bool(thunks)
            names |= {_stem(name) for function, name in functions.items() if function not in thunks}
            if jumps == _JUMPS_IN_A_ROW:
                break
            ends = [self._jumps(function) for function in functions.keys() - thunks]
            reached = set().union(*(targets for targets, _ in ends))
            anywhere = anywhere or any(by_register for _, by_register in ends)
        return _CallSite(frozenset(names), anywhere)

    def _jumps(self, function: int) -> tuple[set[int], bool]:
        """Where a function jumps to outside of itself, and whether it does so by a register."""
        inside = self.symbols.extent(function)
        code = self._code(function, min(len(inside), _LARGEST))
        targets = {_relative(function + found.end(1), found[1]) for found in _JUMP.finditer(code)}
        return {target for target in targets if target not in inside}, bool(_INDIRECT_JUMP.search(code))

    def _name(self, address: int) -> str | None:
        """The function that begins at `address`."""
        name, offset = self.symbols.lookup(address) or ("", 1)
        return name if offset == 0 else None

    def _code(self, address: int, length: int) -> bytes:
        """What cannot be read is no code: a word of the stack that only looks like an address of some."""
        try:
            return self.read(address, length)
        except LabError:
            return bytes(length)


def _relative(after: int, distance: bytes) -> int:
    return (after + int.from_bytes(distance, "little", signed=True)) % (1 << 64)


def _is_indirect(before: bytes) -> bool:
    """Whether a `call *...` (ff /2, AMD64 manual volume 3) of any length ends right before a return address."""
    return any(before[-size] == 0xFF and before[1 - size] & 0x38 == 0x10 for size in (2, 3, 4, 6, 7))


def _stem(symbol: str) -> str:
    """A function's name without what the compiler appends to the parts it splits off (.cold, .part.0, .isra.0)."""
    return symbol.partition(".")[0]
