"""What must be seen over the rounds of a scenario: every guest worked, and nothing they leave behind grew. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from harness.judge.expectations import check, missing
from harness.judge.judgement import Check
from harness.model.checkpoint import Checkpoint
from harness.scenario.record import Record
from harness.xen.keys.leaks import COUNTERS, growth

_AT, _VIEW = Checkpoint.C4, "leaks"


def checks(record: Record) -> Iterator[Check]:
    """Of a scenario without rounds there are none."""
    wanted, rounds = record.scenario.follow.rounds, record.rounds
    if not wanted:
        return
    played = str(len(rounds))
    yield check(_AT, _VIEW, "rounds", str(wanted), played if len(rounds) == wanted else None, True, None)
    for one in rounds[1:]:  # the first is guest A's, which C2 is about
        if one.guest is None:
            yield missing(Checkpoint.C2, f"guest of round {one.number}")
            continue
        seen, subject = one.guest.delta, f"round {one.number}: interrupts under traffic"
        yield check(Checkpoint.C2, "guest", subject, "more than 0", seen, seen > 0, one.guest.raw)
    found = growth([one.counts for one in rounds])
    for counter in COUNTERS[: None if found else 1]:
        grown = next((one for one in found if one.counter is counter), None)
        expected = f"at most {counter.noise} more" if counter.noise else "no more"
        met = grown is not None and not grown.leaked
        yield check(_AT, _VIEW, counter.title, expected, grown, met, rounds[-1].raw if rounds else None)
