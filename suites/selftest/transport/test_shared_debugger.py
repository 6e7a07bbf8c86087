"""One debugger for two: what the background serves, what who attaches gets to see, and that nobody misses a stop."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Iterator

import pytest

from harness.base.deadline import Deadline, poll
from harness.base.errors import HarnessBug, LabError
from harness.transport import shared_debugger
from harness.transport.debugger import Registers, Stop, StoppedMachine
from harness.transport.shared_debugger import SharedDebugger
from suites.selftest.fakes.fakemachine import FakeMachine
from suites.selftest.fakes.patience import soon

OURS, THEIRS = 0x1000, 0x2000


class LiveMachine(FakeMachine):
    """Runs until a stop is `fed`, and waits for one as the real one does, only not as long."""

    def __init__(self) -> None:
        super().__init__()
        self.fed: queue.Queue[Stop | LabError] = queue.Queue()
        self.running = False

    def feed(self, address: int, *, written: int | None = None) -> None:
        self.fed.put(Stop(Registers(address, 0x8000), written))

    def go(self) -> None:
        super().go()
        assert not self.running
        self.running = True

    def wait(self, deadline: Deadline) -> Stop | None:
        assert self.running
        with contextlib.suppress(queue.Empty):
            stop = self.fed.get(timeout=min(0.005, max(0.0, deadline.remaining)))
            if isinstance(stop, LabError):
                raise stop
            self.running = False
            return stop
        return None

    def stop(self) -> None:
        self.running = False


class Background:
    def __init__(self) -> None:
        self.machine = LiveMachine()
        self.served: list[int] = []
        self.shared = SharedDebugger(self.machine, [OURS], self.serve)

    def serve(self, machine: StoppedMachine, registers: Registers) -> None:
        assert not self.machine.running, "what is served must stand still"
        machine.read(registers.rip, 4)
        self.served.append(registers.rip)

    def has_served(self, times: int) -> bool:
        return poll(lambda: len(self.served) == times or None, soon(), every=0.002) is not None


@pytest.fixture
def background() -> Iterator[Background]:
    made = Background()
    with made.shared:
        yield made
    assert not made.machine.attached
    assert made.machine.breakpoints == set()


def test_stops_of_the_background_are_served(background: Background) -> None:
    for _ in range(3):
        background.machine.feed(OURS)
    assert background.has_served(3)
    assert background.shared.stops == 3
    assert background.shared.seconds_stopped > 0


def test_who_attaches_finds_the_machine_standing_and_leaves_it_running(background: Background) -> None:
    background.machine.put(0x40, b"\x07")
    with background.shared.attach() as machine:
        assert not background.machine.running
        assert machine.read(0x40, 1) == b"\x07"
        machine.write(0x40, b"\x08")
        machine.write_physical(0x50, b"\x09")
        assert machine.read_physical(0x50, 1) == b"\x09"
    assert poll(lambda: background.machine.running or None, soon())
    assert background.machine.memory[0x40] == 8


def test_each_sees_only_stops_of_its_own(background: Background) -> None:
    with background.shared.attach() as machine:
        machine.break_at(THEIRS)
        machine.go()
        background.machine.feed(OURS)
        background.machine.feed(THEIRS)
        stop = machine.wait(soon())
        assert stop is not None and stop.registers.rip == THEIRS
        assert background.served == [OURS]
        assert not background.machine.running
        machine.clear(THEIRS)
        machine.go()
        background.machine.feed(OURS)
        assert background.has_served(2)
        assert machine.wait(Deadline.after(0.02)) is None


def test_a_breakpoint_of_both_is_served_and_seen(background: Background) -> None:
    with background.shared.attach() as machine:
        machine.break_at(OURS)
        machine.go()
        background.machine.feed(OURS)
        stop = machine.wait(soon())
        assert stop is not None and background.served == [OURS]
        machine.clear(OURS)
    assert OURS in background.machine.breakpoints, "the background's own stays"


def test_what_was_left_behind_is_taken_away(background: Background) -> None:
    with contextlib.suppress(ZeroDivisionError), background.shared.attach() as machine:
        machine.break_at(THEIRS)
        machine.break_at(OURS)
        machine.watch(0x40, 4)
        raise ZeroDivisionError
    assert background.machine.breakpoints == {OURS}
    assert "unwatch 0x40 4" in background.machine.log
    background.machine.feed(OURS)
    assert background.has_served(1)


def test_a_watched_write_belongs_to_who_attached(background: Background) -> None:
    with background.shared.attach() as machine:
        machine.watch(0x40, 4)
        machine.unwatch(0x40, 4)
        machine.watch(0x44, 4)
        machine.go()
        background.machine.feed(OURS, written=0x44)
        stop = machine.wait(soon())
        assert stop is not None and stop.written == 0x44
    assert background.served == []


def test_a_machine_that_is_stopped_again_keeps_its_stop_for_later(background: Background) -> None:
    with background.shared.attach() as machine:
        machine.go()
        machine.stop()
        assert not background.machine.running
        machine.go()
        background.machine.feed(OURS)
        assert background.has_served(1)


def test_a_debugger_that_is_lost_is_told_to_everybody() -> None:
    made = Background()
    with pytest.raises(LabError, match="the debugger was lost: gone"), made.shared:
        made.machine.fed.put(LabError("gone"))
        with pytest.raises(LabError, match="the debugger was lost: gone"):
            for _ in range(1000):
                with made.shared.attach():
                    pass


def test_a_bug_in_what_serves_is_told_as_one() -> None:
    made = Background()

    def serve(machine: StoppedMachine, registers: Registers) -> None:
        raise ZeroDivisionError("oops")

    made.shared = SharedDebugger(made.machine, [OURS], serve)
    made.machine.feed(OURS)
    with pytest.raises(HarnessBug, match="serving a stop failed: ZeroDivisionError: oops"), made.shared:
        assert poll(lambda: made.machine.attached is False or None, soon())
    assert made.machine.breakpoints == set()


def test_a_debugger_that_was_never_there() -> None:
    class NoMachine(LiveMachine):
        def break_at(self, address: int) -> None:
            raise LabError("refused")

    made = Background()
    made.shared = SharedDebugger(NoMachine(), [OURS], made.serve)
    with pytest.raises(LabError, match="the debugger was lost: refused"), made.shared:
        raise AssertionError("entered without a debugger")


def test_a_machine_that_does_not_stop(monkeypatch: pytest.MonkeyPatch, background: Background) -> None:
    background.machine.feed(OURS)
    assert background.has_served(1)
    monkeypatch.setattr(shared_debugger, "_PATIENCE_SECONDS", 0.0)
    with background.shared._turn, pytest.raises(LabError, match="could not be stopped"):
        background.shared.hold()
    background.shared.release()
    monkeypatch.undo()
