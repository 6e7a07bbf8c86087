"""What dom0 does to the device itself."""

from __future__ import annotations

from harness.host import device
from harness.model.observation import Checkpoint
from harness.play.stage.stage import Stage
from harness.play.stage.verb import verb


@verb("decode_off", at=Checkpoint.C3, changes=device.DECODING_OFF)
def decode_off(stage: Stage) -> None:
    """Memory decoding (COMMAND bit 1) off, behind the guest's back."""
    stage.device.memory_decoding(False)


@verb("decode_on", at=Checkpoint.C3, changes=device.DECODING_ON)
def decode_on(stage: Stage) -> None:
    """Memory decoding on again."""
    stage.device.memory_decoding(True)


@verb("clear_maskall", at=Checkpoint.C3, changes=device.CLEAR_MASKALL)
def clear_maskall(stage: Stage) -> None:
    """dom0 writes message control without MASKALL; Xen must put it back while it wants it itself."""
    stage.device.clear_maskall()


@verb("unbind_in_use", at=Checkpoint.C3, changes=device.UNBIND)
def unbind_in_use(stage: Stage) -> None:
    """pciback lets go of the device through sysfs, past the toolstack, while a guest has it."""
    stage.device.tear_from_pciback()


@verb("bus_reset", at=Checkpoint.C4, changes=device.RESET["bus"])
def bus_reset(stage: Stage) -> None:
    """A secondary bus reset, whatever method Linux prefers for the device."""
    stage.device.reset("bus")


@verb("rebind", at=None, changes=(device.UNBIND, device.BIND))
def rebind(stage: Stage) -> None:
    """Off pciback and on again, the historic cure."""
    stage.device.rebind()


@verb("bind_again", at=Checkpoint.C4, changes=device.BIND)
def bind_again(stage: Stage) -> None:
    """To pciback, from which it was torn: whether that works is what is asked."""
    stage.device.bind_again()


@verb("back_to_dom0", at=Checkpoint.C7, changes=device.GIVE_BACK)
def back_to_dom0(stage: Stage) -> None:
    """To the driver it came from."""
    stage.device.give_back()
    stage.observe(Checkpoint.C7)
