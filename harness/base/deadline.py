"""One deadline passed down through every wait, and the single helper that is allowed to sleep."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Deadline:
    """A moment on the monotonic clock. Made once by the caller, shared by all it calls."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """A deadline `seconds` from now."""
        return cls(time.monotonic() + seconds)

    @property
    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.at - time.monotonic())

    @property
    def expired(self) -> bool:
        return time.monotonic() >= self.at

    def sooner(self, seconds: float) -> Deadline:
        """The nearer of this deadline and `seconds` from now."""
        return Deadline(min(self.at, time.monotonic() + seconds))


def poll(probe: Callable[[], T | None], deadline: Deadline, *, every: float = 0.05) -> T | None:
    """Ask `probe` until it answers with something true or the deadline is over; None then.

    The only place in the harness that sleeps; use it where no event can be waited for.
    """
    while True:
        answer = probe()
        if answer:
            return answer
        if deadline.expired:
            return None
        time.sleep(min(every, deadline.remaining))
