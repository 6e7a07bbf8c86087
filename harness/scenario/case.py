"""What was seen and done in one run of a test that somebody wrote with the fixtures. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from harness.model.message import Marker
from harness.model.observation import Observation, RawRef, Reading
from harness.scenario.record import Action


def folder_name(checkpoint: str) -> str:
    """What the folder of a look is called behind its number."""
    return re.sub(r"[^A-Za-z0-9]+", "-", checkpoint).strip("-") or "checkpoint"


@dataclass(frozen=True)
class CaseView:
    """All views of every borrowed device at one moment of a test. `name` is the test's, or `end` for the last."""

    name: str
    observations: tuple[Observation, ...]  # a device each, in the order in which they were borrowed


@dataclass
class CaseRecord:
    """One run of a test, on stock or on a control, in the order of events."""

    devices: list[str] = field(default_factory=list)  # "nvme at 0000:04:00.0"
    actions: list[Action] = field(default_factory=list)
    seen: list[CaseView] = field(default_factory=list)
    markers: list[tuple[Marker, RawRef]] = field(default_factory=list)  # what Xen and dom0 said that matters
    readings: list[list[Reading]] = field(default_factory=list)  # of each device; the logs count in those of the first
    console: RawRef | None = None  # the host's own

    @property
    def hazard(self) -> tuple[Marker, RawRef] | None:
        """Xen's line that it could mask a vector by MASKALL alone: the dangerous moment was reached."""
        return next((one for one in self.markers if one[0].kind.is_hazard), None)


def parting(stock: CaseRecord, control: CaseRecord) -> tuple[str, Observation, Observation] | None:
    """The first moment of both at which a device differs, with what each side saw of it; None when there is none."""
    others = {one.name: one for one in control.seen}
    for one in stock.seen:
        other = others.get(one.name)
        for left, right in zip(one.observations, other.observations if other else (), strict=False):
            if _essence(left) != _essence(right):
                return one.name, left, right
    return None


def _essence(seen: Observation) -> object:
    """What may be compared between two hosts: no numbers of domains or irqs."""
    hardware, xen, guest = seen.hardware, seen.xen, seen.guest
    flags = (hardware.gone, hardware.command, hardware.control) if hardware else None
    masks = sorted((one.host, one.guest, one.hardware or False) for one in xen.masks) if xen else None
    works = (guest.control, guest.delta > 0) if guest else None
    return flags, seen.table.masked if seen.table else None, len(xen.irqs) if xen else None, masks, works
