"""From stored files to a record and its verdict, whatever the files hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.base.errors import EmulatorFault, EvidenceError, HostHung
from harness.evidence.observe import SECOND, observed
from harness.evidence.store import EvidenceStore
from harness.judge.judge import judge
from harness.judge.judgement import Verdict
from harness.model.address import Bdf
from harness.model.message import MarkerKind
from harness.model.observation import Checkpoint, Exercised
from harness.scenario.record import Action, Broken, Record
from suites.selftest.fakes.goodrecord import scenario
from suites.selftest.fakes.snapshots import MARKER, NVME, Dom0
from suites.selftest.guest.test_guest_exercise import text as exercised
from suites.selftest.xen.test_xen_console import TRIPLE_FAULT

C1, C2 = Checkpoint.C1, Checkpoint.C2
PANIC = b"(XEN) ****************************************\n(XEN) Panic on CPU 0:\n(XEN) oops\n"


@pytest.fixture
def store(tmp_path: Path) -> EvidenceStore:
    return EvidenceStore(tmp_path, "raw/x/stock")


@pytest.fixture
def record(store: EvidenceStore) -> Record:
    """C1 and C2 of a device, in C2 the marker of a hazard in Xen's log, and a guest that works."""
    seen, later = Dom0(), Dom0()
    later.ring = MARKER
    store.put("05-exercise-d2.txt", exercised().encode())
    readings = [seen.stored(store, C1, "01-C1"), later.stored(store, C2, "06-C2")]
    readings[1] = replace(readings[1], guest=Exercised("d2", "05-exercise-d2.txt"))
    raw = store.put("04-create.txt", b"libxl: error: oops\n")
    record = Record(scenario("E14", "F1"), reset_effective=True, device=NVME, readings=readings)
    record.actions.append(Action("create", C2, False, "status 1", 0.5, raw))
    return record


def test_everything_is_read_from_files(record: Record, store: EvidenceStore) -> None:
    seen = observed(record, store)
    assert [one.checkpoint for one in seen.observations] == [C1, C2]
    assert seen.observations[1].guest is not None and seen.observations[1].guest.delta == 9
    ((marker, raw),) = seen.markers
    assert (marker.kind, raw.path) == (MarkerKind.MASKALL_SET, "raw/x/stock/06-C2/xl_dmesg.txt")
    assert seen.actions[0].said == "libxl: error: oops\n"
    assert seen.messages is None, "the logs were not read to their end"
    assert observed(seen, store) == seen, "once more changes nothing"
    assert record.observations == [] and record.actions[0].said == ""


def test_what_was_claimed_before_counts_for_nothing(record: Record, store: EvidenceStore) -> None:
    seen = observed(record, store)
    liar = replace(seen, observations=seen.observations * 2, markers=[], messages=[])
    liar.actions = [replace(seen.actions[0], said="all is well")]
    assert observed(liar, store) == seen


def test_what_cannot_be_parsed_breaks_it_there(record: Record, store: EvidenceStore) -> None:
    (store.root / "raw/x/stock/06-C2/config.hex").write_text("zz")
    seen = observed(record, store)
    assert [one.checkpoint for one in seen.observations] == [C1]
    assert seen.broken is not None and seen.broken.kind == "ParseError"
    assert "raw/x/stock/06-C2/config.hex" in str(seen.broken)
    assert judge(seen).verdict is Verdict.ERROR
    record.broken = Broken.by(HostHung("the first thing that went wrong"))
    assert observed(record, store).broken == record.broken


def test_a_file_that_is_gone_is_no_observation(record: Record, store: EvidenceStore) -> None:
    (store.root / "raw/x/stock/06-C2/xl_list.txt").unlink()
    with pytest.raises(EvidenceError, match="evidence is gone"):
        observed(record, store)


def test_a_second_device(record: Record, store: EvidenceStore) -> None:
    other = Bdf.parse("05:00.0")
    readings = [Dom0().stored(store, C1, f"{SECOND}01-C1")]
    record.second = Record(record.scenario, reset_effective=True, device=other, readings=readings)
    seen = observed(record, store)
    assert seen.second is not None and seen.second.actions is seen.actions
    (one,) = seen.second.observations
    assert (one.device, one.hardware and one.hardware.raw.path) == (other, "raw/x/stock/second/01-C1/config.hex")


class TestEmulator:
    def test_its_fault_is_shown_by_bytes(self, record: Record, store: EvidenceStore) -> None:
        record.silence = store.put("07-xl_dmesg_after_silence.txt", TRIPLE_FAULT.encode())
        record.broken = Broken.by(EmulatorFault("said so"))
        seen = observed(record, store)
        assert seen.broken is not None
        assert seen.broken.message.startswith("the emulator, not Xen, killed d") and seen.broken.kind == "EmulatorFault"
        assert judge(seen).verdict is Verdict.ERROR

    def test_or_by_none(self, record: Record, store: EvidenceStore) -> None:
        record.silence = store.put("07-xl_dmesg_after_silence.txt", b"(XEN) all is well\n")
        record.broken = Broken.by(EmulatorFault("said so"))
        seen = observed(record, store)
        assert seen.broken is not None and "shows no fault of the emulator" in seen.broken.message


class TestHostConsole:
    def test_a_host_that_died_outweighs_what_the_lab_says(self, record: Record, store: EvidenceStore) -> None:
        record.host_console = store.put("08-host_console.txt", PANIC)
        record.broken = Broken.by(HostHung("no answer"))
        seen = observed(record, store)
        assert judge(seen).verdict is Verdict.CRASH
        assert seen.markers[-1][1].path == "raw/x/stock/08-host_console.txt"

    def test_other_lines_of_it_are_no_markers(self, record: Record, store: EvidenceStore) -> None:
        record.host_console = store.put("08-host_console.txt", MARKER.encode())
        assert len(observed(record, store).markers) == 1


def test_one_that_never_began_is_judged_by_why(store: EvidenceStore) -> None:
    skipped = Record(scenario("E14", "F1"), reset_effective=True, skipped="no debugger")
    broken = Record(scenario("E14", "F1"), reset_effective=True, broken=Broken.by(HostHung("no answer", hint="wait")))
    verdicts = [judge(observed(one, store)) for one in (skipped, broken)]
    assert [(one.verdict, one.reason, one.checks) for one in verdicts] == [
        (Verdict.SKIP, "no debugger", ()),
        (Verdict.ERROR, "no answer (wait)", ()),
    ]
