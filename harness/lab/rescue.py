"""The rungs of the ladder on a real host: what each does, and the evidence taken before it."""

from __future__ import annotations

from dataclasses import dataclass

from harness.base.deadline import Deadline
from harness.base.errors import HostUnreachable, LabError, PowerFailed
from harness.lab.lease import holdings
from harness.lab.lease.ladder import Climb, Offer, Rung, climb
from harness.lab.lease.visit import Visit
from harness.lab.power.base import Power
from harness.lab.reboot import How, reboot
from harness.lab.recorder import Recorder
from harness.model.change import Change, Kind

_TAIL = 64 * 1024  # bytes of console kept before each rung
_SECONDS = 30.0

BOOT_PATIENCE = 1.0
"""How many of the inventory's `boot_seconds` a silent host gets, which may be booting by itself."""


@dataclass
class Rescue:
    """One host that did not go back by itself."""

    visit: Visit
    power: Power | None
    console: Recorder | None

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
            evidence=self._evidence,
            notice=visit.notice,
        )
        return done

    def _reconnect(self) -> None:
        """A host that is booting by itself gets the time its inventory entry gives it."""
        self.visit.transport.close()
        self.visit.transport.connect(Deadline.after(self.visit.site.entry.boot_seconds * BOOT_PATIENCE))

    def _reset_devices(self) -> None:
        """Each device that we touched, by the ways its inventory entry names, in that order."""
        visit = self.visit
        for address in visit.undo().still_there():
            methods = [
                method
                for entry in visit.site.entry.devices.values()
                if str(visit.addresses.get(entry.identity.mark)) == address
                for method in entry.recover
                if method != "reboot"
            ]
            for method in methods:
                self._reset(address, method)

    def _reset(self, address: str, method: str) -> None:
        """By sysfs. What the write says proves nothing, the registers are read afterwards."""
        folder = f"/sys/bus/pci/devices/{address}"
        text = f"reset {address} by {method}"
        self.visit.journal.about_to(Change(Kind.RESET, address, text, "nothing: state is compared afterwards"))
        for name, value in (("reset_method", method), ("reset", "1")):
            self.visit.transport.run(
                ["tee", f"{folder}/{name}"],
                deadline=Deadline.after(_SECONDS),
                changes=True,
                stdin=f"{value}\n".encode(),
            )

    def _boot_anew(self, how: How) -> None:
        visit = self.visit
        before = visit.journal.boot_id
        if visit.transport.connected:
            visit.journal.about_to(
                Change(Kind.REBOOT, before, how.text, "nothing: it is the undo of all that is volatile")
            )
        if how is How.CYCLE and self.power is None:
            raise PowerFailed(f"{visit.site.name} has no power control in the inventory")
        reboot(visit.transport, self.power, Deadline.after(visit.site.entry.boot_seconds), how, before)

    def _evidence(self, rung: Rung) -> None:
        """What the console said last, and what the host holds if it can still be asked."""
        visit = self.visit
        name = f"before-{rung.name.lower()}"
        if self.console is not None:
            visit.state.keep(f"{name}-console.txt", self.console.text()[-_TAIL:])
        if visit.transport.connected:
            try:
                for section, data in holdings.read(visit.transport, Deadline.after(_SECONDS)).items():
                    visit.state.keep(f"{name}-{section}.txt", data)
            except HostUnreachable as error:
                raise LabError(f"the host cannot be asked: {error.message}") from error
