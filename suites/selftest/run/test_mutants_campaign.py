"""A campaign over a make-believe lab: who is played with whom, in which order, and what an interrupt leaves."""

from __future__ import annotations

import contextlib
import io
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from harness.base.errors import LabError, UsageError
from harness.base.progress import PlainProgress, Progress
from harness.evidence.store import EvidenceStore
from harness.guest.initramfs import GuestFiles
from harness.host.host import Host, Opener
from harness.judge.judge import judge
from harness.mutants.catalogue import HypervisorMutant, Mutant
from harness.play.run import PlayedSide
from harness.play.stage.stage import StopCondition
from harness.report.matrix import FILE, KillMatrix, MutantFate
from harness.run import side as module
from harness.run.campaign import Campaign
from harness.run.options import RunOptions
from harness.run.plan import Plan
from harness.run.schema import mutants_schema, schema_text
from harness.run.session import Session
from harness.scenario.spec import Scenario
from suites.selftest.fakes.fakemachine import FakeMachine
from suites.selftest.fakes.faketransport import FakeTransport, Reply
from suites.selftest.fakes.goodrecord import good, scenario
from suites.selftest.fakes.recordfaults import both_masked

ENTRY = 0xFFFF82D040300000
SYMBOLS = f"{ENTRY - 4096:016x} T _stext\n{ENTRY:016x} T f\n{ENTRY + 4:016x} T _etext\n"
TEXT = bytes.fromhex("01 02 03 04")
E1, E14 = scenario("E1", "F1"), scenario("E14", "F1")


def mutant(find: str, *notices: str, stack: str = "trixie", **more: Any) -> HypervisorMutant:  # noqa: ANN401
    change = {"symbol": "f", "find": find, "replace": "00"}
    fields = {"layer": "hypervisor", "stands_for": "x", "notices": notices, "builds": {stack: [change]}}
    return HypervisorMutant.model_validate(fields | more)


MUTANTS: dict[str, Mutant] = {
    "seen-late": mutant("01", "E14"),
    "never-seen": mutant("02", "E1"),
    "elsewhere": mutant("03", "E1", stack="bookworm"),
    "misfit": mutant("05", "E1"),
}


@dataclass
class FakeLab:
    """Each host is a Xen of four bytes."""

    hosts: int = 0
    aborted: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextlib.contextmanager
    def host(
        self, devices: Sequence[str], progress: Progress, *, keep: bool = False, opener: Opener | None = None
    ) -> Iterator[Host]:
        with self._lock:
            self.hosts += 1
        machine = FakeMachine()
        machine.put(ENTRY, TEXT)
        transport = FakeTransport(connected=True, commands={"cat /proc/xen/xensyms": Reply(SYMBOLS.encode())})
        yield Host("fake", transport, {}, GuestFiles("/k", "/i"), debugger=machine, facts={"stack": "trixie"})

    def facts(self) -> dict[str, str]:
        return {"host": "nested-trixie", "nested": "in QEMU", "stack": "trixie"}

    def packages(self) -> dict[str, str]:
        return {}

    def abort(self) -> None:
        self.aborted = True

    def kept(self) -> list[Path]:
        return []

    def close(self) -> None:
        """Nothing is held."""


