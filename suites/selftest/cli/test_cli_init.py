"""`maskall init`: a project that pytest collects, with names that there are, and nothing of anybody's written over."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from harness.base.errors import ExitStatus
from harness.cli.entry import main
from harness.cli.init import FILES
from harness.lab.inventory.models import load_inventory

pytest_plugins = ("pytester",)


def test_a_project_is_collected(pytester: pytest.Pytester) -> None:
    assert main(["init", str(pytester.path / "mine")]) == ExitStatus.OK
    assert sorted(path.name for path in (pytester.path / "mine").iterdir()) == sorted(FILES)
    assert load_inventory(pytester.path / "mine/inventory.yaml").host("nested").kind == "nested"
    pytester.chdir()
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--collect-only", "-q", "mine")
    assert result.stdout.lines[:2] == [
        "test_next_guest.py::test_next_guest_gets_interrupts[stock]",
        "test_next_guest.py::test_next_guest_gets_interrupts[no-maskall-reset]",
    ]


def test_a_machine_without_its_programs_is_told_what_to_type(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pytest in the new project, where no other program is: one line, and nothing is left behind."""
    assert main(["init", "mine"]) == ExitStatus.OK
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.chdir("mine")
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:xdist")
    text = result.stdout.str() + result.stderr.str()
    assert "maskall: missing on this machine: mmdebstrap" in text and "apt-get install" in text
    assert "Traceback" not in text and result.ret == ExitStatus.USAGE
    assert sorted(path.name for path in Path().iterdir()) == sorted(FILES)


def test_the_lab_host_of_the_inventory_is_one_once_its_own_words_are_filled_in(pytester: pytest.Pytester) -> None:
    assert main(["init", "mine"]) == ExitStatus.OK
    file = Path("mine/inventory.yaml")
    public = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEAhkkQWJnxAcRlDQEEWd0HIrtnYoUGcXPhCuQP9/PyU"
    text = re.sub(r"^  # (?! *A machine| *MASK)", "  ", file.read_text(), flags=re.MULTILINE)
    file.write_text(text.replace("ssh-ed25519 AAAA...", public))
    host = load_inventory(file).host("xenbox1")
    assert (host.kind, list(host.devices)) == ("lab", ["nic0"])


def test_nothing_is_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pytest.ini").write_text("mine")
    assert main(["init", str(tmp_path)]) == ExitStatus.USAGE
    assert f"{tmp_path / 'pytest.ini'} is there already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["pytest.ini"]


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["init", str(tmp_path / "file" / "below")]) == ExitStatus.USAGE
    assert "Traceback" not in capsys.readouterr().err
