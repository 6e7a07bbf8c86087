"""One stay on the fake host, as a run makes it: a device borrowed, given to a guest, and given back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.base.errors import LabError
from harness.guest.initramfs import GuestFiles
from harness.host.device import Device
from harness.host.guest import CREATE
from harness.host.host import Host, TargetDevice
from harness.lab.lease.claim_options import ClaimOptions
from harness.lab.lease.deadman import DeadMan
from harness.lab.lease.ladder import Climb
from harness.lab.lease.lease import Lease
from harness.lab.lease.site import Site
from harness.lab.rescue import Rescue
from harness.model.address import Bdf
from harness.model.guestspec import GuestSpec, GuestType
from harness.xen.toolstack.xl import XlToolstack
from suites.selftest.fakes.fakehost import board
from suites.selftest.fakes.fakelab import NAME, FakeLab
from suites.selftest.fakes.patience import soon

NIC = Bdf.parse(board.NIC)
WISHES = ClaimOptions(reason="a self-test")
FORCED = ClaimOptions(reason="a self-test", take_over="the first one is dead")


def site(lab: FakeLab) -> Site:
    return Site.find(lab.inventory, NAME)


def arrive(lab: FakeLab, trace: Callable[[str], None] = lambda _: None, wishes: ClaimOptions = WISHES) -> Lease:
    """A visit with its journal open and the NIC's baseline on record."""
    visit = Lease.begin(site(lab), wishes, lambda _: None)
    visit.journal.trace = trace
    visit.open_journal(wishes.reason)
    visit.remember(NIC)
    return visit


def borrow(visit: Lease) -> None:
    """The NIC goes to a guest of ours, with its memory decoding switched off for a moment."""
    visit.load_module("xen-pciback")
    tools = XlToolstack(visit.transport)
    timer = DeadMan(visit.site.transport, may_reboot=True)
    kernel, initramfs = f"/boot/vmlinuz-{board.RELEASE}", f"/boot/initrd.img-{board.RELEASE}"
    host = Host(
        NAME,
        visit.transport,
        {},
        GuestFiles(kernel, initramfs),
        visit.journal,
        lambda device, driver: timer.guarding(visit.transport, device, driver),
    )
    device = Device.identify(host, tools, TargetDevice("nic0", "8086:10d3", "e1000e", True, NIC))
    device.bind()
    visit.journal.about_to(CREATE.to(guest="maskall-a"))  # without the noun: nobody reads its console
    tools.create(GuestSpec("maskall-a", GuestType.HVM, kernel, initramfs, (NIC,)), soon())
    device.memory_decoding(False).check()


def give_back(visit: Lease, **rescue: object) -> Climb | None:
    """As RealLab does it: straight, else by the ladder; what was climbed."""
    try:
        visit.put_back()
    except LabError:
        return Rescue(visit, **{"power": None, "console": None, **rescue}).climb()  # type: ignore[arg-type]
    return None


def die(visit: Lease) -> None:
    """As a process that was killed: nothing is cleaned up, its connections close."""
    visit.claim._stop.set()
    visit.transport.close()


@pytest.fixture(autouse=True)
def controller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has never seen a lab host, and does not wait long for what is gone."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "controller"))
    monkeypatch.setattr("harness.lab.lease.undo.GONE_SECONDS", 0.1)


def baseline(lab: FakeLab) -> dict[str, Any]:
    """All that must be as it was once the host was given back."""
    return lab.fake.state()
