"""Tests that somebody wrote, for people: the views at one moment, a line, a paragraph, a log. Pure."""

from __future__ import annotations

from harness.base.text import inert
from harness.judge.judgement import Conclusion, Verdict
from harness.model.observation import GuestView, Observation, RawRef, VectorMask
from harness.report.results import CaseResult, CaseSide, RunResult
from harness.scenario.case import CaseView, parting

_WIDTH = 10  # of the names of views
_QUIET = (Conclusion.PROVEN, Conclusion.UNPROVEN, Conclusion.SKIPPED, Conclusion.KNOWN)


def views(seen: Observation) -> list[str]:
    """Hardware, table, Xen and guest of one device, a line each with the raw file."""
    return [inert(f"{name:<{_WIDTH}}{text}" + (f"   {raw}" if raw else "")) for name, text, raw in rows(seen)]


def rows(seen: Observation) -> list[tuple[str, str, RawRef | None]]:
    """The same as (view, what it says, its raw file)."""
    return [
        ("hardware", *_hardware(seen)),
        ("table", *_table(seen)),
        ("Xen", *_xen(seen)),
        ("guest", *_guest(seen.guest)),
    ]


def _hardware(seen: Observation) -> tuple[str, RawRef | None]:
    view = seen.hardware
    if view is None:
        return "not read", None
    if view.gone:
        return "gone: every byte of config space reads 0xff", view.raw
    return f"{view.control or 'no MSI-X'}, {view.command}, dom0's driver {view.driver or 'none'}", view.raw


def _table(seen: Observation) -> tuple[str, RawRef | None]:
    if seen.table is None:
        return "not read: it takes memory decoding, and a host whose memory is read from outside", None
    masked = [str(number) for number, one in enumerate(seen.table.masked) if one]
    return f"{len(masked)} of {len(seen.table.masked)} entries masked", seen.table.raw


def _xen(seen: Observation) -> tuple[str, RawRef | None]:
    view = seen.xen
    if view is None:
        return "not read", None
    masks = ", ".join(map(_mask, view.masks)) or "no vectors"
    stale = f"; bound to nobody: {' '.join(map(str, view.unbound))}" if view.unbound else ""
    return f"owner {view.owner or 'none'}; {masks}{stale}", view.raw_keys.at(view.owner_line)


def _mask(one: VectorMask) -> str:
    """A vector as Xen means it, and as the table entry reads."""
    by = [name for name, masked in (("Xen", one.host), ("its owner", one.guest), ("hardware", one.hardware)) if masked]
    return f"irq {one.irq} " + (f"masked by {' and '.join(by)}" if by else "not masked")


def _guest(view: GuestView | None) -> tuple[str, RawRef | None]:
    if view is None:
        return "no guest has shown its view", None
    traffic = "" if view.traffic_ok else ", the traffic failed"
    told = f"{view.domain}: {view.delta} interrupts on {view.vectors} vectors under traffic{traffic}; {view.control}"
    return told, view.raw


def moment(seen: CaseView, devices: tuple[str, ...] | list[str]) -> list[str]:
    """All views of all devices at a checkpoint."""
    lines = []
    for device, one in zip(devices, seen.observations, strict=False):
        lines += [inert(device), *(f"  {line}" for line in views(one))]
    return lines


def parts(case: CaseResult) -> list[str]:
    """Where stock and control part first, with both views; [] where there is nothing to compare or no difference."""
    if case.control is None:
        return []
    found = parting(case.stock.record, case.control.record)
    if found is None:
        return []
    name, left, right = found
    lines = [inert(f"  stock and control part at the checkpoint {name!r}:")]
    for number, (mine, other) in enumerate(zip(rows(left), rows(right), strict=True)):
        if mine[:2] != other[:2]:
            lines += [f"    stock    {views(left)[number]}", f"    control  {views(right)[number]}"]
    return lines


def line(case: CaseResult) -> str:
    """A test in one line: the conclusion and both sides."""
    sides = f"stock {case.stock.verdict}"
    if case.stock.hypervisor != "stock":
        sides = f"{case.stock.hypervisor} {case.stock.verdict}"
    if case.control is not None:
        sides += f", control {case.control.hypervisor} {case.control.verdict}"
    return inert(f"{case.conclusion:<10} {case.id}  {sides}, {case.seconds:.0f} s")


def explain(case: CaseResult) -> list[str]:
    """What a person needs of a test, whatever its conclusion."""
    lines = [line(case)]
    for name, side in case.sides:
        if case.conclusion is Conclusion.PROVEN and name == "stock":
            continue
        if side.verdict is not Verdict.PASS or case.conclusion not in _QUIET:
            lines += [inert(f"  {side.hypervisor if name == 'stock' else name}: {_reason(side)}")]
    lines += parts(case)
    if case.remark:
        lines.append(inert(f"  {case.remark}"))
    if case.conclusion not in _QUIET:
        lines += [inert(f"  raw files: {side.raw_directory}   log: {side.log}") for _, side in case.sides]
        lines.append(inert(f"  repeat just this: {case.command_to_repeat}"))
    return lines


def cases(run: RunResult) -> list[str]:
    """Paragraphs of all tests of a run, [] if there are none."""
    return [told for case in run.cases for told in explain(case)]


def _reason(side: CaseSide) -> str:
    reason = side.reason.splitlines()[0] if side.reason else str(side.verdict)
    return f"{reason}   {side.place}" if side.place else reason


def case_log(case: str, side: CaseSide) -> str:
    """The log of one side: verdict, what was done with its time, every checkpoint, the lines that matter, phases."""
    place = f"\n{side.place}" if side.place else ""
    head = (
        inert(f"{case} on {side.hypervisor}: {side.verdict}")
        + "\n"
        + "\n".join(inert(one) for one in f"{side.reason}{place}".splitlines())
    )
    actions = "\n".join(
        inert(
            f"{one.seconds:8.2f} s  {one.verb.replace('_', ' ')}: {one.detail}" + (f"   {one.raw}" if one.raw else "")
        )
        for one in side.record.actions
    )
    checkpoints = "\n\n".join(
        "\n".join([inert(f"checkpoint {seen.name!r}"), *(f"  {one}" for one in moment(seen, side.record.devices))])
        for seen in side.record.seen
    )
    markers = "\n".join(inert(f"{one.text}   {raw}") for one, raw in side.record.markers)
    phases = "\n".join(f"{seconds:8.2f} s  {name}" for name, seconds in side.phases.items())
    return "\n\n".join(part.rstrip("\n") for part in (head, actions, checkpoints, markers, phases) if part) + "\n"
