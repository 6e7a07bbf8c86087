"""The target devices a nested host can have: QEMU's models, their backends, and what which QEMU can do with them."""

from __future__ import annotations

import difflib
import functools
from pathlib import Path
from typing import Literal

from pydantic import Field, RootModel

from harness.base.errors import UsageError
from harness.base.strict import StrictModel
from harness.base.yamlfile import load_models
from harness.scenario.choose import Candidate

_MOST_SLOTS = 14  # root ports are at 00:11.0 and on; 00:1f.0 is the chipset's
_IDENTITY = r"^[0-9a-f]{4}:[0-9a-f]{4}$"


class Backend(StrictModel):
    """Exactly one of what a device model needs behind it."""

    netdev: Literal["user"] | None = None
    object: Literal["rng-random"] | None = None
    usb: Literal["usb-tablet"] | None = None
    drive: str | None = Field(None, pattern=r"^\d+[KMG]$", description="size of an empty throw-away drive")


class EmulatedDevice(StrictModel):
    """One entry of devices.yaml."""

    model: str
    properties: dict[str, str] = Field({})
    backend: Backend
    slot: int = Field(ge=1, le=_MOST_SLOTS)
    freezes_from: str | None = Field(None, pattern=r"^\d+\.\d+$")
    identity: str = Field(pattern=_IDENTITY)
    physical_function: str | None = Field(None, pattern=_IDENTITY)
    driver: str
    reset: Literal["effective", "no-op"]

    def freezes(self, release: tuple[int, ...]) -> bool:
        """Whether a QEMU of this release can snapshot it."""
        return self.freezes_from is not None and release >= tuple(map(int, self.freezes_from.split(".")))

    def device_arguments(self, name: str) -> dict[str, str]:
        """What -device and QMP's device_add are given."""
        backend = {"netdev": f"{name}-net"} if self.backend.netdev else {}
        backend |= {"rng": f"{name}-rng"} if self.backend.object else {}
        backend |= {"drive": f"{name}-drive"} if self.backend.drive else {}
        return {"driver": self.model, "id": f"{name}-dev", "bus": f"rp{self.slot}", **backend, **self.properties}


class _Catalogue(RootModel[dict[str, EmulatedDevice]]):
    pass


@functools.cache
def catalogue() -> dict[str, EmulatedDevice]:
    return load_models(Path(__file__).with_name("devices.yaml"), _Catalogue).root


def root_ports() -> range:
    """The slots of a machine: as many as the devices need."""
    return range(1, max(model.slot for model in catalogue().values()) + 1)


def candidates(models: dict[str, EmulatedDevice]) -> list[Candidate]:
    """The devices as scenarios are chosen for them: each may suffer anything, for it is thrown away afterwards."""
    return [
        Candidate(
            name,
            name,
            reset_effective=model.reset == "effective",
            virtual_function=model.physical_function is not None,
        )
        for name, model in models.items()
    ]


def select(names: list[str], offer: frozenset[str]) -> dict[str, EmulatedDevice]:
    """The models of these names; UsageError for a name we do not know or a model this QEMU lacks."""
    known = catalogue()
    chosen = {}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1, 0)
            raise UsageError(f"there is no device {name!r}", hint=f"did you mean {near[0]}? known: {', '.join(known)}")
        if known[name].model not in offer:
            raise UsageError(
                f"this QEMU has no device model {known[name].model!r} for {name}",
                hint="leave the device out, or let $MASKALL_QEMU name a QEMU that has it, or none",
            )
        chosen[name] = known[name]
    return chosen
