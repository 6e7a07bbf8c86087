"""Code that can be changed: what a hypervisor, a kernel and a program have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from harness.base.strict import Hex, HexBytes
from harness.mutants.change import ByteChange, Returns


@dataclass(frozen=True)
class CodePlace:
    """`address` is the virtual one of running text, the offset in a program's file."""

    where: str  # function or file
    offset: int  # from the start of the function; in a file the same as `address`
    address: Hex

    def __str__(self) -> str:
        return f"{self.where}+{self.offset:#x}"


@dataclass(frozen=True)
class Replaced:
    """One change as it was made: what stood there, and what was read back."""

    place: CodePlace
    before: HexBytes
    after: HexBytes

    def __str__(self) -> str:
        return f"{self.place}: {self.before.hex(' ')} -> {self.after.hex(' ')}"


class Code(Protocol):
    """Open for changes: whoever runs it stands still meanwhile, or was not started yet."""

    def name_of(self, change: ByteChange | Returns) -> str:
        """What is searched for it: a function, or the whole file."""
        ...

    def find(self, change: ByteChange | Returns) -> list[CodePlace]:
        """Every place where its bytes stand; of a function that shall return, its entry."""
        ...

    def read(self, address: int, length: int) -> bytes: ...

    def write(self, address: int, data: bytes) -> None: ...
