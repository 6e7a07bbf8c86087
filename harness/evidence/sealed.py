"""Reading back what somebody stored, perhaps long ago and elsewhere: no path in it is trusted, no byte unchecked."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.base.errors import EvidenceError
from harness.evidence.store import digest
from harness.model.observation import RawRef

_CHUNK = 1 << 18
MOST_BYTES = 256 << 20  # of one file: more than any log of a run, less than what fills a machine's memory


def read_inside(root: Path, path: str) -> bytes:
    """The file `path` below the directory `root`, whatever `path` says: nothing outside is ever opened.

    EvidenceError, which names the file, for `..`, an absolute path, a link anywhere below `root`, and what is no
    ordinary file.
    """
    return b"".join(chunks_inside(root, path))


def digest_inside(root: Path, path: str) -> str:
    """SHA-256 of a file that may be large, as `read_inside`."""
    found = hashlib.sha256()
    for chunk in chunks_inside(root, path):
        found.update(chunk)
    return found.hexdigest()


def chunks_inside(root: Path, path: str) -> Iterator[bytes]:
    """The same file piece by piece, as `read_inside`."""
    parts = path.split("/")
    if "\0" in path or any(part in ("", ".", "..") for part in parts):
        raise EvidenceError(f"{path!r} is no file of the run", hint="the path leads out of its directory")
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK  # the last for a FIFO that nobody writes to
    handle = -1
    try:
        handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        for part in parts:
            above, handle = handle, -1
            try:
                handle = os.open(part, flags, dir_fd=above)
            finally:
                os.close(above)
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or found.st_size > MOST_BYTES:
            raise EvidenceError(f"{path!r} is no file of the run", hint="it is no ordinary file of a sensible size")
        left = MOST_BYTES
        while left and (chunk := os.read(handle, min(left, _CHUNK))):
            left -= len(chunk)
            yield chunk
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        hint = "links are not followed" if _is_link(error) else ""
        raise EvidenceError(f"{path!r} cannot be read: {why}", hint=hint) from error
    finally:
        if handle >= 0:
            os.close(handle)


def _is_link(error: Exception) -> bool:
    """A link is ELOOP as a file and ENOTDIR as a folder."""
    return isinstance(error, OSError) and error.errno in (errno.ELOOP, errno.ENOTDIR)


def bytes_of(root: Path, raw: RawRef) -> bytes:
    """The raw file below the run's directory `root`. EvidenceError when it is not there, or not what it was."""
    data = read_inside(root, raw.path)
    if digest(data) != raw.sha256:
        raise _changed(raw.path)
    return data


@dataclass(frozen=True)
class Sealed:
    """The folder `folder` of a run's directory `root`, whose files are those in `digests` (name -> SHA-256).

    `prefix`: what stands before the names that are asked for, empty or with a slash at its end.
    """

    root: Path
    folder: str
    digests: Mapping[str, str]
    prefix: str = ""

    def below(self, *names: str) -> Sealed:
        return Sealed(self.root, self.folder, self.digests, self.prefix + "".join(f"{name}/" for name in names))

    def read(self, name: str) -> tuple[RawRef, bytes]:
        """EvidenceError, which names the file, when it is not listed, not there, or not what it was."""
        listed = self.prefix + name
        path = f"{self.folder}/{listed}"
        wanted = self.digests.get(listed)
        if wanted is None:
            raise EvidenceError(f"{path!r} is not among the files of the record")
        raw = RawRef(path, wanted)
        return raw, bytes_of(self.root, raw)

    def name_of(self, raw: RawRef) -> str:
        return raw.path.removeprefix(f"{self.folder}/{self.prefix}")

    def damaged(self) -> list[str]:
        """What is wrong with the files of the whole folder, one line each; empty when every one is what it was."""
        found = []
        for name, wanted in self.digests.items():
            path = f"{self.folder}/{name}"
            try:
                if digest_inside(self.root, path) != wanted:
                    raise _changed(path)
            except EvidenceError as error:
                found.append(str(error))
        return found


def _changed(path: str) -> EvidenceError:
    return EvidenceError(f"{path!r} was changed after it was stored: its SHA-256 is another one")
