"""A stay on a lab host: the link, the claim, the journal, and the way back to how it was.

Everything a run does to a lab host it does within a visit, and nothing outlives it.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Self

from harness.base.deadline import Deadline
from harness.base.errors import HostUnreachable, LabError, MaskallError, OutcomeUnknown, RestoreFailed
from harness.lab.lease import baseline as baselines
from harness.lab.lease import holdings
from harness.lab.lease.claim import Claim, owner_of
from harness.lab.lease.deadman import disarm_all
from harness.lab.lease.entry import What
from harness.lab.lease.holdings import Holdings
from harness.lab.lease.ledger import HostJournal, adopt, boot_id, found
from harness.lab.lease.site import Site
from harness.lab.lease.state import HostState
from harness.lab.lease.undo import Touched, Undo
from harness.lab.lease.wishes import Wishes
from harness.model.address import Bdf
from harness.model.change import Change, Kind
from harness.transport.ssh import SshTransport

CONNECT_SECONDS = 30.0
Notice = Callable[[str], None]


@dataclass
class Visit:
    """A claimed host. Made by `begin`; `end` gives it free."""

    site: Site
    transport: SshTransport
    state: HostState
    claim: Claim
    journal: HostJournal
    notice: Notice
    before: Holdings | None = None
    addresses: dict[tuple[str, ...], Bdf] = field(default_factory=dict)  # where each identity was found
    _left: bool = False

    @classmethod
    def begin(cls, site: Site, wishes: Wishes, notice: Notice) -> Self:
        """Connect and claim; what an earlier run left in its journal is taken over, not undone yet.

        HostUnreachable, HostKeyMismatch, LockHeld, JournalDamaged.
        """
        transport = site.transport()
        try:
            transport.connect(Deadline.after(CONNECT_SECONDS))
            boot = boot_id(transport)
            claim = Claim.take(
                transport,
                owner=owner_of(os.environ),
                reason=wishes.reason,
                boot_id=boot,
                wait=wishes.wait,
                take_over=wishes.take_over,
                notice=notice,
            )
            try:
                state = HostState.of(site.name)
                entries = found(transport, state)
                if entries:
                    adopt(entries, transport, state)
                journal = HostJournal(
                    transport,
                    state,
                    _fresh_run(),
                    boot,
                    list(entries),
                    still_ours=claim.check,
                    token=claim.holder.token,
                )
            except BaseException:
                claim.release()
                raise
        except BaseException:
            transport.close()
            raise
        return cls(site, transport, state, claim, journal, notice)

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

    def open_journal(self, reason: str) -> None:
        """The first line of a run, and how the host was before it: what it held."""
        self.journal.run = _fresh_run()
        self.before = holdings.survey(self.transport)
        if self.before.zombies:
            raise LabError(
                f"{self.site.name} holds on to dead domains: {', '.join(self.before.zombies)}",
                hint="what they still have is lent to nobody else; reboot it",
            )
        self.journal.record(What.OPENED, {"owner": self.claim.holder.owner, "reason": reason})

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
        self.journal.about_to(Change(Kind.MODULE, name, f"load the kernel module {name}", f"unload {name}"))
        self.transport.run(["modprobe", name], deadline=deadline, changes=True).check()

    def undo(self) -> Undo:
        entries = self.journal.entries
        rebooted = any(one.boot_id != self.journal.boot_id for one in entries if one.what is What.BASELINE)
        return Undo(self.transport, self.journal, self.touched, self.notice, rebooted)

    def put_back(self, *, whole: bool = False) -> None:
        """Everything as the journal's baselines say, verified, and nothing left behind. RestoreFailed, HostUnreachable.

        Safe to call again: what is as it was is left alone. `whole`: what served several scenarios goes too.
        """
        self.meet_again()
        disarm_all(self.transport)
        if self.journal.entries:
            self.undo().reconcile(whole=whole)
        self._refuse_leaks()

    def _refuse_leaks(self) -> None:
        if self.before is None:
            return
        after = holdings.survey(self.transport)
        leaks = after.leaks(self.before)
        if leaks and after.boot_id == self.before.boot_id:
            raise RestoreFailed(f"{self.site.name} was left with more than before: {'; '.join(leaks)}")

    def meet_again(self) -> None:
        """A link that is alive and to the host as it is in this boot, with the claim still ours."""
        boot = self._boot_now()
        if boot != self.journal.boot_id:
            self.notice(f"{self.site.name} has rebooted: what was changed is gone, as is the claim")
            self.claim.renew()
            self.journal.boot_id = boot
            self.journal.settle()
        elif not self.claim.beating:
            self.claim.renew()

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
            self.journal.record(What.RESTORED, {})
            self.journal.close()
        self.state.cure()

    def quarantine(self, reason: str) -> None:
        """On record here, and on the host if it can be reached. The claim stays."""
        self.state.poison(reason)
        self.leave_alone()
        try:
            self.journal.record(What.QUARANTINED, {"reason": reason})
        except LabError as error:
            self.notice(f"the quarantine is not on record on the host itself: {error.message}")

    def leave_alone(self) -> None:
        """`end` puts nothing back and keeps the host claimed: it is in quarantine."""
        self._left = True

    def _leave(self) -> None:
        """A link that breaks in the very last moment is no reason for a quarantine: every step may be done again."""
        try:
            self.put_back(whole=True)
        except (HostUnreachable, OutcomeUnknown):
            self.transport.close()
            self.put_back(whole=True)
        self.close_journal()

    def end(self) -> None:
        """Put everything back for good and give the host free; in quarantine it stays claimed. RestoreFailed."""
        try:
            if self.journal.entries and not self._left:
                self._leave()
        except MaskallError as error:
            self.quarantine(f"the end of the visit: {error}")
            raise
        finally:
            if self._left:
                self.claim.let_go()
            else:
                self.claim.release()
            self.transport.close()


def _fresh_run() -> str:
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
