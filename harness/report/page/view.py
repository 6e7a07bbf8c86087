"""What the page shows, ready for its template: every statement with the place where its raw lines stand. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.base.errors import EvidenceError, ParseError
from harness.base.text import inert
from harness.judge.judgement import Check, Conclusion, Outcome, Verdict
from harness.model.config import ConfigSpace
from harness.model.message import Meaning, Message, words
from harness.model.observation import RawRef
from harness.report.page.cited import Cited, Excerpt, link
from harness.report.page.divergence import NOT_READ, Divergence, first_divergence, mask, masked, owner, seen_of
from harness.report.page.lanes import Picture, picture
from harness.report.page.mail import FACTS, mail
from harness.report.page.registers import Register, differing
from harness.report.page.sentence import UNEXPECTED, clipped
from harness.report.results import RunResult, ScenarioResult, Side
from harness.report.rounds import history
from harness.report.story import gist
from harness.report.timeline import timeline
from harness.report.told import Read, Told
from harness.scenario.record import Action
from harness.scenario.repeats import row_of

WEIGHT = (*UNEXPECTED, Conclusion.KNOWN, Conclusion.PROVEN, Conclusion.UNPROVEN, Conclusion.SKIPPED)
"""What a reader looks for first."""
LETTERS = {
    Conclusion.PROVEN: "P",
    Conclusion.UNPROVEN: "U",
    Conclusion.KNOWN: "K",
    Conclusion.REGRESSION: "R",
    Conclusion.BLIND: "B",
    Conclusion.CHANGED: "C",
    Conclusion.UNDECIDED: "?",
    Conclusion.SKIPPED: "S",
}
MEANINGS = {
    Conclusion.PROVEN: "stock as expected, and the control shows that the scenario sees the defect",
    Conclusion.UNPROVEN: "stock passed, no control was played",
    Conclusion.KNOWN: "failed just as a known issue says",
    Conclusion.REGRESSION: "the hypervisor under test is wrong",
    Conclusion.BLIND: "the control did not fail: the scenario does not see the defect",
    Conclusion.CHANGED: "passed where a failure was expected",
    Conclusion.UNDECIDED: "a lab error, or evidence is missing",
    Conclusion.SKIPPED: "not played here",
}
_MOST_NAMED = 6  # scenarios in one command
_MOST_LINES = 20  # of a log that are new
_LONG = 600


@dataclass(frozen=True)
class PageSentence:
    """A check as a line; `anchor` of its raw lines on this page, or `place` alone."""

    at: str
    view: str
    text: str
    outcome: str
    place: str
    href: str


@dataclass(frozen=True)
class SideView:
    name: str
    side: Side
    deeds: tuple[str, ...]
    unmet: tuple[PageSentence, ...]
    met: tuple[PageSentence, ...]
    hazard: str
    hazard_href: str
    chain: tuple[str, ...]
    trace: tuple[str, ...]
    rounds: str
    new_lines: tuple[tuple[str, str], ...]  # at the parting: (text, href)
    timeline: str


@dataclass(frozen=True)
class PageRow:
    """One line of the table twin of a timeline."""

    side: str
    at: str
    moment: str
    seconds: str
    cells: tuple[tuple[str, str], ...]  # (text, href)


@dataclass(frozen=True)
class Section:
    """A scenario; a brief one has neither picture nor raw lines."""

    anchor: str
    scenario: ScenarioResult
    opened: bool
    brief: bool
    sides: tuple[SideView, ...]
    parting: str = ""  # where stock and control part, in a line
    picture: Picture | None = None
    rows: tuple[PageRow, ...] = ()
    divergence: Divergence | None = None
    registers: tuple[Register, ...] = ()
    why_no_registers: str = ""
    excerpts: tuple[Excerpt, ...] = ()
    mail: tuple[str, ...] = ()


@dataclass(frozen=True)
class Matrix:
    """Endings by follow-ons; a cell holds the scenarios of all guests and devices as (anchor, scenario)."""

    follow_ons: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[tuple[str, ScenarioResult], ...], ...]], ...]


def anchor(number: int) -> str:
    return f"s{number}"


def matrix(run: RunResult) -> Matrix:
    """In the order of the names' numbers."""
    cells: dict[tuple[str, str], list[tuple[str, ScenarioResult]]] = {}
    for number, one in enumerate(run.scenarios):
        cells.setdefault((one.ending, one.follow_on), []).append((anchor(number), one))
    endings = sorted({ending for ending, _ in cells}, key=_natural)
    follow_ons = tuple(sorted({follow_on for _, follow_on in cells}, key=_natural))
    return Matrix(
        follow_ons,
        tuple((ending, tuple(tuple(cells.get((ending, one), ())) for one in follow_ons)) for ending in endings),
    )


def _natural(name: str) -> tuple[str, int, str]:
    found = re.match(r"(\D*)(\d{0,9})", name, re.ASCII)
    return (found[1], int(found[2] or 0), name) if found else (name, 0, name)


