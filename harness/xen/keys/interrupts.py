"""`/proc/interrupts`: how often each interrupt was handled. Pure.

The proof that interrupts arrive: I/O success is none, since nvme polls after a lost interrupt.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from harness.base.errors import ParseError


@dataclass(frozen=True)
class InterruptRow:
    """One row: `label` is the Linux irq number or a word as LOC; `count` is the sum over the CPUs shown.

    Linux shows only CPUs that are online, so the sum falls when a CPU goes away between two readings.
    """

    label: str
    count: int
    description: str  # chip, trigger and handler names, blanks collapsed; empty when nobody handles it
    line: int

    @property
    def irq(self) -> int | None:
        """The Linux irq number; None for the architecture's own rows (LOC, RES, ...)."""
        return int(self.label) if self.label.isdecimal() else None


@dataclass(frozen=True)
class InterruptCounts:
    """All rows of one reading."""

    rows: tuple[InterruptRow, ...]

    @cached_property
    def by_irq(self) -> dict[int, InterruptRow]:
        """The numbered rows."""
        return {row.irq: row for row in self.rows if row.irq is not None}

    def sum_of(self, irqs: Iterable[int]) -> int:
        """Interrupts handled on these irqs together, each counted once.

        An irq without a row counts 0: Linux leaves out irqs that have neither a handler nor a count
        (`show_interrupts`), and drivers allocate vectors they have not requested yet.
        """
        rows = self.by_irq
        return sum(rows[irq].count for irq in set(irqs) if irq in rows)


_HEADER = re.compile(r" +CPU[0-9]+(?: +CPU[0-9]+)* *")
_ROW = re.compile(r" *([0-9]{1,9}|[A-Z][A-Z0-9]{1,4}):((?: +[0-9]{1,20})*)(?: +(\S.*))?")
_GLOBAL = {"ERR", "MIS"}  # one counter for the whole machine (Linux arch_show_interrupts)


def parse_interrupts(text: str, *, file: str = "<text>") -> InterruptCounts:
    """Accepted format: what `cat /proc/interrupts` prints (Linux `show_interrupts`):

                   CPU0       CPU1
         45:        675          0  xen-pirq    -msi-x     virtio0-req.0
        LOC:          0          0   Local timer interrupts
        ERR:          0

    Lines above the CPU header (the echo of a console) are ignored; below it every line must be a row. Raises
    ParseError for anything else, for a row with too few counters, for an irq that appears twice, and when no row of the
    architecture ends it: they come behind all irqs (Linux arch_show_interrupts), so without one the reading may be cut
    off. Which there are depends on the kernel: ERR is not among them on Linux 7.3.
    """
    lines = [(number, line.rstrip()) for number, line in enumerate(text.split("\n"), 1)]
    start = next((place for place, (_, line) in enumerate(lines) if _HEADER.fullmatch(line)), None)
    if start is None:
        raise ParseError("no header with the CPUs", file=file, expected="a line as '  CPU0  CPU1'")
    cpus = len(lines[start][1].split())
    rows: dict[str, InterruptRow] = {}
    for number, line in lines[start + 1 :]:
        if not line:
            continue
        row = _parse_row(line, cpus, file, number)
        if row.label in rows:
            raise ParseError(f"{row.label} appears twice", file=file, line=number, expected="one row for each irq")
        rows[row.label] = row
    if not rows:
        raise ParseError("no rows below the header", file=file, expected="at least one interrupt")
    if next(reversed(rows.values())).irq is not None:
        raise ParseError("cut off", file=file, line=lines[-1][0], expected="a row as LOC or ERR, behind all interrupts")
    return InterruptCounts(tuple(rows.values()))


def _parse_row(line: str, cpus: int, file: str, number: int) -> InterruptRow:
    match = _ROW.fullmatch(line)
    wanted = f"a row 'irq: {cpus} counters, description'"
    if match is None:
        raise ParseError(f"{line!r}", file=file, line=number, expected=wanted)
    label, counters, description = match.group(1), match.group(2).split(), match.group(3) or ""
    if label.isdecimal() and not description:
        raise ParseError(f"{label} has no chip", file=file, line=number, expected=wanted)
    expected = 1 if label in _GLOBAL else cpus
    if len(counters) != expected:
        raise ParseError(f"{label} has {len(counters)} counters", file=file, line=number, expected=wanted)
    if label.isdecimal():
        label = str(int(label))
    return InterruptRow(label, sum(map(int, counters)), " ".join(description.split()), number)
