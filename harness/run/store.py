"""The one place where results meet the disk: written whole or not at all, read back strictly."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import tempfile
from pathlib import Path
from typing import IO

from pydantic import BaseModel

from harness.base.errors import EvidenceError, UsageError
from harness.base.stored import Model, from_json, to_json
from harness.evidence.sealed import MOST_BYTES
from harness.report.begun import KNOWN_ISSUES, NAME

RESULTS = "results.json"
FOLDERS = ("environment", "logs", "raw")
EVIDENCE = (NAME, "run.jsonl", RESULTS, KNOWN_ISSUES)
"""Files and folders of a run from which all else is made again."""


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


def spare_evidence(path: Path) -> None:
    """UsageError for a place among the evidence of a run, which what somebody makes of it must not take."""
    place = Path(os.path.realpath(path))
    for folder in place.parents:
        first, *rest = place.relative_to(folder).parts
        if (first in FOLDERS or (first in EVIDENCE and not rest)) and (folder / NAME).exists():
            raise UsageError(f"{path} is evidence of the run in {folder}", hint="give --output another place")


def write_out(path: Path, content: bytes) -> None:
    """Write where somebody wants it. An ordinary file, or a new one, is replaced as a whole.

    Anything else is not ours to replace, and is written to: a pipe, a device, whatever /dev/stdout leads to.
    UsageError for evidence of a run, EvidenceError when it refuses.
    """
    spare_evidence(path)
    try:
        ordinary = stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        ordinary = True
    if ordinary:
        write_atomically(path, content)
        return
    try:
        with path.open("wb") as stream:
            stream.write(content)
    except OSError as error:
        raise EvidenceError(f"{path} could not be written: {error.strerror or error}") from error


def dump(model: BaseModel, path: Path) -> None:
    """Store results of any kind at `path`."""
    write_atomically(path, to_json(model))


def load(path: Path, model: type[Model], *, hint: str = "") -> Model:
    """Read what `dump` wrote of a `model`.

    Raises UsageError, with `hint`, if there is no such file, and as `from_json`.
    """
    return from_json(model, read_named(path, hint=hint), file=str(path))


def read_named(path: Path, *, hint: str = "") -> bytes:
    """A file that somebody named, which may be a pipe. UsageError, with `hint`, for one that cannot be read."""
    try:
        with path.open("rb") as stream:
            content = stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}", hint=hint) from error
    if len(content) > MOST_BYTES:
        raise UsageError(f"{path} cannot be read: it has no end, or more than {MOST_BYTES >> 20} MiB", hint=hint)
    return content


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
