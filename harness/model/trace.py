"""What was done to a device's interrupts, and by whom: events, their callers, and frames of stacks. Pure."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, replace

from harness.base.strict import Hex


@dataclass(frozen=True)
class Frame:
    """A word of a stack that can be a return address: `symbol` + `offset`; `index` is its place on the stack."""

    index: int
    address: Hex
    symbol: str
    offset: int

    def __str__(self) -> str:
        return f"{self.symbol}+{self.offset:#x}"


class Actor(enum.StrEnum):
    XEN = "Xen"
    DEVICE_MODEL = "device model"
    TOOLSTACK = "toolstack"
    PROCESS = "process"
    DOM0_KERNEL = "dom0 kernel"
    GUEST = "guest"


@dataclass(frozen=True)
class Caller:
    """Who made an event happen. `name`: process, part of a kernel, domain, or function; `request`: what it asked."""

    actor: Actor
    name: str
    request: str = ""

    def __str__(self) -> str:
        asked = f", {self.request}" if self.request else ""
        return f"{self.actor} ({self.name}{asked})"


@dataclass(frozen=True)
class Dom0Call:
    """What ran in dom0 when Xen was called from there: the process, and its kernel's call chain, innermost first."""

    process: str
    chain: tuple[Frame, ...]


@dataclass(frozen=True)
class Event:
    """One thing done to an interrupt or to the device's registers."""

    seconds: float  # since the scenario began
    what: str  # map, bind, unbind, unmap, mask, unmask, ...
    function: str  # Xen's
    caller: Caller
    chain: tuple[Frame, ...]  # the hypervisor's, innermost first
    dom0: Dom0Call | None = None
    domid: int | None = None
    pirq: int | None = None
    irq: int | None = None
    entry: int | None = None  # in the device's vector table
    detail: str = ""
    times: int = 1  # how often in a row

    @property
    def subject(self) -> str:
        parts = (
            "" if self.domid is None else f"d{self.domid}",
            "" if self.pirq is None else f"pirq {self.pirq}",
            "" if self.irq is None else f"irq {self.irq}",
            "" if self.entry is None else f"entry {self.entry}",
        )
        return " ".join(part for part in parts if part)

    def same_as(self, other: Event) -> bool:
        """Whether only the time differs, and stale words of a stack."""
        return replace(self, seconds=0, times=1, chain=(), dom0=None) == replace(
            other, seconds=0, times=1, chain=(), dom0=None
        ) and _names(self.chain) == _names(other.chain)


def _names(chain: Iterable[Frame]) -> list[str]:
    return [frame.symbol for frame in chain]
