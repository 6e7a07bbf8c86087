"""The table of options on its ways into a run: pytest's command line, its ini file, typer's, and the object itself."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from harness.base.errors import ExitStatus, UsageError
from harness.cli.entry import main
from harness.plugin import Given, options
from harness.run.option import Only, Option, joined, with_kind
from harness.run.options import TABLE, RunOptions
from harness.run.selection import chosen
from suites.selftest.cli.test_cli_stacks import LAB
from suites.selftest.fakes.clihome import nothing_of_the_user

__all__ = ["nothing_of_the_user"]
pytestmark = pytest.mark.whole

EVERY = RunOptions(
    scenario=("E14-F1-*", "E1-F1-hvm-nvme"),
    profile="smoke",
    inventory=Path("lab.yaml"),
    host="a",
    stack="bookworm",
    toolstack="libvirt",
    device=("nvme", "e1000e"),
    mutant="m",
    xen=Path("xen.gz"),
    xen_tools=Path("dist/install"),
    dom0_kernel=Path("bzImage"),
    dom0_modules=Path("installed"),
    guest_kernel=Path("vmlinuz"),
    guest_modules=Path("lib/modules"),
    qemu_dm=Path("qemu-system-i386"),
    control_xen=Path("base/xen.gz"),
    no_control=True,
    fresh_controls=True,
    mutants=Path("m.yaml"),
    known_issues=Path("k.yaml"),
    results=Path("r"),
    keep=True,
    resume=Path("results/monday"),
    failed=Path("results/tuesday"),
    challenge="7f3a9c",
    shard="2/3",
    history=Path("lab.sqlite"),
    trace=True,
    repeat=2,
    for_="1h30m",
    rounds=5,
    workers=3,
    cold=True,
    accept=("siblings=both are ours",),
    wait=7,
    take_over="ada is on holiday",
    mirror="http://localhost/debian",
    yes=True,
)


@dataclass
class Spy:
    """What pytest was asked for, looked at before anything is collected and before anything is checked."""

    seen: RunOptions | None = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        self.seen = options(config)


Asked = Callable[..., RunOptions]


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    """The options of a pytest with these words and this ini file."""

    def ask(*words: str, ini: str = "") -> RunOptions:
        (tmp_path / "pytest.ini").write_text(f"[pytest]\n{ini}")
        spy = Spy()
        pytest.main(["-c", str(tmp_path / "pytest.ini"), "-p", "no:terminal", str(tmp_path), *words], plugins=[spy])
        assert spy.seen is not None
        return spy.seen

    return ask


def pairs(given: RunOptions) -> list[tuple[Option, Any]]:
    return [(row, getattr(given, row.name)) for row in TABLE]


def test_every_option_is_given_another_value_here() -> None:
    assert [row.name for row, value in pairs(EVERY) if value == row.default] == []


def test_pytest_reads_what_the_table_writes(asked: Asked) -> None:
    words = [word.replace("--", "--maskall-", 1) if word.startswith("--") else word for word in joined(pairs(EVERY))]
    assert asked(*words) == EVERY
    assert asked() == RunOptions()
    assert joined(pairs(RunOptions())) == []


def test_typer_reads_what_the_table_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """`maskall run` takes scenarios as arguments and several stacks; all the rest is the table's."""
    played: list[RunOptions] = []
    monkeypatch.setattr("harness.cli.run.run_scenarios", lambda options: played.append(options) or 0)
    words = joined((row, value) for row, value in pairs(EVERY) if row.name != "scenario")
    assert main(["run", *words, *EVERY.scenario]) == ExitStatus.OK
    assert main(["run"]) == ExitStatus.OK
    assert played == [EVERY, RunOptions()]


def test_the_ini_file_says_what_is_so_in_this_place(asked: Asked, tmp_path: Path) -> None:
    ini = "maskall_inventory = inventory/lab.yaml\nmaskall_device =\n  nic0\n  nic1\nmaskall_workers = 1\n"
    ini += "maskall_yes = true\n"
    given = asked(ini=ini)
    assert given == RunOptions(
        inventory=tmp_path / "inventory/lab.yaml", device=("nic0", "nic1"), workers=1, yes=True
    ), "a path is relative to the file it stands in"
    assert asked("--maskall-device=nvme", "--maskall-workers", "2", ini=ini) == replace(
        given, device=("nvme",), workers=2
    ), "the command line goes before it"


