"""Somebody's own tests on a lent machine, written with the fixtures, over ssh alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.base.deadline import Deadline, poll
from harness.base.errors import ExitStatus
from harness.cli import main
from harness.nested.practice import Practice
from suites.lab.onsite import DEVICE, as_before, controller, site

__all__ = ["as_before", "controller", "site"]

HELD = """
import time
from pathlib import Path

def test_it(pci_device, make_guest):
    make_guest(pci_device)
    Path("held").touch()
    time.sleep(3600)
"""


class TestSomebodysOwnTests:
    """Written with the fixtures, over ssh alone."""

    def start(self, practice: Practice, folder: Path, test: Path) -> subprocess.Popen[str]:
        place = [f"--maskall-inventory={practice.inventory}", f"--maskall-host={practice.name}"]
        words = [
            *place,
            f"--maskall-device={DEVICE}",
            f"--maskall-results={folder / 'results'}",
            "-p",
            "no:cacheprovider",
        ]
        return subprocess.Popen(  # noqa: S603 - our own interpreter
            [sys.executable, "-m", "pytest", *words, f"--rootdir={test.parent}", str(test)],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    @pytest.mark.usefixtures("as_before")
    def test_the_report_of_2019(self, practice: Practice, tmp_path: Path) -> None:
        example = Path(__file__).parents[1] / "examples/test_2019_report.py"
        process = self.start(practice, tmp_path, example)
        said, _ = process.communicate()
        assert process.returncode == ExitStatus.OK, said
        proven = "PROVEN     test_2019_report.py::test_next_guest_gets_interrupts"
        assert f"\n{proven}  stock PASS, control no-maskall-reset FAIL" in said, said

    @pytest.mark.usefixtures("as_before")
    def test_a_pytest_that_is_killed_is_undone_by_restore(self, practice: Practice, tmp_path: Path) -> None:
        test = tmp_path / "test_mine.py"
        test.write_text(HELD)
        process = self.start(practice, tmp_path, test)
        try:
            assert poll((tmp_path / "held").exists, Deadline.after(400), every=1.0)
        finally:
            process.kill()
        said, _ = process.communicate()
        words = [
            "restore",
            practice.name,
            "--inventory",
            str(practice.inventory),
            "--take-over",
            "its pytest was killed",
        ]
        assert main(words) == ExitStatus.OK, said
