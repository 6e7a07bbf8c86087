"""Recording a host's console."""

from __future__ import annotations

from collections.abc import Callable

from harness.base.errors import HarnessBug
from harness.lab.console.recorder import Recorder
from harness.lab.console.sources import CommandSource, IpmiSource, Source, TcpSource
from harness.lab.inventory.control import CommandConsole, IpmiPower, LibvirtPower, TcpConsole
from harness.lab.inventory.models import LabEntry
from harness.lab.inventory.secret import resolve
from harness.lab.lease.state import HostState

__all__ = ["record"]


def record(state: HostState, entry: LabEntry, notice: Callable[[str], None]) -> Recorder | None:
    """Begin to record the console of the inventory; None when it names none. LockHeld, UsageError (a secret)."""
    if entry.console is None:
        return None
    path, lock = state.new_file("console.log"), state.folder / "console.lock"
    return Recorder(state.name, _source(entry), path, lock, notice).start()


def _source(entry: LabEntry) -> Source:
    match entry.console, entry.power:
        case CommandConsole(argv=argv), _:
            return CommandSource(argv)
        case TcpConsole() as console, _:
            return TcpSource(console)
        case _, IpmiPower() as power:
            return IpmiSource(power, resolve(power.password))
        case _, LibvirtPower() as power:
            from harness.lab.console.libvirt import LibvirtSource

            return LibvirtSource(power)
    raise HarnessBug("a console that its inventory model lets pass and nobody knows")
