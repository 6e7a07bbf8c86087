"""Raw evidence on disk. Bytes are stored before anybody parses them, and parsed as they were stored."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from harness.base.errors import EvidenceError
from harness.model.observation import RawRef


class Files(Protocol):
    """A folder of raw files to read from: one that is being written, or one that is sealed (sealed.py)."""

    def below(self, *names: str) -> Self: ...

    def read(self, name: str) -> tuple[RawRef, bytes]:
        """A file of the folder and what is in it. EvidenceError when it cannot be read."""
        ...

    def name_of(self, raw: RawRef) -> str:
        """The name of a file of this folder."""
        ...


@dataclass(frozen=True)
class EvidenceStore:
    """Files below `folder` of a run's directory `root`; every reference is relative to `root`."""

    root: Path
    folder: str = "raw"

    def below(self, *names: str) -> EvidenceStore:
        return EvidenceStore(self.root, "/".join([self.folder, *names]))

    def put(self, name: str, data: bytes) -> RawRef:
        """Store a new file; a name is never written twice."""
        path = self.root / self.folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                file.write(data)
        except OSError as error:
            hint = "free some space" if error.errno == errno.ENOSPC else ""
            raise EvidenceError(f"cannot store evidence: {error.strerror}: {path}", hint=hint) from error
        return RawRef(f"{self.folder}/{name}", digest(data))

    def read(self, name: str) -> tuple[RawRef, bytes]:
        """What `put` stored under this name."""
        path = self.root / self.folder / name
        try:
            data = path.read_bytes()
        except OSError as error:
            raise EvidenceError(f"evidence is gone: {error.strerror}: {path}") from error
        return RawRef(f"{self.folder}/{name}", digest(data)), data

    def name_of(self, raw: RawRef) -> str:
        """The name under which it was put here."""
        return raw.path.removeprefix(f"{self.folder}/")

    def files(self) -> tuple[RawRef, ...]:
        """All that was stored, as it reads now."""
        paths = sorted(path for path in (self.root / self.folder).rglob("*") if path.is_file())
        return tuple(RawRef(str(path.relative_to(self.root)), digest(path.read_bytes())) for path in paths)

    def digests(self) -> dict[str, str]:
        """The SHA-256 of all that was stored, by its name here."""
        return {self.name_of(raw): raw.sha256 for raw in self.files()}

    def take_over(self, files: Iterable[RawRef], source: EvidenceStore) -> None:
        """Copies of another store's files, under their names there. EvidenceError unless each is what it was."""
        for file in files:
            name = source.name_of(file)
            found, data = source.read(name)
            if found.sha256 != file.sha256:
                raise EvidenceError(f"evidence was changed after it was stored: {source.root / file.path}")
            self.put(name, data)


def digest(data: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()
