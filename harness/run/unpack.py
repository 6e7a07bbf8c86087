"""A bundle read once, front to back: its tag files into memory, its payload into a private folder."""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

from harness.base.errors import EvidenceError, UsageError
from harness.report.bundle import bag
from harness.report.bundle.container import BundleMember, BundleReader

_MOST_OF_TAG = {bag.MANIFEST_NAME: 64 << 20, bag.STATEMENT_NAME: 16 << 20}
_MOST_OF_TAGS = 1 << 16
_MOST_SIGNATURES = 100


@dataclass
class Unpacked:
    """`digests`: SHA-256 of the payload's files by their names in the bundle; their contents are below `root`."""

    root: Path
    tags: dict[str, bytes] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    octets: int = 0
    compressed: int = 0

    @property
    def signatures(self) -> dict[str, bytes]:
        return {name: data for name, data in self.tags.items() if name.startswith(bag.SIGNATURES)}


def unpacked(path: Path, root: Path) -> Unpacked:
    """The bundle `path`, its payload in the empty private folder `root`.

    UsageError when it cannot be read or is no bundle, or the disk is full; EvidenceError when it is damaged.
    """
    try:
        if not path.is_file():  # a FIFO would never be opened
            path.stat()
            raise UsageError("it is no ordinary file", hint="'maskall bundle RUN' makes one of the directory of a run")
        with path.open("rb") as stream:
            return _unpacked(BundleReader(stream), root)
    except OSError as error:
        raise UsageError(f"{path} cannot be read or unpacked: {error.strerror or error}") from error
    except UsageError as error:
        raise UsageError(f"{path}: {error.message}", hint=error.hint) from error


def _unpacked(reader: BundleReader, root: Path) -> Unpacked:
    found = Unpacked(root)
    order: list[str] = []
    for member in reader.members():
        order.append(member.name)
        if member.name.startswith(bag.DATA):
            found.digests[member.name] = _store(member, root)
            found.octets += member.size
        else:
            found.tags[member.name] = member.content(_MOST_OF_TAG.get(member.name, _MOST_OF_TAGS))
            if len(found.tags) > _MOST_SIGNATURES:
                raise EvidenceError(f"{member.name!r}: more files than a bundle has beside its payload")
    fixed = [bag.BAGIT_NAME, bag.INFO_NAME, bag.MANIFEST_NAME, bag.STATEMENT_NAME]
    if missing := [name for name in fixed if name not in found.tags]:
        raise EvidenceError(f"there is no {missing[0]!r}")
    wanted = [*fixed, *sorted(found.signatures), *sorted(found.digests)]
    if order != wanted:
        odd = next(name for name, here in zip(order, [*wanted, ""], strict=False) if name != here)
        raise EvidenceError(f"{odd!r} is not where a bundle has it, or is none of its files")
    found.compressed = reader.compressed
    return found


def _store(member: BundleMember, root: Path) -> str:
    """Its SHA-256. The container lets no name pass that leads out of `root`; nothing in there is a link."""
    path = root / member.name.removeprefix(bag.DATA)
    found = hashlib.sha256()
    with contextlib.ExitStack() as stack:
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise EvidenceError(f"{member.name!r} is a file and a folder") from error
        file = stack.enter_context(os.fdopen(handle, "wb"))
        for chunk in member.chunks:
            found.update(chunk)
            file.write(chunk)
    return found.hexdigest()
