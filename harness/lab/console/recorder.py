"""Records a host's console from before power-on to after the restore, and finds what it died of."""

from __future__ import annotations

import fcntl
import os
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from harness.deadline import Deadline
from harness.errors import LabError, LockHeld
from harness.lab.console.sources import Attached, Source
from harness.xen.console import Marker, find_markers

_BACKOFF = (0.2, 1.0, 2.0, 5.0)  # seconds before each new attempt to attach, the last for all others
_TIMES = "{offset} {at} {what}\n"


@dataclass
class Recorder:
    """One console into one file. `path` gets the bytes as they came, `path`.times when they did and every gap."""

    host: str
    source: Source
    path: Path
    lock: Path
    notice: Callable[[str], None] = lambda _: None
    _size: int = 0
    _attached: bool = False
    _told: str = ""
    _stop: threading.Event = field(default_factory=threading.Event)
    _news: threading.Condition = field(default_factory=threading.Condition)
    _thread: threading.Thread | None = None
    _lock_handle: int | None = None

    def start(self) -> Recorder:
        """Begin. LockHeld when somebody on this controller reads this console already: two readers share the bytes."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.lock.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(self.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise LockHeld(
                f"the console of {self.host} is being read already", hint=f"see who has {self.lock}"
            ) from None
        self._lock_handle = handle
        self.path.touch(mode=0o600)
        self._thread = threading.Thread(target=self._record, name=f"console of {self.host}", daemon=True)
        self._thread.start()
        return self

    @property
    def attached(self) -> bool:
        """The source is open now."""
        return self._attached

    def text(self) -> bytes:
        """Everything so far."""
        return self.path.read_bytes() if self.path.exists() else b""

    def panics(self) -> tuple[Marker, ...]:
        """Crashes of Xen or dom0 that the console has told."""
        return tuple(one for one in find_markers(self.text().decode("utf-8", "replace")) if one.kind.is_host_crash)

    def await_bytes(self, pattern: re.Pattern[bytes], deadline: Deadline, *, since: int = 0) -> re.Match[bytes] | None:
        """The first match behind byte `since`; None at the deadline."""
        while True:
            with self._news:
                size = self._size
            match = pattern.search(self.text(), since)
            if match or deadline.expired:
                return match
            with self._news:
                self._news.wait_for(lambda size=size: self._size != size, timeout=deadline.remaining)  # type: ignore[misc]

    def stop(self) -> None:
        """End the recording. Safe to call twice."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=15)
        if self._lock_handle is not None:
            os.close(self._lock_handle)
            self._lock_handle = None

    def _record(self) -> None:
        failures = 0
        with self.path.open("ab", buffering=0) as raw, self.path.with_suffix(".times").open("ab", buffering=0) as times:
            while not self._stop.is_set():
                try:
                    with self.source.attach() as attached:
                        self._mark(times.write, f"attached to {self.source.name}")
                        self._attached = True
                        failures = 0 if self._read(attached, raw.write, times.write) else failures + 1
                    self._mark(times.write, "the source ended")
                except (LabError, OSError) as error:
                    failures += 1
                    self._mark(times.write, f"cannot attach: {error}")
                    self._tell(f"the console of {self.host} cannot be read: {error}")
                self._attached = False
                self._stop.wait(_BACKOFF[min(failures, len(_BACKOFF) - 1)])

    def _read(self, attached: Attached, raw: Callable[[bytes], object], times: Callable[[bytes], object]) -> bool:
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
            raw(data)
            with self._news:
                self._size += len(data)
                self._news.notify_all()
        return came

    def _mark(self, write: Callable[[bytes], object], what: str) -> None:
        at = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}Z"
        write(_TIMES.format(offset=self._size, at=at, what=" ".join(what.split())).encode())

    def _tell(self, text: str) -> None:
        """The same complaint once."""
        if text != self._told:
            self._told = text
            self.notice(text)
