"""A whole run over a make-believe lab: sides, retries, conclusions, and what is on disk in the end."""

from __future__ import annotations

import contextlib
import io
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest
from fakemachine import FakeMachine
from goodrecord import good, scenario
from recordfaults import both_masked

from harness import session as module
from harness.errors import EmulatorFault, ExitStatus, GuestDied, HostUnreachable, LabError
from harness.evidence.raw import RawRef
from harness.evidence.store import EvidenceStore
from harness.guest.initramfs import GuestFiles
from harness.lab.host import Host, Opener
from harness.lab.transport.fake import FakeTransport, Reply
from harness.mutants.catalogue import Mutant, catalogue
from harness.plan import Plan
from harness.report import store
from harness.report.progress import PlainProgress, Progress
from harness.report.results import ScenarioResult
from harness.report.schema import schema
from harness.scenario.checkpoint import Checkpoint
from harness.scenario.judge import judge
from harness.scenario.known import KnownIssue, known_issues
from harness.scenario.messages import Message
from harness.scenario.run import Played
from harness.scenario.spec import Scenario
from harness.scenario.verdict import Conclusion, ControlRole, Verdict
from harness.session import MAX_EMULATOR_RETRIES, Session
from harness.xen.console import Origin
from harness.xen.messages import Meaning
from harness.xen.toolstacks import ToolstackName

MUTANT = "no-maskall-reset"
MUTANTS = catalogue()
ENTRY = 0xFFFF82D040300000
SYMBOLS = f"{ENTRY - 4096:016x} T _stext\n{ENTRY:016x} T pci_reset_msix_state\n{ENTRY + 4096:016x} T _etext\n"
(CHANGE,) = MUTANTS[MUTANT].builds["trixie"]
FITTING = bytes.fromhex("".join(CHANGE.find).replace("??", "00"))
BROKEN = CHANGE.applied_to(FITTING)
TROUBLE = EmulatorFault("triple fault in Xen's text")


@dataclass
class FakeLab:
    """Every host is a fresh Xen; `players` says what comes of a scenario on it."""

    debugger: bool = True
    text: bytes = FITTING
    unreachable: bool = False
    hosts: int = 0
    now: int = 0
    most: int = 0
    aborted: bool = False
    xen: str = "4.20"
    _lock: threading.Lock = field(default_factory=threading.Lock)
    openers: list[Opener | None] = field(default_factory=list)

    @contextlib.contextmanager
    def host(
        self, devices: Sequence[str], progress: Progress, *, keep: bool = False, opener: Opener | None = None
    ) -> Iterator[Host]:
        self.openers.append(opener)
        if self.unreachable:
            raise HostUnreachable("nested: no answer")
        with self._lock:
            self.hosts += 1
            self.now += 1
            self.most = max(self.most, self.now)
        machine = FakeMachine()
        machine.put(ENTRY, self.text)
        transport = FakeTransport(connected=True, commands={"cat /proc/xen/xensyms": Reply(SYMBOLS.encode())})
        debugger = machine if self.debugger else None
        try:
            yield Host("fake", transport, {}, GuestFiles("/k", "/i"), debugger=debugger, facts={"stack": "trixie"})
        finally:
            with self._lock:
                self.now -= 1

    def facts(self) -> dict[str, str]:
        return {"host": "nested-fake", "nested": "in QEMU", "xen_version": self.xen}

    def packages(self) -> dict[str, str]:
        return {"xen": "4.20"}

    def abort(self) -> None:
        self.aborted = True

    def kept(self) -> list[Path]:
        return []

    def close(self) -> None:
        """Nothing is held."""


def mutated(host: Host) -> bool:
    """Whether this host's Xen is the known-bad one."""
    machine = host.debugger
    return isinstance(machine, FakeMachine) and machine.memory[ENTRY] == BROKEN[0]


Player = Callable[[Scenario, Host, EvidenceStore], Played]
ODD = Message(Checkpoint.C6, Origin.DOM0, Meaning.UNKNOWN, "odd", RawRef("raw/x", "ab" * 32, 7))


