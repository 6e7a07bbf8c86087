"""What Xen and dom0's kernel said during a run, each line with its meaning and its place. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from harness.model.message import Meaning, Message
from harness.model.observation import Checkpoint, RawRef
from harness.xen.keys.messages import Log, Rules, classify


@dataclass(frozen=True)
class LogPart:
    """What a log had gained at a checkpoint; the parts of a log are the whole of it, one after the other."""

    checkpoint: Checkpoint
    raw: RawRef
    text: str
    boot: bool = False  # begins with the boot of the host


def read_log(parts: Sequence[LogPart], log: Log, rules: Rules, expected: Collection[str]) -> list[Message]:
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
        place = bisect_right(starts, one.line.number) - 1
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
