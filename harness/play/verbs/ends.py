"""The ways guest A's domain ends."""

from __future__ import annotations

from harness.base.deadline import Deadline
from harness.base.errors import HarnessBug
from harness.host import device, guest
from harness.model.observation import Checkpoint
from harness.play.stage.stage import Stage
from harness.play.stage.verb import verb
from harness.scenario.spec import Fate
from harness.xen.trace.callchain import decode_off_at_teardown, ecam_base
from harness.xen.trace.symbols import parse_xensyms

_SECONDS = 120.0


def _stays_away(stage: Stage) -> bool:
    """A domain that the toolstack starts again is awaited by the follow-on."""
    return stage.scenario.end.fate is not Fate.RESTARTED


@verb("shut_down", at=Checkpoint.C4, changes=guest.SHUT_DOWN)
def shut_down(stage: Stage) -> None:
    """The guest powers off as it should."""
    stage.guest.shut_down(wait=_stays_away(stage))


@verb("power_off_with_msix_on", at=Checkpoint.C4, changes=guest.POWER_OFF)
def power_off_with_msix_on(stage: Stage) -> None:
    """The guest powers off past every driver's shutdown hook."""
    stage.guest.power_off_with_msix_on(wait=_stays_away(stage))


@verb("reboot_guest", at=Checkpoint.C4, changes=guest.REBOOT)
def reboot_guest(stage: Stage) -> None:
    """The guest reboots."""
    stage.guest.reboot(wait=_stays_away(stage))


@verb("crash", at=Checkpoint.C4, changes=guest.CRASH)
def crash(stage: Stage) -> None:
    """The guest's kernel panics."""
    stage.guest.crash(wait=_stays_away(stage))


@verb("triple_fault", at=Checkpoint.C4, changes=guest.REBOOT)
def triple_fault(stage: Stage) -> None:
    """The guest reboots, which its command line (reboot=triple) makes a triple fault."""
    stage.guest.reboot(wait=_stays_away(stage))


@verb("destroy", at=Checkpoint.C4, changes=guest.DESTROY)
def destroy(stage: Stage) -> None:
    """By the toolstack, and see it gone."""
    stage.former.destroy()


@verb("destroy_former", at=Checkpoint.C8, changes=guest.DESTROY)
def destroy_former(stage: Stage) -> None:
    """What is left of guest A, under guest B."""
    stage.former.destroy()


@verb("destroy_to_zombie", at=Checkpoint.C4, changes=guest.DESTROY)
def destroy_to_zombie(stage: Stage) -> None:
    """The device model does not run, so the domain stays; the toolstack must come back all the same."""
    stage.guest.destroy(wait=False)


@verb("destroy_with_decode_off", at=Checkpoint.C4, changes=(guest.DESTROY, device.DECODING_OFF))
def destroy_with_decode_off(stage: Stage) -> None:
    """At a breakpoint in the teardown memory decoding goes off; where MASKALL is set then is the call chain."""
    host, dying, card = stage.host, stage.guest, stage.device
    if host.debugger is None:
        raise HarnessBug("this ending needs a debugger and should have been skipped")
    changes = guest.DESTROY.to(guest=dying.name), device.DECODING_OFF.to(device=card.address)
    with host.deeds.doing("destroy_with_decode_off", *changes):
        symbols = host.transport.run(["cat", "/proc/xen/xensyms"], deadline=Deadline.after(_SECONDS)).check()
        ring = host.transport.run(["xl", "dmesg"], deadline=Deadline.after(_SECONDS)).check()
        running = []
        seen = decode_off_at_teardown(
            host.debugger,
            parse_xensyms(symbols.text, file="xensyms"),
            card.address,
            ecam=ecam_base(ring.text, card.address),
            identity=card.identity,
            begin=lambda: running.append(stage.tools.start_destroy(dying.domid, Deadline.after(_SECONDS))),
            deadline=Deadline.after(60),
        )
        chain = "".join(f"{frame.address:#x} {frame}\n" for frame in seen.chain)
        text = f"COMMAND {seen.command_before:#06x} -> {seen.command_after:#06x} in the teardown\n{chain}"
        stage.record.call_chain = seen.chain
        stage.record.call_chain_raw = host.deeds.keep("call_chain.txt", text.encode())
        dying.wait_gone()
        running[0].close()
