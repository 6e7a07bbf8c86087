"""The judge: a complete good record passes; every single fault in it gives exactly its verdict and its reason."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest

from harness.judge.judge import judge
from harness.judge.judgement import Outcome, Verdict
from harness.model.config import CommandRegister, MsixControl
from harness.model.message import MarkerKind
from harness.model.observation import Checkpoint, TableView, VectorMask
from suites.selftest.fakes.goodrecord import (
    C1,
    C2,
    C3,
    C4,
    C5,
    C6,
    C7,
    CATALOGUE,
    IDLE,
    IDLE_MASKED,
    WORKING,
    WORKING_MASKED,
    A,
    good,
    idle,
    marker,
    raw,
    reseen,
    rows,
    view,
    without,
    xen,
)
from suites.selftest.fakes.recordfaults import FAULTS, Mutation, action, both_masked, gone, masks

V = Verdict
ROWS = [(row.ending, row.follow_on) for row in rows()]
VIEWS = {"hardware", "table", "xen", "toolstack", "guest", "messages", "leaks"}


@pytest.mark.parametrize(("ending", "follow_on"), ROWS)
def test_a_complete_good_record_passes(ending: str, follow_on: str) -> None:
    judgement = judge(good(ending, follow_on))
    assert (judgement.verdict, judgement.violations) == (V.PASS, ()), judgement.reason
    assert judgement.reason == f"{len(judgement.checks)} expectations met"
    assert judgement.hazard.promised is judgement.hazard.taken is CATALOGUE.endings[ending].hazard
    assert len(judgement.checks) > 30
    assert {one.view for one in judgement.checks} <= VIEWS


def test_one_vector_is_enough() -> None:
    record = good()
    for at in (C2, C6):
        view(at, "guest", vectors=1)(record)
    judgement = judge(record)
    assert (judgement.verdict, judgement.violations) == (V.PASS, ()), judgement.reason


def test_the_verdict_is_computed_from_the_record_alone() -> None:
    record = good()
    before = copy.deepcopy(record)
    assert judge(record) == judge(record)
    assert record == before


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_product_fails_with_its_reason(fault: str) -> None:
    mutation, reason = FAULTS[fault]
    record = good()
    mutation(record)
    judgement = judge(record)
    assert (judgement.verdict, judgement.reason) == (V.FAIL, reason)


@pytest.mark.parametrize(("owner", "quarantines"), [("DomIO", True), ("d0", False)])
def test_whose_an_assignable_device_is_depends_on_the_toolstack(owner: str, quarantines: bool) -> None:
    record = good()
    view(C1, "xen", owner=owner)(record)
    record.quarantines = quarantines
    assert judge(record).verdict is V.PASS
    record.quarantines = not quarantines
    assert judge(record).reason.startswith("C1 xen: owner: expected")


@pytest.mark.parametrize(
    ("mutation", "reason"),
    [
        (view(C7, "hardware", driver=None), "C7 hardware: driver: expected nvme, seen none"),
        (view(C7, "xen", owner="DomIO"), "C7 xen: owner: expected d0, seen DomIO"),
        (view(C7, "guest", after=13), "C7 guest: interrupts under traffic: expected more than 0, seen 0"),
        (view(C7, "hardware", control=MsixControl(WORKING_MASKED)),
         "C7 hardware: message control: expected Masked-, seen Enable+ Masked+"),
        (gone(C7), "C7 hardware: device: expected answers, seen all bytes 0xff"),
        (action("back_to_dom0"), "C7 toolstack: back_to_dom0: expected succeeds, seen status 1: no"),
    ],
)  # fmt: skip
def test_faults_on_the_way_back_to_dom0(mutation: Mutation, reason: str) -> None:
    record = good("E14", "F3")
    mutation(record)
    assert (judge(record).verdict, judge(record).reason) == (V.FAIL, reason)


def test_the_historic_cure_must_work() -> None:
    record = good("E14", "F8")
    action("rebind")(record)
    assert judge(record).reason == "C5 toolstack: rebind: expected succeeds, seen status 1: no"
    assert judge(record).verdict is V.FAIL


def test_a_vector_that_the_guest_itself_masks_is_the_guests_choice() -> None:
    record = good()
    view(C6, "xen", masks=masks((44, False, True, True), (45, False, False, False)))(record)
    assert judge(record).verdict is V.PASS


def test_maskall_over_an_idle_device_is_legal() -> None:
    for control in (IDLE, IDLE_MASKED):
        record = good()
        view(C4, "hardware", control=MsixControl(control))(record)
        assert judge(record).verdict is V.PASS


def test_an_exact_replay_leaves_decoding_off_and_only_it_may() -> None:
    for ending, verdict in (("decode-off-at-teardown", V.PASS), ("E14", V.FAIL)):
        record = good(ending)
        view(C4, "hardware", command=CommandRegister(0x0404))(record)
        assert judge(record).verdict is verdict


def test_after_a_failed_create_nothing_more_is_asked_for() -> None:
    record = good()
    action("same_guest")(record)
    record.observations = [seen for seen in record.observations if seen.checkpoint not in (C5, C6)]
    assert [one.subject for one in judge(record).violations] == ["create"]


@pytest.mark.parametrize("kind", list(MarkerKind))
def test_only_the_death_of_the_host_is_a_crash(kind: MarkerKind) -> None:
    record = good()
    record.markers.append(marker(kind, "last words"))
    expected = V.CRASH if kind in (MarkerKind.XEN_PANIC, MarkerKind.LINUX_PANIC) else V.PASS
    assert judge(record).verdict is expected


@pytest.mark.parametrize("spoil", [both_masked, without(C6, "xen"), lambda record: record.observations.clear()])
def test_a_crash_outweighs_everything(spoil: Mutation) -> None:
    record = good()
    spoil(record)
    record.markers.append(marker(MarkerKind.XEN_PANIC, "Panic on CPU 1:", None))
    assert judge(record).verdict is V.CRASH
    assert judge(record).reason == "the hypervisor died: Panic on CPU 1:"


def test_a_guest_that_never_answers_decides_nothing() -> None:
    """Its device is idle, which looks like a fault of Xen's but is none that was seen."""
    for checkpoint in (C2, C6):
        record = good()
        without(checkpoint, "guest")(record)
        view(checkpoint, "hardware", control=MsixControl(IDLE))(record)
        assert judge(record).verdict is Verdict.UNDECIDED


