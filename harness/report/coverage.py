"""The coverage map for a terminal and as JSON. Pure; everything fits 80 columns."""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from harness.scenario.coverage import PAIRS, Cell, Map
from harness.scenario.hole import HoleKind

_HOLES = {
    HoleKind.NOT_YET: "?",
    HoleKind.NO_DEVICE: "%",
    HoleKind.HARDWARE: "#",
    HoleKind.REFUSED: "!",
    HoleKind.IMPOSSIBLE: "x",
    HoleKind.ELSEWHERE: "-",
}
_BY_NAME = "+"
_WIDTH = 80
_FEW = 3  # names of what a reason does not concern; with more of them they say nothing


def signs(profiles: Map) -> dict[str, str]:
    """One letter for each profile: the first of its name that no smaller profile and no other sign has."""
    taken: dict[str, str] = {}
    for name in profiles.profiles:
        free = (letter for letter in name if letter not in {*taken.values(), *_HOLES.values()})
        taken[name] = next(free, "*")
    return taken


def sign(cell: Cell | None, letters: Mapping[str, str]) -> str:
    """What stands for a cell; a blank where the axes do not cross."""
    if cell is None:
        return " "
    if cell.hole is not None:
        return _HOLES[cell.hole.kind]
    return letters[cell.profiles[0]] if cell.profiles else _BY_NAME


def table(found: Map, *, context: str) -> Iterator[str]:
    """The map in one table, its legend, and every hole's reason."""
    letters = signs(found)
    wide = max(map(len, found.endings))
    single = [name for name in found.columns if name != PAIRS]
    columns = "".join(name[1:] for name in found.follow_ons)
    numbers = "".join(str(place + 1) for place in range(len(single)))
    yield f"coverage of {context}: ending x follow-on F1..F8 x guest, and ending x device\n"
    heads = "  ".join(f"{guest:<{len(columns)}}" for guest in found.guests)
    yield f"{'':<{wide}}  {heads}  devices"
    yield f"{'ending':<{wide}}  {'  '.join([columns] * len(found.guests))}  {numbers} {PAIRS}"
    by_guest = found.best_by(lambda cell: (cell.ending, cell.guest, cell.follow_on))
    by_device = found.best_by(lambda cell: (cell.ending, cell.column))
    for ending in found.endings:
        groups = [
            "".join(sign(by_guest.get((ending, guest, follow)), letters) for follow in found.follow_ons)
            for guest in found.guests
        ]
        devices = "".join(sign(by_device.get((ending, name)), letters) for name in single)
        pairs = sign(by_device.get((ending, PAIRS)), letters)
        yield f"{ending:<{wide}}  {'  '.join(groups)}  {devices} {pairs}".rstrip()
    yield ""
    yield from _legend(found, letters, single)
    yield ""
    yield from _totals(found)
    yield ""
    yield from _reasons(found)


def _legend(found: Map, letters: Mapping[str, str], devices: list[str]) -> Iterator[str]:
    words = [f"{letter} profile {name}" for name, letter in letters.items()]
    words += [f"{_BY_NAME} when named", *(f"{mark} {kind}" for kind, mark in _HOLES.items())]
    yield from _folded("each cell shows the best of those it stands for: ", ", ".join(words))
    named = ", ".join(f"{place} {name}" for place, name in enumerate(devices, 1))
    yield from _folded("devices: ", f"{named}; pairs: two at a time")


def _totals(found: Map) -> Iterator[str]:
    holes = Counter(cell.hole.kind for cell in found.cells if cell.hole is not None)
    played = Counter(name for cell in found.cells for name in cell.profiles)
    possible = [cell for cell in found.cells if cell.hole is None]
    in_any = sum(bool(cell.profiles) for cell in possible)
    yield f"{len(found.cells)} cells: {len(possible)} can be played, {in_any} of them by a profile"
    yield from _folded("profiles: ", ", ".join(f"{name} {played[name]}" for name in found.profiles))
    yield from _folded("holes: ", ", ".join(f"{holes[kind]} {kind}" for kind in HoleKind if holes[kind]))


def _reasons(found: Map) -> Iterator[str]:
    kind = None
    for hole, cells in found.reasons().items():
        if hole.kind is not kind:
            kind = hole.kind
            yield f"{_HOLES[kind]} {kind}"
        yield from _folded(f"{len(cells):6}  ", f"{hole.reason}: {_where(found, cells)}")


def _where(found: Map, cells: Iterable[Cell]) -> str:
    """The endings that a reason concerns, or the follow-ons where it is about those."""
    for concerned, axis in (
        ({cell.ending for cell in cells}, found.endings),
        ({cell.follow_on for cell in cells}, found.follow_ons),
    ):
        others = [name for name in axis if name not in concerned]
        if len(concerned) <= len(others):
            return " ".join(name for name in axis if name in concerned)
        if others and len(others) <= _FEW:
            return f"all but {' '.join(others)}"
    return "everywhere"


def _folded(start: str, text: str) -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent=start, subsequent_indent=" " * min(len(start), 10), break_on_hyphens=False
    )


def as_json(found: Map, context: Mapping[str, str]) -> str:
    """Every cell; `profiles` empty and no `hole`: it is played when named."""
    cells = [
        {
            "id": cell.id,
            "ending": cell.ending,
            "follow_on": cell.follow_on,
            "guest": cell.guest,
            "device": cell.device,
            "profiles": list(cell.profiles),
            "hole": None if cell.hole is None else {"kind": cell.hole.kind, "reason": cell.hole.reason},
        }
        for cell in found.cells
    ]
    return json.dumps({**context, "profiles": list(found.profiles), "cells": cells}, indent=1) + "\n"
