"""How many hosts may be at work at a time, and how long they were."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator


class Slots:
    """`size` places; whoever finds none free waits. Safe for several threads."""

    def __init__(self, size: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._places = threading.Semaphore(size)
        self._lock = threading.Lock()
        self._clock = clock
        self._taken = 0
        self._changed = clock()
        self._busy = self._summed = 0.0

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Have a place for as long as the body runs."""
        with self._places:
            self._now(1)
            try:
                yield
            finally:
                self._now(-1)

    def _now(self, more: int) -> None:
        with self._lock:
            now = self._clock()
            passed, self._changed = now - self._changed, now
            self._busy += passed if self._taken else 0.0
            self._summed += passed * self._taken
            self._taken += more

    def wall(self, seconds: float) -> float:
        """Seconds of one place as a share of the time in which any was taken: two that work at once count half each."""
        with self._lock:
            return seconds * self._busy / self._summed if self._summed else 0.0