def test_a_guest_that_finds_no_device_is_a_failure() -> None:
    record = good()
    nothing = {"command": None, "control": None, "vectors": 0, "before": 0, "after": 0, "traffic_ok": False}
    view(C6, "guest", **nothing, driver=None)(record)
    assert judge(record).verdict is Verdict.FAIL


class TestVectorsOfNobody:
    """At C3 and C4 nobody owns a vector any more: none may be able to fire."""

    @staticmethod
    def played(masked: tuple[bool, ...] | None, control: int, at: Checkpoint, irqs: tuple[int, ...] = ()) -> str:
        record = good("E29" if irqs else "E28", "F1")
        table = None if masked is None else TableView(masked, raw("msix_table.txt"))
        seen = replace(idle(at, control), table=table, xen=xen(at, "DomIO" if at is C4 else f"d{A}", irqs))
        reseen(record, at, lambda before: replace(seen, domains=before.domains))
        judgement = judge(record)
        return judgement.reason if judgement.verdict is V.FAIL else judgement.verdict

    @pytest.mark.parametrize("at", [C3, C4])
    def test_an_entry_that_stays_open_is_a_fault(self, at: Checkpoint) -> None:
        reason = f"{at} table: vectors of nobody: expected each masked, or MASKALL, seen open: 0 2"
        assert self.played((False, True, False), IDLE, at) == reason

    @pytest.mark.parametrize("at", [C3, C4])
    @pytest.mark.parametrize(
        ("masked", "control"),
        [((True, True), IDLE), ((False, True), IDLE_MASKED), (None, IDLE)],
        ids=["each is masked", "MASKALL", "not readable"],
    )
    def test_held_back(self, at: Checkpoint, masked: tuple[bool, ...] | None, control: int) -> None:
        assert self.played(masked, control, at) == V.PASS

    def test_vectors_that_are_still_owned_may_be_open(self) -> None:
        assert self.played((False, True), IDLE, C3, irqs=(44,)) == V.PASS


