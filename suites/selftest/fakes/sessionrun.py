"""A session over a make-believe lab whose hosts are a fixed Xen or, once it was planted, the known-bad one."""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.base.errors import EmulatorFault, HostUnreachable
from harness.base.progress import PlainProgress, Progress
from harness.evidence.store import EvidenceStore
from harness.guest.initramfs import GuestFiles
from harness.host.host import Host, Opener
from harness.judge.judge import judge
from harness.judge.known import KnownIssue
from harness.mutants.catalogue import Mutant, catalogue
from harness.play.run import PlayedSide
from harness.report.results import ScenarioResult
from harness.run import side as module
from harness.run.options import RunOptions
from harness.run.plan import Plan
from harness.run.session import Session
from harness.scenario.spec import Scenario
from suites.selftest.fakes.fakemachine import FakeMachine
from suites.selftest.fakes.faketransport import FakeTransport, Reply
from suites.selftest.fakes.goodrecord import good, scenario
from suites.selftest.fakes.hypervisorfile import START, elf32, image, xl_info
from suites.selftest.fakes.recordfaults import both_masked

MUTANT = "no-maskall-reset"
MUTANTS = catalogue()
ENTRY = 0xFFFF82D040300000
SYMBOLS = f"{START:016x} T _stext\n{ENTRY:016x} T pci_reset_msix_state\n{ENTRY + 4096:016x} T _etext\n"


(CHANGE,) = MUTANTS[MUTANT].changes("trixie")
FITTING = bytes.fromhex("53 0f b6 77 45 48 89 fb")
BROKEN = CHANGE.applied_to(FITTING)
BUILD = b"of the fake session "
FILE = elf32(image({ENTRY: FITTING.ljust(4096, b"\x90")}, called=[ENTRY]), BUILD)
ANSWERS = {
    "cat /proc/xen/xensyms": Reply(SYMBOLS.encode()),
    "xl info": Reply(xl_info(BUILD)),
    "(?s)sh -c .*zcat.*": Reply(b"/boot/xen.gz"),
    "cat /boot/xen.gz": Reply(FILE),
}
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
        transport = FakeTransport(connected=True, commands=ANSWERS)
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


Player = Callable[[Scenario, Host, EvidenceStore], PlayedSide]


def honest(row: Scenario, host: Host, evidence: EvidenceStore) -> PlayedSide:
    """Works on a fixed Xen, fails on a broken one unless the row cures it."""
    evidence.put("01-note.txt", b"x")
    record = good(row.ending, row.follow_on)
    if mutated(host) and not row.follow.cures and row.end.hazard:
        both_masked(record)
    return PlayedSide(record, judge(record))


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
        options = RunOptions(
            mutant=under_test or control,
            no_control=control is None,
            workers=2 if together else 1,
            cold=cold,
            trace=trace,
        )
        plan = Plan(rows, options, dict(mutants), dict(issues or {}), self.root)
        self.session = Session(self.lab, plan, PlainProgress(self.screen))
        return [self.session.run(row) for row in rows]


def essence(results: list[ScenarioResult]) -> list[object]:
    """Results without clocks."""
    return [replace_seconds(one.model_dump(mode="json", exclude={"seconds"})) for one in results]


def replace_seconds(result: dict[str, object]) -> dict[str, object]:
    for side in (result["stock"], result["control"]):
        if isinstance(side, dict):
            side.pop("began")
            side["phases"] = sorted(side["phases"])
            side.pop("stored")  # record.json has the times of its side
    return result


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "20260102-030405-abcd")


@pytest.fixture
def played_by(monkeypatch: pytest.MonkeyPatch) -> Callable[[Player], None]:
    def use(player: Player) -> None:
        def play(
            row: Scenario,
            host: Host,
            evidence: EvidenceStore,
            progress: Progress,
            at_c2: Callable[[], None],
            **more: object,
        ) -> PlayedSide:
            at_c2()
            with progress.phase("play"):
                return player(row, host, evidence)

        monkeypatch.setattr(module, "play", play)

    use(honest)
    return use


F1, F8, E1 = scenario("E14", "F1"), scenario("E14", "F8"), scenario("E1", "F1")
