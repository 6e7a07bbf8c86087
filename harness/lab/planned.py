"""What a run would do to a lab host, said beforehand. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from harness.host.pciback import PCIBACK
from harness.lab.inventory.models import DeviceEntry, LabEntry
from harness.model.address import Bdf
from harness.model.change import Change, Kind
from harness.scenario.catalogue import Catalogue
from harness.scenario.spec import Verb
from harness.xen.toolstack.xl import REMOTE_RUN

PCIBACK_MODULE = "xen-pciback"
_TO_DEVICE_MODEL = {
    Verb.KILL_DEVICE_MODEL,
    Verb.SEGFAULT_DEVICE_MODEL,
    Verb.ABORT_DEVICE_MODEL,
    Verb.STOP_DEVICE_MODEL,
}


def changes(
    entry: LabEntry, device: DeviceEntry, address: Bdf, driver: str | None, known: Catalogue
) -> Iterator[Change]:
    """Every kind of change of a scenario with this device, in order; then what is done only if it does not go back."""
    bdf = str(address)
    back = f"bind {bdf} to {driver}" if driver else f"leave {bdf} without a driver"
    yield Change(Kind.MODULE, PCIBACK_MODULE, f"load {PCIBACK_MODULE}, unless it is loaded", "unload it")
    yield Change(Kind.FILE, REMOTE_RUN, f"put guest files, claim and journal into {REMOTE_RUN}", "remove them")
    yield Change(Kind.DRIVER, bdf, f"arm a timer that gives {bdf} back by itself after 60 s", "disarm it")
    yield Change(Kind.DRIVER, bdf, f"bind {bdf} to {PCIBACK}", back)
    yield Change(Kind.DOMAIN, "maskall-a", "create domains maskall-a, maskall-b", "destroy them")
    verbs = {verb for name in device.endings for verb in (*known.endings[name].fault, *known.endings[name].end)}
    if verbs & _TO_DEVICE_MODEL:
        yield Change(Kind.DOMAIN, "maskall-a", "kill or stop the device model of maskall-a", "destroy the domain")
    if Verb.DECODE_OFF in verbs:
        yield Change(Kind.CONFIG, bdf, f"switch memory decoding of {bdf} off and on", "write COMMAND as it was")
    if Verb.UNBIND_IN_USE in verbs:
        yield Change(Kind.DRIVER, bdf, f"unbind {bdf} from {PCIBACK} under a running guest", back)
    if Verb.LOSE_BACKEND in verbs:
        yield Change(Kind.DOMAIN, "maskall-a", f"make xenstore forget that maskall-a has {bdf}", "destroy the domain")
    if Verb.BUS_RESET in verbs:
        yield Change(Kind.RESET, bdf, f"reset the bus of {bdf}", "reset_method as it was")
    ladder = [method for method in device.recover if method != "reboot"]
    if ladder:
        yield Change(Kind.RESET, bdf, f"only if it does not go back: reset by {', '.join(ladder)}", "none needed")
    if entry.allow_reboot:
        by = "reboot, then power cycle" if entry.power else "reboot"
        yield Change(Kind.REBOOT, "", f"only if nothing else helps: {by}", "none: it undoes all of the above")
