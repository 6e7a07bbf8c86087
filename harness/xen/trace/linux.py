"""What dom0's Linux did when it called Xen: the process, and its kernel's call chain. Pure: reading is handed in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from harness.base.errors import LabError, ParseError
from harness.model.trace import Frame
from harness.xen.trace.frames import Linker, Read, words_of
from harness.xen.trace.symbols import Symbol, SymbolTable

_THREAD_SIZE = 0x4000  # of a kernel stack, and its alignment; Linux asm/page_64_types.h
_COMM_BYTES = 16
_KERNEL_HALF = 0x1FFFF  # of the address space
_TASK_BYTES = 0x2000
_CURRENT = ("pcpu_hot", "current_task")  # Linux 6.2 and newer; before
_LINE = re.compile(r"([0-9a-f]{16}) (\S) (\S+)(?:\t\[\S+\])?")
_HYPERCALL = "xen_hypercall"  # xen_hypercall_pv, or one name for each in the page that Xen fills
_BELOW_RETURN = 2  # words that it pushes: rcx and r11, which a system call overwrites
_NEEDED = ("init_task", *_CURRENT)


def parse_kallsyms(text: str, *, file: str = "<text>") -> SymbolTable:
    """Accepted format: `/proc/kallsyms`, the code of kernel and modules; of the data only what `Dom0` needs.

    Raises ParseError for any other line, and when the addresses are hidden (kptr_restrict shows zeros).
    """
    symbols: list[Symbol] = []
    for number, line in enumerate(text.splitlines(), 1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise ParseError(f"{line!r}", file=file, line=number, expected="a line 'ffffffff81000000 T name'")
        address, kind, name = match.groups()
        # without its bounds the table's text goes from the kernel's first function to the last module's last
        if (kind in "Tt" and name not in ("_stext", "_etext")) or name in _NEEDED:
            symbols.append(Symbol(int(address, 16), kind, name))
    if not any(symbol.kind in "Tt" and symbol.address for symbol in symbols):
        raise ParseError("no address of code", file=file, expected="kernel functions, as root reads them")
    return SymbolTable(tuple(sorted(symbols, key=lambda symbol: symbol.address)))


@dataclass(frozen=True)
class Dom0:
    """A running dom0 kernel, while the machine stands."""

    symbols: SymbolTable
    read: Read

    def process(self, gs_bases: tuple[int, int]) -> str:
        """`comm` of the task on the CPU with these gs_base and k_gs_base, one of which is the kernel's per-CPU area."""
        base = next((base for base in gs_bases if base >> 47 == _KERNEL_HALF), None)
        if base is None:
            return "?"
        task = int.from_bytes(self.read(base + self._current, 8), "little")
        return self.read(task + self._comm, _COMM_BYTES).partition(b"\0")[0].decode("utf-8", "replace")

    def chain(self, rip: int, rsp: int) -> tuple[Frame, ...]:
        """Innermost first; empty when the process itself was running, not the kernel."""
        if rip >> 47 != _KERNEL_HALF:
            return ()
        name, _ = self.symbols.lookup(rip) or ("?", 0)
        returns_at = _BELOW_RETURN if name.startswith(_HYPERCALL) else None
        words = words_of(self.read(rsp, _THREAD_SIZE - rsp % _THREAD_SIZE))
        return self._linker.chain(rip, words, returns_at=returns_at)

    @cached_property
    def _linker(self) -> Linker:
        return Linker(self.symbols, self.read)

    @cached_property
    def _current(self) -> int:
        found = [symbol.address for name in _CURRENT for symbol in self.symbols.symbols if symbol.name == name]
        if not found:
            raise LabError(f"dom0's kernel has none of {', '.join(_CURRENT)}", hint="another version of Linux")
        return found[0]

    @cached_property
    def _comm(self) -> int:
        """Offset of `comm` in struct task_struct: the first task is called swapper."""
        place = self.read(self.symbols.address_of("init_task"), _TASK_BYTES).find(b"swapper")
        if place < 0:
            raise LabError("the first task of dom0's kernel is not called swapper", hint="another version of Linux")
        return place
