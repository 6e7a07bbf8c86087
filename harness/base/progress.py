"""What a person sees while a run goes on: phases with elapsed and expected time, or a plain log line per phase.

Two sides of a scenario may run in two threads: each works on its own `side(label)`, all share the screen.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import IO, Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from harness.base.phases import Phases
from harness.base.text import inert

LONG = 2.0  # seconds; the end of a shorter phase is not worth a line
_REDRAWS = 4  # per second; more would take time from the emulator beside us


class Progress(Protocol):
    """Tells about phases and records their seconds. Safe to use from several threads."""

    @property
    def phases(self) -> Phases:
        """The recorder of this side's phases."""
        ...

    def phase(self, name: str, expected: float | None = None) -> AbstractContextManager[None]:
        """Around the work of a phase; `expected` seconds are shown, nothing is enforced."""
        ...

    def note(self, text: str) -> None:
        """One line that stays on the screen."""
        ...

    def side(self, label: str) -> Progress:
        """The same screen under a label ('stock', 'control'), with a recorder of its own."""
        ...


class PlainProgress:
    """A line when a phase begins, and one with its seconds when it was long or failed. For logs and pipes."""

    def __init__(
        self,
        stream: IO[str],
        *,
        clock: Callable[[], float] = time.monotonic,
        _parent: PlainProgress | None = None,
        _label: str = "",
    ) -> None:
        self.phases = Phases(clock)
        self._stream = stream
        self._clock = clock
        self._label = _label
        self._lock: threading.Lock = _parent._lock if _parent else threading.Lock()
        self._began: float = _parent._began if _parent else clock()

    @contextlib.contextmanager
    def phase(self, name: str, expected: float | None = None) -> Iterator[None]:
        self.note(f"{name} ..." + _about(expected))
        began = self._clock()
        outcome = "failed"
        try:
            with self.phases.phase(name):
                yield
            outcome = "done"
        finally:
            seconds = self._clock() - began
            if seconds >= LONG or outcome == "failed":
                self.note(f"{name} {outcome} after {seconds:.1f} s")

    def note(self, text: str) -> None:
        line = f"[{self._clock() - self._began:7.1f}] {_labelled(self._label, text)}\n"
        with self._lock:
            self._stream.write(line)
            self._stream.flush()

    def side(self, label: str) -> PlainProgress:
        return PlainProgress(self._stream, clock=self._clock, _parent=self, _label=label)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class TerminalProgress:
    """Running phases at the bottom of the screen, redrawn in place; long and failed ones stay as a line above."""

    def __init__(
        self,
        console: Console,
        *,
        clock: Callable[[], float] = time.monotonic,
        _parent: TerminalProgress | None = None,
        _label: str = "",
    ) -> None:
        self.phases = Phases(clock)
        self._console = console
        self._clock = clock
        self._label = _label
        self._lock: threading.Lock = _parent._lock if _parent else threading.Lock()
        self._running: dict[object, _Running] = _parent._running if _parent else {}
        self._live: Live = (
            _parent._live
            if _parent
            else Live(console=console, refresh_per_second=_REDRAWS, transient=True, get_renderable=self.picture)
        )

    @contextlib.contextmanager
    def phase(self, name: str, expected: float | None = None) -> Iterator[None]:
        key = object()
        began = self._clock()
        with self._lock:
            self._running[key] = _Running(_labelled(self._label, name), began, expected)
        outcome = "failed"
        try:
            with self.phases.phase(name):
                yield
            outcome = "done"
        finally:
            with self._lock:
                del self._running[key]
            seconds = self._clock() - began
            if seconds >= LONG or outcome == "failed":
                self.note(f"{name} {outcome} after {seconds:.1f} s")

    def note(self, text: str) -> None:
        self._console.print(Text(_labelled(self._label, text)), soft_wrap=True)

    def side(self, label: str) -> TerminalProgress:
        return TerminalProgress(self._console, clock=self._clock, _parent=self, _label=label)

    def picture(self) -> Text:
        """The running phases, one line each, as they are at this moment."""
        now = self._clock()
        with self._lock:
            lines = [one.line(now) for one in self._running.values()]
        return Text("\n".join(lines), no_wrap=True, overflow="ellipsis")

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()


def progress_for(console: Console) -> TerminalProgress | PlainProgress:
    """The one that fits: a dumb terminal, a pipe or a CI log cannot be redrawn. Use it with `with`."""
    live = console.is_terminal and not console.is_dumb_terminal
    return TerminalProgress(console) if live else PlainProgress(console.file)


class _Running:
    """A phase that goes on now."""

    def __init__(self, text: str, began: float, expected: float | None) -> None:
        self._text = text
        self._began = began
        self._expected = expected

    def line(self, now: float) -> str:
        elapsed = now - self._began
        late = ", longer than usual" if self._expected and elapsed > 2 * self._expected else ""
        return f"{self._text} {elapsed:.0f} s{_about(self._expected, ' of about')}{late}"


def _about(expected: float | None, before: str = " about") -> str:
    return "" if expected is None or expected < 1 else f"{before} {expected:.0f} s"


def _labelled(label: str, text: str) -> str:
    return inert(f"{label}: {text}" if label else text)