def honest(row: Scenario, host: Host, evidence: EvidenceStore) -> Played:
    """Works on a fixed Xen, fails on a broken one unless the row cures it."""
    evidence.put("01-note.txt", b"x")
    record = good(row.ending, row.follow_on)
    if mutated(host) and not row.follow.cures and row.end.hazard:
        both_masked(record)
    return Played(record, judge(record))


@dataclass
class Run:
    """A session with its lab and where its results go."""

    root: Path
    lab: FakeLab = field(default_factory=FakeLab)
    screen: io.StringIO = field(default_factory=io.StringIO)

    def __call__(
        self,
        *rows: Scenario,
        control: str | None = MUTANT,
        under_test: str | None = None,
        together: bool = True,
        issues: Mapping[str, KnownIssue] | None = None,
        trace: bool = False,
        cold: bool = False,
        mutants: Mapping[str, Mutant] = MUTANTS,
    ) -> list[ScenarioResult]:
        plan = Plan(
            rows,
            dict(mutants),
            control,
            under_test,
            self.root,
            workers=2 if together else 1,
            cold=cold,
            issues=dict(issues or {}),
            trace=trace,
            repeat_options=" --x",
        )
        self.session = Session(self.lab, plan, PlainProgress(self.screen))
        return [self.session.run(row) for row in rows]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "20260102-030405-abcd")


@pytest.fixture
def played_by(monkeypatch: pytest.MonkeyPatch) -> Callable[[Player], None]:
    def use(player: Player) -> None:
        def play(row: Scenario, host: Host, evidence: EvidenceStore, progress: Progress, **more: object) -> Played:
            with progress.phase("play"):
                return player(row, host, evidence)

        monkeypatch.setattr(module, "play", play)

    use(honest)
    return use


pytestmark = pytest.mark.usefixtures("played_by")
F1, F8, E1 = scenario("E14", "F1"), scenario("E14", "F8"), scenario("E1", "F1")


def test_a_scenario_is_proven_by_both_sides(run: Run) -> None:
    (result,) = run(F1)
    assert (result.conclusion, result.stock.verdict) == (Conclusion.PROVEN, Verdict.PASS)
    assert result.control is not None
    assert (result.control.verdict, result.control.hypervisor) == (Verdict.FAIL, MUTANT)
    assert result.control.reason.startswith("C6 ")
    assert result.command_to_repeat == "./tools/maskall run E14-F1-hvm-nvme --x"


def test_the_historic_cure_must_pass_on_the_control_too(run: Run) -> None:
    (result,) = run(F8)
    assert (result.conclusion, result.control_role) == (Conclusion.PROVEN, ControlRole.CURES)
    assert result.control is not None and result.control.verdict is Verdict.PASS


def test_the_control_runs_only_where_it_promises_something(run: Run) -> None:
    (result,) = run(E1)
    assert (result.control, result.conclusion, run.lab.hosts) == (None, Conclusion.UNPROVEN, 1)


def test_without_a_control_nothing_is_proven(run: Run) -> None:
    (result,) = run(F1, control=None)
    assert (result.control, result.conclusion, run.lab.hosts) == (None, Conclusion.UNPROVEN, 1)


def test_a_mutant_under_test_is_a_regression(run: Run) -> None:
    (result,) = run(F1, control=None, under_test=MUTANT)
    assert (result.conclusion, result.stock.hypervisor) == (Conclusion.REGRESSION, MUTANT)


def test_a_known_issue_is_held_against_what_was_seen(tmp_path: Path) -> None:
    issues = known_issues()
    new = Run(tmp_path / "new")
    (mutated,) = new(F1, control=None, under_test=MUTANT, issues=issues)
    assert (mutated.conclusion, mutated.expected.verdict) == (Conclusion.REGRESSION, Verdict.PASS)
    assert "known from hosts without fix 575e18d54d19" in mutated.remark
    old = Run(tmp_path / "old", FakeLab(xen="4.10.4"))
    (known,) = old(F1, control=None, under_test=MUTANT, issues=issues)
    assert (known.conclusion, known.expected.verdict) == (Conclusion.KNOWN, Verdict.FAIL)
    assert known.expected.because == "fix 575e18d54d19 is not in Xen 4.10.4"
    assert old.session.finish().exit_status is ExitStatus.OK
    cured = Run(tmp_path / "cured", FakeLab(xen="4.10.4"))
    (changed,) = cured(F1, issues=issues)
    assert changed.conclusion is Conclusion.CHANGED
    assert cured.session.finish().exit_status is ExitStatus.FAILED


