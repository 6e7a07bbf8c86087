"""What dom0 does to the device itself."""

from __future__ import annotations

from harness.host.pciback import PCIBACK, driver_of
from harness.model.change import Change, Kind
from harness.model.checkpoint import Checkpoint
from harness.play.stage.stage import Stage, outcome
from harness.scenario.spec import Verb
from harness.transport.base import CommandResult, Script
from harness.xen.toolstack.xl import owner_note

# A write to `reset` may report an error and reset the device all the same, so the register is judged, not the status.
# reset_method exists since Linux 5.15; before, a device without FLR that sits behind its own bridge gets the bus reset.
_BUS_RESET = """\
cd /sys/bus/pci/devices/{device} || exit 2
old=$(cat reset_method 2>/dev/null)
[ -z "$old" ] || echo bus > reset_method || exit 3
echo 1 > reset
status=$?
[ -z "$old" ] || echo "$old" > reset_method || exit 4
echo "write to reset: status $status"
"""

# Linux deletes the directory in /sys/devices only once the driver's remove has returned, with the reset in it.
_LOSE_BACKEND = """\
device=$(readlink -f /sys/bus/xen-backend/devices/pci-{domid}-0) && [ -d "$device" ] || exit 2
xenstore-rm /local/domain/0/backend/pci/{domid}/0 || exit 3
if xenstore-read {note} >/dev/null 2>&1; then xenstore-rm {note} || exit 3; fi   # older libxl keeps no such note
tries=300
while [ -d "$device" ]; do
  tries=$((tries - 1))
  [ $tries -gt 0 ] || {{ echo "pciback still serves domain {domid}"; exit 4; }}
  sleep 0.1
done
"""


def decode(stage: Stage, verb: Verb, value: str) -> None:
    """Memory decoding (COMMAND bit 1) off or on, behind the guest's back."""
    device = str(stage.borrowed.address)
    stage.host.ledger.about_to(
        Change(Kind.CONFIG, device, f"write COMMAND={value} of {device}", "write COMMAND back as it was")
    )
    command = ["setpci", "-s", device, f"COMMAND={value}"]
    stage.act(verb, Checkpoint.C3, lambda: stage.host.transport.run(command, deadline=stage.deadline(), changes=True))


def clear_maskall(stage: Stage) -> None:
    """dom0 writes message control without MASKALL; Xen must put it back while it wants it itself."""
    device = str(stage.borrowed.address)
    undo = "MASKALL is Xen's: a reset or the next assignment clears it"
    stage.host.ledger.about_to(Change(Kind.CONFIG, device, f"clear MASKALL of {device}", undo))
    command = ["setpci", "-s", device, "CAP_MSIX+2.W=0:4000"]
    stage.act(
        Verb.CLEAR_MASKALL,
        Checkpoint.C3,
        lambda: stage.host.transport.run(command, deadline=stage.deadline(), changes=True),
    )


def unbind_in_use(stage: Stage) -> None:
    """pciback lets go of the device through sysfs, past the toolstack, while a guest has it."""
    device = str(stage.borrowed.address)
    undo = f"bind {device} to pciback"
    stage.host.ledger.about_to(Change(Kind.DRIVER, device, f"unbind {device} from pciback", undo))
    script = Script(f"echo {device} > /sys/bus/pci/drivers/pciback/unbind")
    stage.act(
        Verb.UNBIND_IN_USE,
        Checkpoint.C3,
        lambda: stage.host.transport.run(script, deadline=stage.deadline(), changes=True),
    )


def lose_backend(stage: Stage) -> None:
    """xenstore forgets that the guest has the device, and pciback takes it back (xen_pcibk_xenbus_remove)."""
    device, domid = str(stage.borrowed.address), stage.guest.domid
    stage.host.ledger.about_to(
        Change(
            Kind.DOMAIN,
            stage.guest.spec.name,
            f"make xenstore forget that domain {domid} has {device}",
            "destroy the domain",
        )
    )
    script = Script(_LOSE_BACKEND.format(domid=domid, note=owner_note(stage.borrowed.address)))
    stage.act(
        Verb.LOSE_BACKEND,
        Checkpoint.C3,
        lambda: stage.host.transport.run(script, deadline=stage.deadline(), changes=True),
    )


def bus_reset(stage: Stage) -> None:
    """A secondary bus reset, whatever method Linux prefers for the device."""
    device = str(stage.borrowed.address)
    stage.host.ledger.about_to(Change(Kind.RESET, device, f"bus reset of {device}", "reset_method as it was"))
    script = Script(_BUS_RESET.format(device=device))
    stage.act(
        Verb.BUS_RESET,
        Checkpoint.C4,
        lambda: stage.host.transport.run(script, deadline=stage.deadline(), changes=True),
    )


def rebind(stage: Stage) -> None:
    """Off pciback and on again, the historic cure."""

    def deed() -> CommandResult:
        off = stage.borrowed.unbind()
        return stage.borrowed.bind() if off.ok else off

    stage.act(Verb.REBIND, stage.next_checkpoint, deed)


def bind_again(stage: Stage) -> None:
    """To pciback, from which it was torn: whether that works is what is asked."""
    device = stage.borrowed.address
    stage.host.ledger.about_to(
        Change(Kind.DRIVER, str(device), f"bind {device} to {PCIBACK}", f"bind {device} to the driver it came from")
    )
    with stage.acting(Verb.BIND_AGAIN, Checkpoint.C4) as note:
        result = stage.toolstack.make_assignable(device, stage.deadline())
        bound = driver_of(stage.host.transport, device) == PCIBACK
        note(result.ok and bound, outcome(result), result.stdout + result.stderr)


def back_to_dom0(stage: Stage) -> None:
    """To the driver it came from."""
    stage.act(Verb.BACK_TO_DOM0, Checkpoint.C7, stage.borrowed.give_back)
    stage.observe(Checkpoint.C7)
