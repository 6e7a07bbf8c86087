"""Counts what dead domains have left behind on a host, in one round trip."""

from __future__ import annotations

from pathlib import Path

from harness.base.deadline import Deadline
from harness.evidence.store import EvidenceStore
from harness.model.address import Bdf
from harness.model.raw import RawRef
from harness.transport.base import Transport
from harness.transport.sections import ask
from harness.xen.keys.leaks import count

COUNT_SECONDS = 60.0


def count_now(transport: Transport, store: EvidenceStore, device: Bdf) -> tuple[dict[str, int], RawRef]:
    """The counters of `harness.xen.keys.leaks` and where Xen's part of them was read; all of it is stored first."""
    found: dict[str, tuple[RawRef, bytes]] = {}

    def keep(name: str, data: bytes) -> None:
        found[name] = (store.put(name, data), data)

    ask(transport, Path(__file__).with_name("counts.sh"), deadline=Deadline.after(COUNT_SECONDS), keep=keep)
    return count({name: data for name, (_, data) in found.items()}, device), found["xl_dmesg.txt"][0]
