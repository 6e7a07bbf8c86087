"""A guest reboots after the hazard: the toolstack makes a new domain with the same device, and that one works."""

from __future__ import annotations

import pytest

from harness.host.device import Device
from harness.host.host import Host
from harness.plugin.fixtures import MakeGuest


@pytest.mark.device("virtio-rng")
@pytest.mark.control("no-maskall-reset")
@pytest.mark.guest(on_reboot="restart")
def test_rebooted_guest_gets_interrupts(xen_host: Host, pci_device: Device, make_guest: MakeGuest) -> None:
    """The device comes back to work with the guest."""
    guest = make_guest(pci_device)
    assert guest.interrupts(pci_device) > 0

    pci_device.memory_decoding(False)
    guest.clear_msix_enable(pci_device)
    pci_device.memory_decoding(True)
    assert xen_host.said("cannot mask IRQ")

    guest.reboot(wait=False)
    again = guest.restarted()
    assert again.domid != guest.domid
    assert again.interrupts(pci_device) > 0
