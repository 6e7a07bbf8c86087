"""Two things at a time: both are done, an error of either is heard, and nobody waits after one."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from harness.base.beside import beside
from harness.base.deadline import poll
from harness.base.errors import CommandFailed, LabError
from harness.base.process import run
from suites.selftest.fakes.patience import FOREVER, soon


def test_both_go_on_at_the_same_time_and_both_are_done() -> None:
    here, there, done = threading.Event(), threading.Event(), list[str]()

    def work() -> None:
        there.set()
        assert here.wait(FOREVER)
        done.append("work")

    with beside(work):
        assert there.wait(FOREVER)
        here.set()
    assert done == ["work"]


def test_what_the_work_raised_is_raised_at_the_end() -> None:
    def work() -> None:
        raise LabError("no mirror")

    with pytest.raises(LabError, match="no mirror"), beside(work):
        pass


def test_a_body_that_is_broken_off_ends_what_the_work_waits_for(tmp_path: Path) -> None:
    begun, seen = tmp_path / "begun", list[str]()

    def work() -> None:
        try:
            run(["sh", "-c", f"touch {begun}; exec sleep {FOREVER}"], deadline=soon())
        except CommandFailed as error:
            seen.append(error.message.partition(":")[0])

    with pytest.raises(KeyboardInterrupt), beside(work):
        assert poll(begun.exists, soon(), every=0.01)
        raise KeyboardInterrupt
    assert seen == ["exit status 143"]
