"""The coverage map as one HTML page that needs nothing else. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape

from harness.report.coverage import signs
from harness.scenario.coverage import Cell, Map
from harness.scenario.hole import HoleKind

_PLAYED = ("#0b5d2b", "#1f8f4a", "#56b870", "#9ad8a8", "#c9ecd0")  # the smallest profile is the darkest
_BY_NAME = "#e9f5c8"
_HOLES = {
    HoleKind.NOT_YET: "#f2b134",
    HoleKind.NO_DEVICE: "#c8a2d8",
    HoleKind.HARDWARE: "#8fb4dc",
    HoleKind.REFUSED: "#e08a7d",
    HoleKind.IMPOSSIBLE: "#cfcfcf",
    HoleKind.ELSEWHERE: "#efefef",
}
_STYLE = """
body { font: 13px/1.5 system-ui, sans-serif; margin: 1.5em; color: #222 }
h1 { font-size: 1.3em; margin: 0 0 .3em } h2 { font-size: 1.05em; margin: 1.4em 0 .4em }
.map { overflow-x: auto } table { border-collapse: collapse }
.map td.c { width: 9px; min-width: 9px; height: 15px; padding: 0; border: 1px solid #fff }
.map th { font-weight: normal; padding: 0 3px; text-align: center }
.map th.row { text-align: left; white-space: nowrap; position: sticky; left: 0; background: #fff; padding-right: 8px }
.map th.f { font-size: 9px; color: #666; padding: 0 }
.map th.guest { font-weight: bold }
.map .c.edge { border-left: 4px solid #fff } .map .c.guest { border-left: 9px solid #fff }
.legend span { display: inline-block; margin: 0 1em .2em 0; white-space: nowrap }
i { display: inline-block; width: 13px; height: 13px; margin-right: 4px; vertical-align: -2px }
.why td { padding: 1px 10px 1px 0; vertical-align: top } .why .n { text-align: right }
"""


def page(found: Map, titles: Mapping[str, str], context: Mapping[str, str]) -> str:
    """The whole page; every cell says in its tooltip what it is, who plays it, or why nobody does."""
    colours = _colours(found)
    name = ", ".join(escape(value) for value in context.values())
    return "".join(
        [
            "<!doctype html>\n<html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
            f"<title>maskall coverage: {name}</title><style>{_STYLE}</style>",
            f"<h1>maskall coverage: {name}</h1>",
            f"<p>{_counts(found)}. One row for each way a guest's domain ends; in it a square for each guest, device ",
            "and follow-on F1 to F8. The pointer over a square tells the rest.</p>",
            *_legend(found, colours),
            *_table(found, titles, colours),
            *_why(found),
            "</html>\n",
        ]
    )


def _colours(found: Map) -> dict[str, str]:
    return {name: _PLAYED[min(place, len(_PLAYED) - 1)] for place, name in enumerate(signs(found))}


def _counts(found: Map) -> str:
    possible = [cell for cell in found.cells if cell.hole is None]
    by_profile = sum(bool(cell.profiles) for cell in possible)
    return f"{len(found.cells)} cells: {len(possible)} can be played, {by_profile} of them by a profile"


def _legend(found: Map, colours: Mapping[str, str]) -> Iterator[str]:
    entries = [(colour, f"profile {name}") for name, colour in colours.items()]
    entries += [(_BY_NAME, "when named"), *((colour, str(kind)) for kind, colour in _HOLES.items())]
    yield "<p class=legend>"
    yield from (f"<span><i style='background:{colour}'></i>{escape(text)}</span>" for colour, text in entries)
    yield "</p>"


def _table(found: Map, titles: Mapping[str, str], colours: Mapping[str, str]) -> Iterator[str]:
    best = found.best_by(lambda cell: (cell.ending, cell.guest, cell.column, cell.follow_on))
    columns, wide = found.columns, len(found.follow_ons)
    yield "<div class=map><table><tr><th class=row>"
    yield from (f"<th class=guest colspan={len(columns) * wide}>{escape(guest)}" for guest in found.guests)
    yield "<tr><th class=row>"
    for _ in found.guests:
        yield from (
            f"<th class={'edge' if place else 'guest'} colspan={wide}>{escape(name)}"
            for place, name in enumerate(columns)
        )
    yield "<tr><th class=row>"
    for _ in range(len(found.guests) * len(columns)):
        yield from (f"<th class=f>{escape(follow[1:])}" for follow in found.follow_ons)
    for ending in found.endings:
        yield f"\n<tr><th class=row title='{escape(titles.get(ending, ''), quote=True)}'>{escape(ending)}"
        for guest in found.guests:
            for place, column in enumerate(columns):
                for number, follow in enumerate(found.follow_ons):
                    cell = best.get((ending, guest, column, follow))
                    edge = "" if number else " edge" if place else " guest"
                    yield f"<td class='c{edge}'{_square(cell, colours)}>"
    yield "</table></div>"


def _square(cell: Cell | None, colours: Mapping[str, str]) -> str:
    if cell is None:
        return ""
    if cell.hole is not None:
        colour, text = _HOLES[cell.hole.kind], f"{cell.id}: {cell.hole}"
    elif cell.profiles:
        colour, text = colours[cell.profiles[0]], f"{cell.id}: profile {', '.join(cell.profiles)}"
    else:
        colour, text = _BY_NAME, f"{cell.id}: maskall run {cell.id}"
    return f" style='background:{colour}' title='{escape(text, quote=True)}'"


def _why(found: Map) -> Iterator[str]:
    yield "<h2>Why the holes are holes</h2><table class=why>"
    for hole, cells in found.reasons().items():
        rows = " ".join(name for name in found.endings if any(cell.ending == name for cell in cells))
        yield f"<tr><td><i style='background:{_HOLES[hole.kind]}'></i>{escape(hole.kind)}<td class=n>{len(cells)}"
        yield f"<td>{escape(hole.reason)}<td>{escape(rows) if len(rows) < 120 else ''}"
    yield "</table>"
