"""How often a row is played: each time is a scenario of its own, ROW@1 to ROW@N, with its own files and verdicts. Pure.

So the plan (run.json) has every one of them before the first change, and none of them is thrown away.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from harness.scenario.spec import Scenario

MOST = 99
_TIME = re.compile(r"(?P<row>.+)@(?P<number>[1-9][0-9]?)", re.ASCII)


def parted(name: str) -> tuple[str, int]:
    """The row, and which time it is; 0 where it is played once."""
    found = _TIME.fullmatch(name)
    return (found["row"], int(found["number"])) if found else (name, 0)


def row_of(name: str) -> str:
    return parted(name)[0]


def repeated(rows: Sequence[Scenario], times: Callable[[Scenario], int]) -> list[Scenario]:
    """Every row as often as `times` says: all of them once, and then those once more that are played again.

    One that says already which time it is stays what it is.
    """
    often = {row.id: 1 if row.repeat else times(row) for row in rows}
    return [
        row if often[row.id] == 1 else replace(row, repeat=number)
        for number in range(1, max(often.values(), default=0) + 1)
        for row in rows
        if number <= often[row.id]
    ]


def times_of(names: Iterable[str]) -> dict[str, int]:
    """How often each row is among these scenarios."""
    found: dict[str, int] = {}
    for name in dict.fromkeys(names):
        found[row_of(name)] = found.get(row_of(name), 0) + 1
    return found


def gaps(names: Iterable[str]) -> Iterator[str]:
    """Rows whose times are not 1 to N, N more than one: a time was left out, or is of another plan."""
    seen: dict[str, list[int]] = {}
    for row, number in map(parted, names):
        seen.setdefault(row, []).append(number)
    for row, numbers in seen.items():
        if numbers != [0] and (sorted(numbers) != list(range(1, len(numbers) + 1)) or len(numbers) == 1):
            told = ", ".join(f"{row}@{number}" if number else row for number in sorted(numbers))
            yield f"{row} is planned as {told}, and not as {row}@1 to {row}@N"
