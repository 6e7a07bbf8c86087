"""Who plays when: places for hosts, the order in which jobs begin, and the one way in which all of it ends."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")


class Schedule(Generic[T]):
    """Plays jobs, `places` of them at a time, and hands out what each comes to as it ends.

    An iterator for one thread, which also does all the bookkeeping: only the jobs run in threads of their own.
    `upcoming` gives the next job whenever a place is free and somebody waits for a result; None is nothing for now,
    and the end once nothing is under way. So a single place never plays ahead of whoever asks.

    Whatever ends one job ends all: the exception of a job, or Ctrl-C in the thread that waits, calls `abort`, which
    makes the jobs under way come back, and goes on once they are back. What they came to then is no result.
    """

    def __init__(self, upcoming: Callable[[], Callable[[], T] | None], places: int, abort: Callable[[], None]) -> None:
        self._upcoming = upcoming
        self._places = places
        self._abort = abort
        self._pool = ThreadPoolExecutor(places, thread_name_prefix="job")
        self._under_way: list[Future[T]] = []  # in the order in which they began

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        try:
            while len(self._under_way) < self._places and (job := self._upcoming()) is not None:
                self._under_way.append(self._pool.submit(job))
            if self._under_way:
                wait(self._under_way, return_when=FIRST_COMPLETED)
                first = next(one for one in self._under_way if one.done())
                self._under_way.remove(first)
                return first.result()
        except BaseException:  # Ctrl-C above all
            self._abort()
            self.stop()
            raise
        raise StopIteration

    def stop(self) -> None:
        """Begin nothing more, end what is under way, and wait for it. Safe to call again."""
        if not all(one.done() for one in self._under_way):
            self._abort()
        self._under_way.clear()
        self._upcoming = lambda: None
        self._pool.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
