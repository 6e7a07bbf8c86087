"""What the page shows of a test that somebody wrote. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from harness.report.case import parts, rows
from harness.report.page.cited import link
from harness.report.page.sentence import UNEXPECTED
from harness.report.results import CaseResult, CaseSide


@dataclass(frozen=True)
class CaseRow:
    """One view of one device at one checkpoint of one side."""

    side: str
    at: str
    device: str
    view: str
    text: str
    raw: str
    href: str


@dataclass(frozen=True)
class CaseSection:
    """A test with both of its sides."""

    anchor: str
    case: CaseResult
    opened: bool
    rows: tuple[CaseRow, ...]
    parting: tuple[str, ...]  # where stock and control part first, in lines

    @classmethod
    def of(cls, number: int, case: CaseResult) -> Self:
        found = tuple(row for name, side in case.sides for row in _rows(name, side))
        return cls(f"t{number}", case, case.conclusion in UNEXPECTED, found, tuple(parts(case)))


def _rows(name: str, side: CaseSide) -> Iterator[CaseRow]:
    for seen in side.record.seen:
        for device, one in zip(side.record.devices, seen.observations, strict=False):
            for view, text, raw in rows(one):
                href = link(raw.path) if raw else ""
                yield CaseRow(name, seen.name, device, view, text, str(raw or ""), href)
