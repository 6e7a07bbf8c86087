"""A stay on a lab host: the link, the claim, the journal, and the way back to how it was.

Everything a run does to a lab host it does within a visit, and nothing outlives it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Self

from harness.base import private
from harness.base.deadline import Deadline
from harness.base.errors import (
    AnotherMachine,
    HostUnreachable,
    LabError,
    NotRecorded,
    OutcomeUnknown,
    RestoreFailed,
)
from harness.base.text import inert
from harness.lab.lease import baseline as baselines
from harness.lab.lease import leftovers, ownxen
from harness.lab.lease.claim import Claim, owner_of
from harness.lab.lease.claim_options import ClaimOptions
from harness.lab.lease.deadman import disarm_all
from harness.lab.lease.entry import MachineIdentity, What
from harness.lab.lease.fence import Fenced
from harness.lab.lease.holder import Claimed
from harness.lab.lease.ledger import (
    Found,
    HostJournal,
    adopt,
    boot_id,
    close_remote,
    found,
    is_dirty,
    machine,
    put_aside,
)
from harness.lab.lease.leftovers import Leftovers, Ours
from harness.lab.lease.site import Site
from harness.lab.lease.state import HostState
from harness.lab.lease.undo import Touched, Undo
from harness.model.address import Bdf
from harness.model.change import Change, ChangeKind
from harness.xen.toolstack.xl import REMOTE_RUN

CONNECT_SECONDS = 30.0


@dataclass
class Lease:
    """A claimed host. Made by `begin`; `end` gives it free. What changes the host goes over `transport`, which is
    fenced: it is refused there once the claim is somebody else's."""

    site: Site
    transport: Fenced
    state: HostState
    claim: Claim
    machine: MachineIdentity
    journal: HostJournal
    notice: Callable[[str], None]
    before: Leftovers | None = None
    addresses: dict[tuple[str, ...], Bdf] = field(default_factory=dict)  # where each identity was found
    domids: set[int] = field(default_factory=set)  # of our domains, as far as they were met
    lent_xen: str = ""  # build-id of the hypervisor that was booted for this visit, while it goes on
    _left: str = ""  # why it stays claimed: it is in quarantine

    @classmethod
    def begin(cls, site: Site, wishes: ClaimOptions, notice: Callable[[str], None]) -> Self:
        """Connect and claim; what an earlier run left in its journal is taken over, not undone yet.

        HostUnreachable, HostKeyMismatch, LockHeld, JournalDamaged, AnotherMachine. A host with a journal that nobody
        has undone stays claimed whatever happens here.
        """
        link = site.transport()
        state = HostState.of(site.name)
        tell = notice

        notice = lambda text: tell(inert(text))  # noqa: E731 - a host's words may be among them

        owner = owner_of(os.environ)

        def heard(there: Claimed | None) -> None:
            state.hear(there.told if there is not None else "")

        try:
            site.reach(link, notice)
            boot = boot_id(link)
            claim = Claim.take(
                link,
                owner=owner,
                reason=wishes.reason,
                wait=wishes.wait,
                take_over=wishes.take_over,
                notice=notice,
                heard=heard,
            )
            fenced = Fenced(link, claim, boot)
            try:
                return cls._arrived(site, fenced, state, wishes, notice)
            except BaseException:
                dirty = True
                try:
                    dirty = is_dirty(link)
                finally:
                    if dirty:
                        claim.let_go("what a run has changed there is not undone")
                    else:
                        claim.release()
                raise
        except BaseException:
            link.close()
            raise

    @classmethod
    def _arrived(
        cls, site: Site, fenced: Fenced, state: HostState, wishes: ClaimOptions, notice: Callable[[str], None]
    ) -> Self:
        """The claim is ours: what is on record, and of which machine?"""
        token = fenced.claim.holder.token
        try:
            state.hold(token)
        except NotRecorded as error:
            notice(f"nothing can be remembered on this controller: {error.message}")
            token = ""
        now = machine(fenced, site.host_key_fingerprint)
        left = found(fenced, state, which=wishes.journal, now=now)
        _keep_the_other(fenced, state, wishes.journal, notice)
        if left.entries:
            for line in adopt(left.entries, fenced, state, token=token):
                notice(line)
        else:
            _clear_away(fenced, state, left, notice)
        journal = HostJournal(
            fenced,
            state,
            _fresh_run(),
            fenced.boot,
            list(left.entries),
            still_ours=fenced.claim.check,
            local_token=token,
        )
        visit = cls(site, fenced, state, fenced.claim, now, journal, notice)
        if not left.entries and site.entry.allow_persistent:
            visit._adopt_xen()
        return visit

    def _adopt_xen(self) -> None:
        """A run that died in the reboot left a hypervisor of its own there: no reboot takes that away, so we do."""
        for build_id in sorted(ownxen.left(self.transport)):
            if not self.journal.entries:
                self.open_journal("a hypervisor that an earlier run booted once")
            text = f"an earlier run put a hypervisor there, build-id {build_id}, and never took it away"
            self.journal.about_to(Change(ChangeKind.PERSISTENT, ownxen.path_of(build_id), text, "remove it"))

    @property
    def left_behind(self) -> bool:
        """An earlier run has begun changes and never closed its journal."""
        return bool(self.journal.entries)

    @property
    def ours(self) -> frozenset[Bdf]:
        """The devices that the open journal answers for."""
        return frozenset(Bdf.parse(one.device) for one in self.touched.baselines)

    @property
    def touched(self) -> Touched:
        return Touched.by(self.journal.entries, self.journal.boot_id)

    def refuse_other_xen(self) -> None:
        """LabError when the hypervisor that was booted for this visit no longer runs: another one is played on now."""
        running = ownxen.running(self.transport) if self.lent_xen else ""
        if running != self.lent_xen:
            raise LabError(
                f"{self.site.name} no longer runs the hypervisor of --xen: build-id {running or 'unknown'}",
                hint="it was rebooted meanwhile; what was played there is none of that hypervisor",
            )

    def open_journal(self, reason: str) -> None:
        """The first line of a run, and how the host was before it: what it held."""
        self.journal.run = _fresh_run()
        self.before = leftovers.survey(self.transport)
        if self.before.zombies:
            raise LabError(
                f"{self.site.name} holds on to dead domains: {', '.join(self.before.zombies)}",
                hint="what they still have is lent to nobody else; reboot it",
            )
        opened = {"owner": inert(self.claim.holder.owner), "reason": inert(reason), **self.machine.as_payload()}
        self.journal.record(What.OPENED, opened)

    def remember(self, device: Bdf) -> None:
        """Put on record how a device is, before anything is done to it."""
        if device not in self.ours:
            self.journal.record(What.BASELINE, baselines.read(self.transport, device).as_payload())

    def load_module(self, name: str) -> None:
        """Load a kernel module unless it is there."""
        path = f"/sys/module/{name.replace('-', '_')}"
        deadline = Deadline.after(CONNECT_SECONDS)
        if self.transport.run(["test", "-d", path], deadline=deadline).ok:
            return
        self.journal.about_to(Change(ChangeKind.MODULE, name, f"load the kernel module {name}", f"unload {name}"))
        self.transport.run(["modprobe", name], deadline=deadline, changes=True).check()

    def undo(self) -> Undo:
        entries = self.journal.entries
        rebooted = any(one.boot_id != self.journal.boot_id for one in entries if one.what is What.BASELINE)
        return Undo(self.transport, self.journal, self.touched, self.notice, rebooted, self.domids, self.lent_xen)

    def put_back(self, *, whole: bool = False) -> None:
        """Everything as the journal's baselines say, verified, and nothing left behind. RestoreFailed, HostUnreachable.

        Safe to call again: what is as it was is left alone, and what was sent before has ended first. `whole`: what
        served several scenarios goes too.
        """
        self.meet_again()
        disarm_all(self.transport)  # first: a timer that strikes nevertheless is waited for
        self.transport.wait_idle()
        if self.journal.entries:
            self.undo().reconcile(whole=whole)
        self._refuse_leaks()

    def _refuse_leaks(self) -> None:
        """What is tied to us must be gone; whatever else is there more than before is somebody else's, and told."""
        if self.before is None:
            return
        after = leftovers.survey(self.transport)
        if after.boot_id != self.before.boot_id:
            return
        touched = self.touched
        ours = Ours(frozenset(one.device for one in touched.baselines), touched.domains, after.domids | self.domids)
        leaks, others = after.more_than(self.before, ours)
        if others:
            self.notice(f"there is more on {self.site.name} than before, which is not ours: {'; '.join(others[:8])}")
        if leaks:
            raise RestoreFailed(f"{self.site.name} was left with more than before: {'; '.join(leaks)}")

    def meet_again(self) -> None:
        """A link that is alive and to the host as it is in this boot, with the claim still ours."""
        boot = self._boot_now()
        if boot != self.journal.boot_id:
            self._refuse_another_machine()
            self.notice(f"{self.site.name} has rebooted: what was changed is gone, as is the claim")
            self.claim.renew()
            self.journal.boot_id = self.transport.boot = boot
            self.journal.settle()
        elif not self.claim.beating:
            self.claim.renew()

    def _refuse_another_machine(self) -> None:
        """AnotherMachine when a clone answers in place of ours, before anything is written there: host keys are copied
        along with a disk, and an address or a name may lead to either."""
        other = self.machine.told_from(machine(self.transport, self.site.host_key_fingerprint))
        if other:
            raise AnotherMachine(
                f"{self.site.name}: another machine answers at its address now: {other}",
                hint="nothing was changed there; what was changed on the first one is still on record",
            )

    def _boot_now(self) -> str:
        """The boot_id, over a new link when the old one turns out to be dead: a link is not heard breaking."""
        if self.transport.connected:
            try:
                return boot_id(self.transport)
            except HostUnreachable:
                self.transport.close()
        self.transport.connect(Deadline.after(CONNECT_SECONDS))
        return boot_id(self.transport)

    def close_journal(self) -> None:
        """After a whole `put_back`: on record as restored, nothing of ours is on the host but the claim."""
        if self.journal.entries:
            try:
                self.journal.record(What.RESTORED, {})
            except NotRecorded as error:
                self.notice(f"that it is restored is not written down: {error.message}")
            for line in self.journal.close():
                self.notice(line)
        try:
            self.state.cure()
        except LabError as error:
            self.notice(f"it is as it was, and still counts as in quarantine here: {error.message}")

    def quarantine(self, reason: str) -> None:
        """On record here, and on the host if it can be reached. The claim stays."""
        self.leave_alone(reason)
        for keep in (self.state.poison, self._on_record):
            try:
                keep(reason)
            except LabError as error:
                self.notice(f"the quarantine is not on record everywhere: {error.message}")

    def _on_record(self, reason: str) -> None:
        self.journal.record(What.QUARANTINED, {"reason": inert(reason)[:2000]})

    def leave_alone(self, reason: str) -> None:
        """`end` puts nothing back and keeps the host claimed: it is in quarantine."""
        self._left = f"in quarantine: {reason}"

    def _leave(self) -> None:
        """A link that breaks in the very last moment is no reason for a quarantine: every step may be done again."""
        try:
            self.put_back(whole=True)
        except (HostUnreachable, OutcomeUnknown):
            self.put_back(whole=True)
        self.close_journal()

    def end(self) -> None:
        """Put everything back for good and give the host free, or leave it in quarantine, claimed. RestoreFailed.

        Nothing between the two: whatever breaks this off, a signal too, is a host that was not seen to be as before.
        """
        try:
            if self.journal.entries and not self._left:
                self._leave()
        except BaseException as error:
            self.quarantine(f"the end of the visit: {error!r}" if not str(error) else f"the end of the visit: {error}")
            raise
        finally:
            if self._left:
                self.claim.let_go(self._left)
            else:
                self.claim.release()
            self.transport.close()


