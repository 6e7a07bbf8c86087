"""Phases, the plain log and the live picture, on a clock that the test moves by hand."""

from __future__ import annotations

import io
import threading
import time

import pytest
from rich.console import Console

from harness.base.phases import Phases, merged
from harness.base.progress import PlainProgress, TerminalProgress, progress_for
from suites.selftest.fakes.patience import FOREVER


class Clock:
    """A monotonic clock that only moves when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_seconds_add_up_by_name(clock: Clock) -> None:
    phases = Phases(clock)
    for took in (1.5, 2.0):
        with phases.phase("create"):
            clock.now += took
    clock.now += 10
    assert phases.seconds == {"create": 3.5}
    assert phases.covered == 3.5


def test_a_nested_phase_is_covered_once(clock: Clock) -> None:
    phases = Phases(clock)
    with phases.phase("guest"):
        clock.now += 1
        with phases.phase("traffic"):
            clock.now += 2
    assert phases.seconds == {"traffic": 2.0, "guest": 3.0}
    assert phases.covered == 3.0


def test_a_failed_phase_counts_and_its_error_goes_on(clock: Clock) -> None:
    phases = Phases(clock)
    with pytest.raises(KeyError), phases.phase("restore"):
        clock.now += 4
        raise KeyError
    with phases.phase("restore"):
        clock.now += 1
    assert phases.seconds == {"restore": 5.0}
    assert phases.covered == 5.0, "after a failure the next phase is an outermost one again"


def test_phases_of_several_threads_do_not_nest_in_each_other(clock: Clock) -> None:
    phases = Phases(clock)
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with phases.phase("other"):
            inside.set()
            leave.wait(FOREVER)

    thread = threading.Thread(target=other)
    thread.start()
    assert inside.wait(FOREVER)
    with phases.phase("mine"):
        clock.now += 2
    leave.set()
    thread.join(FOREVER)
    assert phases.covered == 4.0, "two threads, two seconds each"


def test_merged_sums() -> None:
    assert merged({"a": 1.0, "b": 2.0}, {"b": 3.0, "c": 4.0}) == {"a": 1.0, "b": 5.0, "c": 4.0}


def test_the_plain_log_names_begin_and_the_end_of_what_was_long(clock: Clock) -> None:
    stream = io.StringIO()
    progress = PlainProgress(stream, clock=clock)
    with progress.phase("restore", 0.9):
        clock.now += 0.9
    with progress.phase("create"):
        clock.now += 2.0
    assert stream.getvalue().splitlines() == [
        "[    0.0] restore ...",
        "[    0.9] create ...",
        "[    2.9] create done after 2.0 s",
    ]
    assert progress.phases.seconds == pytest.approx({"restore": 0.9, "create": 2.0})


def test_a_short_failure_is_logged(clock: Clock) -> None:
    stream = io.StringIO()
    progress = PlainProgress(stream, clock=clock)
    with pytest.raises(ValueError, match="no"), progress.phase("restore"):
        raise ValueError("no")
    assert stream.getvalue().splitlines()[-1] == "[    0.0] restore failed after 0.0 s"


def test_sides_share_the_log_and_keep_their_own_seconds(clock: Clock) -> None:
    stream = io.StringIO()
    progress = PlainProgress(stream, clock=clock)
    clock.now += 7
    stock, control = progress.side("stock"), progress.side("control")
    with stock.phase("create"), control.phase("create"):
        clock.now += 3
    assert "[    7.0] stock: create ..." in stream.getvalue().splitlines()
    assert "[   10.0] control: create done after 3.0 s" in stream.getvalue().splitlines()
    assert (stock.phases.seconds, control.phases.seconds) == ({"create": 3.0}, {"create": 3.0})
    assert progress.phases.seconds == {}


def test_lines_of_two_threads_stay_whole() -> None:
    class Slow(io.StringIO):
        """Gives the other thread its chance in the middle of every line."""

        def write(self, text: str) -> int:
            for character in text:
                super().write(character)
                time.sleep(0)
            return len(text)

    stream = Slow()
    progress = PlainProgress(stream)
    start = threading.Barrier(2)

    def work(label: str) -> None:
        side = progress.side(label)
        start.wait(FOREVER)
        for number in range(50):
            side.note(f"<{label} {number}>")

    threads = [threading.Thread(target=work, args=(label,)) for label in ("stock", "control")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(FOREVER)
    lines = [line.partition("] ")[2] for line in stream.getvalue().splitlines()]
    assert sorted(lines) == sorted(f"{side}: <{side} {n}>" for side in ("stock", "control") for n in range(50))


def test_control_characters_in_a_note_are_inert() -> None:
    stream = io.StringIO()
    PlainProgress(stream).note("guest says \x1b[2Jgone\r\nPASS")
    assert stream.getvalue().count("\n") == 1
    assert "\\x1b[2Jgone\\x0d\\x0aPASS" in stream.getvalue()
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    with console.capture() as captured:
        TerminalProgress(console).note("guest says \x1b[2J [bold]gone")
    assert "\\x1b[2J [bold]gone" in captured.get()


def test_the_live_picture_shows_all_running_phases(clock: Clock) -> None:
    progress = TerminalProgress(Console(file=io.StringIO(), force_terminal=True, width=80), clock=clock)
    stock, control = progress.side("stock"), progress.side("control")
    assert progress.picture().plain == ""
    with stock.phase("guest A boots", 12):
        clock.now += 5
        with control.phase("restore"):
            clock.now += 1
            assert progress.picture().plain.splitlines() == [
                "stock: guest A boots 6 s of about 12 s",
                "control: restore 1 s",
            ]
        clock.now += 20
        assert progress.picture().plain == "stock: guest A boots 26 s of about 12 s, longer than usual"
    assert progress.picture().plain == ""
    assert stock.phases.seconds == {"guest A boots": 26.0}


def test_the_terminal_keeps_long_and_failed_phases(clock: Clock) -> None:
    screen = io.StringIO()
    with TerminalProgress(Console(file=screen, force_terminal=True, width=80), clock=clock) as progress:
        with progress.side("stock").phase("create"):
            clock.now += 3
        with progress.phase("short"):
            clock.now += 1
        with pytest.raises(KeyError), progress.phase("restore"):
            raise KeyError
    assert "stock: create done after 3.0 s" in screen.getvalue()
    assert "restore failed after 0.0 s" in screen.getvalue()
    assert "short done" not in screen.getvalue()


@pytest.mark.parametrize(
    ("terminal", "term", "expected"),
    [(True, "xterm", TerminalProgress), (True, "dumb", PlainProgress), (False, "xterm", PlainProgress)],
)
def test_the_right_kind_is_chosen(terminal: bool, term: str, expected: type) -> None:
    console = Console(file=io.StringIO(), force_terminal=terminal, _environ={"TERM": term})
    assert type(progress_for(console)) is expected
