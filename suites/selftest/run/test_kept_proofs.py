"""What a control showed is kept, used by the next run, and judged anew there."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from harness.base.progress import PlainProgress, Progress
from harness.evidence.store import EvidenceStore
from harness.host.host import Host
from harness.judge.judgement import Conclusion, Verdict
from harness.judge.known import known_issues
from harness.nested.cache import Cache
from harness.play.run import PlayedSide
from harness.play.stage import warm_files
from harness.report.failure import remarks
from harness.report.results import RunResult, ScenarioResult
from harness.run import proofs
from harness.run import side as module
from harness.run.comparison import compared
from harness.run.options import RunOptions
from harness.run.plan import Plan
from harness.run.session import Session
from harness.scenario.spec import Scenario
from suites.selftest.fakes.badbundle import edit_json
from suites.selftest.fakes.replayrun import RECORDED, recorded_play
from suites.selftest.fakes.sessionrun import MUTANT, MUTANTS, FakeLab, mutated

pytestmark = pytest.mark.whole


@dataclass
class Runs:
    """Runs with one cache, one after the other."""

    root: Path
    lab: FakeLab = field(default_factory=FakeLab)
    mutants: dict[str, Any] = field(default_factory=lambda: dict(MUTANTS))
    finished: list[RunResult] = field(default_factory=list)

    @property
    def last(self) -> Path:
        return self.root / f"run{len(self.finished)}"

    def __call__(self, row: Scenario = RECORDED, **options: Any) -> ScenarioResult:  # noqa: ANN401 - as RunOptions
        folder = self.root / f"run{len(self.finished) + 1}"
        plan = Plan((row,), RunOptions(workers=1, **options), self.mutants, known_issues(), folder)
        session = Session(self.lab, plan, PlainProgress(io.StringIO()), cache=Cache(self.root / "cache"))
        result = session.run(row)
        self.finished.append(session.finish())
        return result

    @property
    def kept(self) -> list[Path]:
        return sorted((self.root / "cache" / "entries").glob("proof-*"))


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    monkeypatch.setattr(module, "play", recorded_play())
    return Runs(tmp_path)


def is_kept(result: ScenarioResult) -> bool:
    assert result.conclusion is Conclusion.PROVEN and result.control is not None
    return result.control.kept is not None


def test_the_second_run_plays_stock_alone(runs: Runs) -> None:
    first, second = runs(), runs()
    assert (is_kept(first), is_kept(second), runs.lab.hosts) == (False, True, 3)
    assert first.control is not None and second.control is not None
    assert second.told == f"PROVEN (kept proof of {second.control.kept:%Y-%m-%d})"
    assert first.control.judgement == second.control.judgement
    assert first.control.record == second.control.record
    assert runs.finished[0].controls == runs.finished[1].controls
    assert any("--fresh-controls plays them anew" in line for line in remarks(runs.finished[1]))
    assert not remarks(runs.finished[0])


def test_its_evidence_is_in_the_run_and_judges_the_same(runs: Runs) -> None:
    runs()
    runs()
    again = compared(runs.last, None)
    assert [one.word for one in again.parts] == ["SAME", "SAME"][: len(again.parts)], list(again.lines)
    assert len(again.again.sides) == 2
    assert (runs.last / "raw" / RECORDED.id / MUTANT / "record.json").is_file()


@pytest.mark.parametrize(
    "options", [{"fresh_controls": True}, {"profile": "certify"}, {"trace": True}, {"keep": True}], ids=str
)
def test_who_wants_it_played_gets_it_played(runs: Runs, options: dict[str, Any]) -> None:
    runs()
    assert not is_kept(runs(**options))


def changed_mutant(runs: Runs, patch: pytest.MonkeyPatch) -> None:
    runs.mutants[MUTANT] = runs.mutants[MUTANT].model_copy(update={"from_c2": False})


def changed_host(runs: Runs, patch: pytest.MonkeyPatch) -> None:
    runs.lab.xen = "4.20.1"


def changed_judge(runs: Runs, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(proofs, "code_digest", lambda more: "of another day")


def changed_raw_file(runs: Runs, patch: pytest.MonkeyPatch) -> None:
    (entry,) = runs.kept
    file = next(path for path in sorted(entry.rglob("xl_dmesg.txt")))
    file.write_bytes(file.read_bytes() + b"one more\n")


def raw_file_and_manifest_changed(runs: Runs, patch: pytest.MonkeyPatch) -> None:
    changed_raw_file(runs, patch)
    patch.setattr(Cache, "verify", lambda self, recipe: None)


def gone(runs: Runs, patch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(runs.kept[0] / "side")
    patch.setattr(Cache, "verify", lambda self, recipe: None)


def one_that_passes(runs: Runs, patch: pytest.MonkeyPatch) -> None:
    gone(runs, patch)
    side = shutil.copytree(runs.last / "raw" / RECORDED.id / "stock", runs.kept[0] / "side")
    edit_json(side / "record.json", lambda record: record.update(hypervisor=MUTANT))


@pytest.mark.parametrize(
    "change",
    [
        changed_mutant,
        changed_host,
        changed_judge,
        changed_raw_file,
        raw_file_and_manifest_changed,
        gone,
        one_that_passes,
    ],
    ids=lambda change: change.__name__,
)
def test_another_one_is_none(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, change: Callable[[Runs, pytest.MonkeyPatch], None]
) -> None:
    runs()
    change(runs, monkeypatch)
    assert not is_kept(runs())


@pytest.mark.parametrize("verdict", [Verdict.PASS, Verdict.CRASH, Verdict.UNDECIDED, Verdict.ERROR])
def test_a_control_that_proved_nothing_is_not_kept(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, verdict: Verdict
) -> None:
    recorded = recorded_play()

    def other(row: Scenario, host: Host, evidence: EvidenceStore, progress: Progress, **more: object) -> PlayedSide:
        played = recorded(row, host, evidence, progress, **more)
        judged = replace(played.judgement, verdict=verdict if mutated(host) else Verdict.PASS)
        return PlayedSide(played.record, judged)

    monkeypatch.setattr(module, "play", other)
    assert runs().conclusion is not Conclusion.PROVEN
    assert runs.kept == []


def test_the_code_that_judges_is_part_of_it() -> None:
    assert warm_files.code_digest() != warm_files.code_digest(("judge",))
