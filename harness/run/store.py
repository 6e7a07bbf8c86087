"""The one place where results meet the disk: written whole or not at all, read back strictly."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from pathlib import Path
from typing import IO

from pydantic import BaseModel

from harness.base.errors import EvidenceError, UsageError
from harness.base.stored import Model, from_json, to_json
from harness.report.begun import NAME

RESULTS = "results.json"


def write_atomically(path: Path, content: bytes) -> None:
    """Replace `path` by `content`; after a crash or a full disk it holds the old bytes or the new, never a part.

    Raises EvidenceError when the disk refuses, with nothing left behind.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        temporary = Path(name)
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o644)  # mkstemp makes it private; results are meant to be read
        temporary.rename(path)
        _sync_directory(path.parent)  # else the rename itself can be lost with the power
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        raise EvidenceError(f"{path} could not be written: {error.strerror or error}") from error


def dump(model: BaseModel, path: Path) -> None:
    """Store results of any kind at `path`."""
    write_atomically(path, to_json(model))


def load(path: Path, model: type[Model], *, hint: str = "") -> Model:
    """Read what `dump` wrote of a `model`.

    Raises UsageError, with `hint`, if there is no such file, and as `from_json`.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}", hint=hint) from error
    return from_json(model, content, file=str(path))


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def held(root: Path) -> IO[bytes]:
    """run.json, locked for as long as it is open: the run is under way. UsageError when it is by somebody else."""
    file = (root / NAME).open("rb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise UsageError(f"{root}: the run is still under way", hint="wait for its end, or end it") from None
    return file


def under_way(root: Path) -> bool:
    """Whether somebody plays the run in `root` right now, on this machine."""
    try:
        held(root).close()
    except UsageError:
        return True
    except OSError:
        return False
    return False
