"""A run goes on where it was killed, and is played again where it was not as expected."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from harness.base.errors import HostUnreachable, UsageError
from harness.base.progress import Progress
from harness.cli.entry import main
from harness.evidence.observe import emulator_fault, observed
from harness.evidence.store import EvidenceStore
from harness.host.host import Host
from harness.judge.judge import judge
from harness.judge.judgement import Conclusion
from harness.play.run import PlayedSide
from harness.report.days import days
from harness.report.results import RunResult
from harness.run import side as module
from harness.run import store
from harness.run.options import RunOptions
from harness.run.resume import settled
from harness.scenario.record import Broken, Record
from harness.scenario.spec import Scenario
from suites.selftest.fakes import replayrun
from suites.selftest.fakes.badbundle import edit_json
from suites.selftest.fakes.replayrun import NEVER, RECORDED, recorded_play
from suites.selftest.run.test_killed import killed_at, report
from suites.selftest.xen.test_xen_console import TRIPLE_FAULT

pytestmark = pytest.mark.whole

Killer = Callable[[Path, str], None]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Killer:
    """Makes the directory of a run that was killed as a side began; each is killed once."""
    kept: dict[str, Path] = {}

    def made(root: Path, side: str) -> None:
        if side not in kept:
            kept[side] = tmp_path_factory.mktemp("killed")
            killed_at(kept[side], side)
        shutil.copytree(kept[side], root, dirs_exist_ok=True)

    return made


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Sides that are played in this process."""
    names: list[str] = []
    sound = recorded_play()

    def play(row: Scenario, host: Host, evidence: EvidenceStore, progress: Progress, **more: object) -> PlayedSide:
        names.append(evidence.folder.removeprefix("raw/"))
        return sound(row, host, evidence, progress)

    monkeypatch.setattr(module, "play", play)
    return names


def go_on(root: Path) -> RunResult:
    run = replayrun.session(root, resume=root)
    run.go_on()
    for row in (RECORDED, NEVER):
        run.run(row)
    return run.finish()


