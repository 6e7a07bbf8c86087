"""`maskall run --stack all`: one run per stack, one table, the worst exit status."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.base.errors import ExitStatus, LabError, UsageError
from harness.cli.entry import main
from harness.host.stacks import stacks as known_stacks
from harness.judge.judgement import Conclusion
from harness.report.results import RunResult
from harness.run.options import RunOptions
from harness.run.store import dump
from suites.selftest.fakes.samplerun import build, scenarios

pytestmark = pytest.mark.whole

NAMES = [name for name, one in known_stacks().items() if one.base == name]  # others are played when they are named


def run_of(stack: str, *conclusions: Conclusion) -> RunResult:
    run = build([one for one in scenarios() if one.conclusion in conclusions])
    facts = {**run.host.facts, "stack": stack, "xen_version": f"4.{len(stack)}.1"}
    return run.model_copy(update={"host": run.host.model_copy(update={"facts": facts})})


@dataclass
class Ran:
    """What a play of one stack leaves: results, or an error of the lab, or both."""

    result: RunResult | None
    error: BaseException | None = None


@dataclass
class Player:
    """Answers `play` by stack and remembers what it was asked for."""

    answers: dict[str, Ran]
    asked: list[RunOptions] = field(default_factory=list)

    def __call__(self, options: RunOptions) -> Ran:
        self.asked.append(options)
        assert options.stack is not None and options.results is not None
        answer = self.answers[options.stack]
        if answer.result is not None:
            dump(answer.result, options.results / "results.json")
        return answer


@pytest.fixture
def player(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Player:
    monkeypatch.chdir(tmp_path)
    made = Player({name: Ran(run_of(name, Conclusion.PROVEN)) for name in NAMES})
    monkeypatch.setattr("harness.cli.run.play", made)
    return made


def test_all_stacks_are_played_each_into_its_own_directory(player: Player, tmp_path: Path) -> None:
    assert main(["run", "E14-F1-hvm-nvme", "--stack", "all", "--results", str(tmp_path / "r")]) == ExitStatus.OK
    assert [one.stack for one in player.asked] == NAMES
    assert [one.results for one in player.asked] == [tmp_path / "r" / name for name in NAMES]
    assert {one.scenario for one in player.asked} == {("E14-F1-hvm-nvme",)}


def test_stacks_are_taken_as_named_and_each_once(player: Player) -> None:
    assert (
        main(["run", "E14", *(word for name in ("bullseye", "trixie", "bullseye") for word in ("--stack", name))]) == 0
    )
    assert [one.stack for one in player.asked] == ["bullseye", "trixie"]


def test_one_with_only_another_qemu_is_played_when_it_is_named(player: Player) -> None:
    assert NAMES == ["trixie", "bookworm", "bullseye"]
    player.answers["trixie+qemu11"] = Ran(run_of("trixie+qemu11", Conclusion.PROVEN))
    assert main(["run", "E14", "--stack", "all", "--stack", "trixie+qemu11"]) == 0
    assert [one.stack for one in player.asked] == [*NAMES, "trixie+qemu11"]


def test_one_table_shows_stack_by_stack_what_was_expected_and_seen(
    player: Player, capsys: pytest.CaptureFixture[str]
) -> None:
    player.answers["bullseye"] = Ran(run_of("bullseye", Conclusion.KNOWN, Conclusion.CHANGED))
    assert main(["run", "E14", "--stack", "all"]) == ExitStatus.FAILED
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 120
    rows = [line.split() for line in text.splitlines()]
    assert ["bullseye", "E5-F1", "FAIL", "FAIL", "-", "yes", "KNOWN", "52s"] in rows
    assert ["bullseye", "E17-F1", "FAIL", "PASS", "-", "yes", "CHANGED", "52s"] in rows
    assert ["trixie", "E14-F1", "PASS", "PASS", "FAIL", "yes/yes", "PROVEN", "52s"] in rows
    assert any(row[:3] == ["bullseye", "Xen", "4.8.1:"] for row in rows)


@pytest.mark.parametrize(
    ("conclusions", "status"),
    [
        ([Conclusion.PROVEN, Conclusion.KNOWN, Conclusion.UNPROVEN], ExitStatus.OK),
        ([Conclusion.PROVEN, Conclusion.REGRESSION, Conclusion.UNDECIDED], ExitStatus.FAILED),
        ([Conclusion.PROVEN, Conclusion.UNDECIDED, Conclusion.SKIPPED], ExitStatus.UNDECIDED),
        ([Conclusion.PROVEN, Conclusion.PROVEN, Conclusion.SKIPPED], ExitStatus.NOTHING_RAN),
    ],
)
def test_the_exit_status_is_the_worst(player: Player, conclusions: list[Conclusion], status: ExitStatus) -> None:
    player.answers |= {name: Ran(run_of(name, one)) for name, one in zip(NAMES, conclusions, strict=False)}
    assert main(["run", "E14", "--stack", "all"]) == status


def test_a_stack_that_cannot_be_built_does_not_stop_the_others(
    player: Player, capsys: pytest.CaptureFixture[str]
) -> None:
    player.answers["trixie"] = Ran(None, LabError("no mirror answers"))
    assert main(["run", "E14", "--stack", "all"]) == ExitStatus.UNDECIDED
    assert [one.stack for one in player.asked] == NAMES
    told = capsys.readouterr()
    assert told.err == "maskall: stack trixie: no mirror answers\n"
    assert "bookworm E14-F1" in told.out


@pytest.mark.parametrize("error", [UsageError("a package is missing"), KeyError("oops")])
def test_what_every_stack_would_meet_ends_the_run(player: Player, error: BaseException) -> None:
    player.answers["trixie"] = Ran(None, error)
    assert main(["run", "E14", "--stack", "all"]) == (2 if isinstance(error, UsageError) else 3)
    assert [one.stack for one in player.asked] == ["trixie"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--stack", "all", "E41"], "no scenario matches"),
        (["--stack", "trixie", "--stack", "bookwrm"], "did you mean 'bookworm'?"),
        (["--stack", "alll"], "did you mean 'all'?"),
    ],
)
def test_a_mistake_is_told_before_anything_is_played(
    player: Player, arguments: list[str], told: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["run", *arguments]) == ExitStatus.USAGE
    assert told in capsys.readouterr().err
    assert player.asked == []
    assert not list(tmp_path.iterdir())


LAB = """\
hosts:
  bench:
    kind: lab
    address: 10.0.0.1
    user: root
    key: ~/.ssh/id
    host_key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl
    devices:
      disk0: {identity: {id: "1b36:0010", serial: abc}, driver: nvme, endings: [E3], recover: [flr]}
