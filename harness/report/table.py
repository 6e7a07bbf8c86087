"""What a run ends with at the terminal: what was tested, the table, call chains, messages, a line that sums up. Pure.

Everything fits 80 columns and reads the same without colour: colour only repeats what a word already says.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator, Mapping

from rich import box
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.base.text import inert
from harness.judge.judgement import Conclusion, Verdict
from harness.report import messages
from harness.report.days import days
from harness.report.results import Control, RunResult, ScenarioResult, Side
from harness.report.rounds import leaks
from harness.report.story import gist

_TITLES = ("scenario", "expected", "stock", "control", "hazard", "conclusion", "time")
_ROOMY = 100  # columns from which the table can afford two blanks between its cells
_NARROWEST = 12  # columns the scenario's name keeps on any terminal
_FACTS = (
    ("stack", "stack"),
    ("toolstack", "toolstack"),
    ("xen_version", "Xen"),
    ("own_xen", "own Xen"),
    ("livepatches", "livepatches"),
    ("kernel", "dom0 kernel"),
    ("qemu", "QEMU"),
    ("accelerator", "accelerator"),
)
_VERDICT_STYLES = {
    Verdict.PASS: "green",
    Verdict.FAIL: "bold red",
    Verdict.CRASH: "bold red",
    Verdict.ERROR: "yellow",
    Verdict.UNDECIDED: "yellow",
    Verdict.SKIP: "dim",
}
_CONCLUSION_STYLES = {
    Conclusion.PROVEN: "bold green",
    Conclusion.UNPROVEN: "cyan",
    Conclusion.BLIND: "bold magenta",
    Conclusion.REGRESSION: "bold red",
    Conclusion.KNOWN: "magenta",
    Conclusion.CHANGED: "bold red",
    Conclusion.UNDECIDED: "bold yellow",
    Conclusion.SKIPPED: "dim",
}


def report(run: RunResult, *, width: int = 80) -> Group:
    """All parts in order, an empty line between two; `width` is the console's."""
    parts: list[Table | Text] = [header(run)]
    if run.scenarios:
        parts.append(table(run, width=width))
    parts += call_chains(run)
    parts += traces(run)
    parts += [Text("\n".join(leaks(scenario.id, side))) for scenario, side in _sides(run) if side.leaks]
    if said := messages.of_run(run):
        parts.append(Text("\n".join(said)))
    if said := days(run):
        parts.append(Text("\n".join(said)))
    parts.append(summary(run))
    spaced = [part for one in parts for part in (one, Text(""))]
    return Group(*spaced[:-1])


def plain(run: RunResult, *, width: int = 80) -> str:
    """The report as text without colour, for logs."""
    return _text(report(run, width=width), width)


def stacks_side_by_side(runs: Mapping[str, RunResult], *, width: int = 80) -> str:
    """What the same scenarios were expected to come to on several stacks, and what they came to, as text."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, run in runs.items():
        facts = [f"{title} {run.host.facts[key]}" for key, title in _FACTS[1:3] if key in run.host.facts]
        counts = ", ".join(f"{run.counts[one]} {one}" for one in Conclusion if run.counts.get(one))
        grid.add_row(Text(inert(name)), Text(inert(f"{', '.join(facts)}: {counts or 'nothing ran'}")))
    return _text(Group(grid, Text(""), _table(runs, width)), width)


def _text(printed: RenderableType, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None, force_terminal=False, legacy_windows=False)
    with console.capture() as captured:
        console.print(printed)
    return "\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n"


def header(run: RunResult) -> Table:
    """What was tested: without it no verdict below means anything."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    name = f"{run.host.name} ({run.host.label})" if run.host.label else run.host.name
    rows = [("host", name), *((title, run.host.facts[key]) for key, title in _FACTS if key in run.host.facts)]
    tested = _mutants_under_test(run)
    rows += [row for control in run.controls for row in _control(control, under_test=control.name in tested)]
    rows.append(("run", f"{run.run_id}, maskall {run.tool_version}"))
    for title, value in rows:
        grid.add_row(Text(title), Text(inert(value)))
    return grid


def table(run: RunResult, *, width: int = 80) -> Table:
    """One row per scenario. Only the scenario's name is broken, at its hyphens, when the line is too narrow."""
    return _table({"": run}, width)


def _table(runs: Mapping[str, RunResult], width: int) -> Table:
    """The scenarios of each run in a section of their own, with the run's name in front where there are several."""
    gap = 2 if width >= _ROOMY else 1
    titles = ("stack", *_TITLES) if len(runs) > 1 else _TITLES
    name_at = titles.index("scenario")
    rows = {name: [_cells(name, scenario)[-len(titles) :] for scenario in run.scenarios] for name, run in runs.items()}
    columns = list(zip(titles, *(row for several in rows.values() for row in several), strict=True))
    taken = sum(gap + max(map(cell_len, column)) for column in columns if column[0] != "scenario")
    made = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, gap - 1, 0, 0))
    mutated = any(map(_mutants_under_test, runs.values()))
    for title in titles:
        shown = "tested" if title == "stock" and mutated else title
        made.add_column(shown, overflow="fold", justify="right" if title == "time" else "left")
    for name, run in runs.items():
        for scenario, row in zip(run.scenarios, rows[name], strict=True):
            cells = [Text(cell) for cell in row]
            cells[name_at] = Text(textwrap.fill(row[name_at], max(_NARROWEST, width - taken)))
            # No colour on the control: a FAIL is what is wanted there, and the conclusion says whether it was.
            cells[titles.index("stock")].stylize(_VERDICT_STYLES[scenario.stock.verdict])
            cells[titles.index("conclusion")].stylize(_CONCLUSION_STYLES[scenario.conclusion])
            made.add_row(*cells)
        made.add_section()
    return made


