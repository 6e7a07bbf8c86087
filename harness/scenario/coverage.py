"""The map of the whole matrix: which profile plays which cell, and why a cell is a hole. Pure."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from harness.base.errors import UsageError
from harness.scenario.catalogue import Catalogue
from harness.scenario.choose import Candidate, combinations, select, why_not_through
from harness.scenario.hole import Hole, HoleKind

PAIRS = "pairs"
K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Cell:
    """One cell: the profiles that play it, the smallest first, or the hole; neither: it is played when named."""

    ending: str
    follow_on: str
    guest: str
    device: str
    profiles: tuple[str, ...] = ()
    hole: Hole | None = None

    @property
    def id(self) -> str:
        return f"{self.ending}-{self.follow_on}-{self.guest}-{self.device}"

    @property
    def column(self) -> str:
        """Where a map shows it: pairs of devices have one column together."""
        return PAIRS if "+" in self.device else self.device

    @property
    def rank(self) -> int:
        """The better the lower: of several cells shown as one, the best is."""
        if self.hole is None:
            return 0 if self.profiles else 1
        return 2 + list(HoleKind).index(self.hole.kind)


@dataclass(frozen=True)
class Map:
    """All cells, with the axes in their order. Rows and columns that are holes as a whole are among them."""

    cells: tuple[Cell, ...]
    endings: tuple[str, ...]
    follow_ons: tuple[str, ...]
    guests: tuple[str, ...]
    devices: tuple[str, ...]
    profiles: tuple[str, ...]  # smallest first

    def best_by(self, key: Callable[[Cell], K]) -> dict[K, Cell]:
        """Of the cells that have the same key, the best: that of the smallest profile, and of several the first."""
        found: dict[K, Cell] = {}
        for cell in sorted(self.cells, key=lambda cell: (cell.rank, self._first_profile(cell))):
            found.setdefault(key(cell), cell)
        return found

    @property
    def columns(self) -> tuple[str, ...]:
        """Of the devices, each with its own, and the pairs last."""
        single = tuple(name for name in self.devices if "+" not in name)
        return single if len(single) == len(self.devices) else (*single, PAIRS)

    def _first_profile(self, cell: Cell) -> int:
        return self.profiles.index(cell.profiles[0]) if cell.profiles else 0

    def reasons(self) -> dict[Hole, tuple[Cell, ...]]:
        """The cells of each reason, in the order of the kinds."""
        found: dict[Hole, list[Cell]] = {}
        for cell in self.cells:
            if cell.hole is not None:
                found.setdefault(cell.hole, []).append(cell)
        kinds = list(HoleKind)
        return {hole: tuple(found[hole]) for hole in sorted(found, key=lambda hole: kinds.index(hole.kind))}


def coverage(known: Catalogue, devices: Sequence[Candidate], lacking: Mapping[str, str], toolstack: str = "xl") -> Map:
    """The map for these devices; `lacking` are devices that are not to be had here, each with its reason."""
    profiles = _by_size(known, devices)
    played: dict[str, list[str]] = {}
    for name, ids in profiles.items():
        for one in ids:
            played.setdefault(one, []).append(name)
    cells = []
    for row, impossible in combinations(known, devices):
        hole = impossible or why_not_through(row, toolstack)
        profiles_of = () if hole else tuple(played.get(row.id, ()))
        cells.append(Cell(row.ending, row.follow_on, row.guest, row.device, profiles_of, hole))
    for name, reason in lacking.items():
        hole = Hole(HoleKind.NO_DEVICE, reason)
        rows = combinations(known, [Candidate(name, name)])
        cells += [Cell(row.ending, row.follow_on, row.guest, name, (), hole) for row, _ in rows]
    endings = _in_order([*known.endings, *(name for name in known.absent if name.startswith("E"))])
    follow_ons = _in_order([*known.follow_ons, *(name for name in known.absent if name.startswith("F"))])
    guests = tuple(dict.fromkeys(cell.guest for cell in cells))
    names = tuple(dict.fromkeys(cell.device for cell in cells))
    whole = _absent(known, endings, follow_ons, guests, names)
    return Map((*cells, *whole), endings, follow_ons, guests, names, tuple(profiles))


def _absent(
    known: Catalogue,
    endings: Iterable[str],
    follow_ons: Iterable[str],
    guests: Sequence[str],
    devices: Sequence[str],
) -> list[Cell]:
    """The cells of endings and follow-ons that are no scenarios at all."""
    return [
        Cell(ending, follow_on, guest, device, (), hole)
        for ending in endings
        for follow_on in follow_ons
        if (hole := known.hole(ending) or known.hole(follow_on)) is not None
        for guest in guests
        for device in devices
    ]


def _by_size(known: Catalogue, devices: Sequence[Candidate]) -> dict[str, frozenset[str]]:
    """The ids that each profile plays, the smallest profile first."""
    found: dict[str, frozenset[str]] = {}
    for name in known.profiles:
        try:
            found[name] = frozenset(row.id for row in select(known, devices, [], name))
        except UsageError:  # none for these devices
            found[name] = frozenset()
    return dict(sorted(found.items(), key=lambda item: len(item[1])))


def _in_order(names: Iterable[str]) -> tuple[str, ...]:
    """E2 before E14, E8 before E8-restart, and what has no number last."""

    def key(name: str) -> tuple[int, str]:
        number = name[1:].partition("-")[0]
        return (int(number), name) if number.isdecimal() else (1000, name)

    return tuple(sorted(names, key=key))
