"""The rungs of the ladder on a real host: what each does, and the evidence taken before it. And the way to a host that
may be in any state."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from harness.base.deadline import Deadline
from harness.base.errors import HostUnreachable, JournalDamaged, LabError, NotRecorded, PowerFailed, Unreachable
from harness.lab.lease import leftovers
from harness.lab.lease.claim_options import ClaimOptions
from harness.lab.lease.entry import open_part
from harness.lab.lease.ladder import Climb, Offer, Rung, climb
from harness.lab.lease.lease import Lease
from harness.lab.lease.ledger import local
from harness.lab.lease.site import Site
from harness.lab.lease.state import HostState
from harness.lab.power.base import Power
from harness.lab.reboot import How, reboot
from harness.lab.recorder import Recorder
from harness.model.change import Change, ChangeKind

_TAIL = 64 * 1024  # bytes of console kept before each rung
_SECONDS = 30.0


def arrive(site: Site, wishes: ClaimOptions, notice: Callable[[str], None]) -> Lease:
    """A stay on a host that an earlier run may have left in any state. Errors as `Lease.begin`.

    A host that is proven silent is switched off and on, if that is allowed: nothing else can bring it back. Whatever
    answers, if only by a refusal, has somebody at work on it; and so has a host whose last known claim was another's.
    """
    try:
        return Lease.begin(site, wishes, notice)
    except HostUnreachable as error:  # as long as a boot may take
        if not site.entry.allow_reboot:
            raise
        why = "" if error.why is Unreachable.SILENT else error.why.value
        why = why or _no_power(site, wishes)
        if why:
            notice(f"{site.name} is not power cycled: {why}")
            raise
        power = site.power()
        if power is None:
            raise
        notice(f"{error.message}; a run of ours is not undone there, so it is power cycled")
    power.cycle(Deadline.after(site.entry.boot_seconds))
    return Lease.begin(site, wishes, notice)


def _no_power(site: Site, wishes: ClaimOptions) -> str:
    """Why a silent host is not ours to switch; empty when it is: a run of ours is open there."""
    state = HostState.of(site.name)
    try:
        if not open_part(local(state)):
            return "no run of this controller is open there"
    except JournalDamaged as error:
        return error.message
    heard = next(filter(None, (HostState.of(name).heard for name in (site.name, *site.also))), "")
    if heard and not wishes.take_over:
        return f"when it was heard of last it was used by {heard} (--take-over REASON, if you know better)"
    return ""


@dataclass
class Rescue:
    """One host that did not go back by itself."""

    visit: Lease
    power: Power | None
    console: Recorder | None
    _silent: bool = False  # it was asked for as long as a boot may take, and nothing answered

    def climb(self) -> Climb:
        """Until the host is as it was, or in quarantine."""
        visit = self.visit
        resets = any(set(one.recover) & {"flr", "bus"} for one in visit.site.entry.devices.values())
        offer = Offer(visit.site.entry.allow_reboot, self.power is not None, resets)
        done: Climb = climb(
            offer,
            {
                Rung.RECONNECT: self._reconnect,
                Rung.UNDO: visit.put_back,
                Rung.DEVICE_RESET: self._reset_devices,
                Rung.DESTROY: lambda: visit.undo().destroy_domains(),
                Rung.REBOOT: lambda: self._boot_anew(How.SOFT),
                Rung.POWER_CYCLE: lambda: self._boot_anew(How.CYCLE),
                Rung.QUARANTINE: lambda: visit.quarantine("it could not be put back as it was"),
            },
            verify=visit.put_back,
            linked=lambda: visit.transport.connected,
            silent=lambda: self._silent,
            evidence=self._evidence,
            notice=visit.notice,
        )
        return done

    def _reconnect(self) -> None:
        """A host that is booting by itself gets the time its inventory entry gives it."""
        self.visit.transport.close()
        with self._listening():
            self.visit.transport.connect(Deadline.after(self.visit.site.patience))

    @contextlib.contextmanager
    def _listening(self) -> Iterator[None]:
        """What a wait for the host as long as a boot may take has shown."""
        self._silent = False
        try:
            yield
        except HostUnreachable as error:
            self._silent = error.why is Unreachable.SILENT
            raise

    def _reset_devices(self) -> None:
        """Each device that we touched, by the ways its inventory entry names, in that order."""
        visit = self.visit
        undo = visit.undo()
        for address in undo.still_there():
            methods = [
                method
                for entry in visit.site.entry.devices.values()
                if str(visit.addresses.get(entry.identity.mark)) == address
                for method in entry.recover
                if method != "reboot"
            ]
            for method in methods:
                undo.reset(address, method)

    def _boot_anew(self, how: How) -> None:
        visit = self.visit
        before = visit.journal.boot_id
        if visit.transport.connected:
            others = visit.undo().others()
            if others:
                raise LabError(f"{visit.site.name} runs {', '.join(others)}, which would die: it is not rebooted")
            try:
                visit.journal.about_to(
                    Change(ChangeKind.REBOOT, before, how.text, "nothing: it is the undo of all that is volatile")
                )
            except NotRecorded as error:
                visit.notice(f"rebooted without writing it down: {error.message}")
        if how is How.CYCLE and self.power is None:
            raise PowerFailed(f"{visit.site.name} has no power control in the inventory")
        with self._listening():
            reboot(visit.transport, self.power, Deadline.after(visit.site.entry.boot_seconds), how, before)

    def _evidence(self, rung: Rung) -> None:
        """What the console said last, and what the host holds if it can still be asked."""
        visit = self.visit
        name = f"before-{rung.name.lower()}"
        if self.console is not None:
            visit.state.keep(f"{name}-console.txt", self.console.text()[-_TAIL:])
        if visit.transport.connected:
            try:
                for section, data in leftovers.read(visit.transport, Deadline.after(_SECONDS)).items():
                    visit.state.keep(f"{name}-{section}.txt", data)
            except HostUnreachable as error:
                raise LabError(f"the host cannot be asked: {error.message}") from error
