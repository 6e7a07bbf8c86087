"""What a ring has lost, taken from the host's console: all of it and nothing else, or not at all."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.xen.keys.messages import Log
from harness.xen.keys.ring import _Stream, gained, last_dump, recorded


def mark(number: int) -> str:
    return f"(XEN) Synced stime skew: max=9ns avg=9ns samples={number} current=9ns\n"


class Talk:
    """A host that speaks: both rings, of these sizes, and the console on which everything is recorded."""

    def __init__(self, seed: int, xen_size: int = 1000, dom0_size: int = 1000) -> None:
        self.chance = random.Random(seed)  # noqa: S311
        self.said = {Log.XEN: "", Log.DOM0: ""}
        self.size = {Log.XEN: xen_size, Log.DOM0: dom0_size}
        self.console = ""
        self.number = 0

    def lines(self, count: int) -> None:
        """Xen's lines stand whole on the console, dom0's and its programs' are cut into pieces by them."""
        pending = ""
        for _ in range(count):
            self.number += 1
            kind = self.chance.choice(["xen", "guest", "dom0", "login"])
            if kind in ("xen", "guest"):
                line = f"({'XEN' if kind == 'xen' else 'd1'}) line {self.chance.randrange(3)}\n"
                self.said[Log.XEN] += line
                cut = self.chance.randint(0, len(pending))
                self.console += pending[:cut] + line
                pending = pending[cut:]
                continue
            self.console += pending
            pending = f"[{self.number:5d}.000001] usb 1-1: message {self.number}\n" if kind == "dom0" else "login: \n"
            self.said[Log.DOM0] += pending if kind == "dom0" else ""
        self.console += pending

    def press(self) -> None:
        self.number += 1
        self.said[Log.XEN] += mark(self.number)
        self.console += mark(self.number)

    def ring(self, log: Log) -> bytes:
        held = self.said[log].encode()[-self.size[log] :]
        return held[held.find(b"\n") + 1 :] if log is Log.DOM0 and len(held) == self.size[log] else held

    def recording(self) -> bytes:
        return self.console.replace("\n", "\r\n").encode()


@given(st.integers(), st.integers(1, 300), st.integers(200, 3000), st.sampled_from(list(Log)))
def test_the_console_gives_back_exactly_what_is_lost(seed: int, more: int, size: int, log: Log) -> None:
    talk = Talk(seed, size, size)
    talk.lines(40)
    talk.press()
    before, at = talk.ring(log), len(talk.said[log])
    talk.lines(more)
    talk.press()
    now = talk.ring(log)
    gain, truth = gained(log, before, now), talk.said[log][at:].encode()
    if not gain.lost:
        assert gain.data == truth
        return
    found = recorded(log, before, now, talk.recording())
    if found is None:
        assert not _marked(log, before) or not _marked(log, now)
    else:
        assert found.data == truth
        assert found.raw in talk.recording()


def _marked(log: Log, text: bytes) -> bool:
    return (b"samples=" if log is Log.XEN else b".000001] ") in text


@pytest.fixture
def turned() -> tuple[bytes, bytes, bytes]:
    talk = Talk(7, 600)
    talk.lines(30)
    talk.press()
    before = talk.ring(Log.XEN)
    talk.lines(300)
    talk.press()
    now = talk.ring(Log.XEN)
    assert gained(Log.XEN, before, now).lost
    return before, now, talk.recording()


class TestNotWhole:
    """Where the console may not have all of it, it has nothing."""

    def test_it_is_whole(self, turned: tuple[bytes, bytes, bytes]) -> None:
        before, now, console = turned
        found = recorded(Log.XEN, before, now, console)
        assert found is not None and found.lines > 50

    def test_a_gap_in_the_recording(self, turned: tuple[bytes, bytes, bytes]) -> None:
        before, now, console = turned
        found = recorded(Log.XEN, before, now, console)
        assert found is not None
        begin = console.index(found.raw)
        for at in (begin, begin + 10, begin + len(found.raw)):
            assert recorded(Log.XEN, before, now, console, [at]) is None
        assert recorded(Log.XEN, before, now, console, [0]) is not None

    def test_an_anchor_that_is_not_on_it(self, turned: tuple[bytes, bytes, bytes]) -> None:
        before, now, console = turned
        first = console.index(b"samples=")
        assert recorded(Log.XEN, before, now, console[: console.rindex(b"samples=")]) is None
        assert recorded(Log.XEN, before, now, console[first + 20 :]) is None
        assert recorded(Log.XEN, b"(XEN) nothing of its kind\n", now, console) is None

    def test_a_console_that_says_something_else_than_the_ring(self, turned: tuple[bytes, bytes, bytes]) -> None:
        before, now, console = turned
        at = console.rindex(b"(XEN) line")
        assert recorded(Log.XEN, before, now, console[:at] + b"(XEN) another\r\n" + console[at:]) is None


def test_a_dump_that_no_ring_holds_is_taken_from_its_mark_on() -> None:
    talk = Talk(3, 120)
    talk.lines(20)
    talk.press()
    at = len(talk.said[Log.XEN]) - len(mark(talk.number))
    talk.lines(50)
    talk.press()
    found = recorded(Log.XEN, None, talk.ring(Log.XEN), talk.recording())
    assert found is not None and found.data == talk.said[Log.XEN][at:].encode()


def test_the_last_dump() -> None:
    old, new = "(XEN) old\n", "(XEN) new\n(XEN) newer\n"
    ring = f"cut\n{mark(1)}{old}{mark(2)}(XEN) news\n{mark(3)}{new}{mark(4)}(XEN) later\n"
    assert last_dump(ring.encode()).decode() == new
    assert last_dump(new.encode()).decode() == new


def test_a_console_without_a_line_of_the_log_begins_at_its_beginning() -> None:
    assert _Stream.of(Log.XEN, b"login: ").raw(0) == 0