"""


def test_a_lab_host_has_one_stack_its_own(player: Player, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "lab.yaml").write_text(LAB)
    assert main(["run", "--stack", "all", "--inventory", str(tmp_path / "lab.yaml")]) == ExitStatus.USAGE
    assert "--stack is for the nested host" in capsys.readouterr().err
    assert player.asked == []


def test_a_lab_host_cannot_be_traced(player: Player, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "lab.yaml").write_text(LAB)
    assert main(["run", "--trace", "--inventory", str(tmp_path / "lab.yaml")]) == ExitStatus.USAGE
    assert "a lab host has no debugger to stop its hypervisor with" in capsys.readouterr().err
    assert player.asked == []


def test_the_table_is_printed_again_from_the_directory(
    player: Player, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    player.answers["bookworm"] = Ran(run_of("bookworm", Conclusion.CHANGED))
    assert main(["run", "E14", "--stack", "all", "--results", str(tmp_path / "r")]) == ExitStatus.FAILED
    capsys.readouterr()
    assert main(["report", str(tmp_path / "r")]) == ExitStatus.FAILED
    text = capsys.readouterr().out
    assert all(name in text for name in NAMES) and "CHANGED" in text
    assert main(["report", str(tmp_path / "r"), "--format", "junit"]) == ExitStatus.USAGE
    told = capsys.readouterr()
    assert told.out == "" and "stacks, and junit tells of one" in told.err and str(tmp_path / "r/bookworm") in told.err


def test_what_a_stack_is_expected_to_lack_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--stack", "trixie"]) == ExitStatus.OK
    assert "expected: FAIL of E17-" not in capsys.readouterr().out
    assert main(["list", "--stack", "bullseye"]) == ExitStatus.OK
    text = capsys.readouterr().out
    assert "expected: PASS of" in text
    assert "expected: FAIL of E17-" in text and "fix 913751d7af is not in Xen 4.14" in text
    assert main(["list", "--stack", "trixi"]) == ExitStatus.USAGE
    assert "did you mean 'trixie'?" in capsys.readouterr().err
