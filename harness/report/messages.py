"""What Xen and dom0's kernel said: counted, and what deserves a look repeated once with its place. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable

from harness.base.text import inert
from harness.report.results import RunResult
from harness.report.seen import MessageSeen, MessagesSeen
from harness.scenario.messages import grouped, words
from harness.xen.keys.messages import Meaning


def counts(lines: dict[Meaning, int], esrch: int) -> str:
    """`12 harmless, 1 symptom, 240 dump, 0 unknown; ESRCH 0`: lines per meaning."""
    told = ", ".join(f"{lines.get(meaning, 0)} {meaning}" for meaning in Meaning)
    return f"{told}; ESRCH {esrch}"


def properties(seen: MessagesSeen | None) -> dict[str, str]:
    """For JUnit: the counts, and a line for each kind of symptom or unknown line."""
    if seen is None:
        return {"messages": "not read"}
    lines = {f"message.{number}": "  ".join(_told(kind, kind.count)) for number, kind in enumerate(seen.shown, 1)}
    return {"messages": counts(seen.lines, seen.esrch), **lines}


def of_side(seen: MessagesSeen | None) -> list[str]:
    """All kinds of lines of one side, for its log: first what deserves a look."""
    if seen is None:
        return ["what Xen and dom0 said was not read to its end"]
    rest = (kind for kind in seen.kinds if not kind.meaning.is_shown)
    return [_head(seen.lines, seen.esrch), *_paragraph((kind, kind.count) for kind in (*seen.shown, *rest))]


def of_run(run: RunResult) -> list[str]:
    """Counts over all sides, and each kind that deserves a look once. Empty when no log was read."""
    read = [side.messages for scenario in run.scenarios for _, side in scenario.sides if side.messages is not None]
    if not read:
        return []
    lines: Counter[Meaning] = Counter()
    for seen in read:
        lines.update(seen.lines)
    kinds = grouped((kind for seen in read for kind in seen.shown), _alike)
    shown = _paragraph((alike[0], sum(kind.count for kind in alike)) for alike in kinds)
    return [_head(lines, sum(seen.esrch for seen in read)), *shown]


def _alike(seen: MessageSeen) -> Hashable:
    return seen.rule, seen.expected, words(seen.text)


def _head(lines: dict[Meaning, int], esrch: int) -> str:
    return f"lines of Xen and dom0: {counts(lines, esrch)}"


def _paragraph(kinds: Iterable[tuple[MessageSeen, int]]) -> list[str]:
    return [f"{indent}{line}" for one in kinds for indent, line in zip(("  ", "      "), _told(*one), strict=True)]


def _told(kind: MessageSeen, count: int) -> tuple[str, str]:
    """What was said and how often; under which rule, and where it stands first."""
    rule = f"{kind.rule}{', which the ending provokes' if kind.expected else ''}: " if kind.rule else ""
    return inert(f"{kind.meaning}, {count}x, {kind.origin.value}: {kind.text}"), inert(f"{rule}{kind.raw}")
