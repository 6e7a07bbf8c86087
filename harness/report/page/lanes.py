"""The timeline of a scenario as marks of a picture: stock above control, three lanes each, one scale of time. Pure.

Checkpoints stand in columns, so that both sides can be read against each other; lines lead from each column to its true
time on the side's axis.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.model.config import CommandRegister, MsixControl
from harness.model.observation import Checkpoint, GuestView, HardwareView, Observation, RawRef, TableView, XenView
from harness.report.page.cited import Cited, link
from harness.report.page.divergence import NOT_READ, Divergence, masked, owner, seen_of
from harness.report.results import ScenarioResult, Side
from harness.scenario.record import Record

WIDTH = 1080
_GUTTER = 96
_AXIS, _LEAD, _HEAD = 26, 26, 18  # heights: the axis, the lines that lead to it, the names of the checkpoints
_LANES = {"hardware": 46, "Xen": 50, "guest": 42}
_BODY = sum(_LANES.values())
_SIDE = _AXIS + _LEAD + _HEAD + _BODY
_GAP = 14
_MOST_VECTORS = 9


@dataclass(frozen=True)
class Box:
    x: float
    y: float
    width: float
    height: float
    kind: str


@dataclass(frozen=True)
class Line:
    x1: float
    y1: float
    x2: float
    y2: float
    kind: str


@dataclass(frozen=True)
class Label:
    x: float
    y: float
    text: str
    kind: str = ""


@dataclass(frozen=True)
class LaneCell:
    """What one view showed at one checkpoint; `href` leads to the raw line."""

    title: str
    href: str
    boxes: tuple[Box, ...]
    labels: tuple[Label, ...]


@dataclass(frozen=True)
class Picture:
    height: float
    name: str
    bands: tuple[Box, ...]
    lines: tuple[Line, ...]
    labels: tuple[Label, ...]
    cells: tuple[LaneCell, ...]


def picture(scenario: ScenarioResult, divergence: Divergence | None, cited: Cited) -> Picture | None:
    """None when no checkpoint was reached on any side."""
    sides = [(name, side, seen_of(side.record)) for name, side in scenario.sides]
    columns = sorted({at for _, _, seen in sides for at in seen})
    if not columns:
        return None
    latest = max(one.seconds for _, _, seen in sides for one in seen.values()) or 1.0
    scale = _Scale(columns, latest)
    lines: list[Line] = []
    labels: list[Label] = []
    cells: list[LaneCell] = []
    for number, (name, side, seen) in enumerate(sides):
        top = number * (_SIDE + _GAP)
        flipped = number == 1  # the control's axis is below it, so that lanes lie next to lanes
        body = top if flipped else top + _AXIS + _LEAD
        axis = body + _HEAD + _BODY + _LEAD if flipped else top + _AXIS
        lines += _axis(scale, seen, body, axis, flipped)
        labels += _words(scale, name, side, seen, body, axis, flipped)
        cells += _cells(scale, side.record, seen, body + _HEAD, cited)
    height = len(sides) * _SIDE + (len(sides) - 1) * _GAP + 4
    bands: tuple[Box, ...] = ()
    if divergence is not None and divergence.checkpoint in columns:
        x = scale.column(divergence.checkpoint)
        bands = (Box(round(x - scale.wide / 2 + 1, 1), _AXIS, round(scale.wide - 2, 1), height - 2 * _AXIS, "parting"),)
        labels.append(Label(min(x, WIDTH - 50), 10, "first difference", "parting"))
    words = "; ".join(f"{name} {at} at {one.seconds:.1f} s" for name, _, seen in sides for at, one in seen.items())
    return Picture(height, f"Timeline: {words}", bands, tuple(lines), tuple(labels), tuple(cells))


class _Scale:
    """Where a checkpoint's column is, and where a time is on the axis."""

    def __init__(self, columns: Sequence[Checkpoint], latest: float) -> None:
        self._columns, self.latest = columns, latest
        self.wide = (WIDTH - _GUTTER) / len(columns)

    def column(self, at: Checkpoint) -> float:
        return round(_GUTTER + (self._columns.index(at) + 0.5) * self.wide, 1)

    def time(self, seconds: float) -> float:
        return round(_GUTTER + 8 + seconds / self.latest * (WIDTH - _GUTTER - 56), 1)


def _axis(
    scale: _Scale, seen: dict[Checkpoint, Observation], body: float, axis: float, flipped: bool
) -> Iterator[Line]:
    yield Line(scale.time(0), axis, scale.time(scale.latest), axis, "axis")
    edge = body + _HEAD + _BODY if flipped else body
    away = 4 if flipped else -4
    for at, one in seen.items():
        yield Line(scale.time(one.seconds), axis + away, scale.time(one.seconds), axis - away, "tick")
        yield Line(scale.time(one.seconds), axis - away, scale.column(at), edge, "lead")
    y = body + _HEAD
    for height in (*_LANES.values(), 0):
        yield Line(0, y, WIDTH, y, "rule")
        y += height


def _words(
    scale: _Scale, name: str, side: Side, seen: dict[Checkpoint, Observation], body: float, axis: float, flipped: bool
) -> Iterator[Label]:
    beside = axis + 16 if flipped else axis - 5
    yield Label(scale.time(0), beside, "0 s", "small")
    yield Label(scale.time(scale.latest) + 4, axis + 4, f"{scale.latest:.0f} s", "small")
    yield Label(2, axis + 4, "control" if name == "control" else side.hypervisor, "side")
    yield Label(2, axis + (18 if flipped else -10), str(side.verdict), "verdict")
    for at, one in seen.items():
        yield Label(scale.column(at), body + 13, f"{at}  {one.seconds:.1f} s", "checkpoint")
    y = body + _HEAD
    for lane, height in _LANES.items():
        yield Label(2, y + height / 2 + 4, lane, "lane")
        y += height


