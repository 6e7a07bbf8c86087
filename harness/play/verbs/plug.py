"""Hot-plug: the device leaves a guest that lives on, and comes back."""

from __future__ import annotations

from harness.model.checkpoint import Checkpoint
from harness.play.stage.stage import Stage, outcome
from harness.scenario.spec import Verb


def detach(stage: Stage, verb: Verb, *, force: bool) -> None:
    """Ask the toolstack to take the device away, with `force` whether the guest lets go or not."""
    device = stage.borrowed.address
    stage.act(
        verb,
        Checkpoint.C3,
        lambda: stage.toolstack.detach(stage.guest.domid, device, stage.deadline(), force=force),
    )


def attach(stage: Stage) -> None:
    """Give the device to guest A again; its driver must come up and get interrupts."""
    with stage.acting(Verb.ATTACH, Checkpoint.C3) as note:
        result = stage.toolstack.attach(stage.guest.domid, stage.borrowed.address, stage.deadline())
        if not result.ok:
            note(False, outcome(result), result.stdout + result.stderr)
            return
        seen = stage.exercise(stage.part, stage.guest)
        arrived = seen.delta if seen else 0
        note(arrived > 0, f"status 0, {arrived} interrupts", result.stdout + result.stderr)