def call_chains(run: RunResult) -> list[Text]:
    """Every different chain once, with the first run it was seen in and how many others saw the same."""
    first: dict[tuple[str, ...], tuple[ScenarioResult, Side]] = {}
    others: dict[tuple[str, ...], int] = {}
    for scenario, side in _sides(run):
        if side.record.call_chain:
            symbols = tuple(frame.symbol for frame in side.record.call_chain)
            others[symbols] = others.get(symbols, -1) + 1
            first.setdefault(symbols, (scenario, side))
    return [_call_chain(*first[symbols], others[symbols]) for symbols in first]


def traces(run: RunResult) -> list[Text]:
    """The gist of every trace: who gave and took the device's interrupts."""
    return [
        Text("\n".join([f"interrupts of {scenario.device}, {scenario.id} on {side.hypervisor}", *_told(side)]))
        for scenario, side in _sides(run)
        if side.record.trace
    ]


def _told(side: Side) -> list[str]:
    return [*(f"  {row}" for row in gist(side.record.trace)), f"  call chains in {inert(str(side.record.trace_raw))}"]


def summary(run: RunResult) -> Text:
    """Counts per conclusion and the emulator's faults; below them time, overhead and the exit status."""
    counts = ", ".join(f"{run.counts[one]} {one}" for one in Conclusion if run.counts.get(one))
    played = [_several(len(run.scenarios), "scenario")] if run.scenarios else []
    played += [_several(len(run.cases), "test")] if run.cases else []
    first = f"{' and '.join(played)}: {counts}" if counts else "nothing ran"
    if run.emulator_faults:
        first += f"; {_several(run.emulator_faults, 'emulator fault')}"
    share = 100 * run.overhead_seconds / run.seconds if run.seconds > 0 else 0.0
    of_it = (
        f", {share:.1f} % of it the harness itself" if run.scenarios or not run.cases else ""
    )  # not measured of tests
    second = f"{duration(run.seconds)}{of_it}; exit status {int(run.exit_status)}"
    return Text(f"{first}\n{second}", style="bold" if run.exit_status == 0 else "bold red")


def _several(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def duration(seconds: float) -> str:
    """`37s`, `4m12s`, `1h02m`: never wider than six columns within a day."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes}m{rest:02d}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02d}m"


def _mutants_under_test(run: RunResult) -> set[str]:
    """Names of the known-bad hypervisors that took the place of the stock one (`--mutant NAME --no-control`)."""
    tested = {one.stock.hypervisor for one in run.scenarios} | {one.stock.hypervisor for one in run.cases}
    return tested - {"stock"}


def _control(control: Control, *, under_test: bool) -> list[tuple[str, str]]:
    return [
        ("under test" if under_test else "control", f"{control.name}: {control.stands_for}"),
        *(("", str(one)) for one in control.changes),
    ]


def _cells(name: str, scenario: ScenarioResult) -> tuple[str, ...]:
    return (
        inert(name),
        inert(scenario.id),
        scenario.expected.verdict.value,
        scenario.stock.verdict.value,
        scenario.control.verdict.value if scenario.control else "-",
        _hazard(scenario),
        scenario.conclusion.value,
        duration(scenario.seconds),
    )


def _hazard(scenario: ScenarioResult) -> str:
    """`yes/no`: taken on stock, on the control; a dash where none was promised and none came."""
    sides = [(side.judgement.hazard, side.verdict) for _, side in scenario.sides]
    return "/".join(
        "yes" if hazard.taken else "no" if hazard.promised and verdict is not Verdict.SKIP else "-"
        for hazard, verdict in sides
    )


def _call_chain(scenario: ScenarioResult, side: Side, others: int) -> Text:
    where = f"{scenario.id}, {scenario.device_kind}, on {side.hypervisor}"
    same = f"; the same in {_several(others, 'other run')}" if others else ""
    lines = [f"call chain of the hypervisor to the masking ({where}{same})"]
    lines += [f"  {frame.address:#x}  {frame}" for frame in reversed(side.record.call_chain)]
    if side.record.call_chain_raw:
        lines.append(f"  from {side.record.call_chain_raw}")
    return Text("\n".join(inert(line) for line in lines))


def _sides(run: RunResult) -> Iterator[tuple[ScenarioResult, Side]]:
    for scenario in run.scenarios:
        for _, side in scenario.sides:
            yield scenario, side
