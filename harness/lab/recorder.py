"""Records a host's console from before power-on to after the restore, and finds what it died of."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path

from harness.base.deadline import Deadline
from harness.base.errors import LabError, LockHeld, MaskallError
from harness.base.text import inert
from harness.lab.console.base import Attached, Source
from harness.lab.inventory.models import LabEntry
from harness.lab.lease.state import HostState
from harness.model.message import Marker
from harness.xen.keys.console import find_markers

_BACKOFF = (0.2, 0.2, 0.5, 1.0, 2.0)  # seconds before each new attempt to attach, the last for all others
_LONGEST_MATCH = 1 << 16
_STOP_SECONDS = 25.0  # for a program that does not end on SIGTERM, see harness.base.process.end_group
_ATTACH_SECONDS = 1.5


@dataclass
class Recorder:
    """One console into one file, `path`, which gets the bytes as they came.

    Beside it, with the suffix `.times`, a line for each second in which any came and for each gap: the offset in
    `path`, the time (UTC), and what happened there. `notice` is told once when nothing can be read, from the thread.
    """

    host: str
    source: Source
    path: Path
    lock: Path
    notice: Callable[[str], None] = lambda _: None
    _size: int = 0
    _attached: bool = False
    _breaks: list[int] = field(default_factory=list)
    _told: str = ""
    _stop: threading.Event = field(default_factory=threading.Event)
    _news: threading.Condition = field(default_factory=threading.Condition)
    _thread: threading.Thread | None = None

    def start(self) -> Recorder:
        """Begin. LockHeld when somebody on this controller reads this console already: two readers share the bytes."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.lock.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.path.touch(mode=0o600)
            self._size = self.path.stat().st_size
            handle = os.open(self.lock, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise LabError(f"the console of {self.host} cannot be recorded: {error}") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise LockHeld(
                f"the console of {self.host} is being read already", hint=f"see who has {self.lock}"
            ) from None
        except OSError as error:  # a file system over the network without locks
            os.close(handle)
            raise LabError(f"the console of {self.host} cannot be recorded: {error}") from error
        self._thread = threading.Thread(
            target=self._record, args=(handle,), name=f"console of {self.host}", daemon=True
        )
        self._thread.start()
        return self

    @property
    def attached(self) -> bool:
        """The source is open now."""
        return self._attached

    def text(self) -> bytes:
        """Everything so far."""
        return self.path.read_bytes() if self.path.exists() else b""

    @property
    def breaks(self) -> tuple[int, ...]:
        """Where in `text` something may be missing: the source was attached anew there."""
        return tuple(self._breaks)

    def panics(self) -> tuple[Marker, ...]:
        """Crashes of Xen or dom0 that the console has told."""
        return tuple(one for one in find_markers(self.text().decode("utf-8", "replace")) if one.kind.is_host_crash)

    def await_bytes(self, pattern: re.Pattern[bytes], deadline: Deadline, *, since: int = 0) -> re.Match[bytes] | None:
        """The first match behind byte `since`, at its place in the file; None at the deadline.

        A match of more than 64 KiB may be missed.
        """
        begin = since
        while True:
            with self._news:
                size = self._size
            text = self.text()
            match = pattern.search(text, begin)
            if match or deadline.expired:
                return match
            begin = max(since, len(text) - _LONGEST_MATCH)
            with self._news:
                if self._size == size:
                    self._news.wait(deadline.remaining)

    def stop(self) -> None:
        """End the recording. Safe to call twice. A source that is just being opened is not waited for long."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=_STOP_SECONDS if self._attached else _ATTACH_SECONDS)

    def _record(self, lock: int) -> None:
        """All of the thread. Whoever reads holds the lock, even when `stop` did not wait for him."""
        try:
            self._keep_reading()
        except OSError as error:
            self._tell(f"the console of {self.host} is not recorded any more: {error}")
        finally:
            self._attached = False
            os.close(lock)

    def _keep_reading(self) -> None:
        failures = 0
        with self.path.open("ab", buffering=0) as raw, self.path.with_suffix(".times").open("ab", buffering=0) as times:
            while not self._stop.is_set():
                came = False
                try:
                    with self.source.attach() as attached:
                        self._mark(times, f"attached to {self.source.name}")
                        self._breaks.append(self._size)
                        self._attached = True
                        came = self._read(attached, raw, times)
                    self._mark(times, "stopped" if self._stop.is_set() else "the source ended")
                    if not came and not self._stop.is_set():
                        self._tell(f"the console of {self.host} ended without a byte: {self.source.name}")
                except (MaskallError, OSError) as error:
                    self._tell(f"the console of {self.host} cannot be recorded: {error}")
                    with contextlib.suppress(OSError):  # the disk may be what is wrong
                        self._mark(times, f"cannot be recorded: {error}")
                self._attached = False
                failures = 0 if came else failures + 1
                self._stop.wait(_BACKOFF[min(failures, len(_BACKOFF) - 1)])

    def _read(self, attached: Attached, raw: FileIO, times: FileIO) -> bool:
        """Until the source ends; whether anything came."""
        came, second = False, 0.0
        while not self._stop.is_set():
            data = attached.read()
            if data is None:
                break
            if not data:
                continue
            came, self._told = True, ""
            if time.monotonic() - second >= 1.0:  # a line of times a second is enough to place any byte
                second = time.monotonic()
                self._mark(times, "")
            self._store(raw, data)
        return came

    def _store(self, raw: FileIO, data: bytes) -> None:
        """All of it: a write to a disk that fills up may take a part."""
        rest = memoryview(data)
        while rest:
            written = raw.write(rest)
            rest = rest[written:]
            with self._news:
                self._size += written
                self._news.notify_all()

    def _mark(self, times: FileIO, what: str) -> None:
        at = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}Z"
        line = " ".join([str(self._size), at, *inert(" ".join(what.split())).split(" ")])
        times.write(f"{line.rstrip()}\n".encode())

    def _tell(self, text: str) -> None:
        """The same complaint once."""
        if text != self._told:
            self._told = text
            self.notice(inert(text))


def record(state: HostState, entry: LabEntry, notice: Callable[[str], None]) -> Recorder | None:
    """Begin to record the console of the inventory; None when it names none. LockHeld, UsageError (a secret)."""
    if entry.console is None:
        return None
    path, lock = state.new_file("console.log"), state.folder / "console.lock"
    return Recorder(state.name, entry.console.source(entry.power), path, lock, notice).start()
