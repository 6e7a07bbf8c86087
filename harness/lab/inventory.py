"""The inventory: which hosts there are, and which of their devices may be borrowed (inventory/*.yaml)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.errors import UsageError
from harness.yamlfile import load_models, nearest


class HostEntry(BaseModel):
    """One host. Devices are named; an empty list means no device, never all."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["nested"]
    stack: Literal["trixie", "bookworm", "bullseye"] = "trixie"
    devices: tuple[str, ...]


class Inventory(BaseModel):
    """The whole file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hosts: dict[str, HostEntry] = Field(min_length=1)

    def host(self, name: str | None) -> HostEntry:
        """The host of this name; without a name the only one. UsageError otherwise."""
        if name is None and len(self.hosts) == 1:
            return next(iter(self.hosts.values()))
        if name is None:
            raise UsageError("the inventory has several hosts", hint=f"pick one with --host: {', '.join(self.hosts)}")
        if name not in self.hosts:
            raise UsageError(f"there is no host {name!r} in the inventory", hint=nearest(name, list(self.hosts)))
        return self.hosts[name]


def load_inventory(path: Path) -> Inventory:
    """InventoryError with file, line and column for whatever is wrong with the file."""
    return load_models(path, Inventory)
