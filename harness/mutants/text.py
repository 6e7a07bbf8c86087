"""Running text of the hypervisor and of dom0's kernel, reached through the debugger while the machine stands still."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from harness.base.deadline import Deadline
from harness.base.errors import HarnessBug, LabError
from harness.mutants.change import ByteChange, Returns, TextChange
from harness.mutants.code import CodePlace
from harness.mutants.hypervisor import XenFunction, functions, symbols
from harness.transport.base import Script, Transport, quote
from harness.transport.debugger import Debugger, StoppedMachine

_SYMBOL_SECONDS = 60.0
_STOP_SECONDS = 60.0
_MOMENTS = 500  # of 10 ms; an HVM guest that computes without end is left at least 100 times a second
_IN_DOM0 = "uptime_proc_show"
"""A function of Linux (fs/proc/uptime.c) that runs when we ask for it, and does nothing else."""

# The machine must run again before the link can answer, so the read comes a moment after the command was started.
_CALL = "sleep 0.5; cat /proc/uptime"

# kallsyms is not sorted (modules stand in the order they were loaded) and slow to read, so once for all functions; what
# comes next after each is found at the end. Addresses all have 16 digits, so they compare as text.
_EXTENTS = """\
awk -v wanted={symbols} '
  BEGIN {{ split(wanted, names); for (i in names) {{ wants[names[i]]; found[names[i]] = 0 }} }}
  {{ all[NR] = $1 "" }}
  ($3 in wants) && $2 ~ /[tT]/ {{ found[$3]++; from[$3] = $1 "" }}
  END {{
    for (name in wants) {{
      to = ""
      for (i = 1; i <= NR; i++) if (all[i] > from[name] && (to == "" || all[i] < to)) to = all[i]
      print name, found[name], from[name], to
    }}
  }}
' /proc/kallsyms
"""


@dataclass(frozen=True)
class Text:
    """Functions of a stopped machine."""

    machine: StoppedMachine
    extents: Mapping[str, range]
    functions: Mapping[str, XenFunction] = field(default_factory=dict)  # those that shall return

    def name_of(self, change: ByteChange | Returns) -> str:
        return _symbol(change)

    def find(self, change: ByteChange | Returns) -> list[CodePlace]:
        if isinstance(change, Returns):
            found = self.functions[change.symbol]
            skipped = found.entry - found.extent.start
            if self.machine.read(found.entry, change.length) != found.text[skipped : skipped + change.length]:
                raise LabError(
                    f"the running text of {change.symbol} is not that of its file",
                    hint="somebody patched this hypervisor; a reboot makes it stock again",
                )
            return [CodePlace(change.symbol, skipped, found.entry)]
        extent = self.extents[_symbol(change)]
        code = self.machine.read(extent.start, len(extent))
        return [CodePlace(_symbol(change), offset, extent.start + offset) for offset in change.offsets_in(code)]

    def read(self, address: int, length: int) -> bytes:
        return self.machine.read(address, length)

    def write(self, address: int, data: bytes) -> None:
        self.machine.write(address, data)


def _symbol(change: ByteChange | Returns) -> str:
    if not isinstance(change, TextChange | Returns):
        raise HarnessBug(f"a change of running text names its function: {change}")
    return change.symbol


@contextlib.contextmanager
def open_hypervisor(
    transport: Transport, debugger: Debugger, changes: Sequence[TextChange | Returns]
) -> Iterator[Text]:
    """Xen's text: mapped but while an HVM guest's own code runs. LabError for a symbol that is unknown or inlined."""
    table = symbols(transport)
    extents = {change.symbol: table.extent_of(change.symbol) for change in changes}
    returning = functions([one for one in changes if isinstance(one, Returns)], table, transport)
    with debugger.attach() as machine:
        _out_of_guests(machine, next(iter(extents.values())).start)
        yield Text(machine, extents, returning)


def _out_of_guests(machine: StoppedMachine, address: int) -> None:
    """Let the machine run on for moments until the CPU stands where this address of Xen's is mapped."""
    for _ in range(_MOMENTS):
        with contextlib.suppress(LabError):
            machine.read(address, 1)
            return
        machine.go()
        time.sleep(0.01)
        machine.stop()
    machine.read(address, 1)


@contextlib.contextmanager
def open_dom0(transport: Transport, debugger: Debugger, changes: Sequence[TextChange]) -> Iterator[Text]:
    """The text of dom0's kernel and its modules. Mapped only while dom0 runs: it is stopped in a function of its own.

    It is read-only in dom0's page tables, which does not bind the debugger.
    """
    extents = _extents(transport, [*(change.symbol for change in changes), _IN_DOM0])
    inside = extents[_IN_DOM0].start
    with debugger.attach() as machine:
        machine.break_at(inside)
        machine.go()
        calling = transport.open_stream(Script(_CALL), deadline=Deadline.after(_STOP_SECONDS))
        stopped = machine.wait(Deadline.after(_STOP_SECONDS))
        machine.clear(inside)
        if stopped is None:
            raise LabError(f"dom0 did not come by {_IN_DOM0}", hint="is the host very busy?")
        yield Text(machine, extents)
    calling.close()


def _extents(transport: Transport, symbols: Sequence[str]) -> dict[str, range]:
    for symbol in symbols:
        if not re.fullmatch(r"[A-Za-z0-9_.]+", symbol):
            raise LabError(f"{symbol!r} is no name of a kernel function")
    script = Script(_EXTENTS.format(symbols=quote([" ".join(symbols)])))
    answer = transport.run(script, deadline=Deadline.after(_SYMBOL_SECONDS)).check().text
    return dict(_extent(*line.split()) for line in answer.splitlines())


def _extent(symbol: str, count: str, start: str = "", end: str = "") -> tuple[str, range]:
    if count != "1":
        hint = "inlined, or its module is not loaded" if count == "0" else ""
        raise LabError(f"dom0's kernel has {count} functions called {symbol}", hint=hint)
    return symbol, range(int(start, 16), int(end, 16))
