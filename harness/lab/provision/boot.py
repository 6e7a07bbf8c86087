"""The reboot that provisioning ends with, and what has to be true after it."""

from __future__ import annotations

from harness.base.deadline import Deadline, poll
from harness.base.errors import LabError
from harness.base.progress import Progress
from harness.base.text import inert
from harness.lab.lease.lease import Lease
from harness.lab.power.base import Power
from harness.lab.provision import survey
from harness.lab.provision.facts import SystemFacts
from harness.lab.reboot import How, reboot
from harness.model.change import Change, ChangeKind
from harness.transport.base import Script

_SHUTDOWN_SECONDS = 120.0
_SERVICES_SECONDS = 120.0
"""Xen's daemons may start after sshd does."""

_WHY = Script("xl dmesg | grep -iE 'iommu|vt-d|amd-vi|dmar|i/o virtuali' | tail -n 3")


def boot_anew(visit: Lease, power: Power | None, progress: Progress, expected: str) -> None:
    """Reboot by the system's own means and meet it again; the claim and the journal go with us."""
    visit.meet_again()
    before = visit.journal.boot_id
    visit.journal.about_to(
        Change(ChangeKind.REBOOT, before, f"reboot into {expected}", "nothing: a reboot is not taken back")
    )
    seconds = visit.site.entry.boot_seconds
    with progress.phase(f"reboot into {expected}", seconds / 3):
        reboot(visit.transport, power, Deadline.after(seconds + _SHUTDOWN_SECONDS), How.SOFT, before)
        visit.meet_again()


def verify_xen(visit: Lease) -> SystemFacts:
    """The facts of a dom0 that passes devices through. LabError with what is missing and how to mend it."""

    def ready() -> SystemFacts | None:
        facts = survey.read(visit.transport)
        return facts if not facts.dom0 or (facts.xen_version and facts.pciback) else None

    facts = poll(ready, Deadline.after(_SERVICES_SECONDS), every=2.0) or survey.read(visit.transport)
    name = visit.site.name
    if not facts.dom0:
        raise LabError(
            f"{name} booted Linux {facts.kernel} without Xen",
            hint="GRUB chose another entry: see /boot/grub/grub.cfg there, or undo with `maskall unprovision`",
        )
    if not facts.xen_version:
        raise LabError(f"{name}: Xen runs, but `xl info` does not answer", hint="see `systemctl status xen` there")
    if not facts.hvm_directio:
        told = visit.transport.run(_WHY, deadline=Deadline.after(30)).text.strip().splitlines()
        said = f": {inert('; '.join(told))[:300]}" if told else ""
        raise LabError(
            f"{name}: Xen {facts.xen_version} runs but cannot pass devices through: no hvm_directio in `xl info`{said}",
            hint="switch VT-d or AMD-Vi on in the firmware's setup; undo with `maskall unprovision`",
        )
    if not facts.pciback:
        raise LabError(f"{name}: xen-pciback is not loaded", hint="see `modprobe xen-pciback` there")
    return facts
