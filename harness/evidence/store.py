"""Raw evidence on disk. Bytes are stored before anybody parses them."""

from __future__ import annotations

import errno
import hashlib
from dataclasses import dataclass
from pathlib import Path

from harness.errors import EvidenceError
from harness.evidence.raw import RawRef


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
        return RawRef(f"{self.folder}/{name}", hashlib.sha256(data).hexdigest())