class TestResume:
    def test_in_the_second_scenario(
        self, tmp_path: Path, killed: Killer, played: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        killed(tmp_path, "E14-F2 stock")
        before = (tmp_path / "run.json").read_bytes()
        result = go_on(tmp_path)
        assert played == [f"{NEVER.id}/stock", f"{NEVER.id}/no-maskall-reset"]
        assert [one.id for one in result.scenarios] == [RECORDED.id, NEVER.id]
        assert result.scenarios[0].conclusion is Conclusion.PROVEN
        assert (tmp_path / "run.json").read_bytes() == before
        assert [one.name for one in result.controls] == ["no-maskall-reset"]
        assert main(["judge", str(tmp_path), "--scenario", RECORDED.id]) == 0
        assert "1 SAME, 0 DIFFERS" in capsys.readouterr().out

    def test_in_a_control(self, tmp_path: Path, killed: Killer, played: list[str]) -> None:
        killed(tmp_path, "E14-F1 no-maskall-reset")
        left = tmp_path / f"raw/{RECORDED.id}/no-maskall-reset"
        left.mkdir()
        (left / "01.txt").write_text("of the side that was broken off")
        result = go_on(tmp_path)
        assert played[0] == f"{RECORDED.id}/no-maskall-reset" and f"{RECORDED.id}/stock" not in played
        assert result.scenarios[0].conclusion is Conclusion.PROVEN
        assert (left.with_name("no-maskall-reset.before-1") / "01.txt").exists(), "evidence is kept"

    def test_nothing_had_ended(self, tmp_path: Path, killed: Killer, played: list[str]) -> None:
        killed(tmp_path, "E14-F1 stock")
        assert len(go_on(tmp_path).scenarios) == 2 and len(played) == 4

    def test_a_try_that_the_emulator_spoiled_still_counts(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def spoiled(
            row: Scenario, host: Host, evidence: EvidenceStore, progress: Progress, **more: object
        ) -> PlayedSide:
            record = Record(row, reset_effective=True)
            record.silence = evidence.put("01-silence.txt", TRIPLE_FAULT.encode())
            error = emulator_fault("01-silence.txt", evidence)
            assert error is not None
            record.broken = Broken.by(error)
            return PlayedSide(observed(record, evidence), judge(record), error)

        def killed(*_: object, **__: object) -> PlayedSide:
            raise KeyboardInterrupt

        tries = iter((spoiled, killed))
        monkeypatch.setattr(module, "play", lambda *given, **more: next(tries)(*given, **more))
        run = replayrun.session(tmp_path)
        with pytest.raises(KeyboardInterrupt):
            run.run(RECORDED)
        assert run._held is not None
        run._held.close()
        monkeypatch.setattr(module, "play", recorded_play())
        (first, _) = go_on(tmp_path).scenarios
        (again,) = first.stock.attempts
        assert again.raw is not None and again.raw.path == f"raw/{RECORDED.id}/stock/record.json"
        assert first.stock.raw_directory.endswith("/stock-retry1") and first.conclusion is Conclusion.PROVEN

    def test_rows_are_of_their_day(
        self, tmp_path: Path, killed: Killer, played: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        killed(tmp_path, "E14-F2 stock")
        for path in (tmp_path / "raw").rglob("record.json"):
            edit_json(path, _a_day_earlier)
        edit_json(tmp_path / "run.json", _a_day_earlier)
        result = go_on(tmp_path)
        first, second = days(result)
        assert first.endswith(f": {RECORDED.id}") and second.endswith(f": {NEVER.id}")
        main(["report", str(tmp_path)])
        assert f"\n{first}\n{second}\n" in capsys.readouterr().out
        assert f'<p class="days">{first}</p>' in (tmp_path / "report.html").read_text()

    def test_it_is_still_under_way(
        self, tmp_path: Path, killed: Killer, played: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        killed(tmp_path, "E14-F2 stock")
        assert "CUT SHORT: 1 of 2" in report(tmp_path, capsys)[1]
        with store.held(tmp_path):
            with pytest.raises(UsageError, match="the run is still under way"):
                go_on(tmp_path)
            assert "UNDER WAY: so far 1 of 2" in report(tmp_path, capsys)[1]
            assert main(["bundle", str(tmp_path)]) == 2
            assert "still under way" in capsys.readouterr().err
        assert not played

    def test_on_another_host(self, tmp_path: Path, killed: Killer, played: list[str]) -> None:
        killed(tmp_path, "E14-F2 stock")
        edit_json(tmp_path / "run.json", lambda data: data["host"]["facts"].update(xen_version="4.19"))
        with pytest.raises(UsageError, match=r"begun with xen_version 4\.19, here it is 4\.20"):
            go_on(tmp_path)

    def test_what_was_changed_is_no_evidence(self, tmp_path: Path, killed: Killer, played: list[str]) -> None:
        killed(tmp_path, "E14-F2 stock")
        with (tmp_path / f"raw/{RECORDED.id}/stock/05-C2/config.hex").open("a") as file:
            file.write(" ")
        with pytest.raises(UsageError, match="was changed after it was stored"):
            go_on(tmp_path)


def _a_day_earlier(data: dict[str, object]) -> None:
    for name in ("began", "ended", "started"):
        if name in data:
            data[name] = (datetime.fromisoformat(str(data[name])) - timedelta(days=1)).isoformat()


class TestOptions:
    @pytest.fixture
    def root(self, tmp_path: Path, killed: Killer) -> Path:
        killed(tmp_path, "E14-F2 stock")
        return tmp_path

    def test_all_that_repeats_it(self, root: Path) -> None:
        edit_json(root / "run.json", lambda data: data.update(repeat_options=" --stack bookworm --cold --rounds 5"))
        options = settled(RunOptions(resume=root, workers=2, for_="1h"))
        assert options.scenario == (RECORDED.id, NEVER.id) and options.device == ("virtio-rng",)
        assert (options.stack, options.cold, options.rounds, options.workers) == ("bookworm", True, 5, 2)
        assert options.results_directory() == root
        assert options.for_ == "1h"
        assert settled(options) == options

    def test_of_words_is_the_inverse_of_repeat_options(self) -> None:
        options = RunOptions(
            stack="bookworm", cold=True, rounds=7, known_issues=Path("a b.yaml"), accept=("a=b c", "d=e"), mutant="x"
        )
        assert RunOptions.of_words(options.repeat_options) == options

    @pytest.mark.parametrize(
        ("words", "told"),
        [
            (["--stack", "bookworm"], "--stack cannot be changed by --resume"),
            (["--cold"], "--cold cannot be changed by --resume"),
            (["--profile", "smoke"], "--profile cannot be changed by --resume"),
            (["E1"], "--scenario cannot be changed by --resume"),
            (["--failed", "ROOT"], "--resume and --failed are two things"),
        ],
    )
    def test_refused(self, root: Path, words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
        words = [str(root) if word == "ROOT" else word for word in words]
        assert main(["run", "--resume", str(root), *words]) == 2
        assert told in capsys.readouterr().err

    @pytest.mark.parametrize("content", [None, b"", b"{}", b'{"version": "9"}'])
    def test_of_no_run(self, tmp_path: Path, content: bytes | None, capsys: pytest.CaptureFixture[str]) -> None:
        if content is not None:
            (tmp_path / "run.json").write_bytes(content)
        for flag in ("--resume", "--failed"):
            assert main(["run", flag, str(tmp_path)]) == 2
            assert "'run.json'" in capsys.readouterr().err


class TestFailed:
    def test_a_supplement_names_its_parent(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        root, second = tmp_path / "first", tmp_path / "second"
        sound = recorded_play()

        def play(row: Scenario, host: Host, evidence: EvidenceStore, progress: Progress, **more: object) -> PlayedSide:
            if row.id == NEVER.id:
                return PlayedSide.failed(row, HostUnreachable("no answer"))
            return sound(row, host, evidence, progress)

        monkeypatch.setattr(module, "play", play)
        run = replayrun.session(root)
        for row in (RECORDED, NEVER):
            run.run(row)
        assert run.finish().exit_status == 3
        options = settled(RunOptions(failed=root))
        assert options.scenario == (NEVER.id,) and options.results is None
        monkeypatch.setattr(module, "play", recorded_play())
        again = replayrun.session(second, failed=root)
        again.plan = replace(again.plan, scenarios=(NEVER,))
        again.run(NEVER)
        result = again.finish()
        assert result.parent is not None and result.parent.stands == {RECORDED.id: Conclusion.PROVEN}
        assert "where these stand: 1 PROVEN" in days(result)[-1]
        assert json.loads((second / "run.json").read_text())["parent"]["run_id"] == "first"
        assert main(["report", str(second)]) == result.exit_status
        assert "plays again what was not as expected in run first" in capsys.readouterr().out

    def test_all_was_well(self, tmp_path: Path, played: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        run = replayrun.session(tmp_path)
        run.plan = replace(run.plan, scenarios=(RECORDED,))
        run.run(RECORDED)
        run.finish()
        assert main(["run", "--failed", str(tmp_path)]) == 2
        assert "every scenario was as expected" in capsys.readouterr().err
