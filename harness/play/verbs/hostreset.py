"""A warm reboot of the host, with firmware that leaves MASKALL set: planted where Xen first looks at the device."""

from __future__ import annotations

from harness.base.deadline import Deadline
from harness.base.errors import HarnessBug
from harness.host import device
from harness.host.host import RESET_BUTTON
from harness.model.change import ChangeKind, Deed
from harness.model.observation import Checkpoint
from harness.play.stage.stage import Stage
from harness.play.stage.verb import verb
from harness.xen.trace.callchain import ecam_base
from harness.xen.trace.plant import Planted, plant_maskall
from harness.xen.trace.symbols import parse_xensyms

_SECONDS = 120.0
_BOOT_SECONDS = 600.0  # a server tests its memory first, and an emulated host may be starved
PLANT = Deed(ChangeKind.CONFIG, "set MASKALL of {device} before Xen looks at it", "Xen clears what it finds at boot")


@verb("reset_host_masked", at=Checkpoint.C4, changes=(RESET_BUTTON, PLANT, device.BIND))
def reset_host_masked(stage: Stage) -> None:
    """Reset, plant MASKALL at `pdev_msi_init`, wait for dom0, take the device from its driver again.

    The boot has loaded Xen's text anew, so on a known-bad control its bytes are written once more, at the same moment.
    """
    host, card, offset = stage.host, stage.device, stage.collector.msix_offset
    if host.debugger is None or host.reset_button is None or offset is None:
        raise HarnessBug("this ending needs a debugger and a reset and should have been skipped")
    changes = RESET_BUTTON.to(host=host.name), PLANT.to(device=card.address)
    with host.deeds.doing("reset_host_masked", *changes) as act:
        symbols = host.transport.run(["cat", "/proc/xen/xensyms"], deadline=Deadline.after(_SECONDS)).check()
        ring = host.transport.run(["xl", "dmesg"], deadline=Deadline.after(_SECONDS)).check()
        stage.store_transcripts()
        host.transport.close()
        planted = plant_maskall(
            host.debugger,
            parse_xensyms(symbols.text, file="xensyms"),
            ecam_base(ring.text, card.address) + card.address.ecam_offset,
            identity=card.identity,
            msix_offset=offset,
            reset=host.reset_button,
            text={one.address: (one.before, one.after) for one in host.rewritten},
            deadline=Deadline.after(_BOOT_SECONDS),
        )
        if planted.took:
            stage.record.planted = host.deeds.keep("planted.txt", f"{_told(planted)}\n".encode())
        host.transport.connect(Deadline.after(_BOOT_SECONDS))
        stage.collector.host_rebooted()
        for part in stage.parts:
            part.device.bind()
        act.end(planted.took, _told(planted))


def _told(planted: Planted) -> str:
    return f"message control {planted.before:#06x} -> {planted.after:#06x} before Xen saw the device"
