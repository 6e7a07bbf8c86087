"""The device model of an HVM guest: the qemu process in dom0 that emulates its machine and binds its pirqs."""

from __future__ import annotations

from dataclasses import dataclass

from harness.base.deadline import Deadline
from harness.host.deeds import Deeds, Done
from harness.model.change import ChangeKind, Deed
from harness.xen.toolstack.xl import Signal, Toolstack

_SECONDS = 120.0

SIGNAL = {
    signal: Deed(ChangeKind.DOMAIN, f"send SIG{signal} to the device model of {{guest}}", "destroy {guest}")
    for signal in Signal
}


@dataclass(repr=False)
class DeviceModel:
    """Found by xenstore's note of its pid. A PV guest has none, and every signal to it fails."""

    deeds: Deeds
    tools: Toolstack
    guest: str  # name of its domain
    domid: int
    pid: int | None = None
    """While it is stopped: xenstore forgets the pid with the domain, and a stopped process outlives that."""

    def __repr__(self) -> str:
        return f"<device model of {self.guest} (d{self.domid})>"

    def kill(self) -> Done:
        """SIGKILL, and see it end, also when its domain is no more but as a zombie."""
        if self.pid is None:
            return self._send("kill_device_model", Signal.KILL)
        pid, deadline = self.pid, Deadline.after(_SECONDS)
        change = SIGNAL[Signal.KILL].to(guest=self.guest)
        return self.deeds.one("kill_device_model", lambda: self.tools.kill_process(pid, deadline), change)

    def stop(self) -> Done:
        """SIGSTOP, and see it stopped: the domain cannot be torn down to its end any more."""
        return self._send("stop_device_model", Signal.STOP)

    def segfault(self) -> Done:
        """SIGSEGV, and see it end."""
        return self._send("segfault_device_model", Signal.SEGV)

    def abort(self) -> Done:
        """SIGABRT, as of an assertion that failed, and see it end."""
        return self._send("abort_device_model", Signal.ABRT)

    def _send(self, name: str, signal: Signal) -> Done:
        with self.deeds.doing(name, SIGNAL[signal].to(guest=self.guest)) as act:
            sent = self.tools.signal_device_model(self.domid, signal, Deadline.after(_SECONDS))
            self.pid = sent.pid if signal is Signal.STOP else None
            act.by(sent.result)
        return act.done
