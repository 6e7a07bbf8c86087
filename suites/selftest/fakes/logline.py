"""A line of a log as a rule of messages.yaml describes it."""

from __future__ import annotations

from harness.model.message import Message
from harness.model.observation import Checkpoint, RawRef
from harness.xen.keys.messages import catalogue


def by_rule(
    name: str, at: Checkpoint, raw: RawRef, text: str = "", *, lines: int = 1, expected: bool = False
) -> Message:
    """What the rule `name` says of `text`, or of its own example."""
    rule = catalogue().rules[name]
    return Message(
        checkpoint=at,
        origin=rule.origin,
        meaning=rule.meaning,
        text=text or rule.example,
        raw=raw,
        name=name,
        reason=rule.reason,
        lines=lines,
        expected=expected,
        fails=rule.fails,
        loses=rule.loses,
        esrch=rule.esrch,
    )
