"""Unprovisioning: the backup put back, the packages that came with it purged, plain Linux booted and verified."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from harness.base.deadline import Deadline
from harness.base.errors import LabError, RestoreFailed
from harness.base.progress import Progress
from harness.lab.lease.lease import Lease
from harness.lab.lease.ownxen import GRUBENV
from harness.lab.power.base import Power
from harness.lab.provision import backup, survey
from harness.lab.provision.apply import APT, XEN, make_menu
from harness.lab.provision.backup import BackupManifest, Kept, parse_manifest
from harness.lab.provision.boot import boot_anew, clear_environment
from harness.lab.provision.job import BASE, Job, run_job
from harness.lab.provision.simulation import parse_simulation
from harness.lab.provision.wanted import MENU
from harness.model.change import Change, ChangeKind
from harness.transport.base import quote

_ASK_SECONDS = 120.0
_PURGE_SECONDS = 1800.0
_UNDO = "nothing: this is the undo"


def unprovision(visit: Lease, power: Power | None, progress: Progress) -> bool:
    """Take everything back that `provision` did, and verify it; False where there is nothing to take back.

    Can be called again where it failed: the backup is removed last. SafetyRefusal (not allowed, or guests run),
    LabError (the host has come to depend on what was installed), RestoreFailed (not as it was; the backup stays).
    """
    name = visit.site.name
    survey.refuse_forbidden(name, visit.site.entry)
    facts = survey.read(visit.transport)
    if not facts.backup:
        return False
    manifest = parse_manifest(facts.backup)
    survey.refuse_guests(visit.transport, facts)
    if facts.half and (others := sorted({*facts.half} - {*manifest.packages})):
        told = ", ".join(others)
        raise LabError(f"{name}: dpkg has work left with {told}", hint="dpkg --configure -a, then call again")
    leaving = _leaving(visit, manifest)
    _refuse_needed(visit, leaving)
    visit.open_journal("unprovision")
    if facts.grubenv:
        _record(visit, GRUBENV, "forget what was to be booted once")
        clear_environment(visit)
    if manifest.exact is None:
        now = backup.sums(visit.transport, backup.generated(manifest))
        manifest = replace(manifest, exact=backup.decide(manifest, facts.kernels, now))
        backup.write(visit.transport, manifest)
    if leaving:
        _purge(visit, leaving, progress, half=bool(facts.half))
    _restore_files(visit, manifest, progress)
    if facts.domain:
        _refuse_xen(visit)
        boot_anew(visit, power, progress, "plain Linux")
    with progress.phase("verify"):
        _verify(visit, manifest)
    _record(visit, BASE, "remove the backup")
    backup.forget(visit.transport, manifest)
    return True


def _leaving(visit: Lease, manifest: BackupManifest) -> tuple[str, ...]:
    """What goes: what dpkg still knows of that came with us, and nobody has said since that he wants it."""
    there = known(visit, manifest.packages)
    if not there:
        return ()
    command = ["apt-mark", "showmanual", "--", *there]
    told = visit.transport.run(command, deadline=Deadline.after(_ASK_SECONDS)).check().text
    wanted = {line.strip().partition(":")[0] for line in told.splitlines()} & {*there} - {XEN}
    if wanted:
        visit.notice(f"{', '.join(sorted(wanted))}: marked as installed by hand since, so it stays")
    return tuple(name for name in there if name not in wanted)


def _refuse_xen(visit: Lease) -> None:
    """The reboot would be no way back."""
    facts = survey.read(visit.transport)
    back = facts.menu.back(facts.environment)
    if back is None or back.hypervisor:
        raise RestoreFailed(
            f"{visit.site.name}: GRUB's default is {back.title if back else 'unknown'!r}, not plain Linux",
            hint=f"see {MENU} and /etc/default/grub there, then call again; it was not rebooted",
        )


def _purge(visit: Lease, packages: Sequence[str], progress: Progress, *, half: bool) -> None:
    _record(visit, " ".join(packages), f"purge {len(packages)} packages that came with Xen")
    purge = ("dpkg --configure -a; " if half else "") + quote([*APT, "purge", "--", *packages])
    with progress.phase("purge packages", 90):
        run_job(visit, Job.fresh("purge", purge), Deadline.after(_PURGE_SECONDS), progress.note)


def _restore_files(visit: Lease, manifest: BackupManifest, progress: Progress) -> None:
    """Our files first: GRUB's menu is made of them. What is to be exact goes over whatever was made."""
    visit.meet_again()
    anew = backup.generated(manifest)
    exact = [file for file in anew if file.path in (manifest.exact or ())]
    _put_back(visit, [file for file in manifest.files if file not in anew])
    _record(visit, MENU, f"make GRUB's menu anew ({MENU})")
    make_menu(visit, progress)
    visit.meet_again()
    _put_back(visit, exact)
    for file in anew:
        if file not in exact:
            visit.notice(f"{file.path} was made anew by somebody else since: it stays as it is now")


def _put_back(visit: Lease, files: Iterable[Kept]) -> None:
    for file in files:
        _record(visit, file.path, f"put {file.path} back as it was")
        backup.put_back(visit.transport, file)


def known(visit: Lease, packages: Sequence[str]) -> tuple[str, ...]:
    """Those of which dpkg still has anything, be it a configuration file."""
    if not packages:
        return ()
    command = ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\\n", "--", *packages]
    told = visit.transport.run(command, deadline=Deadline.after(_ASK_SECONDS)).text  # status 1: some are unknown
    pairs = (line.split() for line in told.splitlines())
    return tuple(pair[0] for pair in pairs if len(pair) == 2 and pair[1] != "not-installed" and pair[0] in packages)


def _record(visit: Lease, subject: str, text: str) -> None:
    visit.journal.about_to(Change(ChangeKind.PERSISTENT, subject, text, _UNDO))


def _refuse_needed(visit: Lease, packages: Iterable[str]) -> None:
    """LabError when somebody has installed what needs one of ours since."""
    names = list(packages)
    if not names:
        return
    command = ["env", "LC_ALL=C", "apt-get", "--simulate", "purge", "--", *names]
    told = parse_simulation(visit.transport.run(command, deadline=Deadline.after(_ASK_SECONDS)).check().text)
    others = sorted({*told.removed, *told.new, *told.upgraded} - set(names))
    if others:
        raise LabError(
            f"{visit.site.name}: {', '.join(others)} would go or change with what provisioning installed",
            hint="they came later: remove them by hand, then call again; nothing was changed",
        )


def _verify(visit: Lease, manifest: BackupManifest) -> None:
    facts = survey.read(visit.transport)
    anew = {file.path for file in backup.generated(manifest)} - set(manifest.exact or ())
    files = [file for file in manifest.files if file.path not in anew]
    told = [f"it still runs under Xen ({facts.domain})"] if facts.domain else []
    told += backup.differences(visit.transport, files)
    left = _leaving(visit, manifest)
    told += [f"still there: {', '.join(left)}"] if left else []
    if told:
        raise RestoreFailed(
            f"{visit.site.name} is not as it was: {'; '.join(told)}", hint=f"what it was is in {BASE} on the host"
        )
