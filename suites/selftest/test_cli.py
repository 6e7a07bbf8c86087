"""The `maskall` command as a person meets it: one line for every mistake, help everywhere, exit statuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from samplerun import build, scenarios

from harness.cli.entry import main
from harness.errors import ExitStatus, LabError
from harness.options import RunOptions
from harness.report.results import ScenarioResult
from harness.report.store import dump
from harness.scenario.forecast import Forecast
from harness.scenario.verdict import Conclusion

VERBS = ["run", "list", "test", "bench", "coverage", "soak", "shell", "schema", "report"]
NESTED = ["build", "up", "down", "status", "clean"]


@pytest.fixture(autouse=True)
def nothing_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("MASKALL_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ("run E41", "did you mean E"),
        ("run --toolstack libvrt", "did you mean 'libvirt'"),
        ("run --toolstack xm", "did you mean 'xl'"),
        ("run 'E14-F1-hvm-nvm'", "E14-F1-hvm-nvme"),
        ("run --stack trixi", "trixie"),
        ("run --device nvem", "nvme"),
        ("run --profile smoek", "smoke"),
        ("run --mutant no-maskal-reset", "no-maskall-reset"),
        ("run --no-control --mutant no-maskal-reset", "no-maskall-reset"),
        ("run --devices nvme", "--device"),
        ("rnu", "run"),
        ("nested biuld", "build"),
        ("nested build --stack bookwrm", "bookworm"),
        ("nested down run-1", "nested up"),
        ("shell run-1", "nested up"),
        ("run --mirror gopher://x", "URI"),
        ("report nowhere.json", ""),
        ("run E14-F1-hvm-nvme --rounds 5", "E3-F7"),
        ("run E3-F7-hvm-nvme --rounds 2", "--help"),
        ("run E16-F1-hvm-nvme", "see maskall coverage"),
        ("run E5-F1-pv-virtio-rng", "see maskall coverage"),
        ("soak --for 2", "2h"),
        ("coverage --stack trixi", "trixie"),
        ("soak --profile smoek", "smoke"),
        ("soak --runs 0", "--help"),
        ("soak --resume nowhere", "--resume wants a soak's directory"),
        ("soak --resume nowhere --stack trixie", "leave it out"),
        ("run --workers 0", "workers"),
        ("run --workers two", "workers"),
    ],
)
def test_a_mistake_is_one_line_with_the_nearest_word(
    arguments: str, hint: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(arguments.replace("'", "").split()) == ExitStatus.USAGE
    told = capsys.readouterr()
    assert told.out == ""
    first, *rest = told.err.splitlines()
    assert first.startswith("maskall: ")
    assert len(rest) <= 1
    assert hint in told.err
    assert not list(tmp_path.glob("**/*")), "a mistake must leave nothing behind"


@pytest.mark.parametrize(
    ("text", "place", "named"),
    [
        ("", "1:1", "empty"),
        ("a: [", "1:5", "YAML"),
        ("mine:\n  layer: 5\n", "mutants.yaml:2", "layer"),
        (
            "mine: {layer: hypervisor, stands_for: x, notices: [E41], "
            'builds: {trixie: [{symbol: f, find: "90", replace: "c3"}]}}',
            "mutants.yaml",
            "did you mean 'E",
        ),
    ],
)
def test_a_malformed_mutants_file_is_refused_with_its_place(
    text: str, place: str, named: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "mutants.yaml"
    path.write_text(text)
    assert main(["run", "--mutants", str(path)]) == ExitStatus.USAGE
    told = capsys.readouterr().err
    assert str(path) in told
    assert place in told
    assert named in told


def test_a_command_alone_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == ExitStatus.USAGE
    told = capsys.readouterr()
    assert told.out.startswith("Usage: maskall")
    assert told.err == ""


@pytest.mark.parametrize("command", [[], *([verb] for verb in VERBS), ["nested"], *(["nested", one] for one in NESTED)])
def test_every_command_has_help_that_shows_an_example(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--help"]) == ExitStatus.OK
    text = capsys.readouterr().out
    assert "Usage: maskall" in text
    assert command == ["nested"] or f"maskall {' '.join(command)}".strip() in text.partition("Usage")[2][10:]


def test_help_and_collection_load_nothing_heavy() -> None:
    program = (
        "import sys, harness.cli.app, harness.plugin\n"
        "print([name for name in ('paramiko', 'pydantic', 'yaml', 'qemu.qmp', 'rich.table') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)  # noqa: S603
    assert done.stdout == "[]\n"


def test_results_are_not_written_over_others(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "results.json").touch()
    assert main(["run", "--results", str(tmp_path / "old")]) == ExitStatus.USAGE
    assert "not empty" in capsys.readouterr().err


def test_options_survive_the_way_through_pytest(pytestconfig: pytest.Config) -> None:
    given = RunOptions(
        scenario=("E14",),
        profile="smoke",
        inventory=Path("lab.yaml"),
        host="a",
        stack="bookworm",
        device=("nvme",),
        mutant="m",
        no_control=True,
        mutants=Path("m.yaml"),
        known_issues=Path("k.yaml"),
        results=Path("r"),
        keep=True,
        trace=True,
        workers=3,
        rounds=5,
        yes=True,
    )
    words = given.arguments()
    assert "--maskall-no-control" in words
    assert "--maskall-mutants=m.yaml" in words
    assert RunOptions().arguments() == []
    for word in words:
        option = word.partition("=")[0].removeprefix("--").replace("-", "_")
        assert pytestconfig.getoption(option, default=...) is not ..., f"pytest does not know {word}"


def test_list_names_what_can_be_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == ExitStatus.OK
    text = capsys.readouterr().out
    for word in ("E14", "F8", "nvme", "trixie", "no-maskall-reset", "smoke", "expects"):
        assert word in text
    assert main(["list", "--all"]) == ExitStatus.OK
    assert any(line.startswith("E14-F1-hvm-nvme") for line in capsys.readouterr().out.splitlines())


def test_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == ExitStatus.OK
    assert json.loads(capsys.readouterr().out)["title"].startswith("maskall results")


def test_report_prints_the_table_and_returns_the_runs_status(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    dump(build(scenarios()), tmp_path / "results.json")
    assert main(["report", str(tmp_path)]) == ExitStatus.FAILED
    text = capsys.readouterr().out
    assert "PROVEN" in text
    assert "repeat just this" in text


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
        def __init__(self, lab: object, plan: object, progress: object) -> None:
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

        def finish(self) -> object:
            return build(self.finished)

    monkeypatch.setattr("harness.prepare.prepared_lab", lambda *_, **__: Lab())
    monkeypatch.setattr("harness.session.Session", FakeSession)
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
        out, err = process.communicate(timeout=20)
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
