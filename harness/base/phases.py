"""How long each phase took, added up by name; results and benchmarks read it. No clock of its own."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping


class Phases:
    """Adds up seconds by name of phase, on a monotonic clock given by the caller. Safe for several threads.

    A phase may contain others: each counts its full time under its own name, but `covered` counts only the
    outermost one of a thread, so that no second is in it twice.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._depth = threading.local()
        self._seconds: dict[str, float] = {}
        self._covered = 0.0

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time inside, also when it ends by an exception."""
        depth: int = getattr(self._depth, "now", 0)
        self._depth.now = depth + 1
        began = self._clock()
        try:
            yield
        finally:
            took = self._clock() - began
            self._depth.now = depth
            with self._lock:
                self._seconds[name] = self._seconds.get(name, 0.0) + took
                self._covered += 0.0 if depth else took

    @property
    def seconds(self) -> dict[str, float]:
        """A copy: name -> seconds, in the order in which phases first ended."""
        with self._lock:
            return dict(self._seconds)

    @property
    def covered(self) -> float:
        """Seconds spent inside any phase, summed over threads, nested ones once."""
        with self._lock:
            return self._covered


def merged(*several: Mapping[str, float]) -> dict[str, float]:
    """The sums of several `Phases.seconds`."""
    names = dict.fromkeys(name for one in several for name in one)
    return {name: sum(one.get(name, 0.0) for one in several) for name in names}