@dataclass
class Collected:
    """What a pytest printed that collected one test of ours and one that is none, and how it ended."""

    folder: Path
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *words: str, ini: str = "") -> tuple[int, str]:
        (self.folder / "pytest.ini").write_text(f"[pytest]\n{ini}")
        (self.folder / "test_it.py").write_text("def test_it(maskall_scenario): pass\n")
        (self.folder / "test_other.py").write_text("def test_other(): pass\n")
        options = ["-q", "--collect-only", "-s", "--import-mode=importlib", "-c", str(self.folder / "pytest.ini")]
        status = pytest.main([*options, *words])
        told = self.capsys.readouterr()
        assert "Traceback" not in told.out + told.err
        return status, told.out + told.err


@pytest.fixture
def collected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Collected:
    return Collected(tmp_path, capsys)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--maskall-workers two", "--maskall-workers: invalid literal for int()"),
        ("--maskall-workers 0", "--maskall-workers: 0 is not in the range 1<=x<=16"),
        ("--maskall-rounds 61", "--maskall-rounds: 61 is not in the range 3<=x<=60"),
        ("--maskall-stack trixi", "maskall: unknown stack 'trixi'"),
        ("--maskall-wait 5", "maskall: --wait is for a lab host"),
    ],
)
def test_a_mistake_on_pytests_command_line_is_one_line(collected: Collected, words: str, told: str) -> None:
    status, text = collected(*words.split(), str(collected.folder))
    assert status == pytest.ExitCode.USAGE_ERROR
    assert told in text


@pytest.mark.parametrize(
    ("ini", "told"),
    [
        ("maskall_workers = 0", "maskall_workers: 0 is not in the range"),
        ("maskall_stack = trixi", "maskall: unknown stack 'trixi'"),
    ],
)
def test_a_mistake_in_the_ini_file_is_told_to_those_who_use_it(collected: Collected, ini: str, told: str) -> None:
    status, text = collected(str(collected.folder / "test_it.py"), ini=ini)
    assert status != 0
    assert told in text
    assert collected(str(collected.folder / "test_other.py"), ini=ini)[0] == 0


def test_whoever_calls_pytest_gives_the_object(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\nmaskall_workers = 1\n")
    spy = Spy()
    words = ["-c", str(tmp_path / "pytest.ini"), "-p", "no:terminal", str(tmp_path)]
    pytest.main(words, plugins=[spy, Given(EVERY)])
    assert spy.seen is EVERY, "as it is, whatever an ini file says"


def test_help_is_the_same_on_both_ways(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["run", "--help"]) == ExitStatus.OK
    by_typer = " ".join(capsys.readouterr().out.split())
    pytest.main(["--help"])
    by_pytest = " ".join(capsys.readouterr().out.split())
    assert "Leave host and guests running; nested host only." in by_typer
    for row in TABLE:
        assert with_kind(row) in by_pytest
        assert f"--maskall-{row.flag[2:]}" in by_pytest
        if row.name not in ("scenario", "stack"):  # of which a run takes several, each in its own way
            assert with_kind(row) in by_typer


@pytest.mark.parametrize("row", [row for row in TABLE if row.only is not None], ids=lambda row: row.name)
def test_what_is_for_the_other_kind_of_host_is_refused(row: Option, tmp_path: Path) -> None:
    lab = tmp_path / "lab.yaml"
    lab.write_text(LAB)
    given = RunOptions(inventory=lab) if row.only is Only.NESTED else RunOptions()
    with pytest.raises(UsageError, match=f"{row.flag} is for {row.only}.*{row.why}"):
        chosen(replace(given, **{row.name: getattr(EVERY, row.name)}))


def test_the_command_to_repeat_says_what_it_takes_to_do_the_same_again() -> None:
    words = shlex.split(EVERY.repeat_options)
    told = {word for word in words if word.startswith("--")}
    assert told == {row.flag for row in TABLE if row.repeat}
    assert words[words.index("--accept") + 1] == "siblings=both are ours"
    assert RunOptions().repeat_options == ""
    assert RunOptions(profile="certify").repeat_options == " --profile certify", "it is strict"
