"""A hypervisor of somebody's own for one boot of a lab host: put there, booted once, and left again by a reboot.

GRUB's menu and its default stay as they are. The entry stands in a file that the menu reads at its end; both are gone
again as soon as it runs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness.base.deadline import Deadline, poll
from harness.base.errors import HostUnreachable, LabError, RestoreFailed, SafetyRefusal, UsageError
from harness.base.progress import Progress
from harness.base.text import inert
from harness.host.stacks import OWN_XEN
from harness.lab.inventory.models import LabEntry
from harness.lab.lease import leftovers, ownxen
from harness.lab.lease.lease import Lease
from harness.lab.power.base import Power
from harness.lab.provision import survey
from harness.lab.provision.boot import boot_anew, boot_entry_once
from harness.lab.provision.facts import SystemFacts
from harness.lab.provision.plan import no_way_back
from harness.lab.recorder import Recorder
from harness.model.change import Change, ChangeKind
from harness.mutants.hypervisor import remember
from harness.mutants.hypervisor_file import HypervisorFile
from harness.xen.keys.version import parse_xen

_SECONDS = 60.0
_SERVICES_SECONDS = 120.0
_LAST_LINES = 8
_BEGINS = re.compile(r"Xen version \d")
NEEDED = ("allow_persistent", "allow_reboot")


class OwnHypervisor(Protocol):
    """A file that somebody built, looked at already."""

    @property
    def path(self) -> Path: ...
    @property
    def sha256(self) -> str: ...
    @property
    def build_id(self) -> str: ...

    def refuse_tools(self, release: tuple[int, int], whose: str) -> None:
        """UsageError when tools of this release of Xen cannot speak to it."""


def refuse_forbidden(name: str, entry: LabEntry) -> None:
    """UsageError unless the inventory permits it."""
    if missing := [field for field in NEEDED if not getattr(entry, field)]:
        raise UsageError(
            f"--xen: the inventory does not allow to boot {name} with another hypervisor",
            hint=f"set {' and '.join(f'{field}: true' for field in missing)} for it, if it is yours to change",
        )


def obstacles(facts: SystemFacts) -> Iterator[str]:
    """Why GRUB could not boot another hypervisor once and then what runs now, one line each. Pure."""
    if not facts.dom0:
        yield "it is no Xen host: see maskall provision"
        return
    if facts.secure_boot:
        yield "Secure Boot is on, and a hypervisor of your own is not signed"
    yield from no_way_back(facts)
    if facts.backup and (others := sorted({"next_entry", "fallback"} & {*facts.environment})):
        yield f"GRUB has {' and '.join(others)} set: somebody else's next boot"
    back = facts.menu.back(facts.environment)
    if back is not None and (not back.hypervisor or back.kernel != facts.running):
        yield f"GRUB's default is {back.title!r}, which does not lead back to what runs now"
    if facts.grub and "custom.cfg" not in facts.menu.text:
        yield f"GRUB's menu does not read {ownxen.CUSTOM}"


@dataclass(frozen=True)
class OneBoot:
    """A session's hypervisor, as the lab that lends the host is given it."""

    own: OwnHypervisor

    @property
    def facts(self) -> dict[str, str]:
        """For results."""
        return {OWN_XEN: f"{self.own.path.name}, SHA-256 {self.own.sha256}"}

    def boot(self, visit: Lease, power: Power | None, console: Recorder | None, progress: Progress) -> None:
        boot_own(visit, self.own, power, console, progress)

    def go_back(self, visit: Lease, power: Power | None, progress: Progress) -> None:
        go_back(visit, power, progress)


