"""`maskall test`: what tox is handed on; and `--fuzz`, whose first round that fails ends it, with the example."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from harness.base.errors import ExitStatus, UsageError
from harness.cli.entry import main

command = importlib.import_module("harness.cli.test")

BROKEN = """
import os
from hypothesis import given, strategies as st

def test_without_examples():
    assert False, "not asked for"

@given(st.integers())
def test_with(number):
    assert os.environ["MASKALL_EXAMPLES"] == "fuzz"
    assert number < 1000
"""


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "suites" / "selftest"
    folder.mkdir(parents=True)
    (folder / "test_it.py").write_text(BROKEN)
    monkeypatch.setattr(command, "checkout", lambda: tmp_path)
    return tmp_path


def test_what_it_finds_is_shown_and_fails(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", "--fuzz", "60"]) == ExitStatus.FAILED
    out = capsys.readouterr().out
    assert "number=1000" in out and "not asked for" not in out
    assert out.splitlines()[-1].startswith("round 1 did not pass")


def test_time_that_is_over_is_no_failure(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command._search(tree, 0.0, []) == 0
    assert "0 whole rounds: nothing was found" in capsys.readouterr().out


def test_without_hypothesis_it_says_what_to_do(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="hypothesis is not installed"):
        command._search(tree, 60.0, [])


def test_tox_gets_what_it_hands_on_to_pytest(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not without the two dashes, behind which an option is none of tox's own."""
    asked: list[list[str]] = []
    monkeypatch.setattr(command.os, "execv", lambda _, argv: asked.append(argv))
    monkeypatch.setattr(command.os, "chdir", lambda _: None)
    words = ["-e", "nested", "--", "-k", "E14", "--maskall-for=5m", "--", "x"]
    main(["test", *words])
    main(["test"])
    assert [argv[argv.index("tox") + 1 :] for argv in asked] == [words, []]
