"""Booting a host anew and knowing that it was: by boot_id, never by what a controller says."""

from __future__ import annotations

import enum
import time
from dataclasses import dataclass

from harness.base.deadline import Deadline
from harness.base.errors import HostHung, HostUnreachable, OutcomeUnknown, PowerFailed
from harness.host.boot import await_boot
from harness.lab.power.base import Power
from harness.transport.base import Transport

_ASK_SECONDS = 10.0
_SOFT = ["systemctl", "reboot"]


class How(enum.Enum):
    """The ways, and how they are said to a person."""

    SOFT = "reboot by its own systemctl"
    RESET = "warm reset by its controller"
    CYCLE = "power cycle by its controller"

    @property
    def text(self) -> str:
        return self.value


_LEAVE_SECONDS = {How.SOFT: 150.0, How.RESET: 15.0, How.CYCLE: 0.0}
"""How long the old boot may still answer: before a soft reboot systemd gives each service 90 s to stop."""


@dataclass(frozen=True)
class Rebooted:
    """The new boot, and the seconds from the order to an answering ssh."""

    boot_id: str
    seconds: float


def reboot(transport: Transport, power: Power | None, deadline: Deadline, how: How, before: str) -> Rebooted:
    """Boot the host anew and wait for it; the transport is connected to the new boot then.

    `before` is the boot_id that must be gone. PowerFailed when it is not: what was ordered was no reset.
    HostUnreachable when nothing answers at the deadline.
    """
    began = time.monotonic()
    _order(transport, power, deadline, how)
    leave = deadline.sooner(_LEAVE_SECONDS[how])
    now = await_boot(transport, before, leave, deadline)
    if now is None:
        raise HostUnreachable(f"{transport.name}: after '{how.text}' it did not come back", hint="look at its console")
    if now == before:
        raise PowerFailed(
            f"{transport.name}: '{how.text}' was none: boot_id is still {before}", hint="look at the machine's console"
        )
    return Rebooted(now, time.monotonic() - began)


def _order(transport: Transport, power: Power | None, deadline: Deadline, how: How) -> None:
    if how is How.SOFT:
        try:
            transport.run(_SOFT, deadline=deadline.sooner(_ASK_SECONDS), changes=True).check()
        except (OutcomeUnknown, HostUnreachable, HostHung):  # it went faster than its answer; boot_id will tell
            return
    elif power is None:
        raise PowerFailed(f"{transport.name}: no power control in the inventory for a {how.text}")
    elif how is How.RESET:
        power.reset(deadline)
    else:
        power.cycle(deadline)