def tested(run: RunResult) -> list[tuple[str, str]]:
    """What the verdicts are about."""
    rows = [(word, clipped(run.host.facts[name], _LONG)) for word, name in FACTS if name in run.host.facts]
    kinds = list(dict.fromkeys(one.device_kind for one in run.scenarios))
    guests = list(dict.fromkeys(one.guest for one in run.scenarios))
    kinds += [device for one in run.cases for device in one.devices if device not in kinds]
    rows += [("devices", ", ".join(dict.fromkeys(kinds)))] if kinds else []
    rows += [("guests", ", ".join(guests))] if guests else []
    for control in run.controls:
        changes = "; ".join(str(one) for one in control.changes)
        rows.append(("control", clipped(f"{control.name}: {control.stands_for} ({changes})", _LONG)))
    rows.append(("host", f"{run.host.name}, {run.host.label}" if run.host.label else f"{run.host.name}, hardware"))
    return rows


def command(run: RunResult) -> str:
    """What plays it again: what is not as expected, else all of it; of that the first row where it would be long.

    A row that was played several times is played as often again.
    """
    ordered = sorted(run.played, key=lambda one: WEIGHT.index(one.conclusion))
    wanted = [one for one in ordered if one.conclusion in UNEXPECTED] or ordered
    if not wanted:
        return ""
    rows = {row_of(one.id) for one in wanted}
    by_row = {one.id if one.id in one.command_to_repeat else row_of(one.id): one.command_to_repeat for one in wanted}
    by_time = {one.id: _this_time(one.id, one.command_to_repeat) for one in run.played if row_of(one.id) in rows}
    for named in (by_row, by_time):  # the latter where they were not all played as often
        around = {tuple(command.split(name, 1)) for name, command in named.items()}
        if len(around) == 1 and len(named) <= _MOST_NAMED and len(parts := around.pop()) == 2:
            return f"{parts[0]}{' '.join(named)}{parts[1]}"
    return wanted[0].command_to_repeat


def _this_time(name: str, command: str) -> str:
    """Plays one time of a row, where `command` plays all of them."""
    before, repeated, behind = command.partition(f"{row_of(name)} --repeat ")
    return f"{before}{name}{behind.lstrip('0123456789')}" if repeated else command


def brief(number: int, scenario: ScenarioResult) -> Section:
    """Verdicts, what was not met, and the timeline of stock as text."""
    cited = Cited(anchor(number), _nothing)
    sides = tuple(_side(name, side, cited, scenario, None, (), brief=True) for name, side in scenario.sides)
    return Section(anchor(number), scenario, False, True, sides, _parting(scenario))


def _parting(scenario: ScenarioResult) -> str:
    """In a line; where no control was played, what is known."""
    if scenario.control is None:
        return clipped(scenario.reason, 160) if scenario.conclusion is Conclusion.KNOWN else ""
    found = first_divergence(scenario.stock, scenario.control)
    if found is None and scenario.control.verdict is Verdict.FAIL:
        return (
            f"stock and control look the same at every checkpoint; the control: {clipped(scenario.control.reason, 160)}"
        )
    if found is None:
        return "stock and control look the same at every checkpoint"
    fact = found.facts[0]
    more = f" and {len(found.facts) - 1} more" if len(found.facts) > 1 else ""
    what = f"{fact.lane} {fact.name}: {clipped(fact.stock, 80)} / {clipped(fact.control, 80)}"
    return f"stock and control part at {found.checkpoint}: {what}{more}"


def _nothing(raw: RawRef) -> bytes:
    raise EvidenceError(f"{raw.path!r} is not on this page")


def whole(number: int, scenario: ScenarioResult, told: Told) -> Section:
    """Everything that is known of a scenario."""
    stock, control = scenario.stock, scenario.control
    cited = Cited(anchor(number), told.read)
    divergence = first_divergence(stock, control) if control else None
    registers, why = _registers(divergence, stock, control, told.read) if divergence and control else ((), "")
    sides = []
    for name, side in scenario.sides:
        other = control if name == "stock" else stock
        said = _new_lines(side, other, divergence)
        sides.append(_side(name, side, cited, scenario, divergence, said, brief=False))
    if divergence:
        for _, side in scenario.sides:
            seen = seen_of(side.record).get(divergence.checkpoint)
            for raw in (
                seen and seen.hardware and seen.hardware.raw,
                seen and seen.xen and seen.xen.raw_keys.at(seen.xen.owner_line),
            ):
                cited.cite(raw or None)
    drawn = picture(scenario, divergence, cited)
    return Section(
        anchor=anchor(number),
        scenario=scenario,
        opened=scenario.conclusion in UNEXPECTED or len(told.run.played) == 1,
        brief=False,
        sides=tuple(sides),
        parting=_parting(scenario),
        picture=drawn,
        rows=tuple(_rows(scenario, cited)),
        divergence=divergence,
        registers=registers,
        why_no_registers=why,
        excerpts=tuple(cited.excerpts.values()),
        mail=tuple(mail(told.run, scenario, divergence, registers)),
    )


