"""What the controller remembers of a lab host between runs: its journal, its quarantine, its console."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from harness.base.errors import HostQuarantined, LabError


def root() -> Path:
    """$XDG_STATE_HOME/maskall, by default ~/.local/state/maskall (XDG base directory specification)."""
    given = os.environ.get("XDG_STATE_HOME", "")
    base = Path(given) if given.startswith("/") else Path.home() / ".local" / "state"
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
        """Put the journal of a run that ended well aside."""
        with _disk(self.journal):
            if self.journal.exists():
                (self.folder / "journals").mkdir(exist_ok=True)
                self.journal.replace(self.folder / "journals" / f"{run}.jsonl")

    def new_file(self, name: str) -> Path:
        """The path of a file of this run that does not exist yet, its folder made."""
        path = self.folder / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{os.getpid()}" / name
        with _disk(path):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return path

    def keep(self, name: str, data: bytes) -> Path:
        """Store what a host answered before anybody parses it."""
        path = self.new_file(name)
        with _disk(path):
            path.write_bytes(data)
        return path

    def poison(self, reason: str) -> None:
        """No run uses the host until `cure`."""
        with _disk(self._quarantine):
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_durably(self._quarantine, f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC: {reason}\n".encode())

    def cure(self) -> None:
        with _disk(self._quarantine):
            self._quarantine.unlink(missing_ok=True)

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


def write_durably(path: Path, data: bytes) -> None:
    """Replace a file in one step and wait for the disk. OSError."""
    fresh = path.with_name(f".{path.name}.new")
    with fresh.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    sync_folder(path.parent)


def append_durably(path: Path, data: bytes, at: int) -> None:
    """Write from byte `at` on, where the file must end, and wait for the disk. OSError.

    What lies behind `at` was being written when somebody interrupted, and goes. What is only half written now is taken
    off again; no buffer of Python's may bring it back when the file is closed.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    new = not path.exists()
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(handle).st_size < at:
            raise OSError(errno.ESTALE, f"it was {at} bytes long and is shorter now")
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
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """So that a new name in it survives a power cut (fsync(2))."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LabError(f"{path}: {error.strerror}", hint="the controller must be able to remember hosts") from error