def boot_own(
    visit: Lease, own: OwnHypervisor, power: Power | None, console: Recorder | None, progress: Progress
) -> None:
    """Boot it, and see by its build-id that it runs; files and menu are as before then.

    UsageError, SafetyRefusal: it cannot be done here, and nothing was changed. LabError when it did not come up: the
    host is back in what is its default, or is silent, as the error says.
    """
    name = visit.site.name
    refuse_forbidden(name, visit.site.entry)
    with progress.phase("see how it boots"):
        facts = survey.read(visit.transport)
        before = ownxen.running(visit.transport)
    if found := list(obstacles(facts)):
        raise UsageError(f"--xen: {name} cannot be booted once with another hypervisor: {'; '.join(found)}")
    if others := visit.undo().others():
        raise SafetyRefusal(f"{name} runs {', '.join(others)}, which a reboot ends", hint="shut them down first")
    if visit.transport.run(["test", "-e", ownxen.CUSTOM], deadline=Deadline.after(_SECONDS)).ok:
        raise UsageError(
            f"--xen: {ownxen.CUSTOM} is there already", hint="it is read by GRUB: move it elsewhere meanwhile"
        )
    own.refuse_tools(parse_xen(facts.xen_version).branch, name)
    data = own.path.read_bytes()
    file = HypervisorFile.parse(data, str(own.path))
    if hashlib.sha256(data).hexdigest() != own.sha256 or file.build_id.hex() == before:
        why = "runs there already" if file.build_id.hex() == before else "has changed since it was looked at"
        raise UsageError(f"--xen: {own.path} {why}")
    back = facts.menu.back(facts.environment)
    assert back is not None  # noqa: S101 - else it is an obstacle
    path, once = ownxen.path_of(own.build_id), f"{own.path.name}, once"
    entry = back.with_hypervisor(path.rpartition("/")[2], f"{once} (maskall)", ownxen.ENTRY)
    number = next((number for number, one in enumerate(facts.menu.entries) if one is back), None)
    began = len(console.text()) if console is not None else 0
    if not visit.journal.entries:
        visit.open_journal("maskall run --xen")
    try:
        with progress.phase(f"put {own.path.name} there"):
            _put(visit, path, data, f"put the hypervisor {own.path.name} there")
            _put(visit, ownxen.CUSTOM, f"{ownxen.MARK}\n{entry}".encode(), "add an entry to GRUB's menu")
        boot_entry_once(visit, ownxen.ENTRY, number, power, progress, once)
        running = poll(lambda: ownxen.running(visit.transport), Deadline.after(_SERVICES_SECONDS), every=2.0)
    except HostUnreachable:
        _tell(console, began, progress)
        raise
    ownxen.take_away(visit.transport)
    if running != own.build_id:
        _tell(console, began, progress)
        now = f"build-id {running or 'unknown'} runs"
        hint = "its last lines are above" if console is not None else "a console in the inventory would show why"
        raise LabError(f"{name}: {own.path.name} did not come up; {now}, which is its default", hint=hint)
    visit.lent_xen = own.build_id
    visit.before = leftovers.survey(visit.transport)
    remember(file)


def _put(visit: Lease, path: str, data: bytes, text: str) -> None:
    visit.journal.about_to(Change(ChangeKind.PERSISTENT, path, text, "remove it; the next boot is the default's"))
    deadline = Deadline.after(_SECONDS)
    visit.transport.put(data, path, 0o644, deadline)
    there = visit.transport.run(["sha256sum", path], deadline=deadline).check().text
    if there.split()[:1] != [hashlib.sha256(data).hexdigest()]:
        raise LabError(f"{visit.site.name}: {path} does not hold what was written to it", hint="it was not rebooted")
    visit.transport.run(["sync", "-f", path], deadline=deadline).check()


def _tell(console: Recorder | None, began: int, progress: Progress) -> None:
    """What Xen said last before it was gone: of its first boot since, where there were several."""
    lines = console.text()[began:].decode("utf-8", "replace").splitlines() if console is not None else []
    boots = [number for number, line in enumerate(lines) if _BEGINS.search(line)]
    end = boots[1] if len(boots) > 1 else len(lines)
    for line in [line for line in lines[:end] if line.strip()][-_LAST_LINES:]:
        progress.note(f"console: {inert(line.rstrip())}")


def go_back(visit: Lease, power: Power | None, progress: Progress) -> None:
    """Reboot into the default, and see that the hypervisor that was booted for this visit is gone. LabError."""
    if not visit.lent_xen:
        return
    lent = visit.lent_xen
    try:
        visit.put_back()
    finally:
        visit.lent_xen = ""  # from now on it is what must not be there
    if ownxen.running(visit.transport) == lent:
        boot_anew(visit, power, progress, "its own hypervisor")
    running = poll(lambda: ownxen.running(visit.transport), Deadline.after(_SERVICES_SECONDS), every=2.0)
    if not running or running == lent:
        raise RestoreFailed(f"{visit.site.name} did not go back: build-id {running or 'unknown'} runs")
