"""What Xen and dom0's kernel said during a run, each line with its meaning and its place. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from harness.model.checkpoint import Checkpoint
from harness.model.raw import RawRef
from harness.xen.keys.console import Origin
from harness.xen.keys.messages import Log, Meaning, Rules, classify

T = TypeVar("T")


@dataclass(frozen=True)
class Part:
    """What a log had gained at a checkpoint; the parts of a log are the whole of it, one after the other."""

    checkpoint: Checkpoint
    raw: RawRef
    text: str
    boot: bool = False  # begins with the boot of the host


@dataclass(frozen=True)
class Message:
    """A line of a log, read at a checkpoint. `lines` counts it and those that belong to it."""

    checkpoint: Checkpoint
    origin: Origin
    meaning: Meaning
    text: str
    raw: RawRef
    name: str | None = None  # of its rule in messages.yaml; None: none describes it
    reason: str = ""  # why it is said, by its rule
    lines: int = 1
    expected: bool = False  # a symptom that the ending provokes
    fails: bool = False  # it is wrong in every scenario that does not expect it
    esrch: bool = False  # what was to be unmapped was not there
    loses: bool = False  # it says that other lines were left out: what was not said may have been


def read_log(parts: Sequence[Part], log: Log, rules: Rules, expected: Collection[str]) -> list[Message]:
    """The messages of all parts but the first, which is what stood there before.

    The parts are read as one text: a line or a trace that was cut in two between them is one. Of a boot, which says a
    thousand things that are no business of the scenario, only symptoms are kept. `expected` are the names of the rules
    that the scenario's ending provokes.
    """
    starts: list[int] = []  # the first line, counted over all parts, that begins in each
    shifts: list[int] = []
    text = ""
    for part in parts:
        before = text.count("\n")
        starts.append(before + (1 if not text or text.endswith("\n") else 2))
        shifts.append(before)
        text += part.text
    found = []
    for one in classify(text, log, rules):
        place = max(index for index, start in enumerate(starts) if start <= one.line.number or index == 0)
        if place == 0:
            continue
        part = parts[place]
        if part.boot and one.meaning is not Meaning.SYMPTOM:
            continue
        found.append(
            Message(
                checkpoint=part.checkpoint,
                origin=one.line.origin,
                meaning=one.meaning,
                text=one.line.text,
                raw=part.raw.at(one.line.number - shifts[place]),
                name=one.name,
                reason=one.rule.reason if one.rule else "",
                lines=1 + one.more,
                expected=one.name in expected,
                fails=one.rule is not None and one.rule.fails,
                loses=one.rule is not None and one.rule.loses,
                esrch=one.rule is not None and one.rule.esrch,
            )
        )
    return found


def kinds(messages: Iterable[Message]) -> list[list[Message]]:
    """Messages that say the same, together; what a report shows is told apart by its words, the rest by its rule."""
    return grouped(messages, lambda one: (one.name, words(one.text) if one.meaning.is_shown else ""))


def grouped(items: Iterable[T], key: Callable[[T], Hashable]) -> list[list[T]]:
    """Items of the same key, groups and their members in the order of their coming."""
    groups: dict[Hashable, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.values())


_NUMBER = re.compile(r"0x[0-9a-f]+|[0-9a-f]*[0-9][0-9a-f]*")


def words(text: str) -> str:
    """`text` without its numbers: irqs, domids and addresses differ where the message is the same."""
    return _NUMBER.sub("#", text)
