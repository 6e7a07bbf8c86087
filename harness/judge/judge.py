"""Turns the record of a run into a verdict. Pure: the same record gives the same verdict, any time, anywhere."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from harness.judge import growth, rules
from harness.judge.judgement import Check, Hazard, Judgement, Outcome, Verdict, sentence
from harness.judge.rules import check
from harness.model.observation import Checkpoint
from harness.scenario.record import Record
from harness.scenario.spec import CREATE, Fate, makes_next_guest


def judge(record: Record) -> Judgement:
    """The verdict of one run. CRASH outweighs ERROR outweighs FAIL outweighs UNDECIDED; PASS needs everything."""
    hazard = _hazard(record)
    checks = tuple(_checks(record))
    crash = next((marker for marker, _ in record.markers if marker.kind.is_host_crash), None)
    violated = [one for one in checks if one.outcome is Outcome.VIOLATED]
    unseen = [one for one in checks if one.outcome is Outcome.MISSING]
    if crash is not None:
        return Judgement(Verdict.CRASH, f"{crash.kind.value}: {crash.text}", hazard, checks)
    if record.skipped:
        return Judgement(Verdict.SKIP, record.skipped, hazard)
    if record.broken is not None:  # of one that never began, no check says more
        return Judgement(Verdict.ERROR, str(record.broken), hazard, checks if record.begun else ())
    if violated:
        return Judgement(Verdict.FAIL, sentence(violated[0]), hazard, checks)
    if unseen:
        return Judgement(Verdict.UNDECIDED, sentence(unseen[0]), hazard, checks)
    if hazard.promised and not hazard.taken:
        return Judgement(Verdict.UNDECIDED, "the hazard was not taken: the run proves nothing", hazard, checks)
    if not checks:
        return Judgement(Verdict.UNDECIDED, "nothing was observed", hazard, checks)
    return Judgement(Verdict.PASS, f"{len(checks)} expectations met", hazard, checks)


def _hazard(record: Record) -> Hazard:
    """Taken when Xen said so for this device, MASKALL stands in its message control after the fault, or was planted."""
    promised = record.scenario.end.hazard
    if record.planted is not None:
        return Hazard(promised, True, "MASKALL was set before Xen booted", record.planted)
    devices = {seen.device for seen in record.observations}
    for marker, raw in record.markers:
        if marker.kind.is_hazard and marker.device in devices:
            return Hazard(promised, True, marker.text, raw)
    for checkpoint in (Checkpoint.C3, Checkpoint.C4):
        seen = record.at(checkpoint)
        if seen and seen.hardware and seen.hardware.control and seen.hardware.control.masked:
            return Hazard(promised, True, f"{checkpoint}: {seen.hardware.control}", seen.hardware.raw)
    return Hazard(promised, False)


def _checks(record: Record) -> Iterator[Check]:
    yield from _actions(record)
    yield from _left_out(record)
    yield from rules.device(record)
    yield from growth.checks(record)
    if record.scenario.bystander:
        yield from _of_second(record.second, rules.bystander)
    elif len(record.scenario.devices) > 1:
        yield from _of_second(record.second, rules.device)
    last = record.observations[-1].checkpoint if record.observations else Checkpoint.C0
    yield from rules.messages(last, record.messages, strict=record.strict_messages)


def _of_second(record: Record | None, rule: Callable[[Record], Iterator[Check]]) -> Iterator[Check]:
    """The checks of the second device, each with the device in front of its subject."""
    if record is None:
        yield rules.missing(Checkpoint.C0, "second device")
        return
    name = record.scenario.devices[1]
    for one in rule(record):
        yield replace(one, subject=f"{name}: {one.subject}")


def _actions(record: Record) -> Iterator[Check]:
    """Every step went as it should: most succeed, some must be refused with the right words."""
    refusals = record.scenario.end.refusals
    for done in record.actions:
        if done.verb in refusals:
            met = not done.ok and re.search(refusals[done.verb], done.said) is not None
            wanted = f"refused: {refusals[done.verb]}"
            yield check(done.checkpoint, "toolstack", done.verb, wanted, done.detail, met, done.raw)
        elif not makes_next_guest(done.verb):
            yield check(done.checkpoint, "toolstack", done.verb, "succeeds", done.detail, done.ok, done.raw)


def _left_out(record: Record) -> Iterator[Check]:
    """Steps of the scenario that nobody carried out: whatever was seen, it was not this scenario."""
    scenario = record.scenario
    refused = scenario.end.fate is Fate.REFUSED
    steps = (
        (Checkpoint.C2, (CREATE,)),
        (Checkpoint.C3, () if refused else scenario.end.fault),
        (Checkpoint.C4, () if refused else scenario.end.end),
        (Checkpoint.C5, scenario.follow.steps),
        (Checkpoint.C8, scenario.end.late if rules.ends_late(record) else ()),
    )
    for at, verbs in steps:
        for verb in verbs:
            wanted, done = verbs.count(verb), sum(one.verb == verb for one in record.actions)
            if done < wanted:
                yield check(at, "toolstack", verb, "carried out", None, False, None)
