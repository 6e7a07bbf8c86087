"""The `maskall` command as a person meets it: one line for every mistake, help everywhere, exit statuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.base.errors import ExitStatus
from harness.cli.entry import main
from harness.run.store import dump
from suites.selftest.fakes.clihome import nothing_of_the_user
from suites.selftest.fakes.samplerun import build, scenarios

__all__ = ["nothing_of_the_user"]
VERBS = ["run", "list", "coverage", "schema", "report", "shell", "mutants", "soak", "bisect", "bench", "test"]
VERBS += ["doctor", "plan", "provision", "unprovision", "restore"]
NESTED = ["build", "up", "down", "status", "clean"]


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
        ("report nowhere.json --format jnit", "did you mean 'junit'"),
        ("run E14-F1-hvm-nvme --rounds 5", "E3-F7"),
        ("run E3-F7-hvm-nvme --rounds 2", "--help"),
        ("run E16-F1-hvm-nvme", "see maskall coverage"),
        ("run E5-F1-pv-virtio-rng", "see maskall coverage"),
        ("soak --for 2", "2h"),
        ("run --for 2", "2h"),
        ("coverage --stack trixi", "trixie"),
        ("soak --profile smoek", "smoke"),
        ("soak --runs 0", "--help"),
        ("soak --resume nowhere", "--resume wants a soak's directory"),
        ("soak --resume nowhere --stack trixie", "leave it out"),
        ("bisect E14", "--repo and --good and --bad and --build and --takes must be given"),
        ("bisect --repo . --good a --bad b --build make --takes xen.gz", "which scenario tells good from bad"),
        ("bisect --repo . --good a --bad b --build make --takes xen.gz E41", "did you mean E"),
        ("bisect --repo . --good a --bad b --build m --takes x E14 --rounds 2 --bad-from 3", "never comes"),
        ("bisect --repo / --good a --bad b --build m --takes x E14", "/ is no git repository"),
        ("bisect --resume nowhere", "--resume wants a directory with bisect.json"),
        ("run --bad-is 'C6 x'", "goes with --bisect"),
        ("run --xen /etc/passwd", "'make -C xen' leaves xen/xen.gz"),
        ("run --control-xen nowhere", "cannot be read"),
        ("run --qemu-dm /etc/passwd", "no program for x86-64"),
        ("run --xen-tools nowhere", "install-tools DESTDIR"),
        ("run --xen-tools .", "these are not Xen's tools"),
        ("run --dom0-kernel nowhere", "cannot be read"),
        ("run --dom0-kernel /etc/passwd", "'make bzImage' leaves"),
        ("run --dom0-modules .", "they belong to with --dom0-kernel"),
        ("run --guest-kernel /etc/passwd", "'make bzImage' leaves"),
        ("run --guest-modules .", "they belong to with --guest-kernel"),
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
    """The command and the plugin; then the help of every command, where typer itself may bring pydantic."""
    commands = [[], ["nested"], ["practice"], *([verb] for verb in VERBS), *(["nested", one] for one in NESTED)]
    program = (
        "import contextlib, io, sys, harness.cli.app, harness.plugin\n"
        "heavy = ['paramiko', 'cryptography', 'yaml', 'qemu.qmp', 'rich.table', 'sushy', 'harness.judge']\n"
        "print([name for name in (*heavy, 'pydantic') if name in sys.modules])\n"
        "from harness.cli.entry import main\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n"
        f"    assert not any([main([*command, '--help']) for command in {commands!r}])\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)  # noqa: S603
    assert done.stdout == "[]\n[]\n"


def test_results_are_not_written_over_others(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "results.json").touch()
    assert main(["run", "--results", str(tmp_path / "old")]) == ExitStatus.USAGE
    assert "not empty" in capsys.readouterr().err


def test_list_names_what_can_be_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == ExitStatus.OK
    text = capsys.readouterr().out
    for word in ("E14", "F8", "clear_maskall", "nvme", "trixie", "no-maskall-reset", "smoke", "expects"):
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
