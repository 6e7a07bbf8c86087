"""Places for hosts: never more at work than there are, in order, nothing ahead of whoever asks, one way to end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import pytest

from harness.run.schedule import Schedule
from suites.selftest.fakes.patience import FOREVER


@dataclass
class Work:
    """Jobs by number; each may wait for the others. `most` were at work at once."""

    begun: list[int] = field(default_factory=list)
    now: int = 0
    most: int = 0
    aborted: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def job(self, number: int, body: Callable[[], object] = lambda: None) -> Callable[[], int]:
        def play() -> int:
            with self.lock:
                self.begun.append(number)
                self.now += 1
                self.most = max(self.most, self.now)
            try:
                body()
            finally:
                with self.lock:
                    self.now -= 1
            return number

        return play

    def schedule(self, jobs: Iterable[Callable[[], int]], places: int) -> Schedule[int]:
        upcoming = iter(jobs)
        return Schedule(lambda: next(upcoming, None), places, self.aborted.set)


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.mark.parametrize("places", [1, 2, 3])
def test_all_are_played_and_never_more_at_a_time_than_there_are_places(work: Work, places: int) -> None:
    together = threading.Barrier(places, timeout=FOREVER)
    with work.schedule((work.job(number, together.wait) for number in range(6)), places) as schedule:
        assert sorted(schedule) == list(range(6))
    assert work.most == places
    assert not work.aborted.is_set(), "nothing was under way any more"


def test_each_is_handed_out_as_it_ends(work: Work) -> None:
    second = threading.Event()
    with work.schedule([work.job(1, lambda: second.wait(FOREVER)), work.job(2)], 2) as schedule:
        assert next(schedule) == 2
        second.set()
        assert list(schedule) == [1]


def test_one_place_plays_nothing_ahead_of_whoever_asks(work: Work) -> None:
    with work.schedule((work.job(number) for number in range(3)), 1) as schedule:
        assert next(schedule) == 0
        assert work.begun == [0]
        assert next(schedule) == 1
        assert work.begun == [0, 1]


def test_it_asks_again_for_what_was_not_to_be_played_yet(work: Work) -> None:
    """A mutant waits for the stock cell: None is no end while something is under way."""
    answers = iter([work.job(1), None, work.job(2), None, None])
    assert list(Schedule(lambda: next(answers), 2, work.aborted.set)) == [1, 2]


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_what_ends_one_ends_all_and_begins_no_other(work: Work, error: type[BaseException]) -> None:
    def fail() -> None:
        while 2 not in work.begun:  # the other is under way
            work.aborted.wait(0.001)
        raise error

    schedule = work.schedule([work.job(1, fail), work.job(2, lambda: work.aborted.wait(FOREVER)), work.job(3)], 2)
    with pytest.raises(error):
        next(schedule)
    assert (work.now, sorted(work.begun)) == (0, [1, 2]), "both are back, and the third never began"
    assert list(schedule) == []


def test_ctrl_c_while_it_waits_ends_what_is_under_way(work: Work) -> None:
    """As signals do: the exception comes up in the thread that waits, and not in a job."""
    begun = threading.Event()

    def body() -> None:
        begun.set()
        work.aborted.wait(FOREVER)

    def jobs() -> Iterator[Callable[[], int]]:
        yield work.job(1, body)
        assert begun.wait(FOREVER)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        next(work.schedule(jobs(), 2))
    assert work.aborted.is_set()
    assert work.now == 0


def test_whoever_stops_asking_ends_what_is_under_way(work: Work) -> None:
    jobs = [work.job(1), work.job(2, lambda: work.aborted.wait(FOREVER))]
    with pytest.raises(LookupError), work.schedule(jobs, 2) as schedule:
        assert next(schedule) == 1
        raise LookupError
    assert work.aborted.is_set()
    assert work.now == 0
