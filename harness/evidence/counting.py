"""Reads all that dead domains can leave behind on a host, in one round trip."""

from __future__ import annotations

from pathlib import Path

from harness.base.deadline import Deadline
from harness.evidence.store import EvidenceStore
from harness.transport.base import Transport
from harness.transport.sections import ask
from harness.xen.keys.messages import Log
from harness.xen.keys.ring import last_dump

COUNT_SECONDS = 60.0


def read_counts(transport: Transport, store: EvidenceStore) -> tuple[str, ...]:
    """The names of the files in `store` from which `harness.xen.keys.leaks` counts.

    Of Xen's ring what the keys have just printed; all of it where that does not fit.
    """
    names: list[str] = []

    def keep(name: str, data: bytes) -> None:
        store.put(name, last_dump(data) if name == Log.XEN else data)
        names.append(name)

    ask(transport, Path(__file__).with_name("counts.sh"), deadline=Deadline.after(COUNT_SECONDS), keep=keep)
    return tuple(names)
