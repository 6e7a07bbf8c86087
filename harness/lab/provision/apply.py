"""Provisioning: the planned steps done, each on record first, each found done or not by asking the host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harness.base.deadline import Deadline
from harness.base.errors import CommandFailed, LabError
from harness.base.progress import Progress
from harness.lab.lease.lease import Lease
from harness.lab.lease.ownxen import GRUBENV
from harness.lab.power.base import Power
from harness.lab.provision import backup, survey
from harness.lab.provision.backup import BackupManifest, parse_manifest
from harness.lab.provision.boot import boot_once, verify_xen
from harness.lab.provision.facts import SystemFacts
from harness.lab.provision.job import BASE, Job, run_job
from harness.lab.provision.plan import Step, StepKind, plan
from harness.lab.provision.simulation import parse_simulation
from harness.lab.provision.wanted import GRUB_FILE, MENU, grub_text
from harness.model.change import Change, ChangeKind
from harness.transport.base import Script, quote

APT = ("apt-get", "--yes", "--option", "DPkg::Lock::Timeout=600", "--option", "Dpkg::Options::=--force-confold")
_INSTALL = ("install", "--no-install-recommends")
XEN = "xen-system-amd64"
"""The package that keeps all others of Xen."""

_ASK_SECONDS = 120.0
_UPDATE_SECONDS = 900.0
_INSTALL_SECONDS = 3600.0
_MENU_SECONDS = 600.0


def provision(visit: Lease, power: Power | None, progress: Progress) -> tuple[Step, ...]:
    """Make a Xen dom0 of the host and verify it; the steps that were done, none where nothing was missing.

    Whatever fails, what was done so far can be taken back by `unprovision`, or be continued by another call.
    SafetyRefusal, UsageError (this system cannot be provisioned; nothing was changed), LabError.
    """
    name = visit.site.name
    survey.refuse_forbidden(name, visit.site.entry)
    with progress.phase("read the facts"):
        facts = _read(visit)
    steps = plan(facts, survey.wanted_of(facts))
    if not steps:
        return ()
    survey.refuse_unsuited(name, facts)
    if any(step.kind is StepKind.TRY for step in steps):
        survey.refuse_guests(visit.transport, facts)
    visit.open_journal("provision")
    new = _fetch(visit, steps, progress)
    known = replace(parse_manifest(facts.backup), exact=None) if facts.backup else BackupManifest(facts.kernels)
    with progress.phase("keep what is there now"):
        _record(visit, BASE, f"keep what is changed in {BASE}", "`maskall unprovision` removes it at its end")
        # installing busybox-static has the initramfs made anew
        paths = [*survey.wanted_of(facts).files, MENU, GRUBENV, *facts.initrds]
        manifest = backup.take(visit.transport, known, paths, new)
    for step in steps:
        _do(visit, step, facts, power, progress)
    with progress.phase("verify"):
        verify_xen(visit)
        now = backup.sums(visit.transport, backup.generated(manifest))
        backup.write(visit.transport, replace(manifest, left=tuple(now.items())))
        left = plan(_read(visit), survey.wanted_of(facts))
    if left:
        raise LabError(f"{name}: still missing afterwards: {'; '.join(step.text for step in left)}")
    return steps


def _read(visit: Lease) -> SystemFacts:
    """The raw answer is kept on the controller before it is parsed."""
    sections: dict[str, bytes] = {}
    try:
        return survey.read(visit.transport, sections.__setitem__)
    finally:
        raw = b"".join(f"== {name}\n".encode() + data + b"\n" for name, data in sections.items())
        visit.state.keep("system.txt", raw)


def _record(visit: Lease, subject: str, text: str, undo: str) -> None:
    visit.journal.about_to(Change(ChangeKind.PERSISTENT, subject, text, undo))


def _fetch(visit: Lease, steps: Sequence[Step], progress: Progress) -> tuple[str, ...]:
    """The packages that will come new. LabError when others would be upgraded or removed: no undo brings them back."""
    missing = [package for step in steps for package in step.packages]
    if not missing:
        return ()
    with progress.phase("fetch apt's lists", 60):
        _record(visit, "/var/lib/apt/lists", "fetch apt's lists of packages", "nothing: they say what there is")
        try:
            run_job(visit, Job.fresh("update", quote([*APT, "update"])), Deadline.after(_UPDATE_SECONDS), progress.note)
        except CommandFailed as error:  # one source of several may be gone, and what is needed still be there
            visit.notice(str(error))
    command = ["env", "LC_ALL=C", "apt-get", "--simulate", *_INSTALL, "--", *missing]
    told = parse_simulation(visit.transport.run(command, deadline=Deadline.after(_ASK_SECONDS)).check().text)
    if told.harmful:
        raise LabError(
            f"{visit.site.name}: to install {', '.join(missing)}, apt would {told.harmful}, which cannot be taken back",
            hint="bring the system up to date by hand (apt-get full-upgrade), then call again",
        )
    return told.new


def _do(visit: Lease, step: Step, facts: SystemFacts, power: Power | None, progress: Progress) -> None:
    """`facts`: as they were before the first step."""
    visit.meet_again()
    _record(visit, step.subject, step.text, step.undo)
    match step.kind:
        case StepKind.PACKAGES:
            with progress.phase("install packages", 180):
                job = Job.fresh("install", _install(step, facts))
                run_job(visit, job, Deadline.after(_INSTALL_SECONDS), progress.note)
        case StepKind.FILE:
            write_file(visit, step.subject, step.content)
        case StepKind.MENU:
            make_menu(visit, progress)
        case StepKind.TRY:
            boot_once(visit, _read(visit), power, progress)
            verify_xen(visit)
        case StepKind.DEFAULT:
            _make_default(visit, progress)


def _install(step: Step, facts: SystemFacts) -> str:
    """What is half installed by now is ours, see `obstacles`. All but Xen itself count as installed by apt's own will:
    whoever wants one to stay says so by apt-mark, and `unprovision` leaves it."""
    words = quote([*APT, *_INSTALL, "--no-remove", "--", *step.packages])
    helpers = [name for name in step.packages if name not in facts.packages and name != XEN]
    marks = [f"apt-mark auto -- {quote(helpers)}"] if helpers else []
    return " && ".join([*(["dpkg --configure -a"] if facts.half else []), words, *marks])


def _make_default(visit: Lease, progress: Progress) -> None:
    """The entry that runs now, confirmed by what GRUB's new menu says."""
    before = _read(visit)
    entry = before.menu.xen_with(before.running)
    if entry is None:
        raise LabError(f"{visit.site.name}: no entry of {MENU} boots Xen with {before.running}")
    write_file(visit, GRUB_FILE, grub_text(before.cmdline, entry))
    make_menu(visit, progress)
    after = _read(visit)
    back = after.menu.back(after.environment)
    if back is None or not back.hypervisor or back.kernel != before.running:
        raise LabError(
            f"{visit.site.name}: GRUB's default is {back.title if back else 'unknown'!r} afterwards, not {entry!r}",
            hint=f"Xen runs and the next boot is plain Linux; see {MENU} and /etc/default/grub there",
        )


def write_file(visit: Lease, path: str, content: str) -> None:
    """A file of ours, mode 0644, in a folder that is made if need be."""
    deadline = Deadline.after(_ASK_SECONDS)
    folder = quote([path.rpartition("/")[0]])
    visit.transport.run(Script(f"umask 022; mkdir -p {folder}"), deadline=deadline, changes=True).check()
    visit.transport.put(content.encode(), path, 0o644, deadline)


def make_menu(visit: Lease, progress: Progress) -> None:
    """GRUB's menu anew. It may take long where there are many disks, so it runs by itself."""
    with progress.phase("make GRUB's menu", 20):
        run_job(visit, Job.fresh("menu", "update-grub && sync"), Deadline.after(_MENU_SECONDS), progress.note)