def test_maskall_that_somebody_else_can_clear_is_a_fault() -> None:
    record = good("E27", "F1")
    reseen(record, C3, lambda seen: replace(seen, hardware=idle(C3, IDLE).hardware))
    judgement = judge(record)
    assert judgement.verdict is V.FAIL
    assert judgement.reason == "C3 hardware: message control: expected Masked+, seen Enable- Masked-"


@pytest.mark.parametrize(
    ("command", "control", "said"),
    [
        (0x0002, WORKING, "message control: expected Enable-, seen Enable+ Masked-"),
        (0x0000, IDLE, "COMMAND: expected Mem+, seen Mem- Bus- DisINTx-"),
    ],
    ids=["reset skipped", "nothing restored"],
)
def test_pciback_resets_what_it_takes_back_and_restores_it(command: int, control: int, said: str) -> None:
    record = good("E30", "F1")
    view(C3, "hardware", command=CommandRegister(command), control=MsixControl(control))(record)
    judgement = judge(record)
    assert (judgement.verdict, judgement.reason) == (V.FAIL, f"C3 hardware: {said}")


class TestVirtualFunctions:
    """A VF's own COMMAND decodes nothing: its memory is its PF's affair, so Xen always reaches the vector table."""

    def test_its_memory_bit_says_nothing(self) -> None:
        record = good("E21", "F1")
        for seen in record.observations:
            view(seen.checkpoint, "hardware", command=CommandRegister(0x0400), physfn="0000:06:00.0")(record)
        assert judge(record).verdict is V.PASS
        view(C1, "hardware", physfn=None)(record)
        assert judge(record).verdict is V.FAIL

    def test_maskall_on_it_is_a_fault(self) -> None:
        record = good("E21", "F1")
        view(C3, "hardware", control=MsixControl(IDLE_MASKED), physfn="0000:06:00.0")(record)
        judgement = judge(record)
        said = "C3 hardware: message control: expected Masked-, seen Enable- Masked+"
        assert (judgement.verdict, judgement.reason) == (V.FAIL, said)


def test_maskall_that_xen_only_says_it_has_set_is_a_fault() -> None:
    record = good("decode-off-at-teardown", "F1")
    reseen(record, C4, lambda seen: replace(seen, hardware=idle(C4, IDLE).hardware))
    judgement = judge(record)
    said = "C4 hardware: message control: expected Masked+, seen Enable- Masked-"
    assert (judgement.verdict, judgement.reason) == (V.FAIL, said)
    record.markers.clear()
    assert judge(record).verdict is not V.FAIL, "nothing was said, so nothing is promised"


class TestZombies:
    """A domain whose device model is stopped keeps its vectors; they must be bound to nobody and masked by Xen."""

    @staticmethod
    def reasons(host: bool, bound: dict[int, tuple[str, ...]]) -> set[str]:
        record = good("E5", "F1")
        masks = (VectorMask(44, host, True, None, 104),)
        view(C4, "xen", irqs=(44,), masks=masks, bound=bound)(record)
        failed = (one for one in judge(record).checks if one.checkpoint is C4 and one.outcome is Outcome.VIOLATED)
        return {f"{one.subject}: {one.seen}" for one in failed} - {"irqs of the device: 44"}

    def test_as_on_stock(self) -> None:
        assert self.reasons(host=True, bound={44: ()}) == set()

    def test_bound_to_the_dead(self) -> None:
        assert self.reasons(host=True, bound={44: (f"d{A}",)}) == {f"vectors bound to: d{A}"}

    def test_open(self) -> None:
        assert self.reasons(host=False, bound={44: ()}) == {"irq 44: host=0"}


def test_a_driver_that_comes_back_must_work_as_before() -> None:
    record = good("E31", "F1")
    view(C3, "guest", before=5, after=5, traffic_ok=False)(record)
    judgement = judge(record)
    assert (judgement.verdict, judgement.reason) == (
        V.FAIL,
        "C3 guest: interrupts under traffic: expected more than 0, seen 0",
    )
