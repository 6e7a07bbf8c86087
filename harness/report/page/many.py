"""The pages of what takes many runs: the kill matrix of a campaign, the rates of a soak. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.judge.judgement import Conclusion
from harness.report.matrix import KillMatrix, MatrixCell, MutantFate, Row
from harness.report.matrix_table import summary
from harness.report.page.page import document
from harness.report.results import NESTED_LABEL
from harness.report.soak import Soak, SoakKind, confidence, rate
from harness.report.table import duration

_OF_FATE = {
    MutantFate.KILLED: (Conclusion.PROVEN, "K"),
    MutantFate.CRASHED: (Conclusion.CHANGED, "C"),
    MutantFate.SURVIVED: (Conclusion.REGRESSION, "s"),
    MutantFate.UNDECIDED: (Conclusion.UNDECIDED, "?"),
}
_OF_KIND = {
    SoakKind.PASSED: (Conclusion.PROVEN, "P"),
    SoakKind.FALSE_ALARM: (Conclusion.REGRESSION, "F"),
    SoakKind.KNOWN_ISSUE: (Conclusion.KNOWN, "K"),
    SoakKind.UNDECIDED: (Conclusion.UNDECIDED, "?"),
    SoakKind.SKIPPED: (Conclusion.SKIPPED, "S"),
}
"""The shape and colour that a page has for it, and a letter."""
_FACTS = (
    ("stack", "stack"),
    ("Xen", "xen_version"),
    ("build-id", "xen_build_id"),
    ("dom0 kernel", "kernel"),
    ("QEMU", "qemu"),
    ("accelerator", "accelerator"),
)


@dataclass(frozen=True)
class _Cell:
    shape: Conclusion
    letter: str
    text: str
    href: str


@dataclass(frozen=True)
class _Column:
    head: str
    title: str = ""


@dataclass(frozen=True)
class _Row:
    name: str
    cells: Sequence[Sequence[_Cell]]


def matrix_page(matrix: KillMatrix) -> bytes:
    """Mutant by scenario, the score, and what became of each mutant."""
    fates = [cell.fate for row in matrix.mutants for cell in row.cells]
    said = summary(matrix)
    return document(
        "many.html.j2",
        title=f"maskall mutants {matrix.run_id}: {said}",
        tool_version=matrix.tool_version,
        what=f"campaign {matrix.run_id}, {matrix.started:%F %H:%M %Z}, exit status {matrix.exit_status.value}",
        sentence=said,
        bad=bool(matrix.exit_status),
        label=matrix.host.label,
        tested=[(word, matrix.host.facts[name]) for word, name in _FACTS if name in matrix.host.facts],
        heading="Mutants by scenarios",
        legend=[(*shown, fate.value, fates.count(fate)) for fate, shown in _OF_FATE.items() if fate in fates],
        key="The letter of stock is that of its verdict: P PASS, F FAIL, C CRASH, E ERROR, U UNDECIDED, S SKIP; "
        "where a cell is empty, nothing was played.",
        told=[],
        columns=[_Column(str(number), name) for number, name in enumerate(matrix.scenarios, 1)],
        rows=[
            _Row("stock, its verdict", [_of_stock(matrix.stock, name) for name in matrix.scenarios]),
            *(_Row(row.name, [_of_mutant(row, name) for name in matrix.scenarios]) for row in matrix.mutants),
        ],
        table_heading="What became of each mutant",
        table=[
            ("mutant", "fate", "why", "stands for", "changed"),
            *((row.name, row.fate.value, _why(row), row.stands_for, _changed(row)) for row in matrix.mutants),
        ],
    )


def _why(row: Row) -> str:
    broken = f"; not noticed by {', '.join(row.broken_promises)}, as promised" if row.broken_promises else ""
    return f"{row.why}{broken}"


def _changed(row: Row) -> str:
    return "; ".join(map(str, row.planted.changes)) if row.planted else "nothing"


def _of_stock(cells: Iterable[MatrixCell], scenario: str) -> list[_Cell]:
    return [
        _Cell(
            Conclusion.REGRESSION
            if cell.verdict.blames_product and not cell.known
            else Conclusion.UNDECIDED
            if cell.verdict.unsettled
            else Conclusion.KNOWN
            if cell.known
            else Conclusion.UNPROVEN,
            cell.verdict[0],
            f"stock, {scenario}: {cell.verdict}: {cell.reason}",
            cell.log,
        )
        for cell in cells
        if cell.scenario == scenario
    ]


def _of_mutant(row: Row, scenario: str) -> list[_Cell]:
    found = [cell for cell in row.cells if cell.scenario == scenario]
    return [
        _Cell(*_OF_FATE[cell.fate], f"{row.name}, {scenario}: {cell.fate}: {cell.reason}", cell.log) for cell in found
    ]


def soak_page(soak: Soak) -> bytes:
    """Every run in its order, by scenario, and the rate of false alarms with what it may be at most."""
    said = confidence(soak)
    width = max((-(-run.number // len(soak.scenarios)) for run in soak.runs), default=0)
    return document(
        "many.html.j2",
        title=f"maskall soak on {soak.stack}: {said}",
        tool_version=soak.tool_version,
        what=f"soak of {len(soak.runs)} of {soak.wanted} runs, profile {soak.profile}, {soak.started:%F %H:%M %Z}, "
        f"exit status {soak.exit_status.value}",
        sentence=said,
        bad=bool(soak.exit_status),
        label=NESTED_LABEL,
        tested=[(word, soak.facts[name]) for word, name in _FACTS if name in soak.facts],
        heading="Runs in their order",
        legend=[(*shown, kind.value, soak.counts[kind]) for kind, shown in _OF_KIND.items() if soak.counts[kind]],
        key="",
        told=[
            (f"{run.kind} in run {run.number}, {run.scenario}: {run.reason}", f"{run.results}/report.html")
            for run in soak.runs
            if run.kind in (SoakKind.FALSE_ALARM, SoakKind.UNDECIDED)
        ],
        columns=[_Column(str(number)) for number in range(1, width + 1)],
        rows=[_Row(name, [_of_run(soak, name, turn) for turn in range(1, width + 1)]) for name in soak.scenarios],
        table_heading="Rates",
        table=[
            (
                "scenario",
                "runs",
                "false alarms",
                "rate, 95 % interval",
                "hazard taken",
                "undecided",
                "mean time",
            ),
            *(_rates(soak, name) for name in soak.scenarios),
        ],
    )


def _of_run(soak: Soak, scenario: str, turn: int) -> list[_Cell]:
    runs = [run for run in soak.runs if run.scenario == scenario and -(-run.number // len(soak.scenarios)) == turn]
    return [
        _Cell(
            *_OF_KIND[run.kind],
            f"run {run.number}, {scenario}: {run.kind}: {run.reason}, {duration(run.seconds)}",
            f"{run.results}/report.html",
        )
        for run in runs
    ]


def _rates(soak: Soak, scenario: str) -> tuple[str, ...]:
    runs = [run for run in soak.runs if run.scenario == scenario]
    kinds = [run.kind for run in runs]
    alarms = kinds.count(SoakKind.FALSE_ALARM)
    decided = alarms + kinds.count(SoakKind.PASSED)
    mean = duration(sum(run.seconds for run in runs) / len(runs)) if runs else "-"
    hazard = f"{sum(run.hazard_taken for run in runs)} of {len(runs)}"
    undecided = str(kinds.count(SoakKind.UNDECIDED))
    return scenario, str(len(runs)), str(alarms), rate(alarms, decided), hazard, undecided, mean
