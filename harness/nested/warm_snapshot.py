"""A host frozen with guests at work: the base snapshot, gone on with by what an `Opener` plays, and frozen again."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from harness.base.deadline import Deadline, poll
from harness.base.errors import EmulatorFault, GuestDied, LabError, MaskallError
from harness.base.progress import Progress
from harness.host.host import Host, Opener
from harness.nested.cache import Cache
from harness.nested.machine import Machine, copy_sparse
from harness.nested.snapshot import COPIED_AS_THEY_ARE, Snapshot
from harness.transport.base import Transport

_FORMAT = 1
_SECONDS = 30.0
_BUILD_SECONDS = 600.0
_ATTEMPTS = 3
_MIB = 1024 * 1024
KEPT_BYTES = 8 * 1024 * _MIB
"""How much the cache keeps of them: each change of the harness makes new ones."""

Live = Callable[[Path, Path], AbstractContextManager[tuple[Machine, Host]]]
"""From a disk and a memory file to a host that runs on them and writes to them."""


@dataclass(frozen=True)
class WarmSnapshot(Snapshot):
    """A snapshot of a host on which an opening was played."""

    @property
    def opening(self) -> Path:
        return self.path / "opening"


@dataclass(frozen=True)
class WarmRecipe:
    """Restore the base on copies of its files, play the opening, freeze."""

    base: Snapshot
    base_digest: str
    devices: Sequence[str]
    opener: Opener
    live: Live
    progress: Progress

    needs_bytes = 2700 * _MIB
    prefix = "opened-"

    @property
    def name(self) -> str:
        return f"{self.prefix}{'-'.join(self.devices)}"

    @property
    def digest(self) -> str:
        content = {"format": _FORMAT, "base": self.base_digest, "opener": self.opener.key}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def build(self, directory: Path) -> None:
        snapshot = WarmSnapshot(directory)
        snapshot.opening.mkdir()
        with self.progress.phase("copy the frozen host", 2):
            for file in (self.base.disk, self.base.ram):
                copy_sparse(file, directory / file.name)
            for name in COPIED_AS_THEY_ARE:
                shutil.copy(self.base.path / name, directory)
        with self.live(snapshot.disk, snapshot.ram) as (machine, host):
            self.opener.play(host, snapshot.opening, self.progress)
            _await_closed_consoles(host.transport)
            host.transport.close()
            with self.progress.phase("freeze the host with guest A running", 3):
                machine.save(snapshot.state)


class WarmSnapshots:
    """The opened snapshots of one lab; several threads may ask."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._lock = threading.Lock()
        self._failed: set[str] = set()  # digests, so that what cannot be made is not tried for every scenario

    def obtain(self, recipe: WarmRecipe) -> WarmSnapshot | None:
        """The snapshot of `recipe`, made if that pays; None where there is none: the scenario begins at its beginning.

        Emulator faults and guests that die are tried again, as in a scenario.
        """
        notice = recipe.progress.note
        with self._lock:  # both sides of a scenario want the same one
            there = self._cache.verify(recipe) is None
            if not there and (recipe.digest in self._failed or recipe.opener.wanted < 2):
                return None
            for left in reversed(range(_ATTEMPTS)):
                try:
                    entry = self._cache.obtain(recipe, deadline=Deadline.after(_BUILD_SECONDS), notice=notice)
                except MaskallError as error:
                    notice(f"no host with guest A running: {error.message}")
                    if not isinstance(error, EmulatorFault | GuestDied) or not left:
                        break
                else:
                    self._cache.trim(recipe.prefix, KEPT_BYTES)
                    return WarmSnapshot(entry.path)
            self._failed.add(recipe.digest)
            return None


def _await_closed_consoles(transport: Transport) -> None:
    """A reader of a guest's console that were frozen would take from the next one what the guest says."""

    def nobody_reads() -> bool:
        command = ["sh", "-c", "! grep -lsx cat /proc/[0-9]*/comm"]
        return transport.run(command, deadline=Deadline.after(_SECONDS)).ok

    if poll(nobody_reads, Deadline.after(_SECONDS), every=0.2) is None:
        raise LabError("a console's reader did not end with its connection")
