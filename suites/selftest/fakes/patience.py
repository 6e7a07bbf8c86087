"""How long a self-test waits for what must happen: as long as it takes, whatever the machine does meanwhile.

A wait in vain is ended by the timeout of the test (suites/selftest/conftest.py), which shows where every thread stands.
So nothing is asserted of a clock: what must not wait for its deadline gets one that never comes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from harness.base.deadline import Deadline, poll

FOREVER = 3600.0
"""Seconds; far beyond the timeout of a self-test."""

MEANT_TO_PASS = 1.0
"""Seconds; a wait that is meant to end in vain is not longer, any other is FOREVER."""


def soon(seconds: float = FOREVER) -> Deadline:
    """For what happens by itself; with `seconds` for what does not."""
    return Deadline.after(seconds)


@dataclass(frozen=True)
class Once(Deadline):
    """Over as soon as something has happened, however long that takes: who asks what is left is kept until then."""

    happened: Callable[[], object]

    @classmethod
    def it(cls, happened: Callable[[], object]) -> Once:
        return cls(math.inf, happened)

    @property
    def remaining(self) -> float:
        poll(lambda: bool(self.happened()), soon(), every=0.01)
        return 0.0

    @property
    def expired(self) -> bool:
        return bool(self.happened())
