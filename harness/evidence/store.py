"""Raw evidence on disk. Bytes are stored before anybody parses them."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harness.base.errors import EvidenceError
from harness.model.raw import RawRef


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
        return RawRef(f"{self.folder}/{name}", _digest(data))

    def files(self) -> tuple[RawRef, ...]:
        """All that was stored, as it reads now."""
        paths = sorted(path for path in (self.root / self.folder).rglob("*") if path.is_file())
        return tuple(RawRef(str(path.relative_to(self.root)), _digest(path.read_bytes())) for path in paths)

    def take_over(self, files: Iterable[RawRef], source: EvidenceStore) -> None:
        """Copies of another store's files, under their names there. EvidenceError unless each is what it was."""
        for file in files:
            try:
                data = (source.root / file.path).read_bytes()
            except OSError as error:
                raise EvidenceError(f"evidence is gone: {error.strerror}: {source.root / file.path}") from error
            if _digest(data) != file.sha256:
                raise EvidenceError(f"evidence was changed after it was stored: {source.root / file.path}")
            self.put(file.path.removeprefix(f"{source.folder}/"), data)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
