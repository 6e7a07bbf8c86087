"""What a host must show before a device is borrowed from it; nothing here changes it."""

from __future__ import annotations

import pytest

from harness.base.deadline import Deadline
from harness.host.host import Host, TargetDevice
from harness.model.address import Bdf
from harness.model.config import ConfigSpace
from harness.model.identity import find_device
from harness.xen.keys.xl_output import parse_info, parse_list

SECONDS = 30.0


def ask(host: Host, *argv: str) -> str:
    return host.transport.run(argv, deadline=Deadline.after(SECONDS)).check().text


@pytest.fixture(scope="module")
def target(maskall_host: Host) -> tuple[TargetDevice, Bdf]:
    (device,) = maskall_host.devices.values()
    return device, find_device(ask(maskall_host, "lspci", "-D", "-n"), device.identity)


def test_hypervisor_answers_and_can_assign_devices(maskall_host: Host) -> None:
    info = parse_info(ask(maskall_host, "xl", "info"), file="xl info")
    assert info.xen_version
    assert {"hvm", "hvm_directio"} <= info.virt_caps, "no IOMMU: nothing can be passed through to an HVM guest"


def test_no_domain_is_left_from_before(maskall_host: Host) -> None:
    rows = parse_list(ask(maskall_host, "xl", "list"), file="xl list")
    assert [row.name for row in rows if row.zombie or row.dying or row.crashed] == []


def test_pciback_is_loaded(maskall_host: Host) -> None:
    ask(maskall_host, "test", "-d", "/sys/bus/pci/drivers/pciback")


def test_msix_of_the_target_is_not_masked_already(maskall_host: Host, target: tuple[TargetDevice, Bdf]) -> None:
    device, address = target
    path = f"/sys/bus/pci/devices/{address}/config"
    capability = ConfigSpace(maskall_host.transport.get(path, Deadline.after(SECONDS)), path).msix
    assert capability is not None, f"{device.name} at {address} has no MSI-X"
    assert not capability.control.masked, f"{device.name} at {address}: {capability.control}, somebody masked it before"
