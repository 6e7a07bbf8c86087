"""The first virtual function of a card that was plugged in, its physical function left to dom0."""

from __future__ import annotations

from pathlib import Path

from harness.base.deadline import Deadline
from harness.guest.drivers import Driver
from harness.transport.base import Script, Transport

_SECONDS = 60.0


def switch_on(transport: Transport, physical_function: str, driver: Driver) -> None:
    """Make the VF of the only card that is `physical_function` (vendor:device), with its dom0 driver bound.

    Linux: sriov_numvfs of the PF (Documentation/PCI/pci-iov-howto.rst). CommandFailed when there is no such VF in time.
    """
    program = Path(__file__).with_name("virtualfunction.sh").read_text()
    words = [*physical_function.split(":"), driver.bound_as, *driver.modules]
    script = Script(f"set -- {' '.join(words)}\n{program}")
    transport.run(script, deadline=Deadline.after(_SECONDS), changes=True).check()
