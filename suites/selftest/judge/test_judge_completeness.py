"""The judge needs everything: no record with a gap is ever a PASS, and every check of a PASS can be violated."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.judge.judge import judge
from harness.judge.judgement import Outcome, Verdict
from harness.model.config import CommandRegister, MsixControl
from harness.scenario.record import Record
from harness.scenario.spec import Scenario
from suites.selftest.fakes.goodrecord import (
    C0,
    C1,
    C2,
    C3,
    C4,
    C5,
    C6,
    C7,
    C8,
    IDLE,
    A,
    B,
    good,
    good_run,
    redo,
    reseen,
    rows,
    view,
    without,
)
from suites.selftest.fakes.recordfaults import FAULTS, MASK_ROWS, Mutation, masks

V = Verdict
ROWS = [(row.ending, row.follow_on) for row in rows()]


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
        works = record.scenario.end.works_after_fault and seen.checkpoint is C3
        names += ["xen"] if seen.checkpoint is not C3 or works else []
        names += ["guest"] if seen.checkpoint in (C0, C2, C6, C7, C8) or works else []
        names += ["domains"] if seen.checkpoint in (C4, C8) else []
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
        told = {(one.checkpoint, one.view) for one in judgement.checks if one.outcome is Outcome.MISSING}
        assert (at, {"domains": "toolstack"}.get(name, name)) in told or "hazard" in judgement.reason


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
        turned = replace(record.actions[place], ok=not record.actions[place].ok, detail="the other way")
        record.actions[place] = turned
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
    for verb in {"decode_off", "decode_on"}:
        record = good()
        redo(record, verb, ok=False)
        checks = judge(record).checks
        violated |= {(one.checkpoint, one.view, one.subject) for one in checks if one.outcome is Outcome.VIOLATED}
    assert met - violated == set()


EVERYWHERE_THE_SAME = [
    *((at, "hardware", {"command": CommandRegister(0)}) for at in (C0, C1, C2, C5, C6)),
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


@pytest.mark.parametrize("row", [row for row in rows() if row.end.refusals], ids=lambda row: row.id)
def test_a_refusal_in_other_words_fails(row: Scenario) -> None:
    for verb in row.end.refusals:
        record = good_run(row)
        redo(record, verb, said="segmentation fault")
        assert judge(record).verdict is V.FAIL


@pytest.mark.parametrize("row", [row for row in rows() if len(row.devices) > 1], ids=lambda row: row.id)
def test_the_second_device_counts_as_much(row: Scenario) -> None:
    record = good_run(row)
    record.second = None
    assert judge(record).verdict is V.UNDECIDED
    record = good_run(row)
    assert record.second is not None
    view(C6, "guest", after=13)(record.second)
    judgement = judge(record)
    assert judgement.verdict is V.FAIL
    assert judgement.reason.startswith(f"C6 guest: {row.devices[1]}: interrupts under traffic")


def test_a_late_teardown_that_harms_the_next_guest_fails() -> None:
    record = good("E5", "F1")
    view(C8, "xen", masks=masks((44, False, False, True), (45, False, False, True)))(record)
    assert judge(record).reason == "C8 xen: irq 44: expected not masked by Xen, seen host=0 guest=0 hardware=1"


def test_what_was_left_of_guest_a_must_go_in_the_end() -> None:
    record = good("E5", "F1")
    view(C8, "domains", names={0: "Domain-0", A: "(null)", B: "maskall-a"})(record)
    assert judge(record).reason == f"C8 toolstack: domain {A}: expected gone, seen (null)"


FATES: list[tuple[str, str, Mutation, str]] = [
    ("E5", "F1", view(C4, "domains", names={A: "maskall-a"}), f"domain {A}: expected a zombie at most, seen maskall-a"),
    ("E5", "F1", view(C4, "xen", irqs=(44, 45)), "irqs of the device: expected none, seen 44 45"),
    ("E9", "F2", view(C4, "domains", names={0: "Domain-0"}), f"domain {A}: expected alive as maskall-a, seen gone"),
    ("E9", "F2", view(C4, "domains", device_owner=A), f"libxl's owner of the device: expected not {A}, seen {A}"),
    (
        "E13",
        "F1",
        view(C4, "domains", names={9: "maskall-a"}),
        "domains called maskall-a: expected none, seen domain 9",
    ),
    ("E13", "F1", view(C4, "domains", names={9: "(null)"}), "domains called maskall-a: expected none, seen domain 9"),
    ("E13", "F1", view(C4, "domains", device_owner=9), "libxl's owner of the device: expected none, seen 9"),
    ("E17", "F1", lambda record: record.markers.clear(), "found and cleared, seen Xen says nothing"),
    ("E24", "F1", view(C6, "guest", vectors=2), "vectors of the driver: expected none, seen 2"),
    ("E24", "F1", view(C6, "guest", after=13), "interrupts under traffic: expected more than 0, seen 0"),
    ("E24", "F1", view(C6, "hardware", control=MsixControl(0x8040)), "expected Enable-, seen Enable+ Masked-"),
    ("E19", "F1", view(C3, "guest", after=13), "C3 guest: interrupts under traffic: expected more than 0, seen 0"),
]  # fmt: skip


@pytest.mark.parametrize(("ending", "follow_on", "mutation", "reason"), FATES)
def test_what_must_have_become_of_guest_a(ending: str, follow_on: str, mutation: Mutation, reason: str) -> None:
    record = good(ending, follow_on)
    mutation(record)
    assert judge(record).verdict is V.FAIL
    assert reason in judge(record).reason


@pytest.mark.parametrize("names", [{}, {A: "(null)"}])
def test_a_guest_that_may_be_a_zombie_may_be_gone(names: dict[int, str]) -> None:
    record = good("E5", "F1")
    view(C4, "domains", names=names)(record)
    assert judge(record).verdict is V.PASS


def test_a_refused_create_that_left_nothing_is_said_so() -> None:
    told = [one for one in judge(good("E13", "F1")).checks if one.checkpoint is C4 and one.view == "toolstack"]
    assert {(one.subject, one.seen) for one in told} >= {
        ("domains called maskall-a", "none"),
        ("libxl's owner of the device", "none"),
    }


@pytest.mark.parametrize(("ending", "follow_on"), [("E9", "F2"), ("E13", "F1")])
def test_an_owner_that_xenstore_did_not_tell_is_not_no_owner(ending: str, follow_on: str) -> None:
    record = good(ending, follow_on)
    view(C4, "domains", device_owner=None, owner_unread="Connection refused")(record)
    judged = judge(record)
    assert judged.verdict is V.UNDECIDED
    assert judged.reason.startswith("C4 toolstack: libxl's owner of the device: ")
    assert "Connection refused" in judged.reason


def test_a_hazard_that_was_not_planted_proves_nothing() -> None:
    record = good("E17", "F1")
    record.planted = None
    assert judge(record).verdict is V.UNDECIDED
