"""What is done in, or to, a guest that lives on."""

from __future__ import annotations

from harness.host import guest
from harness.model.observation import Checkpoint
from harness.play.stage.stage import Stage
from harness.play.stage.verb import verb


@verb("unload_driver", at=Checkpoint.C3, changes=guest.UNLOAD_DRIVER)
def unload_driver(stage: Stage) -> None:
    """The driver lets go of the device, as on a clean shutdown."""
    stage.guest.unload_driver(stage.device)


@verb("load_driver", at=Checkpoint.C3, changes=guest.LOAD_DRIVER)
def load_driver(stage: Stage) -> None:
    """The driver takes the device again, which it had let go."""
    stage.guest.load_driver(stage.device)


@verb("start_load", at=Checkpoint.C3, changes=guest.START_LOAD)
def start_load(stage: Stage) -> None:
    """Traffic without end."""
    stage.guest.start_load(stage.device)


@verb("start_churn", at=Checkpoint.C3, changes=guest.START_CHURN)
def start_churn(stage: Stage) -> None:
    """CPUs come and go, vectors change their CPU."""
    stage.guest.start_churn(stage.device)


@verb("guest_clears_enable", at=Checkpoint.C3, changes=guest.CLEAR_ENABLE)
def guest_clears_enable(stage: Stage) -> None:
    """The guest switches MSI-X off past its driver: qemu unmaps and unbinds its pirqs."""
    stage.guest.clear_msix_enable(stage.device)


@verb("guest_sets_maskall", at=Checkpoint.C3, changes=guest.SET_MASKALL)
def guest_sets_maskall(stage: Stage) -> None:
    """The guest masks the whole function, as a driver does for a moment while it enables MSI-X."""
    stage.guest.set_maskall(stage.device)


@verb("lose_backend", at=Checkpoint.C3, changes=guest.FORGET)
def lose_backend(stage: Stage) -> None:
    """xenstore forgets that the guest has the device, and pciback takes it back."""
    stage.guest.lose_backend(stage.device)


@verb("save", at=Checkpoint.C3, changes=guest.SAVE)
def save(stage: Stage) -> None:
    """The toolstack is asked to save the guest."""
    stage.guest.save()


@verb("crash_and_stay", at=Checkpoint.C3, changes=guest.CRASH)
def crash_and_stay(stage: Stage) -> None:
    """The guest's kernel panics; the domain must stay, in the state `c` of xl list."""
    with stage.host.deeds.doing("crash_and_stay"):
        if stage.guest.crash(wait=False):
            stage.guest.wait_crashed()


@verb("detach", at=Checkpoint.C3, changes=guest.DETACH)
def detach(stage: Stage) -> None:
    """The toolstack is asked to take the device away, and the guest to let go of it."""
    stage.guest.detach(stage.device)


@verb("force_detach", at=Checkpoint.C3, changes=guest.FORCE_DETACH)
def force_detach(stage: Stage) -> None:
    """The toolstack takes the device away, whether the guest lets go or not."""
    stage.guest.detach(stage.device, force=True)


@verb("attach", at=Checkpoint.C3, changes=guest.ATTACH)
def attach(stage: Stage) -> None:
    """Guest A gets the device again; its driver must come up and get interrupts."""
    with stage.host.deeds.doing("attach") as act:
        attached = stage.guest.attach(stage.device)
        if attached:
            seen = stage.exercise(stage.device, stage.guest)
            arrived = seen.delta if seen else 0
            act.end(arrived > 0, f"status 0, {arrived} interrupts", attached.output)
