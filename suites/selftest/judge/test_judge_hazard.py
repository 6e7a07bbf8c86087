"""Whether the hazard was taken, and devices whose reset does not clear MASKALL, by the judge."""

from __future__ import annotations

import pytest

from harness.judge.judge import judge
from harness.judge.judgement import Verdict
from harness.model.config import MsixControl
from harness.model.message import Meaning, Message, Origin
from suites.selftest.fakes.goodrecord import (
    C2,
    C3,
    C4,
    C5,
    IDLE,
    IDLE_MASKED,
    OTHER,
    WORKING_MASKED,
    good,
    hazard_marker,
    refusal,
    refused,
    view,
)
from suites.selftest.fakes.recordfaults import both_masked


class TestHazard:
    def test_promised_but_not_taken_proves_nothing(self) -> None:
        record = good()
        record.markers.clear()
        view(C4, "hardware", control=MsixControl(IDLE))(record)
        judgement = judge(record)
        assert judgement.verdict is Verdict.UNDECIDED
        assert judgement.reason == "the hazard was not taken: the run proves nothing"
        assert judgement.violations == ()

    def test_a_marker_of_another_device_is_not_ours(self) -> None:
        record = good()
        record.markers = [hazard_marker(OTHER)]
        view(C4, "hardware", control=MsixControl(IDLE))(record)
        assert judge(record).verdict is Verdict.UNDECIDED

    def test_a_marker_alone_shows_it(self) -> None:
        record = good()
        view(C4, "hardware", control=MsixControl(IDLE))(record)
        judgement = judge(record)
        assert (judgement.verdict, judgement.hazard.how) == (Verdict.PASS, hazard_marker()[0].text)
        assert judgement.hazard.raw == hazard_marker()[1]

    @pytest.mark.parametrize("at", [C3, C4])
    def test_the_register_alone_shows_it(self, at: object) -> None:
        record = good()
        record.markers.clear()
        view(C4, "hardware", control=MsixControl(IDLE))(record)
        view(at, "hardware", control=MsixControl(IDLE_MASKED))(record)  # type: ignore[arg-type]
        assert judge(record).verdict is Verdict.PASS
        assert judge(record).hazard.how == f"{at}: Enable- Masked+"

    def test_maskall_at_other_checkpoints_is_no_hazard(self) -> None:
        record = good("E1")
        view(C2, "hardware", control=MsixControl(WORKING_MASKED))(record)
        assert not judge(record).hazard.taken

    def test_where_none_is_promised_none_is_needed(self) -> None:
        judgement = judge(good("E3"))
        assert (judgement.verdict, judgement.hazard.promised, judgement.hazard.taken) == (Verdict.PASS, False, False)

    def test_a_fault_outweighs_a_missed_hazard(self) -> None:
        record = good()
        record.markers.clear()
        view(C4, "hardware", control=MsixControl(IDLE))(record)
        both_masked(record)
        assert judge(record).verdict is Verdict.FAIL


class TestResetWithoutEffect:
    def test_a_clear_refusal_passes(self) -> None:
        judgement = judge(refused())
        assert (judgement.verdict, judgement.violations) == (Verdict.PASS, ()), judgement.reason
        assert "refused with -EBUSY" in [check.seen for check in judgement.checks]

    def test_a_guest_that_gets_it_anyway_fails_even_if_it_works(self) -> None:
        record = good()
        record.reset_effective = False
        judgement = judge(record)
        assert judgement.verdict is Verdict.FAIL
        assert judgement.reason == "C5 toolstack: create: expected refused with -EBUSY, seen status 0"

    def test_a_device_that_shows_no_msix_need_not_be_refused(self) -> None:
        record = good()
        record.reset_effective = False
        view(C4, "hardware", control=None)(record)
        judgement = judge(record)
        assert judgement.verdict is Verdict.UNDECIDED
        assert "refused with -EBUSY" not in [check.expected for check in judgement.checks]

    def test_unbinding_and_rebinding_takes_the_refusal_away(self) -> None:
        record = good("E14", "F8")
        record.reset_effective = False
        assert judge(record).verdict is Verdict.PASS

    def test_a_refusal_that_xl_does_not_pass_on_fails(self) -> None:
        record = good()
        record.reset_effective = False
        record.markers.append(refusal())
        assert judge(record).reason == "C5 toolstack: create: expected refused with -EBUSY, seen status 0"

    @pytest.mark.parametrize("markers", [[], [refusal(-22)], [refusal(device=OTHER)]])
    def test_a_refusal_for_another_reason_fails(self, markers: list[object]) -> None:
        record = refused()
        record.markers = [hazard_marker(), *markers]  # type: ignore[list-item]
        judgement = judge(record)
        assert judgement.verdict is Verdict.FAIL
        assert judgement.reason.startswith("C5 toolstack: create: expected refused with -EBUSY, seen status 3: ")

    def test_why_it_failed_may_be_among_the_lines_that_were_left_out(self) -> None:
        """Then no refusal is seen: it is not known; one that is seen stays one, and a create that succeeded none."""
        lost = Message(C4, Origin.XEN, Meaning.HARMLESS, "9 lines", hazard_marker()[1], loses=True)
        silent, seen, created = refused(), refused(), good()
        silent.markers = [hazard_marker()]
        created.reset_effective = False
        for record, expected in (
            (silent, [("messages", "view", "present", "nothing")]),
            (seen, [("toolstack", "create", "refused with -EBUSY", "refused with -EBUSY")]),
            (created, [("toolstack", "create", "refused with -EBUSY", "status 0")]),
        ):
            record.messages = [lost]
            told = [
                one for one in judge(record).checks if one.checkpoint is C5 and one.view in ("toolstack", "messages")
            ]
            assert [(one.view, one.subject, one.expected, one.seen) for one in told] == expected
        assert judge(silent).verdict is Verdict.UNDECIDED

    def test_a_working_reset_excuses_no_refusal(self) -> None:
        record = refused()
        record.reset_effective = True
        assert judge(record).verdict is Verdict.FAIL

    def test_without_maskall_at_c4_there_is_nothing_to_refuse(self) -> None:
        record = refused()
        view(C4, "hardware", control=MsixControl(IDLE))(record)
        assert judge(record).verdict is Verdict.FAIL
        record = good()
        record.reset_effective = False
        view(C4, "hardware", control=MsixControl(IDLE))(record)
        assert judge(record).verdict is Verdict.PASS
