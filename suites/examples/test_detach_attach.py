"""A device is taken from a running guest after the hazard, and given to it again."""

from __future__ import annotations

import pytest

from harness.host.device import Device
from harness.host.host import Host
from harness.plugin.fixtures import MakeGuest


@pytest.mark.device("virtio-rng")
@pytest.mark.control("no-maskall-reset")
def test_attached_again_it_works(xen_host: Host, pci_device: Device, make_guest: MakeGuest) -> None:
    """Nothing of it is left in between, and its interrupts arrive again."""
    guest = make_guest(pci_device)
    assert guest.interrupts(pci_device) > 0

    pci_device.memory_decoding(False)
    guest.clear_msix_enable(pci_device)
    pci_device.memory_decoding(True)
    assert xen_host.said("cannot mask IRQ")

    assert guest.detach(pci_device)
    assert pci_device.owner == "DomIO"
    assert not pci_device.irqs

    assert guest.attach(pci_device)
    assert guest.interrupts(pci_device) > 0
