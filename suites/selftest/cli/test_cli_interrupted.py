"""Ctrl-C in the middle of a run: a real signal, through the command, pytest and the schedule; only the lab is fake."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from suites.selftest.fakes.patience import FOREVER

pytestmark = pytest.mark.whole

PROGRAM = """
import os, signal, sys, threading
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what runs in the background deaf to it
from harness.base.errors import LabError
from harness.cli.entry import main
from harness.run import prepare, side
from suites.selftest.fakes.patience import FOREVER
from suites.selftest.fakes.sessionrun import FakeLab

class Lab(FakeLab):
    ended = threading.Event()

    def abort(self):
        self.ended.set()

lab, meeting = Lab(), threading.Barrier(int(sys.argv[1]))

def play(*_, **__):
    if meeting.wait(FOREVER) == 0:
        print("at work", flush=True)
    assert lab.ended.wait(FOREVER)
    raise LabError("the machine is gone")

prepare.prepared_lab = lambda *_, **__: lab
side.play = play
status = main(["run", "E14-F1-hvm-nvme", "--workers", sys.argv[1], "--results", sys.argv[2]])
print("aborted:", lab.ended.is_set(), "hosts left:", lab.now, "threads left:", threading.active_count() - 1, flush=True)
sys.exit(status)
"""


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_sides_and_leaves_nothing_at_work(
    tmp_path: Path, number: signal.Signals, workers: int
) -> None:
    results = tmp_path / "results"
    with subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", PROGRAM, str(workers), str(results)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert any(line == "at work\n" for line in process.stdout)
        process.send_signal(number)
        out, err = process.communicate(timeout=FOREVER)
    assert process.returncode == 128 + number, out + err
    assert err == "maskall: interrupted; everything was cleaned up\n"
    assert out.splitlines()[-1] == "aborted: True hosts left: 0 threads left: 0"
    assert not (results / "results.json").exists(), "what was cut off is no result"
