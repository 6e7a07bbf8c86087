"""What the controller remembers of a lab host between runs: its journal, its quarantine, its console."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from harness.base import private
from harness.base.deadline import Deadline, poll
from harness.base.errors import HarnessBug, HostQuarantined, LockHeld, NotRecorded
from harness.base.records import logger
from harness.base.words import home

log = logger(__name__)

_LOCK_SECONDS = 10.0
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,120}")


def root() -> Path:
    """$XDG_STATE_HOME/maskall, by default ~/.local/state/maskall (XDG base directory specification). UsageError."""
    given = os.environ.get("XDG_STATE_HOME", "")
    base = Path(given) if given.startswith("/") else home("XDG_STATE_HOME") / ".local" / "state"
    return base / "maskall"


@dataclass(frozen=True)
class HostState:
    """The directory of one host; made when something is first written."""

    name: str
    folder: Path

    @classmethod
    def of(cls, name: str) -> HostState:
        return cls(name, root() / "hosts" / name)

    @property
    def journal(self) -> Path:
        """The journal of the run that is going on, or that died; not there when the host is as it was."""
        return self.folder / "journal.jsonl"

    @property
    def _quarantine(self) -> Path:
        return self.folder / "quarantined"

    def archive(self, run: str) -> None:
        """Put the journal of a run that is closed aside; what is there of that name already stays."""
        with _disk(self.journal):
            if self.journal.exists():
                self.journal.rename(_unused(private.folder(self.folder / "journals"), f"{run}.jsonl"))

    def new_file(self, name: str) -> Path:
        """The path of a file of this run that does not exist yet, its folder made. `name` is no path."""
        folder = self.folder / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{os.getpid()}"
        with _disk(folder):
            return _unused(private.folder(folder), name)

    def keep(self, name: str, data: bytes) -> Path:
        """Store what a host answered before anybody parses it. Nothing is written over."""
        while True:
            path = self.new_file(name)
            with _disk(path), contextlib.suppress(FileExistsError):
                private.new_file(path, data)
                return path

    @contextlib.contextmanager
    def ours(self, token: str) -> Iterator[None]:
        """Within it no other process of this controller writes here. LockHeld when another one has taken the host over.

        Without a token only the former. NotRecorded where nothing can be written or locked: a full disk, a folder of
        somebody else, a file system over the network without locks (flock(2)).
        """
        try:
            private.folder(self.folder)
            for above in self.folder.parents:  # whoever can rename one of them can plant another
                if above.is_relative_to(root()):
                    private.folder(above)
            handle = os.open(self.folder / "lock", os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise NotRecorded(f"{self.folder}: {error.strerror}", hint=_REMEMBER) from error
        try:
            try:
                locked = poll(lambda: _locked(handle), Deadline.after(_LOCK_SECONDS))
            except OSError as error:
                raise NotRecorded(f"{self.folder} cannot be locked: {error.strerror}", hint=_REMEMBER) from error
            if not locked:
                hint = f"is one of them stopped? see who has {self.folder / 'lock'} open"
                raise LockHeld(f"{self.name}: another process of this controller writes its journal", hint=hint)
            holder = self._text("holder")
            if token and holder not in ("", token):
                raise LockHeld(f"{self.name} was taken over by another process of this controller")
            yield
        finally:
            os.close(handle)

    def hold(self, token: str) -> None:
        """From now on the process with this token writes here, and no other. NotRecorded."""
        with self.ours(""):
            try:
                private.write_durably(self.folder / "holder", token.encode())
            except OSError as error:
                raise NotRecorded(f"{self.folder / 'holder'}: {error.strerror}", hint=_REMEMBER) from error

    def hear(self, owner: str) -> None:
        """Remember whose claim was found on the host last; "": ours. Best effort."""
        try:
            if owner != self.heard:
                private.folder(self.folder)
                private.write_durably(self.folder / "heard", owner.encode())
        except OSError as error:
            log.warning("%s: whose claim was seen last is not written down: %s", self.folder, error.strerror)

    @property
    def heard(self) -> str:
        """Who had the host when it was asked last, if that was somebody else."""
        return self._text("heard")

    def _text(self, name: str) -> str:
        try:
            return (self.folder / name).read_text(errors="replace").strip()
        except OSError:
            return ""

    def poison(self, reason: str) -> None:
        """No run uses the host until `cure`."""
        with _disk(self._quarantine):
            private.folder(self.folder)
            private.write_durably(self._quarantine, f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC: {reason}\n".encode())

    def cure(self) -> None:
        with _disk(self._quarantine):
            if self._quarantine.exists():
                self._quarantine.unlink()

    @property
    def quarantine(self) -> str:
        """Why the host is in quarantine; empty when it is not."""
        with _disk(self._quarantine):
            return self._quarantine.read_text(errors="replace").strip() if self._quarantine.exists() else ""

    def refuse_quarantined(self) -> None:
        if self.quarantine:
            raise HostQuarantined(
                f"{self.name} is in quarantine since {self.quarantine}", hint=f"maskall restore {self.name}"
            )


def append_durably(path: Path, data: bytes, at: int, mark: bytes) -> None:
    """Write from byte `at` on, where the file must end, and wait for the disk. OSError.

    What lies behind `at` was being written when somebody interrupted, and goes; a whole line there without `mark` is
    somebody else's and stays. What is only half written now is taken off again; no buffer of Python's may bring it back
    when the file is closed.
    """
    new = not path.exists()
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        more = os.fstat(handle).st_size - at
        if more < 0:
            raise OSError(errno.ESTALE, f"it was {at} bytes long and is shorter now")
        if any(mark not in line for line in os.pread(handle, more, at).split(b"\n")[:-1]):
            raise OSError(errno.ESTALE, "somebody else has written into it")
        os.ftruncate(handle, at)
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(handle, rest) :]
            os.fsync(handle)
        except BaseException:
            os.ftruncate(handle, at)
            raise
    finally:
        os.close(handle)
    if new:
        private.sync_folder(path.parent)


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _unused(folder: Path, name: str) -> Path:
    """The path of this name, with a number where there is one already."""
    path, number = folder / _leaf(name), 1
    while path.exists():
        number += 1
        path = folder / f"{Path(name).stem}-{number}{Path(name).suffix}"
    return path


def _leaf(name: str) -> str:
    """HarnessBug unless this is the plain name of a file: what a host says never becomes a path."""
    if not _NAME.fullmatch(name) or ".." in name:
        raise HarnessBug(f"{name!r} is no name for a file")
    return name


_REMEMBER = "the controller must be able to remember hosts"


@contextlib.contextmanager
def _disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NotRecorded(f"{path}: {error.strerror}", hint=_REMEMBER) from error
