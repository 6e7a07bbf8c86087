"""Two things at a time: both are done, an error of either is heard, and nobody waits after one."""

from __future__ import annotations

import threading

import pytest

from harness.base.beside import beside
from harness.base.errors import LabError
from suites.selftest.fakes.patience import FOREVER


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


def test_a_body_that_is_broken_off_waits_for_nobody() -> None:
    never = threading.Event()
    with pytest.raises(KeyboardInterrupt), beside(lambda: never.wait(FOREVER)):
        raise KeyboardInterrupt
    assert any(thread.name == "beside" and thread.daemon for thread in threading.enumerate())
    never.set()
