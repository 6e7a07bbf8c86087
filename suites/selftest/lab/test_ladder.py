"""The ladder: lowest allowed rung first, evidence before each, quarantine when nothing helps."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.base.errors import (
    AnotherMachine,
    DeviceTaken,
    EvidenceError,
    HostKeyMismatch,
    HostUnreachable,
    JournalDamaged,
    LabError,
    LockHeld,
    RestoreFailed,
    Unreachable,
)
from harness.lab.lease.ladder import Climb, Offer, Rescued, Rung, climb, next_rung

ALL = Offer(allow_reboot=True, has_power=True, resets_devices=True)
FELT_BY_ALL = {Rung.REBOOT, Rung.POWER_CYCLE}
NOTHING = Offer(allow_reboot=False, has_power=False, resets_devices=False)


class Bench:
    """A host that is well again once one of `cured_by` was done; `broken` rungs fail by themselves."""

    def __init__(self, cured_by: set[Rung] = frozenset(), broken: dict[Rung, LabError] | None = None) -> None:  # type: ignore[assignment]
        self.cured_by = cured_by
        self.broken = broken or {}
        self.events: list[str] = []
        self.said: list[str] = []
        self.link = True
        self.silent = False
        self.dies_at: Rung | None = None  # from this rung on nothing answers
        self.well = False

    def climb(self, offer: Offer = ALL, evidence: Callable[[Rung], None] | None = None) -> Climb:
        return climb(
            offer,
            {rung: lambda rung=rung: self._do(rung) for rung in Rung},
            verify=self._verify,
            linked=lambda: self.link,
            silent=lambda: self.silent,
            evidence=evidence or (lambda rung: self.events.append(f"evidence {rung.name}")),
            notice=self.said.append,
        )

    def _do(self, rung: Rung) -> None:
        self.events.append(rung.name)
        if rung is self.dies_at:
            self.link, self.silent = False, True
        if rung in self.broken:
            raise self.broken[rung]
        self.well = self.well or rung in self.cured_by

    def _verify(self) -> None:
        self.events.append("verify")
        if not self.well:
            raise RestoreFailed("not as before")


def offers() -> list[Offer]:
    return [Offer(*leave) for leave in itertools.product([False, True], repeat=3)]


@pytest.mark.parametrize("offer", offers(), ids=str)
@pytest.mark.parametrize("dead", [False, True])
def test_the_inventory_says_what_may_be_tried_in_vain(offer: Offer, dead: bool) -> None:
    """On a host that answers and gets no better, and on one that is silent."""
    bench = Bench()
    bench.link, bench.silent = not dead, dead
    wanted = [
        Rung.RECONNECT,
        *([] if dead else [Rung.UNDO]),
        *([Rung.DEVICE_RESET] if offer.resets_devices and not dead else []),
        *([] if dead else [Rung.DESTROY]),
        *([Rung.REBOOT] if offer.allow_reboot and not dead else []),
        *([Rung.POWER_CYCLE] if offer.allow_reboot and offer.has_power and dead else []),
        Rung.QUARANTINE,
    ]
    assert [one.rung for one in bench.climb(offer).tried] == wanted
    assert bench.said == [rung.value for rung in wanted]


def test_what_was_tried_is_told_on_one_line() -> None:
    climbed = Bench({Rung.UNDO}, {Rung.RECONNECT: LabError("no route")}).climb()
    assert climbed.told == "make a new connection: no route; undo by the journal: done"
    left = Bench({Rung.UNDO}, {Rung.RECONNECT: LockHeld("bob's")}).climb()
    assert left.told == "make a new connection: bob's; leave it alone, claimed and marked: done"
    assert [one.ok for one in climbed.tried] == [one.ok for one in left.tried] == [False, True]


@pytest.mark.parametrize("cure", [rung for rung in Rung if rung is not Rung.QUARANTINE])
def test_it_climbs_just_as_far_as_needed_with_evidence_first(cure: Rung) -> None:
    bench = Bench({cure})
    bench.dies_at = Rung.REBOOT if cure is Rung.POWER_CYCLE else None
    done = bench.climb()
    climbed = list(itertools.takewhile(lambda rung: rung is not cure, Rung))
    expected = [event for rung in [*climbed, cure] for event in (f"evidence {rung.name}", rung.name, "verify")]
    assert bench.events == expected
    assert done.restored
    assert [one.rung for one in done.tried if one.ok] == [cure]


def test_what_is_not_allowed_is_left_out_and_the_end_is_quarantine() -> None:
    done = Bench().climb(NOTHING)
    assert [one.rung for one in done.tried] == [Rung.RECONNECT, Rung.UNDO, Rung.DESTROY, Rung.QUARANTINE]
    assert not done.restored
    assert "not as before" in done.told


def test_power_without_leave_to_reboot_is_no_leave() -> None:
    rungs = {one.rung for one in Bench().climb(Offer(allow_reboot=False, has_power=True, resets_devices=True)).tried}
    assert not rungs & FELT_BY_ALL


def test_power_is_for_no_host_that_answers() -> None:
    """However little it helps: one whose reboot does nothing, or that refuses us, is left alone."""
    assert Rung.POWER_CYCLE not in {one.rung for one in Bench().climb().tried}
    bench = Bench(broken={Rung.RECONNECT: HostUnreachable("login refused", why=Unreachable.REFUSED)})
    bench.link = False
    assert [one.rung for one in bench.climb().tried] == [Rung.RECONNECT, Rung.QUARANTINE]


def test_a_hung_host_is_only_offered_what_needs_no_link() -> None:
    bench = Bench({Rung.POWER_CYCLE})
    bench.link, bench.silent = False, True
    assert [one.rung for one in bench.climb().tried] == [Rung.RECONNECT, Rung.POWER_CYCLE]


def test_a_link_that_comes_back_opens_the_lower_rungs() -> None:
    bench = Bench({Rung.UNDO})
    bench.link = False
    bench._do = lambda rung: (
        setattr(bench, "link", True),
        bench.cured_by and setattr(bench, "well", rung in bench.cured_by),
    )  # type: ignore[method-assign,assignment]
    assert [one.rung for one in bench.climb().tried] == [Rung.RECONNECT, Rung.UNDO]


@pytest.mark.parametrize(
    "error",
    [
        HostKeyMismatch("another key"),
        LockHeld("somebody else"),
        DeviceTaken("bob has it"),
        JournalDamaged("line 3"),
        AnotherMachine("another"),
    ],
)
def test_somebody_elses_machine_is_not_climbed_on(error: LabError) -> None:
    bench = Bench({Rung.UNDO}, {Rung.RECONNECT: error})
    done = bench.climb()
    assert bench.events == ["evidence RECONNECT", "RECONNECT", "QUARANTINE"]
    assert [one.rung for one in done.tried] == [Rung.RECONNECT, Rung.QUARANTINE]
    assert not done.restored


@pytest.mark.parametrize("tried", [[], [Rescued(Rung.UNDO, False)], [Rescued(Rung.QUARANTINE, True)]])
def test_a_host_is_restored_by_what_has_helped(tried: list[Rescued]) -> None:
    assert not Climb(tried).restored
    assert Climb([*tried, Rescued(Rung.DESTROY, True)]).restored


def test_evidence_that_cannot_be_taken_stops_nothing() -> None:
    def full(rung: Rung) -> None:
        raise EvidenceError("disk full")

    bench = Bench({Rung.UNDO})
    assert bench.climb(evidence=full).restored
    assert bench.said[0] == "no evidence before 'make a new connection': disk full"


def test_a_quarantine_that_cannot_be_written_ends_the_climb() -> None:
    done = Bench(broken={Rung.QUARANTINE: LabError("disk full")}).climb(NOTHING)
    assert done.tried[-1] == Rescued(Rung.QUARANTINE, False, "disk full")
    assert [one.rung for one in done.tried].count(Rung.QUARANTINE) == 1
    assert not done.restored


@given(
    tried=st.lists(st.sampled_from(list(Rung)), unique=True),
    offer=st.builds(Offer, allow_reboot=st.booleans(), has_power=st.booleans(), resets_devices=st.booleans()),
    linked=st.booleans(),
    silent=st.booleans(),
)
def test_the_next_rung_is_always_allowed_and_new(tried: list[Rung], offer: Offer, linked: bool, silent: bool) -> None:
    rung = next_rung(Climb([Rescued(one, False, "") for one in tried]), offer, linked=linked, silent=silent)
    if rung is Rung.QUARANTINE:
        return
    assert rung not in tried
    assert offer.allows(rung)
    assert linked or not rung.needs_link
    assert offer.allow_reboot or rung not in FELT_BY_ALL
    assert rung is not Rung.POWER_CYCLE or (silent and not linked)


@pytest.mark.parametrize(("linked", "silent"), [(True, True), (True, False), (False, False)])
def test_no_power_for_a_host_that_answers(linked: bool, silent: bool) -> None:
    """Nor for one whose link holds, whatever else is told of it."""
    climb = Climb([Rescued(one, False, "") for one in Rung if one not in (Rung.POWER_CYCLE, Rung.QUARANTINE)])
    assert next_rung(climb, ALL, linked=linked, silent=silent) is Rung.QUARANTINE
    assert next_rung(climb, ALL, linked=False, silent=True) is Rung.POWER_CYCLE
