"""What a ring has lost, taken from the host's console: all of it and nothing else, or not at all."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.xen.keys.messages import Log
from harness.xen.keys.ring import Gain, _Stream, advice, gained, last_dump, recorded


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
        whole = now if log is Log.DOM0 else now.partition(b"\n")[2]
        assert found.lines == max(truth.count(b"\n") - whole.count(b"\n"), 0)
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
        assert recorded(Log.XEN, before, b"(XEN) nothing of its kind\n", console) is None
        assert recorded(Log.XEN, before, mark(9999).encode(), console) is None
        assert recorded(Log.XEN, None, mark(9999).encode(), console) is None

    def test_a_console_that_says_something_else_than_the_ring(self, turned: tuple[bytes, bytes, bytes]) -> None:
        before, now, console = turned
        at = console.rindex(b"(XEN) line")
        assert recorded(Log.XEN, before, now, console[:at] + b"(XEN) another\r\n" + console[at:]) is None


def test_what_the_console_shows_to_be_all_is_not_lost() -> None:
    """The ring has lost the last line that is alone, and nothing else: no line is on the console alone."""
    alike, last, new = "(XEN) a line of a dump\n", mark(1), f"(XEN) new\n{mark(2)}"
    now = (alike * 3)[5:] + new
    found = recorded(Log.XEN, (last + alike * 3).encode(), now.encode(), (last + alike * 3 + new).encode())
    assert found is not None
    assert (found.data.decode(), found.lines) == (new, 0)


def test_a_recording_that_begins_with_the_last_line_that_is_known() -> None:
    known, lost, new = (f"[    {second}.000001] message {second}\n".encode() for second in range(3))
    found = recorded(Log.DOM0, known, new, known + lost + new)
    assert found is not None
    assert (found.raw, found.data, found.lines) == (lost, lost + new, 1)


def test_a_line_of_dom0s_that_xen_wrote_into_is_not_whole() -> None:
    """What dom0 says within a line of Xen's cannot be told from it; Xen's own line is there all the same."""
    known, new = b"[    1.000001] message 1\n", b"[    2.000001] message 2\n"
    torn = b"(XEN) d1v0 [    1.500000] message\n"
    assert recorded(Log.DOM0, known, new, known + b"(XEN) d1v0\n" + new) is not None
    assert recorded(Log.DOM0, known, new, known + torn + new) is None
    found = recorded(Log.XEN, mark(1).encode(), mark(2).encode(), mark(1).encode() + torn + mark(2).encode())
    assert found is not None and found.raw == torn


def test_a_gap_right_behind_the_last_line_that_is_known() -> None:
    known, lost, new = (f"[    {second}.000001] message {second}\n".encode() for second in range(3))
    console = b"login: \n" + known + b"login: \n" + lost + new
    gaps = {at: recorded(Log.DOM0, known, new, console, [at]) is None for at in range(len(console))}
    seen = range(console.index(known), console.index(new) + 1)
    assert gaps == {at: at in seen for at in gaps}


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


def test_dom0s_last_lines_behind_xens_are_there() -> None:
    console = "(XEN) one\n" + "".join(f"[{second:5d}.000001] message {second}\n" for second in range(3))
    assert _Stream.of(Log.DOM0, console.encode()).text.decode() == console.partition("\n")[2]


def test_a_ring_that_turned_and_has_no_line_that_is_alone_may_have_lost_some() -> None:
    alike = b"(XEN) a line that any number of dumps of any debug key may have printed\n"
    gain = gained(Log.XEN, b"(XEN) old\n" + alike * 2, alike * 2 + b"(XEN) new\n")
    assert gain.data == b"(XEN) new\n"
    assert gain.lost.endswith("no line of the last reading that is alone of its kind is left in it")


def test_a_ring_that_is_not_full_has_lost_nothing() -> None:
    assert gained(Log.XEN, b"(XEN) a\n", b"(XEN) a\n(XEN) b\n") == Gain(b"(XEN) b\n")


def test_the_first_reading_gains_all() -> None:
    assert gained(Log.DOM0, None, b"all\n") == Gain(b"all\n")


def test_the_longest_end_is_looked_for_behind_a_beginning_that_is_alike() -> None:
    alike = b"(XEN) what each reading of a ring that turns by whole dumps may begin with\n"
    last = mark(1).encode()
    assert gained(Log.XEN, alike + b"(XEN) x\n" + alike + last, alike + last + b"(XEN) new\n") == Gain(b"(XEN) new\n")


def test_a_ring_may_begin_in_the_middle_of_a_line_of_signs() -> None:
    last, new = mark(1).encode(), b"(XEN) new\n"
    before = b"(XEN) " + b"=" * 80 + b"\n" + last
    for left in (66, 67):
        assert gained(Log.XEN, before, b"=" * left + b"\n" + last + new) == Gain(new), left


@pytest.mark.parametrize("length", [63, 64])
def test_what_is_too_short_to_be_known_again_is_taken_for_new(length: int) -> None:
    before = b"(XEN) " + b"." * 80 + b"\n" + mark(1).encode()
    gain = gained(Log.XEN, before, before[-length:])
    assert (gain.data, bool(gain.lost)) == ((before[-length:], True) if length < 64 else (b"", False))


def test_four_times_as_much_as_came_is_advised() -> None:
    assert advice(Log.DOM0, b"." * 1024, b"." * (1 << 20)) == "it holds 1 KiB; boot with log_buf_len=4M"


@pytest.mark.parametrize(("kib", "wanted"), [(1, 1), (256, 1), (257, 2), (512, 2), (2048, 8)])
def test_four_times_as_much_as_it_holds_is_advised(kib: int, wanted: int) -> None:
    told = f"it holds {kib} KiB; boot with conring_size={wanted}M"
    assert advice(Log.XEN, b"." * (kib << 10), b"") == told
