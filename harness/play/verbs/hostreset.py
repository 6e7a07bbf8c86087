"""A warm reboot of the host, with firmware that leaves MASKALL set: planted where Xen first looks at the device."""

from __future__ import annotations

from harness.base.deadline import Deadline
from harness.base.errors import HarnessBug
from harness.model.checkpoint import Checkpoint
from harness.play.stage.stage import Stage
from harness.scenario.spec import Verb
from harness.xen.trace.callchain import ecam_base
from harness.xen.trace.plant import Planted, plant_maskall
from harness.xen.trace.symbols import parse_xensyms

_BOOT_SECONDS = 180.0


def reset_masked(stage: Stage) -> None:
    """Reset, plant MASKALL at `pdev_msi_init`, wait for dom0, take the device from its driver again."""
    debugger, reset = stage.host.debugger, stage.host.reset
    offset = stage.collector.msix_offset
    if debugger is None or reset is None or offset is None:
        raise HarnessBug("this ending needs a debugger and a reset and should have been skipped")
    transport = stage.host.transport
    with stage.acting(Verb.RESET_HOST_MASKED, Checkpoint.C4) as note:
        text = transport.run(["cat", "/proc/xen/xensyms"], deadline=stage.deadline()).check().text
        ring = transport.run(["xl", "dmesg"], deadline=stage.deadline()).check().text
        stage.store_transcripts()
        transport.close()
        planted = plant_maskall(
            debugger,
            parse_xensyms(text, file="xensyms"),
            ecam_base(ring, stage.borrowed.address) + stage.borrowed.address.ecam_offset,
            identity=stage.target.identity,
            msix_offset=offset,
            reset=reset,
            deadline=Deadline.after(_BOOT_SECONDS),
        )
        if planted.took:
            stage.record.planted = stage.keep("planted.txt", f"{_told(planted)}\n".encode())
        transport.connect(Deadline.after(_BOOT_SECONDS))
        stage.collector.host_rebooted()
        for part in stage.parts:
            part.borrowed.bind()
        note(planted.took, _told(planted), b"")


def _told(planted: Planted) -> str:
    return f"message control {planted.before:#06x} -> {planted.after:#06x} before Xen saw the device"
