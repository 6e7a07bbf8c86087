"""One debugger for two: breakpoints served in the background, while others attach as if they were alone.

A gdbstub serves one client. So whoever stays attached for long becomes the host's debugger: others attach through it,
get the machine stopped, and see only stops of their own; those of the background are served in between.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Collection, Iterator

from harness.base.deadline import Deadline
from harness.base.errors import HarnessBug, LabError, MaskallError
from harness.transport.debugger import Debugger, Registers, Stop, StoppedMachine

_SLICE_SECONDS = 0.1  # how long somebody who wants to stop the machine waits for that
_PATIENCE_SECONDS = 30.0

Served = Callable[[StoppedMachine, Registers], None]


class SharedDebugger:
    """A `Debugger` that has `serve` called at each of the `addresses` while it is entered as a context manager."""

    def __init__(self, debugger: Debugger, addresses: Collection[int], serve: Served) -> None:
        self._debugger = debugger
        self._addresses = frozenset(addresses)
        self._serve = serve
        self._turn = threading.Condition()  # guards what follows
        self._machine: StoppedMachine | None = None
        self._parked = False  # the machine stands, and belongs to whoever attached
        self._wanted = False  # somebody wants it so
        self._over = False
        self._theirs: set[int] = set()  # breakpoints of whoever attached
        self._caught: Stop | None = None  # a stop of theirs
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="debugger", daemon=True)
        self.stops = 0
        self.seconds_stopped = 0.0

    def __enter__(self) -> SharedDebugger:
        self._thread.start()
        with self._turn:
            self._await(lambda: self._machine is not None, Deadline.after(_PATIENCE_SECONDS))
        return self

    def __exit__(self, *_: object) -> None:
        """Raises LabError when the debugger was lost on the way: then stops were missed."""
        with self._turn:
            self._over = True
            self._turn.notify_all()
        self._thread.join(_PATIENCE_SECONDS)
        self._raise()

    def _raise(self) -> None:
        error = self._error
        if isinstance(error, MaskallError):
            raise LabError(f"the debugger was lost: {error.message}", hint=error.hint) from error
        if error is not None:
            raise HarnessBug(f"serving a stop failed: {type(error).__name__}: {error}") from error

    def _await(self, condition: Callable[[], bool], deadline: Deadline) -> bool:
        """Wait for the thread, whose death is an error. To be called with `_turn` held."""
        self._turn.wait_for(lambda: condition() or self._error is not None, max(0.0, deadline.remaining))
        self._raise()
        return condition()

    def _work(self) -> None:
        try:
            with self._debugger.attach() as machine:
                for address in self._addresses:
                    machine.break_at(address)
                with self._turn:
                    self._machine = machine
                    self._turn.notify_all()
                self._turns(machine)
        except Exception as error:  # a thread's exceptions are nobody's, unless they are kept for who waits for it
            with self._turn:
                self._error = error
        finally:
            with self._turn:
                self._turn.notify_all()

    def _turns(self, machine: StoppedMachine) -> None:
        runs = False
        while True:
            with self._turn:
                if self._wanted:
                    machine.stop()
                    runs = False
                    self._parked = True
                    self._turn.notify_all()
                    self._turn.wait_for(lambda: not self._wanted or self._over)
                    self._parked = False
                if self._over:
                    return
            if not runs:
                machine.go()
            stop = machine.wait(Deadline.after(_SLICE_SECONDS))
            runs = stop is None
            if stop is not None:
                self._stopped(machine, stop)

    def _stopped(self, machine: StoppedMachine, stop: Stop) -> None:
        began = time.monotonic()
        here = stop.registers.rip
        if stop.written is None and here in self._addresses:
            self.stops += 1
            self._serve(machine, stop.registers)
            self.seconds_stopped += time.monotonic() - began
        with self._turn:
            if stop.written is not None or here in self._theirs:
                self._caught = stop
                self._wanted = True

    @contextlib.contextmanager
    def attach(self) -> Iterator[StoppedMachine]:
        machine = _Attached(self)
        machine.stop()
        try:
            yield machine
        finally:
            machine.leave()

    def hold(self) -> StoppedMachine:
        """The machine, standing still until `release`."""
        with self._turn:
            self._wanted = True
            self._turn.notify_all()
            if not self._await(lambda: self._parked, Deadline.after(_PATIENCE_SECONDS)) or self._machine is None:
                raise LabError("the machine could not be stopped", hint="the emulator is very slow, or hangs")
            return self._machine

    def release(self) -> None:
        with self._turn:
            self._caught = None
            self._wanted = False
            self._turn.notify_all()

    def caught(self, deadline: Deadline) -> Stop | None:
        """The stop of whoever attached; the machine stands then."""
        with self._turn:
            arrived = self._await(lambda: self._parked and self._caught is not None, deadline)
            return self._caught if arrived else None

    def plant(self, address: int) -> None:
        if address not in self._addresses:
            self.hold().break_at(address)
        self._theirs.add(address)

    def remove(self, address: int) -> None:
        if address not in self._addresses:
            self.hold().clear(address)
        self._theirs.discard(address)

    @property
    def planted(self) -> frozenset[int]:
        return frozenset(self._theirs)


class _Attached:
    """`StoppedMachine` for whoever attached to a SharedDebugger."""

    def __init__(self, shared: SharedDebugger) -> None:
        self._shared = shared
        self._watched: set[tuple[int, int]] = set()

    def leave(self) -> None:
        for address in sorted(self._shared.planted):
            self.clear(address)
        for address, length in sorted(self._watched):
            self.unwatch(address, length)
        self._shared.release()

    def read(self, address: int, length: int) -> bytes:
        return self._shared.hold().read(address, length)

    def write(self, address: int, data: bytes) -> None:
        self._shared.hold().write(address, data)

    def read_physical(self, address: int, length: int) -> bytes:
        return self._shared.hold().read_physical(address, length)

    def write_physical(self, address: int, data: bytes) -> None:
        self._shared.hold().write_physical(address, data)

    def break_at(self, address: int) -> None:
        self._shared.plant(address)

    def clear(self, address: int) -> None:
        self._shared.remove(address)

    def watch(self, address: int, length: int) -> None:
        self._shared.hold().watch(address, length)
        self._watched.add((address, length))

    def unwatch(self, address: int, length: int) -> None:
        self._shared.hold().unwatch(address, length)
        self._watched.discard((address, length))

    def go(self) -> None:
        self._shared.release()

    def wait(self, deadline: Deadline) -> Stop | None:
        return self._shared.caught(deadline)

    def stop(self) -> None:
        self._shared.hold()
