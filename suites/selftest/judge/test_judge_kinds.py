"""The kinds of a fact are looked at, not only that there is one: whose marker, of which kind; each device, each time.

Over every kind of scenario, those in which guest A has two devices among them, not over an example of each rule.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.judge.judge import judge
from harness.judge.judgement import Outcome, Verdict
from harness.model.message import MarkerKind, Meaning, Message, Origin
from harness.scenario.choose import Candidate, all_scenarios
from harness.scenario.record import Record
from harness.scenario.spec import Scenario
from suites.selftest.fakes.goodrecord import (
    C4,
    C6,
    CATALOGUE,
    IDLE,
    OTHER,
    A,
    good,
    good_run,
    idle,
    raw,
    refused,
    reseen,
)


def every_number_of_devices() -> list[Scenario]:
    """Each ending and follow-on once with each number of devices it is for."""
    devices = [Candidate("nvme", "nvme"), Candidate("e1000e", "e1000e")]
    known: dict[tuple[str, str, int], Scenario] = {}
    for row in all_scenarios(CATALOGUE, devices):
        known.setdefault((row.ending, row.follow_on, len(row.devices)), row)
    return list(known.values())


ROWS = every_number_of_devices()
TWO = [row for row in ROWS if len(row.devices) > 1]


def test_there_are_scenarios_in_which_one_guest_has_both() -> None:
    assert {"E7"} <= {row.ending for row in TWO if not row.bystander}
    assert any(row.bystander for row in TWO)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_a_device_that_is_gone_is_missed_wherever_it_was_looked_at(row: Scenario) -> None:
    """At each checkpoint, of each of the devices."""
    for which in ("first", "second") if len(row.devices) > 1 else ("first",):
        for place in range(len(_of(good_run(row), which).observations)):
            record = good_run(row)
            seen = _of(record, which).observations[place]
            assert seen.hardware is not None
            # two devices of one guest share their good observations, not the list of them
            _of(record, which).observations[place] = replace(seen, hardware=replace(seen.hardware, gone=True))
            told = judge(record)
            assert told.verdict is Verdict.FAIL, (which, seen.checkpoint)
            name = f"{row.devices[1]}: " if which == "second" else ""
            assert told.reason.startswith(f"{seen.checkpoint} hardware: {name}device: expected answers")


@pytest.mark.parametrize("row", TWO, ids=lambda row: row.id)
def test_the_second_device_is_missed_at_each_checkpoint(row: Scenario) -> None:
    for place in range(len(_of(good_run(row), "second").observations)):
        record = good_run(row)
        del _of(record, "second").observations[place]
        assert judge(record).verdict is Verdict.UNDECIDED


def _of(record: Record, which: str) -> Record:
    if which == "first":
        return record
    assert record.second is not None
    return record.second


OTHER_KINDS = [kind for kind in MarkerKind if not kind.is_host_crash]


class TestWhoseMarkerOfWhichKind:
    """One that says the same of another device, or another thing of this one, says nothing."""

    @pytest.mark.parametrize("kind", OTHER_KINDS)
    def test_fixed_at_boot(self, kind: MarkerKind) -> None:
        record = good("E17", "F1")
        [(marker, raw)] = record.markers
        record.markers = [(replace(marker, device=OTHER), raw)]
        assert "found and cleared, seen Xen says nothing" in judge(record).reason
        record.markers = [(replace(marker, kind=kind), raw)]
        right = kind is MarkerKind.INITIAL_STATE_FIXED
        assert judge(record).verdict is (Verdict.PASS if right else Verdict.FAIL)

    @pytest.mark.parametrize(
        ("origin", "loses", "expected"),
        [
            (Origin.XEN, True, Verdict.UNDECIDED),
            (Origin.XEN, False, Verdict.FAIL),
            (Origin.DOM0, True, Verdict.FAIL),
        ],
    )
    def test_silence_at_boot(self, origin: Origin, loses: bool, expected: Verdict) -> None:
        """It is one unless Xen itself left lines out."""
        record = good("E17", "F1")
        [(_, raw)] = record.markers
        record.markers.clear()
        record.messages = [Message(C4, origin, Meaning.HARMLESS, "some lines", raw, loses=loses)]
        assert judge(record).verdict is expected

    @pytest.mark.parametrize("origin", Origin)
    def test_lines_that_were_left_out_are_named(self, origin: Origin) -> None:
        record = good("E1")
        record.messages = [Message(C4, origin, Meaning.HARMLESS, "26235 lines", raw("log", 7), loses=True)]
        judgement = judge(record)
        assert judgement.verdict is Verdict.UNDECIDED
        assert judgement.reason == f"C4 messages: lines: expected none left out, seen {origin.value}: 26235 lines"
        assert [one.raw for one in judgement.checks if one.outcome is Outcome.MISSING] == [raw("log", 7)]
        assert [one for one in judgement.checks if one.view == "messages" and one.outcome is Outcome.MET] == []

    @pytest.mark.parametrize("strict", [True, False])
    def test_a_line_that_a_rule_describes_is_known_however_strict_one_is(self, strict: bool) -> None:
        record = good("E1")
        record.strict_messages = strict
        meant = [meaning for meaning in Meaning if meaning is not Meaning.UNKNOWN]
        record.messages = [Message(C4, Origin.XEN, one, f"a line {one}", raw("log", 7), name=one) for one in meant]
        assert judge(record).verdict is Verdict.PASS
        record.messages.append(Message(C4, Origin.XEN, Meaning.UNKNOWN, "what is this?", raw("log", 8)))
        assert judge(record).verdict is (Verdict.FAIL if strict else Verdict.PASS)

    @pytest.mark.parametrize("ending", ["E1", "E24"])  # E24: the next guest works by its interrupt line
    def test_a_guest_that_says_nothing_is_named(self, ending: str) -> None:
        record = good(ending)
        reseen(record, C6, lambda seen: replace(seen, guest=None))
        assert judge(record).reason == "C6 guest: view: expected present, seen nothing"

    def test_one_interrupt_is_enough(self) -> None:
        record = good("E1")
        reseen(record, C6, lambda seen: replace(seen, guest=seen.guest and replace(seen.guest, after=14)))
        assert judge(record).verdict is Verdict.PASS

    @pytest.mark.parametrize("kind", OTHER_KINDS)
    def test_maskall_that_was_promised(self, kind: MarkerKind) -> None:
        """Only what Xen said of this device must stand in its register."""
        record = good("decode-off-at-teardown", "F1")
        reseen(record, C4, lambda seen: replace(seen, hardware=idle(C4, IDLE).hardware))
        [(marker, raw)] = record.markers
        for one in (replace(marker, device=OTHER), replace(marker, kind=kind)):
            record.markers = [(one, raw)]
            promised = one.device != OTHER and one.kind is MarkerKind.MASKALL_SET
            assert (judge(record).verdict is Verdict.FAIL) == promised

    @pytest.mark.parametrize("kind", OTHER_KINDS)
    def test_a_refusal(self, kind: MarkerKind) -> None:
        record = refused()
        assert judge(record).verdict is Verdict.PASS
        marker, raw = record.markers.pop()
        for one in (
            replace(marker, device=OTHER),
            replace(marker, device=None),
            replace(marker, error=-22),
            replace(marker, kind=kind),
        ):
            right = one == marker
            changed = replace(record, markers=[*record.markers, (one, raw)])
            assert judge(changed).verdict is (Verdict.PASS if right else Verdict.FAIL), one

    @pytest.mark.parametrize("kind", OTHER_KINDS)
    def test_the_hazard(self, kind: MarkerKind) -> None:
        record = good()
        reseen(record, C4, lambda seen: replace(seen, hardware=idle(C4, IDLE).hardware))
        [(marker, raw)] = record.markers
        assert judge(record).hazard.taken
        record.markers = [(replace(marker, device=OTHER), raw)]
        assert not judge(record).hazard.taken
        record.markers = [(replace(marker, kind=kind), raw)]
        assert judge(record).hazard.taken == kind.is_hazard


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_each_step_of_a_scenario_must_have_been_made(row: Scenario) -> None:
    """A step that nobody carried out is missed, also where the catalogue wants it twice."""
    for place, left_out in enumerate(good_run(row).actions):
        record = good_run(row)
        del record.actions[place]
        told = judge(record)
        assert told.verdict is Verdict.UNDECIDED, left_out.verb
        assert any(one.outcome is Outcome.MISSING for one in told.checks)


def test_libxl_may_not_give_the_device_to_a_dead_domain_at_any_fate() -> None:
    for row in ROWS:
        record = good_run(row)
        at_c4 = [seen for seen in record.observations if seen.checkpoint is C4]
        if not at_c4 or at_c4[0].domains is None:
            continue
        reseen(record, C4, lambda seen: replace(seen, domains=replace(seen.domains, device_owner=A)))  # type: ignore[type-var]
        assert judge(record).verdict is Verdict.FAIL, row.id
