"""A reference to raw evidence: where a fact was read. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RawRef:
    """A file of the run's evidence (path relative to the run's directory), its SHA-256, and a line in it (0: none)."""

    path: str
    sha256: str
    line: int = 0

    def at(self, line: int) -> RawRef:
        """The same file at another line."""
        return RawRef(self.path, self.sha256, line)

    def __str__(self) -> str:
        return f"{self.path}:{self.line}" if self.line else self.path


@dataclass(frozen=True)
class Position:
    """How far a collector has come: files stored. What they hold of the logs is what was read of them."""

    files: int
    msix_offset: int | None  # of the device's capability in config space