@dataclass
class Hunt:
    """Campaigns in one results directory. `played`: what was played, in order; `trouble`: raised instead."""

    root: Path
    lab: FakeLab = field(default_factory=FakeLab)
    screen: io.StringIO = field(default_factory=io.StringIO)
    played: list[tuple[str, str]] = field(default_factory=list)
    settled: list[tuple[str, str, bool]] = field(default_factory=list)
    trouble: Callable[[str, Scenario], BaseException | None] = lambda name, row: None

    def __call__(self, *names: str, rows: Sequence[Scenario] = (E1, E14), **more: Any) -> KillMatrix:  # noqa: ANN401
        progress = PlainProgress(self.screen)
        plan = Plan(tuple(rows), RunOptions(no_control=True, workers=1), MUTANTS, {}, self.root)
        return Campaign(Session(self.lab, plan, progress), list(names or MUTANTS), progress, **more).run()

    def play(
        self,
        row: Scenario,
        host: Host,
        evidence: EvidenceStore,
        progress: Progress,
        *,
        trace: bool = False,
        enough: StopCondition | None = None,
        at_c2: Callable[[], None] = lambda: None,
        at_end: Callable[[], None] = lambda: None,
        strict_messages: bool = False,
        challenge: str | None = None,
    ) -> PlayedSide:
        """Only E14 sees a first byte that is not as it should be."""
        machine = host.debugger
        assert isinstance(machine, FakeMachine)
        name = evidence.folder.rpartition("/")[2]
        self.played.append((name, row.ending))
        evidence.put("01-note.txt", b"x")
        trouble = self.trouble(name, row)
        if trouble is not None:
            raise trouble
        record = good(row.ending, row.follow_on)
        if machine.memory[ENTRY] == 0 and row.ending == "E14":
            both_masked(record)
        self.settled.append((name, row.ending, enough is not None and enough(record)))
        return PlayedSide(record, judge(record))


@pytest.fixture
def hunt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hunt:
    made = Hunt(tmp_path / "20260102-030405")
    monkeypatch.setattr(module, "play", made.play)
    return made


def fates(matrix: KillMatrix) -> dict[str, MutantFate]:
    return {row.name: row.fate for row in matrix.mutants}


def test_the_whole_matrix(hunt: Hunt) -> None:
    matrix = hunt(every=True)
    assert fates(matrix) == {
        "seen-late": MutantFate.KILLED,
        "never-seen": MutantFate.SURVIVED,
        "elsewhere": MutantFate.MISFIT,
        "misfit": MutantFate.UNDECIDED,
    }
    assert [len(row.cells) for row in matrix.mutants] == [2, 2, 0, 2]
    assert (matrix.seen, matrix.planted, matrix.false_alarms) == (1, 3, 0)
    assert {cell.fate for row in matrix.mutants if row.name == "misfit" for cell in row.cells} == {MutantFate.UNDECIDED}


def test_those_that_promise_come_first_and_the_first_that_sees_is_enough(hunt: Hunt) -> None:
    matrix = hunt("seen-late")
    assert hunt.played == [("stock", "E14"), ("seen-late", "E14")]
    assert [cell.ending for cell in matrix.mutants[0].cells] == ["E14"]


def test_a_run_may_end_once_the_mutant_is_seen_but_never_on_stock(hunt: Hunt) -> None:
    hunt("seen-late", every=True)
    assert sorted(hunt.settled) == [
        ("seen-late", "E1", False),
        ("seen-late", "E14", True),
        ("stock", "E1", False),
        ("stock", "E14", False),
    ]


def test_stock_is_played_once_and_only_where_a_mutant_is(hunt: Hunt) -> None:
    hunt("never-seen", "seen-late", rows=[E1])
    assert hunt.played == [("stock", "E1"), ("never-seen", "E1"), ("seen-late", "E1")]


def test_where_stock_cannot_be_played_no_mutant_is(hunt: Hunt) -> None:
    hunt.trouble = lambda name, row: LabError("full disk") if row.ending == "E14" else None
    matrix = hunt("seen-late")
    assert hunt.played == [("stock", "E14"), ("stock", "E14"), ("stock", "E1"), ("seen-late", "E1")], "tried once more"
    assert fates(matrix) == {"seen-late": MutantFate.SURVIVED}


def test_what_was_changed_is_in_the_matrix(hunt: Hunt) -> None:
    (row,) = hunt("never-seen").mutants
    assert row.planted is not None
    (change,) = row.planted.changes
    assert (str(change.place), change.before, change.after) == ("f+0x1", b"\x02", b"\x00")


def test_it_is_on_disk_after_every_cell_and_by_the_schema(hunt: Hunt) -> None:
    seen: list[int] = []

    def look(name: str, row: Scenario) -> None:
        path = hunt.root / FILE
        written = json.loads(path.read_text()) if path.exists() else {"stock": [], "mutants": []}
        seen.append(len(written["stock"]) + sum(len(one["cells"]) for one in written["mutants"]))

    hunt.trouble = look
    matrix = hunt("never-seen")
    assert seen == [0, 1, 2, 3]
    text = (hunt.root / FILE).read_text()
    jsonschema.validate(json.loads(text), mutants_schema())
    assert KillMatrix.model_validate_json(text) == matrix


