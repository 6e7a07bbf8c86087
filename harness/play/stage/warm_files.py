"""Storing the opening that was played on a host, and going on from it on a host that was frozen after it."""

from __future__ import annotations

import functools
import hashlib
from datetime import UTC, datetime
from pathlib import Path

from harness.base.errors import LabError
from harness.evidence.observe import observe
from harness.evidence.store import EvidenceStore
from harness.play.stage.stage import Stage
from harness.play.stage.warm_start import FOLDER, WarmDevice, WarmStart, works_at_c2

TAKE_OVER = "take over what was seen until C2"  # a phase
_NAME = "opening.json"
_PACKAGES = ("evidence", "guest", "host", "model", "play", "scenario", "transport", "xen")


@functools.cache
def code_digest(more: tuple[str, ...] = ()) -> str:
    """Changes with any file that could make an opening another one, and with those of `more` packages."""
    harness = Path(__file__).parents[2]
    files = sorted(
        path for package in (*_PACKAGES, *more) for path in (harness / package).rglob("*.*") if _is_source(path)
    )
    content = b"".join(f"{path.relative_to(harness)}\n".encode() + path.read_bytes() for path in files)
    return hashlib.sha256(content).hexdigest()


def _is_source(path: Path) -> bool:
    return path.suffix in (".py", ".sh", ".yaml")


def evidence_of(folder: Path) -> EvidenceStore:
    """Where the evidence of an opening that is stored in `folder` belongs."""
    return EvidenceStore(folder, FOLDER)


def store_opening(stage: Stage, folder: Path) -> None:
    """Write down a stage that has come to C2, its consoles closed. LabError when guest A does not work there."""
    opening = WarmStart(
        played=datetime.now(UTC),
        seconds=stage.collector.seconds,
        parts=tuple(
            WarmDevice(
                part.device.address,
                part.device.original_driver,
                tuple(part.collector.readings),
                part.collector.position,
            )
            for part in stage.parts
        ),
        actions=tuple(stage.record.actions),
        guests=dict(stage.record.guests),
        evidence=evidence_of(folder).files(),
    )
    if not all(works_at_c2(part.record) for part in stage.parts):
        raise LabError("guest A does not work at C2")
    (folder / _NAME).write_bytes(opening.to_json())


def resume(stage: Stage, folder: Path, store: EvidenceStore) -> None:
    """Bring a stage whose host was frozen at C2 to where it was then; copies of the evidence go to `store`."""
    with stage.progress.phase(TAKE_OVER):
        stored = (folder / _NAME).read_bytes()
        store.take_over(WarmStart.from_json(stored).evidence, evidence_of(folder))
        opening = WarmStart.from_json(stored, store.folder)
        for part, opened in zip(stage.parts, opening.parts, strict=True):
            if part.device.address != opened.address:
                raise LabError(f"{part.device.target.name} is at {part.device.address}, and was at {opened.address}")
            part.device.original_driver = part.record.dom0_driver = opened.original_driver
            part.collector.resume(opened.readings, opened.position, opening.seconds)
            part.record.markers = part.collector.markers
            part.record.observations += (observe(opened.address, reading, store) for reading in opened.readings)
        stage.record.actions += opening.actions
        stage.record.opened = opening.played
        for label, domid in opening.guests.items():
            stage.adopt(stage.spec if label == "A" else stage.bystander_spec, domid, label)