def test_strict_messages_judge_the_side_under_test_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown line must not make the control fail, for that would prove the scenario."""

    def play(row: Scenario, host: Host, *rest: object, strict_messages: bool, **options: object) -> Played:
        record = good()
        record.messages, record.strict_messages = [ODD], strict_messages
        return Played(record, judge(record))

    monkeypatch.setattr(module, "play", play)
    plan = Plan((F1,), MUTANTS, MUTANT, None, tmp_path, strict_messages=True)
    result = Session(FakeLab(), plan, PlainProgress(io.StringIO())).run(F1)
    assert result.control is not None
    assert (result.stock.verdict, result.control.verdict) == (Verdict.FAIL, Verdict.PASS)
    assert "  unknown, 1x, dom0: odd\n      raw/x:7\n" in (tmp_path / result.stock.log).read_text()


def test_a_blind_scenario(run: Run, played_by: Callable[[Player], None]) -> None:
    played_by(lambda row, host, evidence: Played(good(), judge(good())))
    assert run(F1)[0].conclusion is Conclusion.BLIND


def essence(results: list[ScenarioResult]) -> list[object]:
    """Results without clocks."""
    return [replace_seconds(one.model_dump(mode="json", exclude={"seconds"})) for one in results]


def replace_seconds(result: dict[str, object]) -> dict[str, object]:
    for side in (result["stock"], result["control"]):
        if isinstance(side, dict):
            side["phases"] = sorted(side["phases"])
    return result


def test_side_by_side_is_only_faster(tmp_path: Path) -> None:
    together, apart = Run(tmp_path / "a"), Run(tmp_path / "b")
    assert essence(together(F1, F8, E1)) == essence(apart(F1, F8, E1, together=False))
    assert apart.lab.most == 1
    assert together.lab.hosts == apart.lab.hosts == 5


def test_both_sides_really_run_at_once(run: Run, played_by: Callable[[Player], None]) -> None:
    meeting = threading.Barrier(2, timeout=10)

    def meet(row: Scenario, host: Host, evidence: EvidenceStore) -> Played:
        meeting.wait()
        return honest(row, host, evidence)

    played_by(meet)
    assert run(F1)[0].conclusion is Conclusion.PROVEN
    assert run.lab.most == 2


class TestRetries:
    def test_a_guest_that_died_before_any_fault_is_tried_again(
        self, run: Run, played_by: Callable[[Player], None]
    ) -> None:
        left = [GuestDied("guest A (d1) did not reach its userland, before any fault was made")]
        reason = left[0].message

        def spoiled(row: Scenario, host: Host, evidence: EvidenceStore) -> Played:
            played = honest(row, host, evidence)
            return replace(played, error=left.pop()) if left else played

        played_by(spoiled)
        (result,) = run(E1)
        assert result.stock.verdict is Verdict.PASS
        assert [one.reason for one in result.stock.attempts] == [reason]

    @pytest.mark.parametrize("faults", [1, MAX_EMULATOR_RETRIES])
    def test_the_emulators_own_faults_are_retried(
        self, run: Run, played_by: Callable[[Player], None], faults: int
    ) -> None:
        left = [TROUBLE] * faults

        def spoiled(row: Scenario, host: Host, evidence: EvidenceStore) -> Played:
            played = honest(row, host, evidence)
            return replace(played, error=left.pop()) if left else played

        played_by(spoiled)
        (result,) = run(E1)
        assert (result.stock.verdict, len(result.stock.attempts)) == (Verdict.PASS, faults)
        assert {one.reason for one in result.stock.attempts} == {TROUBLE.message}
        assert run.lab.hosts == faults + 1, "each try has a host of its own"
        assert result.stock.raw_directory == f"raw/{E1.id}/stock-retry{faults}"
        assert len(list((run.root / f"raw/{E1.id}").iterdir())) == faults + 1, "the spoiled tries are kept"
        assert run.screen.getvalue().count("trying again") == faults
        finished = run.session.finish()
        assert (finished.emulator_faults, finished.exit_status) == (faults, ExitStatus.OK)

    def test_but_not_for_ever(self, run: Run, played_by: Callable[[Player], None]) -> None:
        played_by(lambda row, host, evidence: Played.failed(row, TROUBLE))
        (result,) = run(E1)
        assert (result.stock.verdict, result.conclusion) == (Verdict.ERROR, Conclusion.UNDECIDED)
        assert (len(result.stock.attempts), run.lab.hosts) == (MAX_EMULATOR_RETRIES, MAX_EMULATOR_RETRIES + 1)
        assert run.session.finish().exit_status is ExitStatus.UNDECIDED

    def test_other_errors_are_not_retried(self, run: Run, played_by: Callable[[Player], None]) -> None:
        played_by(lambda row, host, evidence: Played.failed(row, LabError("full disk")))
        (result,) = run(E1)
        assert (result.stock.attempts, run.lab.hosts, result.stock.reason) == ((), 1, "full disk")

    def test_a_failure_of_the_product_is_never_retried(self, run: Run) -> None:
        (result,) = run(F1, control=None, under_test=MUTANT)
        assert (result.stock.verdict, result.stock.attempts, run.lab.hosts) == (Verdict.FAIL, (), 1)


class TestOpenings:
    """What a lab is offered to have played before it freezes a host."""

    def test_all_that_open_alike_want_the_same(self, run: Run) -> None:
        run(F1, F8, E1, scenario("E14", "F3"), together=False)
        keys = [opener.key for opener in run.lab.openers if opener is not None]
        wanted = [opener.wanted for opener in run.lab.openers if opener is not None]
        assert wanted == [5, 5, 5, 5, 5, 2, 2], "E14 with both sides; F3 has dom0's driver work first"
        assert len(set(keys)) == 2

    def test_a_mutant_that_acts_before_c2_is_there_from_the_beginning(self, run: Run) -> None:
        early = {MUTANT: MUTANTS[MUTANT].model_copy(update={"from_c2": False})}
        run(F1, together=False, mutants=early)
        assert [opener and opener.wanted for opener in run.lab.openers] == [1, None]

    def test_cold_and_traced_is_from_the_beginning(self, run: Run) -> None:
        run(F1, cold=True)
        run(F1, trace=True)
        assert run.lab.openers == [None] * 4
        assert replace(run.session.plan, trace=False).opening(F1, "stock") is not None
        libvirt = replace(run.session.plan, trace=False, toolstack=ToolstackName.LIBVIRT)
        assert libvirt.opening(F1, "stock") is None

    def test_a_create_that_is_refused_has_no_opening(self, run: Run) -> None:
        run(scenario("E13", "F1"))
        assert run.lab.openers == [None]

    def test_another_try_is_from_the_beginning(self, run: Run, played_by: Callable[[Player], None]) -> None:
        played_by(lambda row, host, evidence: Played.failed(row, TROUBLE))
        run(E1)
        assert [opener is None for opener in run.lab.openers] == [False, True, True]

    def test_what_the_code_is_counts(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        run(E1)
        monkeypatch.setattr("harness.plan.code_digest", lambda: "changed")
        run(E1)
        first, second = (opener.key for opener in run.lab.openers if opener)
        assert first != second

    def test_the_result_says_so(self, run: Run, played_by: Callable[[Player], None]) -> None:
        moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

        def opened(row: Scenario, host: Host, evidence: EvidenceStore) -> Played:
            played = honest(row, host, evidence)
            if not mutated(host):
                played.record.opened = moment
            return played

        played_by(opened)
        (result,) = run(F1)
        assert result.control is not None
        assert (result.stock.opened, result.control.opened) == (moment, None)
        run.session.finish()
        stored = json.loads((run.root / "results.json").read_text())
        jsonschema.validate(stored, schema())
        assert stored["scenarios"][0]["stock"]["opened"] == "2026-01-02T03:04:05Z"


class TestErrors:
    def test_a_lab_without_hosts(self, run: Run) -> None:
        run.lab.unreachable = True
        (result,) = run(F1)
        assert (result.conclusion, result.stock.verdict) == (Conclusion.UNDECIDED, Verdict.ERROR)
        assert result.stock.reason == "nested: no answer"
        assert run.session.finish().exit_status is ExitStatus.UNDECIDED == 3

    def test_a_mutant_that_does_not_fit_leaves_stock_alone(self, run: Run) -> None:
        run.lab.text = b"\x90" * 16
        (result,) = run(F1)
        assert result.control is not None
        assert (result.stock.verdict, result.control.verdict) == (Verdict.PASS, Verdict.ERROR)
        assert "does not fit this build" in result.control.reason
        assert result.conclusion is Conclusion.UNDECIDED
        assert run.session.finish().controls == ()

    def test_no_debugger_no_control(self, run: Run) -> None:
        run.lab.debugger = False
        (result,) = run(F1)
        assert result.control is not None and result.conclusion is Conclusion.UNDECIDED
        assert "no debugger to apply mutant" in result.control.reason

    def test_no_debugger_no_trace(self, run: Run) -> None:
        run.lab.debugger = False
        (result,) = run(F1, control=None, trace=True)
        assert (result.conclusion, result.stock.reason) == (
            Conclusion.SKIPPED,
            "the host has no debugger to trace with",
        )

    def test_a_missing_power_is_a_skip_with_its_reason(self, run: Run) -> None:
        run.lab.debugger = False
        (result,) = run(scenario("decode-off-at-teardown", "F1"), control=None)
        assert (result.conclusion, result.stock.reason) == (Conclusion.SKIPPED, "the host has no debugger")
        assert run.session.finish().exit_status is ExitStatus.NOTHING_RAN

    @pytest.mark.parametrize("together", [True, False])
    def test_a_bug_of_our_own_is_not_swallowed(
        self, run: Run, played_by: Callable[[Player], None], together: bool
    ) -> None:
        def broken(row: Scenario, host: Host, evidence: EvidenceStore) -> Played:
            raise ZeroDivisionError

        played_by(broken)
        with pytest.raises(ZeroDivisionError):
            run(F1, together=together)
        assert run.lab.aborted
        assert run.lab.now == 0


class TestOnDisk:
    def test_results_are_complete_and_valid(self, run: Run) -> None:
        run(F1, E1)
        result = run.session.finish()
        written = json.loads((run.root / "results.json").read_text())
        jsonschema.validate(written, schema())
        assert store.load(run.root / "results.json") == result
        assert result.run_id == "20260102-030405-abcd"
        assert result.counts == {Conclusion.PROVEN: 1, Conclusion.UNPROVEN: 1}
        assert result.host.nested and result.host.label
        (control,) = result.controls
        (change,) = control.changes
        assert (control.name, control.layer, change.address) == (MUTANT, "hypervisor", f"{ENTRY:#x}")
        assert bytes.fromhex(change.replacement) == BROKEN

    def test_junit(self, run: Run) -> None:
        run(F1, E1)
        run.session.finish()
        root = ElementTree.fromstring((run.root / "junit.xml").read_bytes())  # noqa: S314 - written by ourselves
        assert len(list(root.iter("testcase"))) >= 2

    def test_every_side_has_its_log(self, run: Run) -> None:
        (result,) = run(F1)
        assert result.control is not None
        for side in (result.stock, result.control):
            text = (run.root / side.log).read_text()
            assert text.startswith(f"{side.hypervisor}: {side.verdict}: {side.reason}\n")
            for check in side.checks:
                assert f"{check.subject}: expected {check.expected}, seen {check.seen}\n" in text
            assert (run.root / side.raw_directory / "01-note.txt").exists()
        assert result.stock.log != result.control.log

    def test_a_run_that_did_nothing(self, run: Run) -> None:
        run()
        assert run.session.finish().exit_status is ExitStatus.NOTHING_RAN
        assert (run.root / "results.json").exists()
