"""Places for hosts: never more than there are, and the time in which any was at work."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from harness.run.slots import Slots


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Crowd:
    most: int = 0
    inside: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def enter(self, slots: Slots, pause: threading.Event) -> None:
        with slots.taken():
            with self.lock:
                self.inside += 1
                self.most = max(self.most, self.inside)
            pause.wait(0.01)
            with self.lock:
                self.inside -= 1


@pytest.mark.parametrize("size", [1, 2, 3])
def test_never_more_than_there_are(size: int) -> None:
    crowd, slots = Crowd(), Slots(size)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: crowd.enter(slots, threading.Event()), range(12)))
    assert crowd.most == size


def test_one_after_the_other_counts_in_full() -> None:
    clock = Clock()
    slots = Slots(2, clock)
    for _ in range(2):
        with slots.taken():
            clock.now += 10
        clock.now += 3  # nobody is at work: time of the harness
    assert slots.wall(20) == 20


def test_two_at_once_count_half_each() -> None:
    clock = Clock()
    slots = Slots(2, clock)
    with slots.taken(), slots.taken():
        clock.now += 10
    assert slots.wall(20) == 10
    assert slots.wall(18) == 9, "a tenth was not covered"


def test_a_place_is_given_back_after_a_failure() -> None:
    slots = Slots(1)
    with pytest.raises(ZeroDivisionError), slots.taken():
        raise ZeroDivisionError
    with slots.taken():
        pass


def test_nothing_was_done() -> None:
    assert Slots(2).wall(5) == 0
