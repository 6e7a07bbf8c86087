"""The report of 2019: a guest leaves its device masked by Xen, and the next guest never gets an interrupt.

Xen cannot reach the vector table while memory decoding is off, so it masks the whole function (MASKALL) and remembers
that. Before fix 575e18d54d19 it still remembered when the device went to its next owner.
"""

from __future__ import annotations

import pytest

from harness.host.device import Device
from harness.host.host import Host
from harness.plugin.fixtures import MakeGuest


@pytest.mark.control("no-maskall-reset")
def test_next_guest_gets_interrupts(xen_host: Host, pci_device: Device, make_guest: MakeGuest) -> None:
    """A guest's device masked by Xen alone, the guest destroyed: the next one works."""
    guest = make_guest(pci_device)
    assert guest.interrupts(pci_device) > 0

    pci_device.memory_decoding(False)
    guest.clear_msix_enable(pci_device)
    pci_device.memory_decoding(True)
    assert pci_device.msix.masked
    assert xen_host.said("cannot mask IRQ")

    guest.destroy()
    again = make_guest(pci_device)
    assert again.interrupts(pci_device) > 0
    assert not pci_device.msix.masked
