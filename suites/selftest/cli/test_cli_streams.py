"""Where a command prints to may be full or closed: told in one line, and no file takes the place of a stream."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from suites.selftest.fakes.patience import FOREVER

pytestmark = pytest.mark.whole

PROGRAM = "import sys; from harness.cli.entry import main; sys.exit(main(sys.argv[1:]))"


@pytest.mark.parametrize("words", [["list"], ["--help"], ["schema"]])
def test_a_full_disk(words: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-c", PROGRAM, *words], stdout=full, stderr=subprocess.PIPE, text=True, timeout=FOREVER
        )
    told = "maskall: standard output could not be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (3, told)


CLOSED = """
import os, sys
from harness.cli.entry import main
status = main(["--help"])
free = os.open(os.devnull, os.O_RDONLY)
open(sys.argv[1], "w").write(f"{status} {free > 2}")
"""


@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams(tmp_path: Path, closed: str) -> None:
    """As some programs start what they start."""
    told = tmp_path / "told"
    argv = ["sh", "-c", f'"$@" {closed}', "sh", sys.executable, "-c", CLOSED, str(told)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=FOREVER)  # noqa: S603
    assert (done.stdout, done.stderr, told.read_text()) == ("", "", "0 True")
