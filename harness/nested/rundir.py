"""The directory of one running machine, and the cleaning up after a harness that died.

A run directory holds a lock (held by the harness as long as it lives), the emulator's pid, its sockets, its
throw-away disk and its console log. A directory whose lock is free and which is not marked as kept belongs to nobody:
its emulator is killed and it is removed at the next start.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path

from harness.base.deadline import Deadline, poll

_LOCK = "lock"
_PID = "qemu.pid"
_KEPT = "kept"


@dataclass
class RunDir:
    """A locked run directory. `close` kills the emulator and removes everything, unless it is kept."""

    path: Path
    lock_fd: int

    @classmethod
    def create(cls, root: Path) -> RunDir:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = Path(tempfile.mkdtemp(prefix="new-", dir=root))
        lock_fd = os.open(fresh / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(lock_fd, fcntl.LOCK_EX)
        # only now does it look like a run: another harness's sweep must never see a run without its lock
        path = fresh.with_name(fresh.name.replace("new-", "run-", 1))
        fresh.rename(path)
        return cls(path, lock_fd)

    @property
    def pid_file(self) -> Path:
        return self.path / _PID

    def keep(self) -> None:
        """Let machine and directory outlive this process."""
        (self.path / _KEPT).touch()

    def discard(self) -> None:
        """Take `keep` back."""
        (self.path / _KEPT).unlink(missing_ok=True)

    @property
    def kept(self) -> bool:
        return (self.path / _KEPT).exists()

    def close(self) -> None:
        if not self.kept:
            remove(self.path)
        with contextlib.suppress(OSError):
            os.close(self.lock_fd)

    def connect(self, name: str) -> socket.socket | None:
        """A connection to the unix socket `name` in this directory; None while nobody listens there."""
        # sun_path holds 108 bytes; /proc/self/fd gives any directory a short name (unix(7), open(2) O_PATH)
        directory = os.open(self.path, os.O_PATH)
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(f"/proc/self/fd/{directory}/{name}")
        except OSError:
            connection.close()
            return None
        finally:
            os.close(directory)
        return connection


def emulator_pid(path: Path, pid_file: str = _PID) -> int | None:
    """The pid of the emulator that lives in this run directory now, None when there is none.

    A recycled pid is told by the process's working directory: the emulator's is the run directory. `pid_file` names
    another program that keeps to the same rule.
    """
    try:
        pid = int((path / pid_file).read_text())
        if Path(f"/proc/{pid}/cwd").readlink() == path.resolve():
            return pid
    except (OSError, ValueError):
        pass
    return None


def remove(path: Path) -> None:
    """Kill the emulator of a run directory and delete the directory."""
    pid = emulator_pid(path)
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        poll(lambda: emulator_pid(path) is None, Deadline.after(10))
    shutil.rmtree(path, ignore_errors=True)


def owner_gone(path: Path) -> bool:
    """Whether no living harness holds this run directory."""
    try:
        fd = os.open(path / _LOCK, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


def all_runs(root: Path) -> list[Path]:
    return sorted(root.glob("run-*")) if root.is_dir() else []


def kept_runs(root: Path) -> list[Path]:
    return [path for path in all_runs(root) if (path / _KEPT).exists()]


def sweep(root: Path) -> list[Path]:
    """Remove what dead harnesses left behind; returns what was removed."""
    swept = [path for path in all_runs(root) if not (path / _KEPT).exists() and owner_gone(path)]
    for path in swept:
        remove(path)
    return swept
