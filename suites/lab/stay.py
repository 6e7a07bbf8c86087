"""A stay on the practice machine as a run makes it, to be killed at a point of its journal.

    python -m suites.lab.stay INVENTORY HOST DEVICE [POINT]

borrows DEVICE and gives it to a guest that never boots; with POINT (a number) the process kills itself by SIGKILL at
that point between two writes of the journal, with stop:POINT it stops there by SIGSTOP, else everything is put back.
With livepatch:SECONDS the hypervisor is livepatched, with a timer of that many seconds, and it kills itself then.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from harness.base.deadline import Deadline
from harness.guest.initramfs import GuestFiles
from harness.host.device import Device
from harness.host.guest import CREATE
from harness.host.host import Host, TargetDevice
from harness.lab.lease.claim_options import ClaimOptions
from harness.lab.lease.deadman import DeadMan
from harness.lab.lease.lease import Lease
from harness.lab.lease.livepatched import LivepatchLeave
from harness.lab.lease.site import Site
from harness.lab.survey import Survey
from harness.model.address import Bdf
from harness.mutants.catalogue import catalogue
from harness.mutants.plant import plant
from harness.run.options import DEFAULT_CONTROL
from harness.xen.toolstack.xl import XlToolstack

SECONDS = 60.0
# a guest that is built and stays paused: nothing in it matters here
_GUEST = 'name="maskall-a"\ntype="hvm"\nmemory=64\npci=["{device}"]\non_crash="preserve"\n'


def arrive(site: Site, device: str, reason: str = "the lab lane") -> tuple[Lease, Bdf]:
    """Claimed, the device checked and its baseline on record."""
    visit = Lease.begin(site, ClaimOptions(reason=reason), print)
    survey = Survey.take(visit, site.devices([device]), {})
    visit.open_journal(reason)
    visit.remember(survey.address(device))
    return visit, survey.address(device)


def borrow(visit: Lease, device: str, address: Bdf) -> None:
    """To pciback, and to a guest of ours."""
    visit.load_module("xen-pciback")
    timer = DeadMan(visit.site.transport, may_reboot=True)
    host = Host(
        visit.site.name,
        visit.transport,
        {},
        GuestFiles("", ""),
        visit.journal,
        lambda bdf, driver: timer.guarding(visit.transport, bdf, driver),
    )
    entry = visit.site.entry.devices[device]
    target = TargetDevice(device, entry.identity.id, entry.driver, entry.reset_effective, address)
    Device.identify(host, XlToolstack(visit.transport), target).bind()
    visit.journal.about_to(CREATE.to(guest="maskall-a"))
    config = _GUEST.format(device=address).encode()
    deadline = Deadline.after(SECONDS)
    visit.transport.put(config, "/run/maskall/maskall-a.cfg", 0o600, deadline)
    command = ["xl", "create", "-p", "/run/maskall/maskall-a.cfg"]
    visit.transport.run(command, deadline=deadline, changes=True).check()


def livepatch(visit: Lease, seconds: int) -> None:
    """The known-bad control, as a run makes it."""
    leave = LivepatchLeave(visit.transport, visit.journal, allowed=True, seconds=seconds)
    host = Host(visit.site.name, visit.transport, {}, GuestFiles("", ""), visit.journal, before_livepatch=leave)
    plant(DEFAULT_CONTROL, catalogue()[DEFAULT_CONTROL], host)


def main() -> None:
    inventory, host, device, *point = sys.argv[1:]
    site = Site.find(Path(inventory), host)
    if point and point[0].startswith("livepatch:"):
        visit, _ = arrive(site, device)
        livepatch(visit, int(point[0].partition(":")[2]))
        os.kill(os.getpid(), signal.SIGKILL)
    how, _, number = (point[0] if point else "-1").rpartition(":")
    left = int(number)

    def trace(name: str) -> None:
        nonlocal left
        print(name, flush=True)
        if left == 0:
            os.kill(os.getpid(), signal.SIGSTOP if how == "stop" else signal.SIGKILL)
        left -= 1

    visit, address = arrive(site, device)
    visit.journal.trace = trace
    borrow(visit, device, address)
    visit.put_back()
    visit.end()


if __name__ == "__main__":
    main()
