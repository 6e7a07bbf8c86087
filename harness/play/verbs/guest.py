"""What is done in, or to, a guest that lives on."""

from __future__ import annotations

from collections.abc import Callable

from harness.base.errors import HarnessBug
from harness.model.checkpoint import Checkpoint
from harness.play.stage.stage import Stage
from harness.scenario.spec import Verb

_ENABLE, _MASKALL = 0x8000, 0x4000  # message control, bits 15 and 14


def in_guest(stage: Stage, verb: Verb, command: str) -> None:
    """A command of actions.sh that the guest answers."""
    agent = stage.guest.agent
    with stage.acting(verb, Checkpoint.C3) as note:
        if agent is None:
            note(False, "the guest has no agent", b"")
            return
        answer = agent.run(f". /actions; {command}", stage.deadline())
        note(answer.status == 0, f"status {answer.status}", answer.output)


def unload_driver(stage: Stage) -> None:
    """The driver lets go of the device, as on a clean shutdown."""
    in_guest(stage, Verb.UNLOAD_DRIVER, f"unload_driver {stage.target.identity}")


def load_driver(stage: Stage) -> None:
    """The driver takes the device again, which it had let go."""
    in_guest(stage, Verb.LOAD_DRIVER, f"load_driver {stage.target.identity} {stage.part.driver.bound_as}")


def start_load(stage: Stage) -> None:
    """Traffic without end."""
    in_guest(stage, Verb.START_LOAD, f"start_load {stage.target.driver} {stage.target.identity}")


def start_churn(stage: Stage) -> None:
    """CPUs come and go, vectors change their CPU."""
    in_guest(stage, Verb.START_CHURN, f"start_churn {stage.target.identity}")


def clears_enable(stage: Stage) -> None:
    """The guest switches MSI-X off past its driver: qemu unmaps and unbinds its pirqs."""
    _write_control(stage, Verb.GUEST_CLEARS_ENABLE, lambda value: value & ~_ENABLE)


def sets_maskall(stage: Stage) -> None:
    """The guest masks the whole function, as a driver does for a moment while it enables MSI-X."""
    _write_control(stage, Verb.GUEST_SETS_MASKALL, lambda value: value | _MASKALL)


def _write_control(stage: Stage, verb: Verb, change: Callable[[int], int]) -> None:
    """One 16-bit write to message control from inside the guest, made from what it read at C2."""
    seen = stage.record.at(Checkpoint.C2)
    offset = stage.collector.msix_offset
    if seen is None or seen.guest is None or seen.guest.control is None or offset is None:
        raise HarnessBug(f"{verb} needs the guest's view of C2")
    low, high = (f"{byte:03o}" for byte in change(seen.guest.control.value).to_bytes(2, "little"))
    in_guest(stage, verb, f"write_control {stage.target.identity} {offset + 2} {low} {high}")


def save(stage: Stage) -> None:
    """The toolstack is asked to save the guest."""
    stage.act(Verb.SAVE, Checkpoint.C3, lambda: stage.toolstack.save(stage.guest.domid, stage.deadline()))
