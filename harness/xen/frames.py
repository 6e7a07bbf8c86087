"""Call chains from the words of a stack. Pure, but for the text before return addresses, which the caller reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.xen.symbols import Frame, SymbolTable, scan_stack

_THUNK = "__x86_indirect_thunk"  # what compilers make of an indirect call since Spectre
_LONGEST_CALL = 7  # bytes

Read = Callable[[int, int], bytes]  # virtual address, length


def words_of(stack: bytes) -> list[int]:
    """The 64-bit words of a piece of stack, lowest address (innermost) first."""
    return [int.from_bytes(stack[at : at + 8], "little") for at in range(0, len(stack) - 7, 8)]


def stack_frames(rip: int, words: Sequence[int], symbols: SymbolTable) -> list[Frame]:
    """Where the CPU stands, and every word of its stack that can be a return address. The first frame's index is -1."""
    return [Frame(-1, rip, *(symbols.lookup(rip) or ("?", 0))), *scan_stack(words, symbols)]


def linked(frames: Sequence[Frame], symbols: SymbolTable, read: Read) -> tuple[Frame, ...]:
    """The call chain among `frames`, innermost first, as far out as one can be followed.

    A stack also holds return addresses of calls that ended long ago. Frames belong together when the instruction before
    the outer one's return address calls the inner one's function, or is an indirect call, which can have called it. At
    a function's entry the stack begins with its return address, whatever was called there: a jump may have led here.
    Of all such chains to the outermost frame that any reaches, the one with the fewest indirect calls counts, then the
    longest.
    """
    head = frames[0]
    best: dict[int, tuple[int, int, tuple[Frame, ...]]] = {0: (0, -1, (head,))}
    for place, frame in enumerate(frames[1:], start=1):
        call = read(frame.address - _LONGEST_CALL, _LONGEST_CALL)
        direct, indirect = _called(call, frame.address, symbols), _is_indirect(call)
        entered = head.offset == 0 and frame.index == 0
        chains = [
            (count + (direct != _stem(chain[-1].symbol)), length - 1, (*chain, frame))
            for inner, (count, length, chain) in best.items()
            if indirect or direct in (_THUNK, _stem(chain[-1].symbol)) or (entered and inner == 0)
        ]
        if chains:
            best[place] = min(chains, key=lambda chain: chain[:2])
    return best[max(best)][2]


def _called(before: bytes, returns_to: int, symbols: SymbolTable) -> str | None:
    """The function that the direct call before a return address goes to, _THUNK for one that only jumps on."""
    if before[-5:-4] != b"\xe8":  # call rel32
        return None
    target = (returns_to + int.from_bytes(before[-4:], "little", signed=True)) % (1 << 64)
    name = (symbols.lookup(target) or ("no function",))[0]
    return _THUNK if name.startswith(_THUNK) else _stem(name)


def _is_indirect(before: bytes) -> bool:
    """Whether a `call *...` (ff /2, AMD64 manual volume 3) of any length ends right before a return address."""
    return any(before[-size] == 0xFF and before[1 - size] & 0x38 == 0x10 for size in (2, 3, 4, 6, 7))


def _stem(symbol: str) -> str:
    """A function's name without what the compiler appends to the parts it splits off (.cold, .part.0, .isra.0)."""
    return symbol.partition(".")[0]
