"""One item of a test that somebody wrote: the host it runs on, and what pytest's reports of it come to."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import pytest

from harness.base.errors import HostHung, HostUnreachable, MaskallError, NotAvailable, UsageError
from harness.base.progress import PlainProgress
from harness.base.stored import to_json
from harness.base.text import inert
from harness.evidence.store import EvidenceStore
from harness.judge.judgement import Verdict
from harness.mutants.plant import plant
from harness.play.trial import BOUND, END, RefusedDeed, Trial
from harness.plugin.asked import STOCK, Asked, asked
from harness.report.case import case_log, moment
from harness.report.results import CaseSide, Control
from harness.run.cases import CasePlayed
from harness.run.options import TABLE
from harness.run.store import write_atomically
from harness.scenario.case import CaseRecord
from harness.scenario.spec import HostPower

if TYPE_CHECKING:
    from harness.plugin.running import Running

CASE: pytest.StashKey[Case] = pytest.StashKey()
PAYLOAD = "maskall_case"
"""Of the report that ends an item: what it came to, as JSON. It comes through xdist as it is."""
NOTICED = "maskall_noticed"
"""Of the report of a control that failed as it must."""
_RED = (Verdict.FAIL, Verdict.ERROR)
_WRONG_USE = TypeError | ValueError | AttributeError
"""What an argument of a wrong type ends in, where nobody has looked at it before."""
_OURS, _PYTEST = ("harness",), ("_pytest", "pytest", "pluggy")


@dataclass
class Case:
    """An item under way. `verdict` is UNDECIDED until a report has told another."""

    item: pytest.Item
    running: Running
    hypervisor: str
    wanted: Asked
    folder: str  # of its raw files, below the results
    log: str
    verdict: Verdict = Verdict.UNDECIDED
    reason: str = "it did not come to its end"
    place: str = ""
    expected: Verdict = Verdict.PASS
    trial: Trial | None = None
    planted: Control | None = None
    progress: PlainProgress = field(default_factory=lambda: PlainProgress(io.StringIO()))
    began: float = field(default_factory=time.monotonic)

    @property
    def on_control(self) -> bool:
        return self.hypervisor == self.wanted.control

    @property
    def id(self) -> str:
        """pytest's id of the test, without the hypervisor."""
        name, _, rest = self.item.nodeid.rpartition("[")
        if not name or not rest.endswith(f"{self.hypervisor}]"):
            return self.item.nodeid
        others = rest.removesuffix(f"{self.hypervisor}]").removesuffix("-")
        return f"{name}[{others}]" if others else name

    def to_repeat(self, nodeid: str) -> str:
        """The command that plays this again."""
        options = self.running.options
        words = [
            word
            for row in TABLE
            if row.repeat or row.name == "device"
            for word in row.words(getattr(options, row.name))
        ]
        ours = [re.sub(r"^--", "--maskall-", word) for word in words]
        config = self.item.config
        file = os.path.relpath(self.item.path, config.invocation_params.dir)
        name = nodeid.partition("::")[2]
        return shlex.join(["pytest", f"{file}::{name}", *ours])

    # -- what pytest tells of it ---------------------------------------------------------------------------------------

    def set_up(self, report: pytest.TestReport, call: pytest.CallInfo[None]) -> None:
        if call.excinfo is None:
            return
        error = call.excinfo.value
        self.verdict = Verdict.SKIP if report.skipped else Verdict.ERROR
        self.reason = _told(error)
        if isinstance(error, MaskallError) and not report.skipped:
            report.longrepr = f"maskall: {error}"

    def called(self, report: pytest.TestReport, call: pytest.CallInfo[None]) -> None:
        """The test itself has ended: its verdict, the last look at the device, and what a person reads of it."""
        error = call.excinfo.value if call.excinfo is not None else None
        self.verdict, self.reason = self._verdict(error)
        doubtful = self.verdict in _RED or (self.on_control and self.verdict is Verdict.PASS)
        fault = self.trial.emulator_fault() if self.trial is not None and doubtful else None
        if fault is not None:  # whatever the test made of it, neither Xen nor the control nor the test is to blame
            self.verdict, self.reason = Verdict.ERROR, str(fault)
            report.sections.append(("maskall: no verdict", self.reason))
        if call.excinfo is not None:
            self.place = _place(call.excinfo)
        if isinstance(error, NotAvailable):
            where = str(self.item.path), self.item.location[1] or 0
            report.outcome, report.longrepr = "skipped", (*where, f"Skipped: {self.reason}")
        foreseen = hasattr(report, "wasxfail") or (error is None and report.failed)
        if foreseen and self.verdict is not Verdict.ERROR:
            self.expected = Verdict.FAIL
        elif foreseen:  # whatever xfail says, an error of the lab is not the failure that was foreseen
            del report.wasxfail
            report.outcome = "failed"
            if call.excinfo is not None:
                report.longrepr = self.item.repr_failure(call.excinfo)
        blind = self.on_control and self.verdict is Verdict.PASS
        if self.trial is not None and not isinstance(error, HostHung | HostUnreachable):
            missing = self.trial.last_look()
            if self.verdict in _RED or blind or missing:
                report.sections.append(("maskall: the device at that moment", "\n".join(self._shown(missing))))
        if not self.on_control:
            return
        if self.verdict is Verdict.FAIL:
            report.outcome, report.longrepr = "passed", None
            report.wasxfail = "it fails on the control, as it must"  # pytest's own word keeps --pdb out
            setattr(report, NOTICED, self.reason)
        elif fault is not None and error is None:
            report.outcome, report.longrepr = "failed", f"maskall: {fault}"
        elif blind:
            report.outcome = "failed"
            report.longrepr = (
                f"BLIND: the test passes on the control {self.hypervisor}, so it cannot see the defect that this is.\n"
                "Either the test does not look where the defect shows, or the hazard was not taken."
            )

    def torn_down(self, report: pytest.TestReport, call: pytest.CallInfo[None]) -> None:
        """Nothing of it is left: what it came to goes with the report."""
        if call.excinfo is not None:
            error = call.excinfo.value
            if isinstance(error, MaskallError):
                report.longrepr = f"maskall: {error}"
            if self.verdict is not Verdict.ERROR:
                self.reason, self.place = f"after the test: {_told(error)}", ""
            self.verdict = Verdict.ERROR
        crash = self.trial.crash if self.trial is not None else None
        if crash is not None:
            self.verdict, self.reason = Verdict.CRASH, f"{crash.kind.value}: {crash.text}"
            if report.passed:
                report.outcome, report.longrepr = "failed", f"CRASH: {inert(self.reason)}"
        self.running.under_way = None
        setattr(report, PAYLOAD, to_json(self.told()).decode())

    def told(self) -> CasePlayed:
        """What it came to by now, stored beside its raw files; of one that was broken off, how far it came."""
        side = self._side()
        folder = self.running.results
        write_atomically(folder / side.log, case_log(self.id, side).encode())
        doc = getattr(getattr(self.item, "function", None), "__doc__", None) or ""
        played = CasePlayed(
            id=self.id,
            title=next(iter(doc.strip().splitlines()), ""),
            tested=self.wanted.hypervisors[0],
            control=self.wanted.control,
            side=side,
            host=self.running.host_summary,
            planted=(self.planted,) if self.planted is not None else (),
            command_to_repeat=self.to_repeat(self.id if self.id.count("[") == 0 else self.item.nodeid),
        )
        played.store(folder)
        return played

    def _verdict(self, error: BaseException | None) -> tuple[Verdict, str]:
        if error is None:
            return Verdict.PASS, ""
        if isinstance(error, pytest.skip.Exception | NotAvailable):
            return Verdict.SKIP, _told(error)
        if isinstance(error, RefusedDeed):
            hint = "; where that is what shall be noticed, write 'assert make_guest(..., start=False).create()'"
            if self.on_control:
                return Verdict.ERROR, f"{_told(error)}: no assertion of the test{hint}"
            return Verdict.FAIL, _told(error)
        if isinstance(error, AssertionError | pytest.fail.Exception) and not _in_ours(error.__traceback__):
            return Verdict.FAIL, _told(error)
        return Verdict.ERROR, f"{type(error).__name__}: {_told(error)}"

    def _side(self) -> CaseSide:
        return CaseSide(
            hypervisor=self.hypervisor,
            verdict=self.verdict,
            reason=self.reason,
            place=self.place,
            expected=self.expected,
            record=self.trial.record if self.trial is not None else CaseRecord(),
            seconds=round(time.monotonic() - self.began, 3),
            phases={name: round(seconds, 3) for name, seconds in self.progress.phases.seconds.items()},
            raw_directory=self.folder,
            log=self.log,
            files=self.trial.store.digests() if self.trial is not None else {},
        )

    def _shown(self, missing: str) -> list[str]:
        """What stands below the traceback: the three views, what Xen said, where to read it, the command to repeat."""
        trial = self.trial
        assert trial is not None  # noqa: S101 - asked for by `called` alone
        lines = [inert(missing)] if missing else []
        for seen in trial.record.seen:
            if seen.name == END:
                lines += [one.replace(f"{self.folder}/", "") for one in moment(seen, trial.record.devices)]
        with contextlib.suppress(MaskallError):
            said = trial.host.said("cannot (mask|disable) IRQ|assign .* failed|Panic|BUG")
            lines += [f"Xen said   {inert(line)}" for line in said[-3:]]
        results = self.running.results
        lines += [
            f"raw files  {results / self.folder}",
            f"log        {results / self.log}",
            f"repeat     {self.to_repeat(self.item.nodeid)}",
        ]
        return lines


