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


Gate = Callable[[Bdf], str]
"""Decides by the host's present state whether a device may be taken. SafetyRefusal when not.

It gives a program for sh that runs right before in the shell that takes the device, and ends it with CHANGED when the
state is another by then. Empty on a host where nothing has to be feared.
"""
CHANGED = 75  # EX_TEMPFAIL, sysexits.h: no tool of Xen's ends with it


def ungated(device: Bdf) -> str:
    """For a host that is thrown away afterwards."""
    del device
    return ""


def driver_of(transport: Transport, address: Bdf) -> str | None:
    """The driver dom0 has bound to the device, None when there is none."""
    link = transport.run(["readlink", f"/sys/bus/pci/devices/{address}/driver"], deadline=Deadline.after(_SECONDS))
    return link.text.strip().rpartition("/")[2] or None
