"""Repeats: planned before the first change, gone on with in the middle, and each of them on record and looked at."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.base.errors import UsageError
from harness.base.progress import PlainProgress, Progress
from harness.evidence.store import EvidenceStore
from harness.host.host import Host
from harness.judge.judgement import Conclusion
from harness.judge.known import known_issues
from harness.play.run import PlayedSide
from harness.report.page.view import command
from harness.run import history
from harness.run import side as module
from harness.run.again import judged_again
from harness.run.options import RunOptions
from harness.run.plan import Plan
from harness.run.resume import settled
from harness.run.selection import chosen
from harness.run.session import Session
from harness.run.side import command_to_repeat
from harness.scenario.repeats import repeated, times_of
from harness.scenario.spec import Scenario
from suites.selftest.fakes.badbundle import Forger, edit_json, finish, finished_run, forger, played_anew
from suites.selftest.fakes.replayrun import RECORDED, recorded_play
from suites.selftest.fakes.sessionrun import MUTANT, MUTANTS, FakeLab, Run, honest, played_by, run
from suites.selftest.run.test_verify_attacks import caught, only

__all__ = ["forger", "played_by", "run"]
pytestmark = pytest.mark.whole
ROW = RECORDED.row
DEVICE = ("virtio-rng",)


def names(**asked: Any) -> list[str]:  # noqa: ANN401 - options
    return [row.id for row in chosen(RunOptions(**asked))]


class TestAskedFor:
    def test_as_the_profile_says(self) -> None:
        rows = chosen(RunOptions(profile="certify", device=DEVICE))
        often = times_of(row.id for row in rows)
        assert all(often[row.row] == (3 if row.end.hazard else 1) for row in rows)
        assert set(often.values()) == {1, 3}
        assert [name for name in names(profile="ci") if "@" in name] == []

    def test_as_somebody_says(self) -> None:
        assert names(scenario=(ROW,), repeat=2) == [f"{ROW}@1", f"{ROW}@2"]
        assert names(scenario=(ROW,), repeat=1) == names(scenario=(ROW,), profile="certify") == [ROW]
        assert {name.partition("@")[2] for name in names(profile="certify", device=DEVICE, repeat=2)} == {"1", "2"}

    def test_one_time_of_it(self) -> None:
        assert names(scenario=(f"{ROW}@2",), repeat=5) == [f"{ROW}@2"], "and that once"
        assert names(scenario=("E14-F[18]-hvm-virtio-rng@3",)) == [f"{ROW}@3", "E14-F8-hvm-virtio-rng@3"]
        for wrong in (f"{ROW}@0", f"{ROW}@100", f"{ROW}@x"):
            with pytest.raises(UsageError, match="no scenario matches"):
                names(scenario=(wrong,))


OTHER = ROW.replace("F1", "F2")
TWICE = repeated([RECORDED], lambda _: 2)


def session(root: Path, **more: Path) -> Session:
    plan = Plan(tuple(TWICE), RunOptions(workers=1, **more), dict(MUTANTS), known_issues(None), root)  # type: ignore[arg-type]
    return Session(FakeLab(), plan, PlainProgress(io.StringIO()))


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """Plays what was recorded, until it comes to a side; names what was played."""
    begun: list[str] = []

    def until(halt: str) -> list[str]:
        def play(row: Scenario, host: Host, evidence: EvidenceStore, progress: Progress, **more: Any) -> PlayedSide:  # noqa: ANN401
            side = evidence.folder.removeprefix(f"raw/{row.row}")
            if side == halt:
                raise KeyboardInterrupt
            begun.append(side)
            return _recorded(row, host, evidence, progress)

        monkeypatch.setattr(module, "play", play)
        return begun

    return until


def _recorded(row: Scenario, host: Host, evidence: EvidenceStore, progress: Progress) -> PlayedSide:
    played = recorded_play()(row, host, evidence, progress)
    evidence.put("99-time.txt", row.id.encode())  # no two sides have the same bytes
    played.record.scenario = row
    return played


SIDES = [f"@{number}/{name}" for number in (1, 2) for name in ("stock", MUTANT)]


class TestCommand:
    @pytest.mark.parametrize(
        ("planned", "told"),
        [
            ((ROW,), [f"{ROW} --toolstack xl"]),
            ((f"{ROW}@2",), [f"{ROW}@2 --toolstack xl"]),
            ((f"{ROW}@1", f"{ROW}@2"), [f"{ROW} --repeat 2 --toolstack xl"] * 2),
            (
                (f"{ROW}@1", f"{OTHER}@1", f"{ROW}@2", f"{OTHER}@2"),
                [f"{one} --repeat 2 --toolstack xl" for one in (ROW, OTHER, ROW, OTHER)],
            ),
            (
                (f"{ROW}@1", OTHER, f"{ROW}@2"),
                [f"{ROW} --repeat 2 --toolstack xl", f"{OTHER} --toolstack xl", f"{ROW} --repeat 2 --toolstack xl"],
            ),
        ],
    )
    def test_of_a_row(self, planned: tuple[str, ...], told: list[str]) -> None:
        found = [command_to_repeat(one, planned, " --toolstack xl") for one in planned]
        assert found == [f"./tools/maskall run {one}" for one in told]

    @pytest.mark.parametrize(
        ("planned", "told"),
        [
            ((ROW, OTHER), f"{ROW} {OTHER}"),
            ((f"{ROW}@1", f"{OTHER}@1", f"{ROW}@2", f"{OTHER}@2"), f"{ROW} {OTHER} --repeat 2"),
            ((f"{ROW}@1", OTHER, f"{ROW}@2"), f"{ROW}@1 {OTHER} {ROW}@2"),
            (tuple(f"{ROW}@{number}" for number in range(1, 10)), f"{ROW} --repeat 9"),
            ((OTHER, *(f"{ROW}@{number}" for number in range(1, 10))), OTHER),
            ((f"{ROW}@2",), f"{ROW}@2"),
            ((f"{ROW}@2", f"{OTHER}@1"), f"{ROW}@2 {OTHER}@1"),
        ],
    )
    def test_of_a_run(self, planned: tuple[str, ...], told: str) -> None:
        def result(name: str) -> object:
            made = command_to_repeat(name, planned, "")
            return SimpleNamespace(id=name, conclusion=Conclusion.PROVEN, command_to_repeat=made)

        run = SimpleNamespace(played=[result(one) for one in planned])
        assert command(run) == f"./tools/maskall run {told}"  # type: ignore[arg-type]  # all that it looks at


class TestPlayed:
    def test_the_plan_has_them_before_the_first_change(
        self, tmp_path: Path, played: Callable[[str], list[str]]
    ) -> None:
        played("@1/stock")
        run = session(tmp_path)
        with pytest.raises(KeyboardInterrupt):
            run.run(TWICE[0])
        assert json.loads((tmp_path / "run.json").read_text())["scenarios"] == [f"{ROW}@1", f"{ROW}@2"]

    @pytest.mark.parametrize("halt", SIDES)
    def test_it_goes_on_in_the_middle(self, tmp_path: Path, played: Callable[[str], list[str]], halt: str) -> None:
        begun = played(halt)
        run = session(tmp_path)
        with pytest.raises(KeyboardInterrupt):
            for row in TWICE:
                run.run(row)
        assert begun == SIDES[: SIDES.index(halt)]
        assert run._held is not None
        run._held.close()
        options = settled(RunOptions(resume=tmp_path))
        assert [row.id for row in chosen(options)] == [row.id for row in TWICE], "and not more often"
        begun = played("")
        run = session(tmp_path, resume=tmp_path)
        run.go_on()
        for row in TWICE:
            run.run(row)
        result = run.finish()
        assert begun == SIDES, "each once"
        assert [(one.id, one.conclusion) for one in result.scenarios] == [(row.id, Conclusion.PROVEN) for row in TWICE]
        assert judged_again(tmp_path).result().counts == {Conclusion.PROVEN: 2}

    def test_it_is_repeated_as_it_was(self, tmp_path: Path, played: Callable[[str], list[str]]) -> None:
        """Each time of the row names the command that plays all of them, and so does the page of the run."""
        played("")
        run = session(tmp_path)
        for row in TWICE:
            run.run(row)
        result = run.finish()
        told = f"./tools/maskall run {ROW} --repeat 2"
        assert [one.command_to_repeat for one in result.scenarios] == [told, told]
        assert [one.command_to_repeat for one in judged_again(tmp_path).finished.values()] == [told, told]
        assert command(result) == told
        assert f"<code>{told}</code>" in (tmp_path / "report.html").read_text()
        again = settled(RunOptions(scenario=(ROW,), repeat=2, device=(RECORDED.device,)))
        assert [row.id for row in chosen(again)] == [row.id for row in TWICE]

    def test_one_bad_time_is_a_bad_row_that_is_played_again_as_a_whole(
        self, run: Run, played_by: Callable[[Callable[[Scenario, Host, EvidenceStore], PlayedSide]], None]
    ) -> None:
        rows = repeated([replace(RECORDED, device="nvme"), replace(RECORDED, device="e1000e")], lambda _: 3)

        def second_fails(row: Scenario, host: Host, evidence: EvidenceStore) -> PlayedSide:
            side = honest(row, host, evidence)
            side.record.scenario = row
            if row.id.endswith("nvme@2"):
                side.record.broken = None
                return PlayedSide.failed(row, UsageError("on this day it did not"))
            return side

        played_by(second_fails)
        run(*rows)
        run.session.finish()
        options = settled(RunOptions(failed=run.root))
        assert options.scenario == tuple(row.id for row in rows if row.device == "nvme")
        assert settled(options) == options

    def test_the_book_counts_every_time(self, tmp_path: Path, played: Callable[[str], list[str]]) -> None:
        played("")
        run = session(tmp_path / "run")
        for row in TWICE:
            run.run(row)
        history.add(tmp_path / "book", run.finish())
        assert len(history.played(tmp_path / "book", ROW)) == 2
        assert len(history.played(tmp_path / "book", f"{ROW}@2")) == 1


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A run that was played three times."""
    root = finished_run("proven", tmp_path / "run")
    for number in (1, 2, 3):
        shutil.copytree(root / f"raw/{ROW}", root / f"raw/{ROW}@{number}")
        for side in ("stock", MUTANT):
            folder = f"raw/{ROW}@{number}/{side}"
            record = root / folder / "record.json"
            edit_json(record, lambda data, time=number: data["record"]["scenario"].update(repeat=time))  # type: ignore[misc]
            played_anew(root, folder)
    shutil.rmtree(root / f"raw/{ROW}")
    for log in (root / "logs").iterdir():
        log.unlink()
    edit_json(root / "run.json", lambda begun: begun.update(scenarios=[f"{ROW}@{number}" for number in (1, 2, 3)]))
    finish(root)
    return root


