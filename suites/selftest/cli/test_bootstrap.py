"""tools/maskall, the way from nothing to the command; pip and venv are played by a python3 of ours, no network."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from suites.selftest.fakes.patience import FOREVER

ROOT = Path(__file__).resolve().parents[3]

# Answers what the bootstrap asks of python3: its version, whether it has venv, `-m venv`, and in the environment
# `-m pip install` and `-m harness.cli`.
PYTHON = """#!/bin/sh
case "$*" in
*version_info*) echo "$FAKE_VERSION"; [ "$FAKE_VERSION" != 3.9.2 ] ;;
*ensurepip*) exit 0 ;;
*"-m venv"*) for last; do :; done; mkdir -p "$last/bin"; cp "$0" "$last/bin/python"; echo venv >>"$FAKE_LOG" ;;
*"pip install"*) case "$*" in *"[dev]") echo pip-dev ;; *) echo pip ;; esac >>"$FAKE_LOG"
    [ -z "${FAKE_PIP_FAILS:-}" ] || { echo "no such package"; exit 1; } ;;
*"-m harness.cli"*) shift 3; printf 'ran in %s:' "$PWD"; printf ' <%s>' "$@"; echo ;;
*) echo "unexpected: $*" >&2; exit 99 ;;
esac
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A checkout with a blank in its path, and a python3 of ours."""
    checkout = tmp_path / "my clone"
    (checkout / "tools").mkdir(parents=True)
    shutil.copy(ROOT / "tools" / "maskall", checkout / "tools")
    (checkout / "pyproject.toml").write_text("first\n")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").write_text(PYTHON)
    (tmp_path / "bin" / "python3").chmod(0o755)
    return checkout


def call(clone: Path, *arguments: str, program: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    base = clone.parent
    return subprocess.run(  # noqa: S603
        [str(program or clone / "tools" / "maskall"), *arguments],
        cwd=base,
        env={
            "PATH": f"{base / 'bin'}:{os.environ['PATH']}",
            "MASKALL_CACHE": str(base / "a cache"),
            "FAKE_LOG": str(base / "log"),
            "FAKE_VERSION": "3.11.2",
            **env,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=FOREVER,
    )


def done(clone: Path) -> list[str]:
    log = clone.parent / "log"
    return log.read_text().split() if log.exists() else []


def test_first_start_prepares_and_the_next_does_not(clone: Path) -> None:
    first = call(clone, "run", "two words", "")
    assert first.stdout == f"ran in {clone.parent}: <run> <two words> <>\n"
    assert "preparing" in first.stderr
    again = call(clone, "list")
    assert (again.stdout, again.stderr) == (f"ran in {clone.parent}: <list>\n", "")
    assert done(clone) == ["venv", "pip"]


def test_what_tests_need_comes_with_the_first_test(clone: Path) -> None:
    for words in (["list"], ["test", "-e", "self"], ["test"], ["run"]):
        assert call(clone, *words).returncode == 0
    assert done(clone) == ["venv", "pip", "pip-dev"]


def test_a_machine_that_only_tests_installs_once(clone: Path) -> None:
    for words in (["test"], ["run"], ["test"]):
        assert call(clone, *words).returncode == 0
    assert done(clone) == ["venv", "pip-dev"]


def test_works_through_a_symlink(clone: Path) -> None:
    link = clone.parent / "m"
    link.symlink_to(clone / "tools" / "maskall")
    assert call(clone, "list", program=link).returncode == 0
    assert call(clone, "list").stderr == "", "the same checkout has the same environment"


def test_another_pyproject_makes_another_environment_and_removes_the_old(clone: Path) -> None:
    call(clone)
    (clone / "pyproject.toml").write_text("second\n")
    call(clone)
    assert done(clone) == ["venv", "pip"] * 2
    assert len(list((clone.parent / "a cache").glob("venv-*"))) == 1


def test_a_failed_installation_is_one_line_and_begun_anew(clone: Path) -> None:
    failed = call(clone, FAKE_PIP_FAILS="1")
    assert failed.returncode == 3
    assert failed.stdout == ""
    assert "no such package" in failed.stderr.splitlines()[-1]
    assert "bootstrap.log" in failed.stderr.splitlines()[-1]
    assert not list((clone.parent / "a cache").glob("venv-*"))
    assert call(clone).returncode == 0


def test_a_failed_addition_leaves_what_was_there(clone: Path) -> None:
    call(clone)
    assert call(clone, "test", FAKE_PIP_FAILS="1").returncode == 3
    assert call(clone, "list").stderr == ""
    assert "preparing" in call(clone, "test").stderr
    assert done(clone) == ["venv", "pip", "pip-dev", "pip-dev"]


def test_an_interrupted_preparation_is_not_mistaken_for_an_environment(clone: Path) -> None:
    call(clone)
    (ready,) = (clone.parent / "a cache").glob("venv-*/maskall-ready")
    ready.unlink()
    assert "preparing" in call(clone).stderr


def test_an_old_python_is_refused(clone: Path) -> None:
    refused = call(clone, FAKE_VERSION="3.9.2")
    assert refused.returncode == 2
    assert refused.stderr == f"maskall: Python 3.11 or newer is needed, {clone.parent / 'bin/python3'} is 3.9.2\n"


def test_rules_for_linters_make_no_other_environment(clone: Path) -> None:
    call(clone)
    (clone / "pyproject.toml").write_text("first\n[tool.ruff]\nline-length = 100\n")
    call(clone)
    assert done(clone) == ["venv", "pip"]
