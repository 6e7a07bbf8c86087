"""A part of the scenarios, so that several machines play all of them in the least time. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from harness.base.errors import UsageError
from harness.scenario.spec import Scenario

_MOST = 99


def parsed(text: str) -> tuple[int, int]:
    """`2/3` as (2, 3). UsageError."""
    match = re.fullmatch(r"([0-9]{1,2})/([0-9]{1,2})", text)
    number, of = map(int, match.groups()) if match else (0, 0)
    if not 1 <= number <= of <= _MOST:
        raise UsageError(f"--shard {text!r} is no part", hint="write the second of three as 2/3")
    return number, of


def shard(rows: Sequence[Scenario], part: str, seconds: Mapping[str, float]) -> list[Scenario]:
    """Part I/N of the rows, the slowest first, so that all parts take about as long by the `seconds` of earlier runs.

    The same rows and times give the same parts, whoever asks for which. One that was never played counts as the mean.
    """
    number, of = parsed(part)
    mean = sum(seconds.values()) / len(seconds) if seconds else 1.0
    loads = [0.0] * of
    mine = []
    for row in sorted(rows, key=lambda row: (-seconds.get(row.id, mean), row.id)):
        least = loads.index(min(loads))
        loads[least] += seconds.get(row.id, mean)
        if least == number - 1:
            mine.append(row)
    if not mine:
        raise UsageError(f"--shard {part}: there are {len(rows)} scenarios", hint="take fewer parts")
    return mine
