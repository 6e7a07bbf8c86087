"""dom0's driver that lends devices to guests, and who dom0 has bound to a device."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager

from harness.base.deadline import Deadline
from harness.model.address import Bdf
from harness.transport.base import Transport

PCIBACK = "pciback"
_SECONDS = 30.0

Guard = Callable[[Bdf, str | None], AbstractContextManager[None]]
"""Stands around a step that takes a device (BDF, its driver) from dom0: a host may need protection from it."""


def unguarded(device: Bdf, driver: str | None) -> AbstractContextManager[None]:
    """For a host that is thrown away afterwards."""
    del device, driver
    return contextlib.nullcontext()


def driver_of(transport: Transport, address: Bdf) -> str | None:
    """The driver dom0 has bound to the device, None when there is none."""
    link = transport.run(["readlink", f"/sys/bus/pci/devices/{address}/driver"], deadline=Deadline.after(_SECONDS))
    return link.text.strip().rpartition("/")[2] or None
