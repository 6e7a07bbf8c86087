"""Which rows of a run are of which day, where it went on on another one, and whose supplement it is. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC

from harness.base.text import inert
from harness.report.results import RunResult


def days(run: RunResult) -> list[str]:
    """A line for each day, by UTC, and one for the run that is supplemented; none for a run of one day.

    A kept proof says its day beside its conclusion.
    """
    found: dict[str, list[str]] = {}
    for scenario in run.scenarios:
        played = {role: side.began for role, side in scenario.sides if side.began and side.kept is None}
        dates = {role: began.astimezone(UTC).date().isoformat() for role, began in played.items()}
        for date in sorted(set(dates.values())):
            roles = [role for role, day in dates.items() if day == date]
            alone = "" if len(set(dates.values())) == 1 else f" ({', '.join(roles)})"
            found.setdefault(date, []).append(f"{scenario.id}{alone}")
    lines = [f"played on {date}: {', '.join(rows)}" for date, rows in sorted(found.items())] if len(found) > 1 else []
    return [inert(line) for line in (*lines, *_parent(run))]


def _parent(run: RunResult) -> Iterator[str]:
    if run.parent is None:
        return
    stands = Counter(run.parent.stands.values())
    there = ", ".join(f"{number} {word}" for word, number in stands.items()) or "nothing else"
    yield (
        f"plays again what was not as expected in run {run.parent.run_id} of {run.parent.started:%F}, "
        f"where these stand: {there}"
    )