def _keep_the_other(transport: Fenced, state: HostState, which: str, notice: Callable[[str], None]) -> None:
    """Of two journals one was chosen by hand: the other is evidence, and goes nowhere unseen."""
    others = dict[str, bytes]()
    if which == "controller":
        there = transport.run(["cat", f"{REMOTE_RUN}/journal.jsonl"], deadline=Deadline.after(CONNECT_SECONDS))
        if there.ok:
            others["journal-of-the-host.jsonl"] = there.stdout
    if which == "host":
        with contextlib.suppress(OSError):  # it is not there, or is why the other one was chosen
            others["journal-of-this-controller.jsonl"] = private.read_own(state.journal)
    for name, data in others.items():
        with contextlib.suppress(LabError):
            notice(f"the other one is kept in {state.keep(name, data)}")


def _clear_away(transport: Fenced, state: HostState, left: Found, notice: Callable[[str], None]) -> None:
    """Nothing is to be undone: journals that are closed, or that a reboot has closed, are put aside."""
    if is_dirty(transport):  # one that is closed, or without a whole line: it has announced nothing
        close_remote(transport, left.closed or _fresh_run())
    if left.past:
        notice(f"{transport.name} has rebooted since: that has undone what was done; how its devices are now:")
        for wanted in Touched.by(left.past).baselines:
            seen = baselines.read(transport, Bdf.parse(wanted.device))
            for line in wanted.differences(seen) or [f"{wanted.device} is as it was"]:
                notice(line)
    try:
        put_aside(state, left.stale)
    except NotRecorded as error:
        notice(error.message)


def _fresh_run() -> str:
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
