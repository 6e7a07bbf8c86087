"""A scenario's opening: what was done and seen from dom0's driver to a guest A that works (C0 to C2). Pure.

Scenarios with the same guest A and the same devices open alike, so a lab that can freeze a running host plays it once.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError

from harness.base.errors import ParseError
from harness.model.address import Bdf
from harness.model.checkpoint import Checkpoint
from harness.model.observation import Observation
from harness.model.raw import Position, RawRef
from harness.scenario.record import Action
from harness.scenario.spec import Fate, Next, Scenario
from harness.xen.keys.console import Marker

FOLDER = "raw"
"""The paths of an opening's evidence begin with it, until the run that takes it over says where the files are now."""


@dataclass(frozen=True)
class OpenedPart:
    """One device: whose it was, what was seen of it, and how far its collector has come."""

    address: Bdf
    original_driver: str | None
    observations: tuple[Observation, ...]
    markers: tuple[tuple[Marker, RawRef], ...]
    position: Position

    @property
    def works(self) -> bool:
        """Whether interrupts reached the guest that has the device at C2."""
        last = self.observations[-1] if self.observations else None
        seen = last.guest if last is not None and last.checkpoint is Checkpoint.C2 else None
        return seen is not None and seen.traffic_ok and seen.delta > 0


@dataclass(frozen=True)
class Opening:
    """`seconds` from the scenario's begin to the freeze; `guests` label -> domid; `evidence`: every raw file."""

    played: datetime
    seconds: float
    parts: tuple[OpenedPart, ...]
    actions: tuple[Action, ...]
    guests: dict[str, int]
    evidence: tuple[RawRef, ...]

    @property
    def works(self) -> bool:
        return bool(self.parts) and all(part.works for part in self.parts)

    def to_json(self) -> bytes:
        return _ADAPTER.dump_json(self, indent=1)

    @classmethod
    def from_json(cls, data: bytes, folder: str = FOLDER) -> Opening:
        """An opening whose evidence is in `folder` now. ParseError for anything that `to_json` does not write."""
        try:
            return _ADAPTER.validate_python(_moved(json.loads(data), folder))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise ParseError(f"{place}: {first['msg']}", file="opening", expected="a stored opening") from error
        except ValueError as error:
            raise ParseError(str(error), file="opening", expected="JSON") from error


_ADAPTER = TypeAdapter(Opening)
_REFERENCE = {field.name for field in fields(RawRef)}


def _moved(value: Any, folder: str) -> Any:  # noqa: ANN401 - JSON
    """The same with every reference to raw evidence below `folder`."""
    if isinstance(value, list):
        return [_moved(one, folder) for one in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == _REFERENCE:
        return value | {"path": folder + str(value["path"]).removeprefix(FOLDER)}
    return {name: _moved(one, folder) for name, one in value.items()}


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