def test_the_published_schema_is_that_of_the_models() -> None:
    published = Path(__file__).parents[3] / "docs/mutants.schema.json"
    assert published.read_text() == schema_text(mutants_schema()), "publish it again, as harness/run/schema.py says"


def test_the_screen_says_how_far_it_is(hunt: Hunt) -> None:
    hunt("never-seen")
    assert "never-seen x E1-F1-hvm-nvme: survived:" in hunt.screen.getvalue()
    assert "(4 played, at most 0 min left)" in hunt.screen.getvalue()


class TestInterrupted:
    def test_all_hosts_end_and_what_was_played_stays(self, hunt: Hunt) -> None:
        hunt.trouble = lambda name, row: KeyboardInterrupt() if (name, row.ending) == ("never-seen", "E14") else None
        with pytest.raises(KeyboardInterrupt):
            hunt("never-seen")
        assert hunt.lab.aborted
        before = KillMatrix.model_validate_json((hunt.root / FILE).read_bytes())
        assert [cell.ending for cell in before.mutants[0].cells] == ["E1"]

    def test_it_goes_on_where_it_was(self, hunt: Hunt) -> None:
        hunt.trouble = lambda name, row: KeyboardInterrupt() if (name, row.ending) == ("never-seen", "E14") else None
        with pytest.raises(KeyboardInterrupt):
            hunt("never-seen")
        before = KillMatrix.model_validate_json((hunt.root / FILE).read_bytes())
        hunt.trouble = lambda name, row: None
        hunt.played.clear()
        cut_off = hunt.root / "raw" / E14.id / "never-seen"
        cut_off.mkdir(parents=True, exist_ok=True)
        (cut_off / "evidence.txt").write_text("what was seen")
        matrix = hunt("never-seen", before=before)
        assert hunt.played == [("never-seen", "E14")]
        kept = cut_off.with_name("never-seen.before-1") / "evidence.txt"
        assert kept.read_text() == "what was seen", "evidence of the cell that was cut off stays, under another name"
        assert fates(matrix) == {"never-seen": MutantFate.SURVIVED}

    def test_what_the_lab_spoilt_is_played_again(self, hunt: Hunt) -> None:
        hunt.trouble = lambda name, row: LabError("full disk") if name == "never-seen" else None
        before = hunt("never-seen", rows=[E1])
        assert fates(before) == {"never-seen": MutantFate.UNDECIDED}
        hunt.trouble = lambda name, row: None
        assert fates(hunt("never-seen", rows=[E1], before=before)) == {"never-seen": MutantFate.SURVIVED}

    def test_other_mutants_and_scenarios_are_added(self, hunt: Hunt) -> None:
        before = hunt("never-seen", rows=[E1])
        matrix = hunt("seen-late", rows=[E14], before=before)
        assert fates(matrix) == {"never-seen": MutantFate.SURVIVED, "seen-late": MutantFate.KILLED}
        assert matrix.scenarios == (E1.id, E14.id)
        assert [len(row.cells) for row in matrix.mutants] == [1, 1]

    def test_on_another_host_it_is_another_campaign(self, hunt: Hunt) -> None:
        before = hunt("never-seen", rows=[E1])
        facts = before.host.facts | {"xen_build_id": "other"}
        before = before.model_copy(update={"host": before.host.model_copy(update={"facts": facts})})
        with pytest.raises(UsageError, match="ran on another host"):
            hunt("never-seen", before=before)


def test_two_workers_play_stock_once(hunt: Hunt) -> None:
    progress = PlainProgress(hunt.screen)
    options = RunOptions(no_control=True, workers=3)
    plan = Plan((E1,), options, MUTANTS | {"third": mutant("04", "E1")}, {}, hunt.root)
    session = Session(hunt.lab, plan, progress)
    Campaign(session, ["seen-late", "never-seen", "third"], progress).run()
    assert sorted(hunt.played) == sorted([(name, "E1") for name in ("stock", "seen-late", "never-seen", "third")])