@contextlib.contextmanager
def play(item: pytest.Item, running: Running, hypervisor: str) -> Iterator[Trial]:
    """The host of one item, prepared and put back. What goes wrong in it is one line of the report."""
    wanted = asked(item, running.options)
    if hypervisor == STOCK:
        hypervisor = wanted.hypervisors[0]
    stack = running.stack_of_tests
    if wanted.stacks and stack not in wanted.stacks:
        names = ", ".join(wanted.stacks)
        pytest.skip(f"only for {names}; this run is on {stack or 'a lab host'} (--maskall-stack)")
    lab = running.lab_for_tests  # first: without a lab no results directory is made
    results = running.results
    folder, log = _folder(item.nodeid, hypervisor, results)
    case = Case(item, running, hypervisor, wanted, folder, log)
    item.stash[CASE], running.under_way = case, case.told
    with running.place(), contextlib.ExitStack() as stack_of:
        host = stack_of.enter_context(lab.host(wanted.devices, case.progress))
        for power, insists in wanted.needs.items():
            if not host.can(HostPower(power)):
                lacks = f"{host.name} has no {power}"
                if insists:
                    raise UsageError(f"{lacks}, and the test insists on one", hint="play it on a nested host")
                pytest.skip(lacks)
        if hypervisor != STOCK:
            mutant = running.mutants[hypervisor]
            host.deeds.keep = EvidenceStore(results, folder).below("control").put
            with case.progress.phase(f"apply mutant {hypervisor}"):
                changes = plant(hypervisor, mutant, host)
            case.planted = Control(name=hypervisor, layer=mutant.layer, stands_for=mutant.stands_for, changes=changes)
        host.toolstack = running.options.toolstack_name()
        case.trial = Trial.begin(
            host, EvidenceStore(results, folder), case.progress, wanted.wishes(), running.options.challenge
        )
        try:
            yield case.trial
        finally:
            try:
                case.trial.end()
            finally:
                if host.restore is not None:
                    with case.progress.phase("put everything back"):
                        host.restore()


