"""The judge needs everything: no record with a gap is ever a PASS, and every check of a PASS can be violated."""

from __future__ import annotations

from dataclasses import replace

import pytest
from goodrecord import (
    C0,
    C1,
    C2,
    C3,
    C4,
    C5,
    C6,
    C7,
    CATALOGUE,
    IDLE,
    B,
    good,
    redo,
    reseen,
    view,
    without,
)
from hypothesis import given
from hypothesis import strategies as st
from recordfaults import FAULTS, MASK_ROWS, Mutation, masks

from harness.pci.config import Command, MsixControl
from harness.scenario.judge import judge
from harness.scenario.judgement import Outcome
from harness.scenario.record import Record
from harness.scenario.spec import Verb
from harness.scenario.verdict import Verdict

V = Verdict
ROWS = [(ending, follow_on) for ending in CATALOGUE.endings for follow_on in CATALOGUE.follow_ons]


UNKNOWN: dict[str, Mutation] = {
    "control unreadable": view(C6, "hardware", control=None),
    "command unreadable": view(C6, "hardware", command=None),
    "the guest's control unreadable": view(C6, "guest", control=None),
    "the mask of a vector unreadable": view(
        C6, "xen", masks=masks((44, False, False, None), (45, False, False, False))
    ),
    "key M has no row for a vector": view(C6, "xen", masks=MASK_ROWS[:1]),
    "key i has no row for a vector": view(C6, "xen", bound={44: (f"d{B}",)}),
    "no leak check without the first picture": without(C1, "xen"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_fact_that_could_not_be_read_is_never_well(name: str) -> None:
    record = good()
    UNKNOWN[name](record)
    assert judge(record).verdict is V.UNDECIDED
    assert any(one.outcome is Outcome.MISSING for one in judge(record).violations)


def test_a_first_guest_that_never_answered_is_not_blamed_for_having_no_vectors() -> None:
    record = good()
    without(C2, "guest")(record)
    view(C2, "xen", irqs=(), masks=(), bound={})(record)
    view(C6, "xen", irqs=(), masks=(), bound={})(record)
    violated = [one for one in judge(record).checks if one.outcome is Outcome.VIOLATED]
    assert [(one.checkpoint, one.seen) for one in violated] == [(C6, "nobody")]


def needed(record: Record) -> list[tuple[int, str]]:
    """(observation, view) of every view without which nothing is proven; the table is not to be had on every host."""
    found = []
    for place, seen in enumerate(record.observations):
        names = ["hardware"]
        names += ["xen"] if seen.checkpoint is not C3 else []
        names += ["guest"] if seen.checkpoint in (C0, C2, C6, C7) else []
        names += ["domains"] if seen.checkpoint is C4 else []
        found += [(place, name) for name in names]
    return found


@pytest.mark.parametrize(("ending", "follow_on"), ROWS)
def test_pass_is_lost_with_every_single_view(ending: str, follow_on: str) -> None:
    for place, name in needed(good(ending, follow_on)):
        record = good(ending, follow_on)
        record.observations[place] = replace(record.observations[place], **{name: None})
        judgement = judge(record)
        at = record.observations[place].checkpoint
        assert judgement.verdict is V.UNDECIDED, f"{at} {name}: {judgement.reason}"
        assert at in judgement.reason or "hazard" in judgement.reason


@pytest.mark.parametrize(("ending", "follow_on"), ROWS)
def test_pass_is_lost_with_every_single_observation_and_action(ending: str, follow_on: str) -> None:
    whole = good(ending, follow_on)
    for place in range(len(whole.observations)):
        record = good(ending, follow_on)
        del record.observations[place]
        assert judge(record).verdict is V.UNDECIDED, whole.observations[place].checkpoint
    for place in range(len(whole.actions)):
        record = good(ending, follow_on)
        del record.actions[place]
        assert judge(record).verdict is V.UNDECIDED, whole.actions[place].verb
        record = good(ending, follow_on)
        record.actions[place] = replace(record.actions[place], ok=False, detail="status 1")
        assert judge(record).verdict is V.FAIL, whole.actions[place].verb


@given(st.sampled_from(ROWS), st.data())
def test_no_record_with_views_removed_ever_passes(row: tuple[str, str], data: st.DataObject) -> None:
    record = good(*row)
    for place, name in data.draw(st.sets(st.sampled_from(needed(record)), min_size=1)):
        record.observations[place] = replace(record.observations[place], **{name: None})
    assert judge(record).verdict is V.UNDECIDED


def test_every_check_of_a_pass_can_be_violated() -> None:
    """Each (checkpoint, view, subject) that a good record meets is violated by one of the faults above."""
    met = {(one.checkpoint, one.view, one.subject) for one in judge(good()).checks}
    violated = set()
    for mutation, _ in FAULTS.values():
        record = good()
        mutation(record)
        checks = judge(record).checks
        violated |= {(one.checkpoint, one.view, one.subject) for one in checks if one.outcome is Outcome.VIOLATED}
    for at, name, facts in EVERYWHERE_THE_SAME:
        record = good()
        view(at, name, **facts)(record)
        checks = judge(record).checks
        violated |= {(one.checkpoint, one.view, one.subject) for one in checks if one.outcome is Outcome.VIOLATED}
    for verb in {Verb.DECODE_OFF, Verb.DECODE_ON}:
        record = good()
        redo(record, verb, ok=False)
        checks = judge(record).checks
        violated |= {(one.checkpoint, one.view, one.subject) for one in checks if one.outcome is Outcome.VIOLATED}
    assert met - violated == set()


EVERYWHERE_THE_SAME = [
    *((at, "hardware", {"command": Command(0)}) for at in (C0, C1, C2, C5, C6)),
    *((at, "hardware", {"control": MsixControl(IDLE)}) for at in (C0, C2)),
    *((at, "guest", {"control": MsixControl(IDLE), "traffic_ok": False, "vectors": 0}) for at in (C0, C2)),
    *((at, "xen", {"owner": "d9", "bound": {44: ("d9",)}}) for at in (C2, C6)),
    (C2, "table", {"masked": (True, True)}),
]  # fmt: skip


def test_the_last_of_two_observations_of_a_checkpoint_counts() -> None:
    record = good()
    record.observations.append(record.observations[-1])
    reseen(record, C6, lambda seen: replace(seen, guest=None))
    assert judge(record).verdict is V.PASS
    record.observations.reverse()
    assert judge(record).verdict is V.UNDECIDED


def test_nothing_seen_is_not_a_pass() -> None:
    record = good()
    record.observations.clear()
    record.actions.clear()
    assert judge(record).verdict is V.UNDECIDED