def _side(
    name: str,
    side: Side,
    cited: Cited,
    scenario: ScenarioResult,
    divergence: Divergence | None,
    said: Sequence[Message],
    *,
    brief: bool,
) -> SideView:
    record, hazard = side.record, side.judgement.hazard
    deeds = [f"{one.checkpoint} {one.verb}: {_came_to(one)} ({one.seconds:.1f} s)" for one in record.actions]
    unmet = [_statement(one, side.raw_directory, cited, cite=not brief) for one in side.judgement.violations]
    taken = "taken" if hazard.taken else "not taken" if hazard.promised else "none was promised"
    hazard_href = _href(hazard.raw, cited, cite=not brief) if hazard.taken else ""
    met = (
        []
        if brief
        else [
            _statement(one, side.raw_directory, cited, cite=False)
            for one in side.judgement.checks
            if one.outcome is Outcome.MET
        ]
    )
    return SideView(
        name=name,
        side=side,
        deeds=tuple(deeds),
        unmet=tuple(unmet[:8] if brief else unmet),
        met=tuple(met),
        hazard=f"{taken}: {clipped(hazard.how, 300)}" if hazard.how else taken,
        hazard_href=hazard_href,
        chain=tuple(f"{frame.address:#x}  {frame}" for frame in reversed(record.call_chain)),
        trace=tuple(gist(record.trace)),
        rounds="" if brief else history(side),
        new_lines=tuple((clipped(one.text, 300), _href(one.raw, cited, cite=True)) for one in said),
        timeline=timeline(record.observations) if brief and name == "stock" else "",
    )


def _came_to(done: Action) -> str:
    return clipped(done.detail, 200) or ("ok" if done.ok else "failed")


def _statement(check: Check, folder: str, cited: Cited, *, cite: bool) -> PageSentence:
    return PageSentence(
        at=str(check.checkpoint),
        view=check.view,
        text=f"{check.subject}: expected {clipped(check.expected, 200)}, seen {clipped(check.seen, 300) or 'nothing'}",
        outcome=str(check.outcome),
        place=str(check.raw).removeprefix(f"{folder}/") if check.raw else "",
        href=_href(check.raw, cited, cite=cite),
    )


def _href(raw: RawRef | None, cited: Cited, *, cite: bool) -> str:
    if raw is None:
        return ""
    found = cited.cite(raw) if cite else cited.known(raw)
    return f"#{found}" if found else link(raw.path)


def _new_lines(side: Side, other: Side | None, divergence: Divergence | None) -> list[Message]:
    """What this side's logs say at the parting and the other's do not; the dumps of debug keys left out."""
    if divergence is None or other is None:
        return []
    there = {words(one.text) for one in other.record.messages or () if one.checkpoint is divergence.checkpoint}
    return [
        one
        for one in side.record.messages or ()
        if one.checkpoint is divergence.checkpoint and one.meaning is not Meaning.DUMP and words(one.text) not in there
    ][:_MOST_LINES]


def _registers(divergence: Divergence, stock: Side, control: Side, read: Read) -> tuple[tuple[Register, ...], str]:
    """The registers that differ, or why that cannot be said."""
    spaces = []
    for side in (stock, control):
        seen = seen_of(side.record).get(divergence.checkpoint)
        if seen is None or seen.hardware is None:
            return (), ""
        try:
            raw = seen.hardware.raw
            spaces.append(ConfigSpace(bytes.fromhex(read(raw).decode("ascii", "replace")), file=raw.path))
        except EvidenceError as error:
            return (), error.message
        except (ValueError, ParseError) as error:
            return (), f"{raw.path}: no config space: {error}"
    return tuple(differing(*spaces)), ""


HEADINGS = ("COMMAND", "MSI-X control", "vector table", "owner", "masks of its irqs", "guest's control", "interrupts")


def _rows(scenario: ScenarioResult, cited: Cited) -> Iterator[PageRow]:
    for name, side in scenario.sides:
        records = [(name, side.record)]
        records += [(f"{name}, second device", side.record.second)] if side.record.second else []
        for shown, record in records:
            for seen in record.observations:
                hardware, table, xen, guest = seen.hardware, seen.table, seen.xen, seen.guest
                gone = hardware is not None and hardware.gone
                there = _href(hardware.raw, cited, cite=False) if hardware else ""
                rows = " ".join(mask(one.host, one.guest, one.hardware) for one in xen.masks[:16]) if xen else NOT_READ
                keys = _href(xen.raw_keys.at(xen.owner_line), cited, cite=False) if xen else ""
                heard = _href(guest.raw, cited, cite=False) if guest else ""
                register = "gone" if gone else NOT_READ
                cells = (
                    (str(hardware.command) if hardware and hardware.command else register, there),
                    (str(hardware.control) if hardware and hardware.control else register, there),
                    (masked(table.masked), _href(table.raw, cited, cite=False)) if table else (NOT_READ, ""),
                    (owner(xen.owner, record.guests) if xen else NOT_READ, keys),
                    (rows or "none mapped", keys),
                    (str(guest.control) if guest and guest.control else NOT_READ, heard),
                    (f"{guest.delta:+d} on {guest.vectors}" if guest else NOT_READ, heard),
                )
                moment = inert(seen.checkpoint.moment)
                yield PageRow(shown, str(seen.checkpoint), moment, f"{seen.seconds:.1f}", cells)
