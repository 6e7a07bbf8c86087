"""Two devices in two guests: what befalls one is not felt by the other."""

from __future__ import annotations

import pytest

from harness.host.device import Device
from harness.plugin.fixtures import MakeGuest, TakeCheckpoint


@pytest.mark.device("nvme", "virtio-rng")
@pytest.mark.control("no-maskall-reset")
def test_neighbour_is_not_touched(pci_devices: list[Device], make_guest: MakeGuest, checkpoint: TakeCheckpoint) -> None:
    """The first is masked and goes to its next owner; the second works before, meanwhile and after."""
    disk, random = pci_devices
    guest, neighbour = make_guest(disk), make_guest(random)
    assert guest.interrupts(disk) > 0
    assert neighbour.interrupts(random) > 0

    disk.memory_decoding(False)
    guest.clear_msix_enable(disk)
    disk.memory_decoding(True)
    checkpoint("the disk is masked")
    assert disk.msix.masked
    assert not random.msix.masked
    assert neighbour.interrupts(random) > 0

    guest.destroy()
    again = make_guest(disk)
    assert again.interrupts(disk) > 0
    assert neighbour.interrupts(random) > 0
