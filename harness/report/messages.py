"""What Xen and dom0's kernel said: counted, and what deserves a look repeated once with its place. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from harness.base.text import inert
from harness.model.message import Meaning, Message, grouped, kinds, words
from harness.report.results import RunResult


def counts(said: Iterable[Message]) -> str:
    """`12 harmless, 1 symptom, 240 dump, 0 unknown; ESRCH 0`: lines per meaning, with those that belong to them.

    ESRCH says that what was to be unmapped was not there; it is harmless, and counted there as well.
    """
    lines: Counter[Meaning] = Counter()
    esrch = 0
    for one in said:
        lines[one.meaning] += one.lines
        esrch += one.esrch
    return f"{', '.join(f'{lines[meaning]} {meaning}' for meaning in Meaning)}; ESRCH {esrch}"


def properties(said: Sequence[Message] | None) -> dict[str, str]:
    """For JUnit: the counts, and a line for each kind of symptom or unknown line."""
    if said is None:
        return {"messages": "not read"}
    lines = {f"message.{number}": "  ".join(_told(alike)) for number, alike in enumerate(kinds(_shown(said)), 1)}
    return {"messages": counts(said), **lines}


def of_side(said: Sequence[Message] | None) -> list[str]:
    """All kinds of lines of one side, for its log: first what deserves a look."""
    if said is None:
        return ["what Xen and dom0 said was not read to its end"]
    rest = (one for one in said if not one.meaning.is_shown)
    return [_head(said), *_paragraph([*kinds(_shown(said)), *kinds(rest)])]


def of_run(run: RunResult) -> list[str]:
    """Counts over all sides, and each kind that deserves a look once. Empty when no log was read."""
    read = [side.record.messages for scenario in run.scenarios for _, side in scenario.sides]
    said = [one for several in read for one in several or ()]
    if all(several is None for several in read):
        return []
    alike = grouped(_shown(said), lambda one: (one.name, one.expected, words(one.text)))
    return [_head(said), *_paragraph(alike)]


def _shown(said: Iterable[Message]) -> list[Message]:
    """What a report repeats: symptoms and unknown lines."""
    return [one for one in said if one.meaning.is_shown]


def _head(said: Iterable[Message]) -> str:
    return f"lines of Xen and dom0: {counts(said)}"


def _paragraph(several: Iterable[Sequence[Message]]) -> list[str]:
    return [f"{indent}{line}" for alike in several for indent, line in zip(("  ", "      "), _told(alike), strict=True)]


def _told(alike: Sequence[Message]) -> tuple[str, str]:
    """What was said and how often; under which rule, and where it stands first."""
    first = alike[0]
    rule = f"{first.name}{', which the ending provokes' if first.expected else ''}: " if first.name else ""
    return (
        inert(f"{first.meaning}, {len(alike)}x, {first.origin.value}: {first.text}"),
        inert(f"{rule}{first.raw}"),
    )