def _cells(
    scale: _Scale, record: Record, seen: dict[Checkpoint, Observation], top: float, cited: Cited
) -> Iterator[LaneCell]:
    for at, one in seen.items():
        left = scale.column(at) - scale.wide / 2 + 6
        hardware, xen = top, top + _LANES["hardware"]
        yield _hardware(left, hardware, at, one.hardware, one.table, cited)
        yield _xen(left, xen, at, one.xen, record, cited)
        yield _guest(left, xen + _LANES["Xen"], at, one.guest, cited)


def _href(raw: RawRef | None, cited: Cited) -> str:
    """To the lines on this page, else to the file."""
    anchor = cited.known(raw)
    return f"#{anchor}" if anchor else link(raw.path) if raw else ""


def _pills(left: float, y: float, words: Sequence[tuple[str, bool, bool]]) -> tuple[list[Box], list[Label]]:
    """(word, set, whether that is bad) side by side; each says + or - as well."""
    boxes, labels = [], []
    for word, on, bad in words:
        wide = 8 + 6.8 * (len(word) + 1)
        kind = "bad" if on and bad else "on" if on else "off"
        boxes.append(Box(round(left, 1), y, round(wide, 1), 15, f"pill {kind}"))
        labels.append(Label(round(left + wide / 2, 1), y + 11, f"{word}{'+' if on else '−'}", f"pill {kind}"))  # noqa: RUF001 - a minus sign is as wide as a plus
        left += wide + 3
    return boxes, labels


def _hardware(
    left: float, top: float, at: Checkpoint, view: HardwareView | None, table: TableView | None, cited: Cited
) -> LaneCell:
    if view is None or view.gone:
        text = NOT_READ if view is None else "gone: reads 0xff"
        return LaneCell(
            f"{at} hardware: {text}", _href(view.raw if view else None, cited), (), (_dim(left, top + 20, text),)
        )
    words = _decoding(view.command) + _control(view.control)
    boxes, labels = _pills(left, top + 6, words)
    if table is not None:
        for place, one in enumerate(table.masked[:_MOST_VECTORS]):
            boxes.append(Box(round(left + 9 * place, 1), top + 28, 7, 9, "bit set" if one else "bit"))
        if len(table.masked) > _MOST_VECTORS:
            labels.append(_dim(left + 9 * _MOST_VECTORS, top + 37, f"+{len(table.masked) - _MOST_VECTORS}"))
    else:
        labels.append(_dim(left, top + 37, "table not read"))
    told = masked(table.masked) if table else NOT_READ
    title = f"{at} hardware: {view.command}, {view.control}, vector table {told}, driver {view.driver or 'none'}"
    return LaneCell(title, _href(view.raw, cited), tuple(boxes), tuple(labels))


def _decoding(command: CommandRegister | None) -> list[tuple[str, bool, bool]]:
    return [] if command is None else [("Mem", command.memory, False)]


def _control(control: MsixControl | None) -> list[tuple[str, bool, bool]]:
    return [] if control is None else [("En", control.enabled, False), ("ALL", control.masked, True)]


def _xen(left: float, top: float, at: Checkpoint, view: XenView | None, record: Record, cited: Cited) -> LaneCell:
    if view is None:
        return LaneCell(f"{at} Xen: {NOT_READ}", "", (), (_dim(left, top + 20, NOT_READ),))
    who = owner(view.owner, record.guests)
    labels = [Label(round(left, 1), top + 15, who, "word")]
    boxes = []
    for place, row in enumerate(view.masks[:_MOST_VECTORS]):
        for line, (one, sign) in enumerate(((row.host, "H"), (row.guest, "G"), (row.hardware, "hw"))):
            kind = "bit unknown" if one is None else "bit set" if one else "bit"
            boxes.append(Box(round(left + 14 + 9 * place, 1), top + 21 + 9 * line, 7, 7, kind))
            if place == 0:
                labels.append(Label(round(left, 1), top + 28 + 9 * line, sign, "tiny"))
    if len(view.masks) > _MOST_VECTORS:
        labels.append(_dim(left + 14 + 9 * _MOST_VECTORS, top + 38, f"+{len(view.masks) - _MOST_VECTORS}"))
    if not view.masks:
        labels.append(_dim(left, top + 33, "no irq mapped"))
    rows = ", ".join(
        f"irq {row.irq} H{'+' if row.host else '-'} G{'+' if row.guest else '-'} hardware {row.hardware}"
        for row in view.masks[:_MOST_VECTORS]
    )
    raw = view.raw_keys.at(view.owner_line)
    return LaneCell(f"{at} Xen: owner {who}; {rows or 'no irq mapped'}", _href(raw, cited), tuple(boxes), tuple(labels))


def _guest(left: float, top: float, at: Checkpoint, view: GuestView | None, cited: Cited) -> LaneCell:
    if view is None:
        return LaneCell(f"{at} guest: {NOT_READ}", "", (), (_dim(left, top + 25, "no guest looked"),))
    boxes, labels = _pills(left, top + 22, _control(view.control))
    words = f"{view.domain}: {view.delta:+d} irqs"
    labels.append(Label(round(left, 1), top + 15, words, "word" if view.delta > 0 else "word bad"))
    title = (
        f"{at} guest {view.domain}: {view.delta:+d} interrupts on {view.vectors} vectors, "
        f"traffic {'passed' if view.traffic_ok else 'failed'}, {view.control or 'control not read'}"
    )
    return LaneCell(title, _href(view.raw, cited), tuple(boxes), tuple(labels))


def _dim(x: float, y: float, text: str) -> Label:
    return Label(round(x, 1), y, text, "dim")
