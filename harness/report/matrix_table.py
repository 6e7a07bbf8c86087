"""A kill matrix at the terminal: one row per mutant, one narrow column per scenario, then survivors and why. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from harness.base.text import inert
from harness.report.matrix import KillMatrix, MutantFate, Row

_LETTERS = {
    MutantFate.KILLED: "K",
    MutantFate.CRASHED: "C",
    MutantFate.SURVIVED: "s",
    MutantFate.UNDECIDED: "?",
}
_LEGEND = ("K killed", "C crashed (seen, but by no observation)", "s survived", "? undecided", ". not run")
_STOCK = "stock (its verdict)"
_TOLD = (
    MutantFate.SURVIVED,
    MutantFate.UNDECIDED,
    MutantFate.NOT_RUN,
    MutantFate.CRASHED,
    MutantFate.EQUIVALENT,
    MutantFate.MISFIT,
)


def lines(matrix: KillMatrix, *, width: int = 80) -> Iterator[str]:
    """Everything `maskall mutants` ends with."""
    facts = matrix.host.facts
    yield f"{matrix.host.name}: Xen {facts.get('xen_version', '?')}, dom0 {facts.get('kernel', '?')}"
    yield ""
    for number, scenario in enumerate(matrix.scenarios, 1):
        yield f"{number:>3} {scenario}"
    yield ""
    yield from _grid(matrix)
    yield ""
    unbroken = ", ".join(one.replace(" ", "\N{NO-BREAK SPACE}") for one in _LEGEND)
    yield from (line.replace("\N{NO-BREAK SPACE}", " ") for line in textwrap.wrap(unbroken, width))
    told = [row for fate in _TOLD for row in matrix.mutants if row.fate is fate]
    for row in told:
        yield ""
        yield from _paragraph(f"{row.name} {row.fate}: {row.why}. It stands for: {row.stands_for}", width)
    for row in matrix.mutants:
        if row.broken_promises:
            yield ""
            yield from _paragraph(f"{row.name} was not noticed by {', '.join(row.broken_promises)}, as promised", width)
        if row.equivalent and row.fate.seen:
            yield ""
            yield from _paragraph(f"{row.name} was seen though it is called equivalent: {row.why}", width)
    yield ""
    yield from _paragraph(summary(matrix), width)


def summary(matrix: KillMatrix) -> str:
    """The score in one line."""
    crashed = sum(row.fate is MutantFate.CRASHED for row in matrix.mutants)
    parts = [f"seen {matrix.seen}/{matrix.planted}"]
    parts += [f"{crashed} of them by a crash"] if crashed else []
    for fate in (
        MutantFate.SURVIVED,
        MutantFate.UNDECIDED,
        MutantFate.NOT_RUN,
        MutantFate.EQUIVALENT,
        MutantFate.MISFIT,
    ):
        count = sum(row.fate is fate for row in matrix.mutants)
        parts += [f"{count} {fate}"] if count else []
    parts += [f"{matrix.false_alarms} of {len(matrix.stock)} scenarios fail on stock otherwise than known"]
    minutes = (matrix.ended - matrix.started).total_seconds() / 60
    return f"{', '.join(parts)}; {minutes:.0f} min"


def _grid(matrix: KillMatrix) -> Iterator[str]:
    longest = max([len(_STOCK), *(len(row.name) for row in matrix.mutants)])
    columns = "".join(f"{number:>3}" for number in range(1, len(matrix.scenarios) + 1))
    yield f"{'mutant':<{longest}}{columns}"
    verdicts = {cell.scenario: str(cell.verdict)[0] for cell in matrix.stock}
    yield f"{_STOCK:<{longest}}" + "".join(f"{verdicts.get(one, '.'):>3}" for one in matrix.scenarios)
    for row in matrix.mutants:
        yield f"{row.name:<{longest}}{_letters(row, matrix.scenarios)}  {row.fate}"


def _letters(row: Row, scenarios: tuple[str, ...]) -> str:
    fates = {cell.scenario: cell.fate for cell in row.cells}
    return "".join(f"{_LETTERS[fates[one]] if one in fates else '.':>3}" for one in scenarios)


def _paragraph(text: str, width: int) -> list[str]:
    return textwrap.wrap(inert(text), width, subsequent_indent="    ", break_long_words=False)
