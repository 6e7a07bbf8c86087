"""How `maskall run` ends, and what it says then; the lab and the playing are make-believe."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.base.errors import ExitStatus, LabError
from harness.cli.entry import main
from harness.judge.forecast import Forecast
from harness.judge.judgement import Conclusion
from harness.report.results import ScenarioResult
from suites.selftest.fakes.clihome import nothing_of_the_user
from suites.selftest.fakes.patience import FOREVER
from suites.selftest.fakes.samplerun import build, scenarios

__all__ = ["nothing_of_the_user"]
pytestmark = pytest.mark.whole


def _finished(*conclusions: Conclusion) -> dict[str, ScenarioResult]:
    return {one.conclusion: one for one in scenarios() if one.conclusion in conclusions}


@pytest.mark.parametrize(
    ("conclusion", "status"),
    [
        (Conclusion.PROVEN, ExitStatus.OK),
        (Conclusion.UNPROVEN, ExitStatus.OK),
        (Conclusion.REGRESSION, ExitStatus.FAILED),
        (Conclusion.BLIND, ExitStatus.FAILED),
        (Conclusion.KNOWN, ExitStatus.OK),
        (Conclusion.CHANGED, ExitStatus.FAILED),
        (Conclusion.UNDECIDED, ExitStatus.UNDECIDED),
        (Conclusion.SKIPPED, ExitStatus.NOTHING_RAN),
    ],
)
def test_run_ends_with_the_verdicts_exit_status(
    conclusion: Conclusion, status: ExitStatus, fake_lab: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    fake_lab["result"] = _finished(conclusion)[conclusion]
    assert main(["run", "--profile", "smoke"]) == status
    text = capsys.readouterr().out
    assert conclusion in text
    assert text.index("expected: PASS of 1 scenario") < text.index(f"{conclusion} "), "said before anything is played"


@pytest.fixture
def fake_lab(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, object]:
    """Everything of `maskall run` but the lab and the playing: a session that answers with `result`, or raises it."""
    answer: dict[str, object] = {}

    class Lab:
        def kept(self) -> list[Path]:
            return []

        def close(self) -> None:
            answer["closed"] = True

        def abort(self) -> None:
            """Nothing runs."""

    class FakeSession:
        begun = False

        def __init__(self, lab: object, plan: object, progress: object, **more: object) -> None:
            self.lab, self.plan, self.finished = lab, plan, []

        def forecast(self, scenario: object) -> Forecast:
            return Forecast()

        def run(self, scenario: object) -> ScenarioResult:
            result = answer["result"]
            if isinstance(result, BaseException):
                raise result
            assert isinstance(result, ScenarioResult)
            self.finished.append(result)
            return result

        def stop(self) -> None:
            """Nothing is under way."""

        def finish(self, *_: object) -> object:
            return build(self.finished)

    monkeypatch.setattr("harness.run.prepare.prepared_lab", lambda *_, **__: Lab())
    monkeypatch.setattr("harness.run.session.Session", FakeSession)
    return answer


def test_an_error_of_the_lab_ends_the_run_in_one_line(
    fake_lab: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    fake_lab["result"] = LabError("the disk is full", hint="free some")
    assert main(["run", "--profile", "smoke"]) == ExitStatus.UNDECIDED
    told = capsys.readouterr()
    assert told.err.splitlines() == ["maskall: the disk is full", "hint: free some"]
    assert "Traceback" not in told.out


def test_a_bug_is_one_line_and_a_file(fake_lab: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    fake_lab["result"] = KeyError("oops")
    assert main(["run", "--profile", "smoke"]) == ExitStatus.UNDECIDED
    told = capsys.readouterr()
    (line,) = told.err.splitlines()
    assert line.startswith("maskall: this is a bug in maskall: KeyError")
    assert "Traceback" not in told.out + told.err
    path = Path(line.rpartition(" ")[2].rstrip(")"))
    assert "Traceback" in path.read_text()
    path.unlink()


def test_two_workers_play_the_same(fake_lab: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    fake_lab["result"] = _finished(Conclusion.PROVEN)[Conclusion.PROVEN]
    assert main(["run", "E14-F[12]-hvm-nvme", "--workers", "2"]) == ExitStatus.OK
    assert "2 scenarios" in capsys.readouterr().out
    fake_lab["result"] = LabError("the disk is full")
    assert main(["run", "E14-F[12]-hvm-nvme", "--workers", "2"]) == ExitStatus.UNDECIDED
    assert capsys.readouterr().err.splitlines() == ["maskall: the disk is full"]


def test_ctrl_c_is_one_line_and_130(fake_lab: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    fake_lab["result"] = KeyboardInterrupt()
    assert main(["run", "--profile", "smoke"]) == 128 + signal.SIGINT
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_sigterm_cleans_up_and_ends_with_143(tmp_path: Path) -> None:
    program = (
        "import sys, time, harness.cli.entry as cli\n"
        "def wait(**_):\n"
        "    try:\n"
        "        print('up', flush=True)\n"
        "        time.sleep(60)\n"
        "    finally: print('cleaned', flush=True)\n"
        "cli.app = wait\n"
        "sys.exit(cli.main([]))\n"
    )
    with subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=FOREVER)
    assert process.returncode == 128 + signal.SIGTERM
    assert out == "cleaned\n"
    assert len(err.splitlines()) == 1


def test_a_task_that_was_cut_off_prints_no_traceback() -> None:
    program = (
        "import asyncio, gc, sys, harness.cli.entry as cli\n"
        "async def cut_off(): raise ConnectionError('Disconnected')\n"
        "def lose(**_):\n"
        "    loop = asyncio.new_event_loop()\n"
        "    loop.create_task(cut_off())\n"
        "    loop.run_until_complete(asyncio.sleep(0))\n"
        "    gc.collect()\n"
        "    loop.close()\n"
        "cli.app = lose\n"
        "sys.exit(cli.main([]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)  # noqa: S603
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("arguments", [["list"], []])
def test_a_reader_that_has_seen_enough_is_no_error(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "harness.cli", *arguments], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert done.stderr == ""
    assert done.returncode == 128 + signal.SIGPIPE


def test_other_projects_pytest_is_not_disturbed(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text("def test_it(request):\n    assert not request.config.args == []\n")
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "pytest", "-q", "--rootdir", str(tmp_path), str(tmp_path / "test_other.py")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "maskall" not in done.stdout