class TestVerified:
    def test_three_times(self, forger: Forger, root: Path) -> None:
        found = forger.verify(forger.bundled(root))
        assert found.status == 0, "\n".join(found.lines)
        assert "3 of 3 scenarios of 1 rows, 1 of them several times, 6 sides" in "\n".join(found.lines)

    def test_some_of_them(self, root: Path) -> None:
        """By the name of the row all, by a time's own name that one."""
        assert list(judged_again(root, ROW).finished) == [f"{ROW}@{number}" for number in (1, 2, 3)]
        assert list(judged_again(root, f"{ROW}@2").finished) == [f"{ROW}@2"]

    def left_out(self, root: Path, number: int) -> None:
        shutil.rmtree(root / f"raw/{ROW}@{number}")
        for log in (root / "logs").glob(f"*@{number}.*"):
            log.unlink()

    @pytest.mark.parametrize("number", [1, 2, 3])
    def test_one_is_left_out(self, forger: Forger, root: Path, number: int) -> None:
        self.left_out(root, number)
        finish(root)
        caught(forger.verify(forger.bundled(root)), "completeness", f"{ROW}@{number} was to be played, and has no")

    @pytest.mark.parametrize("number", [1, 2])
    def test_one_is_left_out_of_the_plan_too(self, forger: Forger, root: Path, number: int) -> None:
        self.left_out(root, number)
        edit_json(root / "run.json", lambda begun: begun["scenarios"].remove(f"{ROW}@{number}"))
        finish(root)
        only(forger.verify(forger.bundled(root)), "completeness", f"{ROW} is planned as ")

    def test_the_last_is_left_out_of_the_plan_too(self, forger: Forger, root: Path) -> None:
        """Who made the plan says how often; who asks for a profile, how often it has to be."""
        self.left_out(root, 3)
        edit_json(root / "run.json", lambda begun: begun["scenarios"].remove(f"{ROW}@3"))
        finish(root)
        path = forger.bundled(root)
        assert forger.verify(path).status == 0
        told = f"profile certify plays {ROW} 3 times, and 2 were planned"
        caught(forger.verify(path, profile="certify"), "completeness", told)

    def test_one_is_added(self, forger: Forger, root: Path) -> None:
        shutil.copytree(root / f"raw/{ROW}@3", root / f"raw/{ROW}@4")
        for side in ("stock", MUTANT):
            record = root / f"raw/{ROW}@4/{side}/record.json"
            edit_json(record, lambda data: data["record"]["scenario"].update(repeat=4))
        finish(root)
        caught(
            forger.verify(forger.bundled(root)),
            "completeness",
            f"{ROW}@4/no-maskall-reset/01-C0/config.hex' is of no scenario",
        )
        edit_json(root / "run.json", lambda begun: begun["scenarios"].append(f"{ROW}@4"))
        finish(root)
        only(forger.verify(forger.bundled(root)), "consistency", f"raw/{ROW}@4/stock has raw files of")

    def test_a_good_one_in_the_place_of_a_bad_one(self, forger: Forger, root: Path) -> None:
        shutil.rmtree(root / f"raw/{ROW}@2")
        shutil.copytree(root / f"raw/{ROW}@1", root / f"raw/{ROW}@2")
        path = forger.bundled(root)
        caught(forger.verify(path), "rejudged", f"{ROW}@2/stock/record.json' was changed after it was stored")
        for side in ("stock", MUTANT):
            record = root / f"raw/{ROW}@2/{side}/record.json"
            edit_json(record, lambda data: data["record"]["scenario"].update(repeat=2))
        finish(root)
        only(forger.verify(forger.bundled(root)), "consistency", f"raw/{ROW}@2/stock has raw files of")
