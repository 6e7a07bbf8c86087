"""xl and libvirt keep the same promises, on the same fake host: what a refusal is, who has the device, what is gone."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from harness.base.deadline import Deadline
from harness.base.errors import LabError
from harness.model.address import Bdf
from harness.model.guestspec import GuestSpec, GuestType
from harness.transport.base import Transport
from harness.xen.toolstack.libvirt import LibvirtToolstack
from harness.xen.toolstack.xl import Toolstack, XlToolstack
from suites.selftest.fakes.fakehost import board
from suites.selftest.fakes.fakelab import FakeLab, fake_host
from suites.selftest.fakes.fakexenlibvirt import FakeConnection, FakeXenLibvirt
from suites.selftest.fakes.patience import soon

__all__ = ["fake_host"]
NIC, DISK = Bdf.parse(board.NIC), Bdf.parse(board.DISK)


def guest(*devices: Bdf, name: str = "maskall-a") -> GuestSpec:
    kernel, initrd = f"/boot/vmlinuz-{board.RELEASE}", f"/boot/initrd.img-{board.RELEASE}"
    return GuestSpec(name, GuestType.HVM, kernel, initrd, devices)


def by_xl(lab: FakeLab) -> Toolstack:
    return XlToolstack(lab.transport())


def by_libvirt(lab: FakeLab) -> Toolstack:
    def connect(transport: Transport, deadline: Deadline) -> SimpleNamespace:
        return SimpleNamespace(connection=FakeConnection(lab.fake), alive=True, close=lambda: None)

    return LibvirtToolstack(lab.transport(), connect)


@pytest.fixture(autouse=True)
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "libvirt", FakeXenLibvirt())


@pytest.fixture(params=[by_xl, by_libvirt], ids=["xl", "libvirt"])
def tools(request: pytest.FixtureRequest, fake_host: FakeLab) -> Toolstack:
    make: Callable[[FakeLab], Toolstack] = request.param
    return make(fake_host)


def test_a_device_goes_to_pciback_and_back(tools: Toolstack, fake_host: FakeLab) -> None:
    nic = fake_host.fake.functions[board.NIC]
    tools.make_assignable(NIC, soon()).check()
    assert (nic.bound, nic.owner) == ("pciback", "DomIO" if tools.quarantines else "d0")
    tools.make_assignable(NIC, soon()).check()  # a second time is no harm
    tools.take_back(NIC, soon(), rebind=True).check()
    assert (nic.bound, nic.owner) == (nic.driver, "d0")


def test_a_device_that_is_not_there_is_a_result(tools: Toolstack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.xen.toolstack.libvirt._NEW_DEVICE_SECONDS", 0.0)
    result = tools.make_assignable(Bdf.parse("0000:7f:00.0"), soon())
    assert result.status == 1
    assert result.stderr


def test_a_guest_has_the_device_and_loses_it(tools: Toolstack, fake_host: FakeLab) -> None:
    nic = fake_host.fake.functions[board.NIC]
    tools.make_assignable(NIC, soon()).check()
    created = tools.create(guest(NIC), soon())
    assert created.result.ok
    assert created.domid is not None
    assert nic.owner == f"d{created.domid}"
    assert tools.domid("maskall-a", soon()) == created.domid
    assert tools.domid("maskall-b", soon()) is None
    tools.destroy(created.domid, soon()).check()
    tools.await_gone(created.domid, NIC, soon()).check()
    assert (nic.owner, nic.bound) == ("DomIO", "pciback")
    assert tools.destroy(created.domid, soon()).status == 1


def test_a_destroy_that_is_begun_ends_by_itself(tools: Toolstack, fake_host: FakeLab) -> None:
    created = tools.create(guest(), soon())
    assert created.domid is not None
    begun = tools.start_destroy(created.domid, soon())
    tools.await_gone(created.domid, NIC, soon()).check()
    begun.close()
    assert not fake_host.fake.domains.get(created.domid)


@pytest.mark.parametrize("why", ["not assignable", "name taken", "still masked"])
def test_a_refused_create_is_a_result_that_says_why(tools: Toolstack, fake_host: FakeLab, why: str) -> None:
    nic = fake_host.fake.functions[board.NIC]
    if why != "not assignable":
        tools.make_assignable(NIC, soon()).check()
    if why == "name taken":
        assert tools.create(guest(), soon()).result.ok
    if why == "still masked":
        nic.word(0x52, (nic.msix or 0) | 0x4000)
    created = tools.create(guest(NIC), soon())
    assert not created.result.ok
    said = (created.result.stdout + created.result.stderr).decode()
    words = {
        "not assignable": "not assignable|must be manually",
        "name taken": "already exists",
        "still masked": "busy",
    }
    assert any(word in said for word in words[why].split("|")), said


def test_a_domain_that_stays_is_not_gone(tools: Toolstack, fake_host: FakeLab) -> None:
    fake_host.fake.zombies = True
    created = tools.create(guest(), soon())
    assert created.domid is not None
    tools.destroy(created.domid, soon())
    assert not tools.await_gone(created.domid, NIC, Deadline.after(0.5)).ok


def test_an_odd_name_reaches_nobody(tools: Toolstack, fake_host: FakeLab) -> None:
    sent = list(fake_host.fake.lines)
    with pytest.raises(LabError, match="no name for a guest"):
        tools.create(guest(name="a;reboot"), soon())
    assert fake_host.fake.lines == sent
    tools.close()
    tools.close()


def test_what_libvirt_leaves_in_quarantine(fake_host: FakeLab) -> None:
    """Seen with libvirt 11.3 on Xen 4.20: dom0's driver has the device again, Xen still counts it as DomIO's."""
    tools, nic = by_libvirt(fake_host), fake_host.fake.functions[board.NIC]
    tools.make_assignable(NIC, soon()).check()
    created = tools.create(guest(NIC), soon())
    assert created.domid is not None
    tools.destroy(created.domid, soon()).check()
    tools.take_back(NIC, soon(), rebind=True).check()
    assert (nic.bound, nic.owner) == (nic.driver, "DomIO")


def test_the_host_has_neither_daemon(fake_host: FakeLab) -> None:
    tools = LibvirtToolstack(fake_host.transport())
    with pytest.raises(LabError, match=r"xenbox1: (virt-ssh-helper is not installed|neither libvirtd nor virtxend)"):
        tools.make_assignable(NIC, soon())
