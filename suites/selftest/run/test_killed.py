"""A run that is killed keeps what was finished, and `maskall report` shows it as cut short."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.base.errors import LabError
from harness.base.progress import Progress
from harness.cli.entry import main
from harness.evidence.observe import emulator_fault, observed
from harness.evidence.store import EvidenceStore
from harness.host.host import Host
from harness.judge.judge import judge
from harness.judge.judgement import Conclusion, Verdict
from harness.play.run import PlayedSide
from harness.run import side as module
from harness.run.again import judged_again
from harness.scenario.record import Broken, Record
from harness.scenario.spec import Scenario
from suites.selftest.fakes import replayrun
from suites.selftest.fakes.replayrun import NEVER, RECORDED, play_recorded, recorded_play
from suites.selftest.xen.test_xen_console import TRIPLE_FAULT

pytestmark = pytest.mark.whole

ROOT = Path(__file__).parents[3]


def killed_at(results: Path, *sides: str) -> None:
    """Play until one of these sides has begun, then die without a word."""
    command = [sys.executable, "-m", "suites.selftest.fakes.replayrun", str(results), *sides]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, cwd=ROOT) as process:  # noqa: S603
        assert process.stdout is not None and process.stdout.readline() == b"halted\n"
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL


def report(results: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    status = main(["report", str(results)])
    read = capsys.readouterr()
    assert "Traceback" not in read.err
    return status, read.out + read.err


class TestKilled:
    def test_in_the_second_scenario(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        killed_at(tmp_path, f"{NEVER.ending}-{NEVER.follow_on} stock")
        status, text = report(tmp_path, capsys)
        assert status == 3, "nothing is decided of what was not played"
        assert "E14-F1-hvm-virtio-rng PASS     PASS  FAIL    yes/yes PROVEN" in text
        assert "CUT SHORT: 1 of 2 scenarios were played to their end" in text
        assert "  E14-F2-hvm-virtio-rng: no side ended" in text
        assert "exit status 3" in text

    def test_in_a_control(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        killed_at(tmp_path, "E14-F1 no-maskall-reset")
        status, text = report(tmp_path, capsys)
        assert status == 3
        assert "CUT SHORT: 0 of 2 scenarios were played to their end" in text
        assert "E14-F1-hvm-virtio-rng: one side ended: stock PASS: 61 expectations met" in text

    def test_before_anything(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        killed_at(tmp_path, "E14-F1 stock")
        status, text = report(tmp_path, capsys)
        assert status == 3 and "CUT SHORT: 0 of 2 scenarios" in text

    def test_it_is_no_run_to_be_compared(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        killed_at(tmp_path, "E14-F2 stock")
        assert main(["judge", str(tmp_path)]) == 2
        told = capsys.readouterr().err.splitlines()
        assert told[0].startswith("maskall: 'results.json' cannot be read: No such file")
        assert told[1] == f"hint: a run that was cut short has none: see 'maskall report {tmp_path}'"

    def test_evidence_that_was_changed_is_no_result(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        killed_at(tmp_path, "E14-F2 stock")
        with (tmp_path / f"raw/{RECORDED.id}/stock/05-C2/config.hex").open("a") as file:
            file.write(" ")
        status, text = report(tmp_path, capsys)
        assert status == 3
        assert "05-C2/config.hex' was changed after it was stored" in text and "PROVEN" not in text


@pytest.fixture
def replaying(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def use(*stop_at: str, halt: Callable[[str], None] = lambda _: None) -> None:
        monkeypatch.setattr(module, "play", recorded_play(stop_at, halt))

    return use


class TestInterrupted:
    def test_what_was_broken_off_is_no_result(self, tmp_path: Path, replaying: Callable[..., None]) -> None:
        """The hosts are ended under the sides that play, whose errors then say nothing of the product."""
        run = replayrun.session(tmp_path)

        def interrupt(_: str) -> None:
            run._abort()
            raise LabError("the host is gone")

        replaying("E14-F2 stock", halt=interrupt)
        run.run(RECORDED)
        run.run(NEVER)
        assert not (tmp_path / f"raw/{NEVER.id}/stock/record.json").exists()
        again = judged_again(tmp_path)
        assert list(again.finished) == [RECORDED.id] and again.parts == {NEVER.id: ()}

    @pytest.mark.parametrize(
        ("when", "kept"), [("as it goes back", True), ("before its end", False), ("and it does not go back", False)]
    )
    def test_what_was_seen_to_its_end_before_is_a_result(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str, kept: bool
    ) -> None:
        run, sound = replayrun.session(tmp_path), recorded_play()

        def play(*given: Any, at_end: Callable[[], None], **more: Any) -> PlayedSide:  # noqa: ANN401
            played = sound(*given, **more)
            if when == "before its end":
                run._abort()
            at_end()
            run._abort()
            return replace(played, error=LabError("it hangs")) if when == "and it does not go back" else played

        monkeypatch.setattr(module, "play", play)
        run.run(RECORDED)
        assert (tmp_path / f"raw/{RECORDED.id}/stock/record.json").exists() is kept

    def test_a_report_says_what_is_missing(
        self, tmp_path: Path, replaying: Callable[..., None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        replaying()
        assert len(play_recorded(tmp_path).scenarios) == 1
        status, text = report(tmp_path, capsys)
        assert status == 3 and "exit status 3" in text, "a run that was not played to its end is no good news"
        assert "CUT SHORT: 1 of 2 scenarios were played to their end\n  E14-F2-hvm-virtio-rng: not played" in text


class TestJudgedAgain:
    def test_a_session_and_a_replay_say_the_same(
        self, tmp_path: Path, replaying: Callable[..., None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        replaying()
        (result,) = play_recorded(tmp_path).scenarios
        assert (result.conclusion, result.stock.verdict) == (Conclusion.PROVEN, Verdict.PASS)
        assert main(["judge", str(tmp_path)]) == 0
        assert "2 SAME, 0 DIFFERS, 0 UNREADABLE" in capsys.readouterr().out

    def test_tries_that_the_emulator_spoiled(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Each has a record of its own, and what spoiled it is read from bytes once more."""
        sound, left = recorded_play(), [1]

        def play(row: Scenario, host: Host, evidence: EvidenceStore, progress: Progress, **more: object) -> PlayedSide:
            if not left:
                return sound(row, host, evidence, progress)
            left.pop()
            record = Record(row, reset_effective=True)
            record.silence = evidence.put("01-silence.txt", TRIPLE_FAULT.encode())
            error = emulator_fault("01-silence.txt", evidence)
            assert error is not None
            record.broken = Broken.by(error)
            return PlayedSide(observed(record, evidence), judge(record), error)

        monkeypatch.setattr(module, "play", play)
        (result,) = play_recorded(tmp_path).scenarios
        (spoiled,) = result.stock.attempts
        assert result.conclusion is Conclusion.PROVEN and result.stock.raw_directory.endswith("/stock-retry1")
        assert spoiled.raw is not None and spoiled.raw.path == f"raw/{RECORDED.id}/stock/record.json"
        assert main(["judge", str(tmp_path)]) == 0
        record_json = tmp_path / spoiled.raw.path
        whole = record_json.read_text()
        record_json.write_text(whole + " ")
        assert main(["judge", str(tmp_path)]) == 2, "the results seal it too"
        record_json.write_text(whole)
        (tmp_path / f"raw/{RECORDED.id}/stock-retry1/record.json").unlink()
        (tmp_path / "results.json").unlink()
        capsys.readouterr()
        status, text = report(tmp_path, capsys)
        assert status == 3 and "one side ended: no-maskall-reset FAIL" in text, (
            "a try that was to be made again is no end"
        )

    def test_the_users_own_known_issues_count_as_they_were(
        self, tmp_path: Path, replaying: Callable[..., None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        own = tmp_path / "own.yaml"
        own.write_text(
            "odd-thing:\n  title: t\n  document: docs/findings/odd.md\n  xen: ['4.20']\n  scenarios: ['E14-F1-*']\n"
            "  always: false\n  violated: [{at: C6, view: guest, subject: x}]\n"
        )
        replaying()
        run = replayrun.session(tmp_path / "run", own)
        run.run(RECORDED)
        run.finish()
        own.unlink()
        assert main(["judge", str(tmp_path / "run")]) == 0
        assert json.loads((tmp_path / "run/results.json").read_text())["scenarios"][0]["expected"]["issues"] == [
            "odd-thing"
        ]
        capsys.readouterr()
        copy = tmp_path / "run/known_issues.yaml"
        copy.write_text(copy.read_text().replace("4.20", "4.10"))
        assert main(["judge", str(tmp_path / "run")]) == 2
        assert "'known_issues.yaml' was changed after it was stored" in capsys.readouterr().err
