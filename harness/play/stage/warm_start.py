"""A scenario's opening: what was done and seen from dom0's driver to a guest A that works (C0 to C2). Pure.

Scenarios with the same guest A and the same devices open alike, so a lab that can freeze a running host plays it once.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime

from pydantic import TypeAdapter, ValidationError

from harness.base.errors import ParseError
from harness.evidence.references import moved
from harness.model.address import Bdf
from harness.model.observation import Checkpoint, Position, RawRef, Reading
from harness.scenario.record import Action, Record
from harness.scenario.spec import Fate, Next, Scenario

FOLDER = "raw"
"""The paths of an opening's evidence begin with it, until the run that takes it over says where the files are now."""


@dataclass(frozen=True)
class WarmDevice:
    """One device: whose it was, what was read of it, and how far its collector has come."""

    address: Bdf
    original_driver: str | None
    readings: tuple[Reading, ...]
    position: Position


def works_at_c2(record: Record) -> bool:
    """Whether interrupts reached the guest that has the device at C2."""
    last = record.observations[-1] if record.observations else None
    seen = last.guest if last is not None and last.checkpoint is Checkpoint.C2 else None
    return seen is not None and seen.traffic_ok and seen.delta > 0


@dataclass(frozen=True)
class WarmStart:
    """`seconds` from the scenario's begin to the freeze; `guests` label -> domid; `evidence`: every raw file."""

    played: datetime
    seconds: float
    parts: tuple[WarmDevice, ...]
    actions: tuple[Action, ...]
    guests: dict[str, int]
    evidence: tuple[RawRef, ...]

    def to_json(self) -> bytes:
        return _ADAPTER.dump_json(self, indent=1)

    @classmethod
    def from_json(cls, data: bytes, folder: str = FOLDER) -> WarmStart:
        """An opening whose evidence is in `folder` now. ParseError for anything that `to_json` does not write."""
        try:
            return _ADAPTER.validate_python(moved(json.loads(data), FOLDER, folder))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise ParseError(f"{place}: {first['msg']}", file="opening", expected="a stored opening") from error
        except ValueError as error:
            raise ParseError(str(error), file="opening", expected="JSON") from error


_ADAPTER = TypeAdapter(WarmStart)


def opening_key(scenario: Scenario) -> str | None:
    """The same for all scenarios that open alike; None for one that has no guest A to begin with."""
    if scenario.end.fate is Fate.REFUSED:
        return None
    said = {
        "guest": scenario.guest,
        "devices": scenario.devices,
        "options": scenario.end.guest.model_dump(mode="json"),
        "bystander": scenario.bystander,
        "dom0's driver works first": scenario.follow.next is Next.BACK_TO_DOM0,
    }
    return json.dumps(said, sort_keys=True)
