"""Files and folders that are nobody's but ours: their modes are given, whatever umask(2) says."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def folder(path: Path) -> Path:
    """Make `path` and what is missing above it, mode 0700. OSError; PermissionError where it is somebody else's."""
    missing = []
    there = path
    while not there.is_dir():
        missing.append(there)
        there = there.parent
    for one in reversed(missing):
        try:
            one.mkdir(mode=0o700)
            one.chmod(0o700)
        except FileExistsError:
            continue
    status = path.stat()
    if status.st_uid != os.geteuid():
        raise PermissionError(1, f"belongs to user {status.st_uid}", str(path))
    if status.st_mode & 0o022:
        path.chmod(status.st_mode & 0o755)
    return path


def new_file(path: Path, data: bytes) -> None:
    """A file that must not be there yet, mode 0600. FileExistsError, OSError; then nothing is left of it."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def read_own(path: Path) -> bytes:
    """A plain file that is ours or root's. OSError; PermissionError where it is somebody else's, or no file."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a FIFO would keep us waiting
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise PermissionError(1, "is no plain file", str(path))
        if status.st_uid not in (os.geteuid(), 0):
            raise PermissionError(1, f"belongs to user {status.st_uid}", str(path))
        return file.read()


def write_durably(path: Path, data: bytes) -> None:
    """Replace a file in one step, mode 0600, and wait for the disk. OSError."""
    fresh = path.with_name(f".{path.name}.new")
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """So that a new name in it survives a power cut (fsync(2))."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
