"""What a cache entry consists of, so that a truncated or changed one is noticed before a machine boots from it."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

NAME = "manifest.json"
FORMAT = 1
SMALL = 1024 * 1024
"""Files up to this size (bytes) are hashed at every look; for the large ones size and time have to do."""


@dataclass(frozen=True)
class FileRecord:
    """One file: path relative to the entry, bytes, modification time, and SHA-256 if it is a small one."""

    path: str
    size: int
    mtime_ns: int
    sha256: str = ""


@dataclass(frozen=True)
class CacheManifest:
    """All files of an entry and the digest of the recipe that made them."""

    digest: str
    files: tuple[FileRecord, ...]

    @classmethod
    def of(cls, directory: Path, digest: str) -> CacheManifest:
        """Look at `directory` as it is now."""
        found = sorted(path for path in directory.rglob("*") if path.is_file() and path.name != NAME)
        return cls(digest, tuple(_record(path, directory) for path in found))

    def write(self, directory: Path) -> None:
        """Store it beside the files it describes."""
        content = {"format": FORMAT, "digest": self.digest, "files": [asdict(file) for file in self.files]}
        (directory / NAME).write_text(json.dumps(content, indent=1) + "\n")

    @staticmethod
    def damage(directory: Path, digest: str) -> str | None:
        """None if `directory` is what its manifest says and comes from recipe `digest`, else what differs."""
        try:
            stored = json.loads((directory / NAME).read_text())
            records = [FileRecord(**file) for file in stored["files"]]
            if stored["format"] != FORMAT or stored["digest"] != digest:
                return "made from another recipe"
        except FileNotFoundError:
            return f"{NAME} is missing"
        except (OSError, ValueError, TypeError, KeyError):
            return f"{NAME} cannot be read"
        for record in records:
            try:
                now = _record(directory / record.path, directory)
            except OSError as error:
                return f"{record.path}: {error.strerror}"
            if now.size != record.size:
                return f"{record.path} has {now.size} bytes instead of {record.size}"
            if now.sha256 != record.sha256:
                return f"{record.path} has another content"
            if not record.sha256 and now.mtime_ns != record.mtime_ns:
                return f"{record.path} was written to after it was built"
        return None


def _record(path: Path, directory: Path) -> FileRecord:
    status = path.stat()
    small = status.st_size <= SMALL
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest() if small else ""
    return FileRecord(str(path.relative_to(directory)), status.st_size, status.st_mtime_ns, sha256)


def sync_tree(directory: Path, *, deep: bool = True) -> None:
    """Return when `directory`, and with `deep` all below it, is on the disk. Raises OSError (ENOSPC shows up here)."""
    paths = [directory, *directory.rglob("*")] if deep else [directory]
    for path in paths:
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            continue
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
