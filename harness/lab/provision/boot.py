"""The one boot that Xen gets to show itself, the boot back, and what has to be true after them."""

from __future__ import annotations

import contextlib

from harness.base.deadline import Deadline, poll
from harness.base.errors import HostHung, HostUnreachable, LabError, Unreachable
from harness.base.progress import Progress
from harness.base.text import inert
from harness.lab.lease.lease import Lease
from harness.lab.lease.ownxen import GRUBENV
from harness.lab.power.base import Power
from harness.lab.provision import survey
from harness.lab.provision.facts import SystemFacts
from harness.lab.reboot import How, reboot
from harness.model.change import Change, ChangeKind
from harness.transport.base import Script

_SHUTDOWN_SECONDS = 120.0
_SERVICES_SECONDS = 120.0
"""Xen's daemons may start after sshd does."""

_ASK_SECONDS = 60.0
_NOT_REBOOTED = "it was not rebooted; what was done so far is taken back by `maskall unprovision`"

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


def boot_once(visit: Lease, facts: SystemFacts, power: Power | None, progress: Progress) -> None:
    """Boot the Xen entry once; the default stays what runs now, so any later reset leads back. LabError when it did."""
    name = visit.site.name
    entry, back = _way(name, facts)
    survey.refuse_guests(visit.transport, facts)
    boot_entry_once(visit, entry, back, power, progress, "Xen, once")
    now = survey.read(visit.transport)
    if not now.dom0:
        raise LabError(
            f"{name}: Xen did not come up; it is back in plain Linux {now.kernel}, which is still its default",
            hint="see what its console said; take the rest back with `maskall unprovision`",
        )


def boot_entry_once(
    visit: Lease, entry: str, back: int | None, power: Power | None, progress: Progress, expected: str
) -> None:
    """Boot this entry of GRUB's menu once. Returns when the host answers again, be it in what is its default.

    GRUB's environment is what it was before afterwards: `next_entry` is what to boot once, `fallback` what to boot
    when GRUB itself cannot load that (GRUB manual, "grub-reboot", "fallback"), by its number, `back`.
    """
    name = visit.site.name
    words = [f"next_entry={entry}", *([f"fallback={back}"] if back is not None else [])]
    try:
        _environment(visit, "set", *words)
        told = visit.transport.run(["grub-editenv", GRUBENV, "list"], deadline=Deadline.after(_ASK_SECONDS)).check()
        if not set(words) <= set(told.text.splitlines()):
            raise LabError(f"{name}: {GRUBENV} does not hold what was written to it", hint="it was not rebooted")
        try:
            boot_anew(visit, power, progress, expected)
        except HostUnreachable as error:
            if error.why is not Unreachable.SILENT or power is None:
                raise
            visit.notice(f"{error.message}; {expected} does not come up: a power cycle leads back")
            _cycle(visit, power, progress)
    finally:
        with contextlib.suppress(HostUnreachable, HostHung):  # whoever does not answer is told by what is raised
            clear_environment(visit)


def _way(name: str, facts: SystemFacts) -> tuple[str, int | None]:
    """What to boot once, and the number of the entry that is booted else. LabError: it was not rebooted."""
    entry = facts.menu.xen_with(facts.running)
    back = facts.menu.back(facts.environment)
    if entry is None:
        raise LabError(f"{name}: no entry of GRUB's menu boots Xen with {facts.running}", hint=_NOT_REBOOTED)
    if back is None or back.hypervisor or back.kernel != facts.running:
        told = repr(back.title) if back else "unknown"
        raise LabError(f"{name}: GRUB's default is {told}, which does not lead back", hint=_NOT_REBOOTED)
    return entry, next((number for number, one in enumerate(facts.menu.entries) if one is back), None)


def _environment(visit: Lease, *words: str) -> None:
    command = ["grub-editenv", GRUBENV, *words]
    visit.transport.run(command, deadline=Deadline.after(_ASK_SECONDS), changes=True).check()
    visit.transport.run(["sync", "-f", GRUBENV], deadline=Deadline.after(_ASK_SECONDS)).check()


def clear_environment(visit: Lease) -> None:
    """GRUB's environment without what `boot_once` may have left in it."""
    _environment(visit, "unset", "next_entry", "fallback")


def _cycle(visit: Lease, power: Power, progress: Progress) -> None:
    seconds = visit.site.entry.boot_seconds
    with progress.phase("power cycle, back into its default", seconds / 3):
        reboot(visit.transport, power, Deadline.after(seconds), How.CYCLE, visit.journal.boot_id)
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
