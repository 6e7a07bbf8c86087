"""qemu stands still while its guest is destroyed, and the next owner of the device gets no interrupts.

That is so on a stock Xen 4.20: docs/findings/stopped-device-model.md. Two honest ways to write it down: the test of
what should be, which is expected to fail until Xen is fixed (and fails the run once it passes), and the test of the
finding. Both need a driver that has set up its vectors, as make_guest hands it out: a qemu that is stopped before has
none to keep.
"""

from __future__ import annotations

import pytest

from harness.host.device import Device
from harness.host.guest import Guest
from harness.plugin.fixtures import MakeGuest

pytestmark = [pytest.mark.device("virtio-rng"), pytest.mark.stack("trixie")]


def next_owner(pci_device: Device, make_guest: MakeGuest) -> Guest:
    """The guest that gets the device of one whose qemu was stopped before it was destroyed."""
    guest = make_guest(pci_device)
    guest.device_model.stop().check()
    guest.destroy(wait=False)
    return make_guest(pci_device)


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="docs/findings/stopped-device-model.md")
def test_next_owner_gets_interrupts(pci_device: Device, make_guest: MakeGuest) -> None:
    """What should be."""
    assert next_owner(pci_device, make_guest).interrupts(pci_device) > 0


def test_the_dead_domain_keeps_its_vectors(pci_device: Device, make_guest: MakeGuest) -> None:
    """What is: the vectors of the domain that is gone are still mapped, and bound to nobody."""
    guest = make_guest(pci_device)
    guest.device_model.stop().check()
    guest.destroy(wait=False)
    assert pci_device.owner == "DomIO"
    assert pci_device.irqs
    assert pci_device.xen.unbound