def shorten(call: pytest.CallInfo[None]) -> None:
    """The user's own line is the last of the traceback: what stands below it in the harness tells them nothing.

    An error that a wrong argument makes there may be a bug of the harness as well, so it says where it was raised.
    """
    if call.excinfo is None:
        return
    error = call.excinfo.value
    if not isinstance(error, MaskallError | RefusedDeed | _WRONG_USE):
        return
    user: TracebackType | None = None
    entry = call.excinfo.tb
    while entry is not None:
        top = _top(entry)
        if top in _OURS and user is not None:
            if isinstance(error, _WRONG_USE):
                error.add_note(
                    f"in {_last_of_ours(entry)}: a wrong argument, or a bug of maskall (--full-trace: all of it)"
                )
            user.tb_next = None
            error.__cause__, error.__suppress_context__ = None, True
            return
        user = entry if top not in (*_OURS, *_PYTEST) else user
        entry = entry.tb_next  # type: ignore[assignment]  # None at the end


def _last_of_ours(trace: TracebackType | None) -> str:
    """File, line and function."""
    found = ""
    while trace is not None:
        if _top(trace) in _OURS:
            name, code = trace.tb_frame.f_globals["__name__"], trace.tb_frame.f_code
            found = f"{name.replace('.', '/')}.py:{trace.tb_lineno} {code.co_name}"
        trace = trace.tb_next
    return found


def _top(entry: TracebackType) -> str:
    return str(entry.tb_frame.f_globals.get("__name__", "")).partition(".")[0]


def _in_ours(trace: TracebackType | None) -> bool:
    """Whether it was raised below a call of ours that the test made."""
    seen_user = False
    while trace is not None:
        top = _top(trace)
        if seen_user and top in _OURS:
            return True
        seen_user = seen_user or top not in (*_OURS, *_PYTEST)
        trace = trace.tb_next
    return False


def _place(found: pytest.ExceptionInfo[BaseException]) -> str:
    """File and line of the last line of the user's."""
    place = ""
    entry: TracebackType | None = found.tb
    while entry is not None:
        if _top(entry) not in (*_OURS, *_PYTEST):
            place = f"{Path(entry.tb_frame.f_code.co_filename).name}:{entry.tb_lineno}"
        entry = entry.tb_next
    return place


def _told(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _folder(nodeid: str, hypervisor: str, results: Path) -> tuple[str, str]:
    """Where its raw files go, and its log: no name is used twice, for evidence is never written over."""
    bare = nodeid.replace(f"[{hypervisor}]", "").replace(f"-{hypervisor}]", "]")
    name = re.sub(r"[^A-Za-z0-9_.]+", "-", bare.replace(".py::", ".")).strip("-.")
    if len(name) > 100:
        name = f"{name[:80]}-{hashlib.sha256(bare.encode()).hexdigest()[:12]}"
    for number in range(1, 1000):
        end = hypervisor if number == 1 else f"{hypervisor}-{number}"
        if not (results / "raw" / name / end).exists():
            break
    (results / "raw" / name / end).mkdir(parents=True)
    return f"raw/{name}/{end}", f"logs/{name}.{end}.log"


__all__ = ["BOUND", "CASE", "NOTICED", "PAYLOAD", "Case", "play", "shorten"]
