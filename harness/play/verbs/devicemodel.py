"""Signals to guest A's device model (qemu), each seen to take effect."""

from __future__ import annotations

from harness.host.devicemodel import SIGNAL
from harness.model.observation import Checkpoint
from harness.play.stage.stage import Stage
from harness.play.stage.verb import verb
from harness.xen.toolstack.xl import Signal


@verb("kill_device_model", at=Checkpoint.C3, changes=SIGNAL[Signal.KILL])
def kill(stage: Stage) -> None:
    """SIGKILL: it unmaps nothing."""
    stage.guest.device_model.kill()


@verb("segfault_device_model", at=Checkpoint.C3, changes=SIGNAL[Signal.SEGV])
def segfault(stage: Stage) -> None:
    """SIGSEGV: a crash of its own."""
    stage.guest.device_model.segfault()


@verb("abort_device_model", at=Checkpoint.C3, changes=SIGNAL[Signal.ABRT])
def abort(stage: Stage) -> None:
    """SIGABRT: an assertion that failed."""
    stage.guest.device_model.abort()


@verb("stop_device_model", at=Checkpoint.C3, changes=SIGNAL[Signal.STOP])
def stop(stage: Stage) -> None:
    """SIGSTOP: it neither works nor ends."""
    stage.guest.device_model.stop()


@verb("kill_stopped_device_model", at=Checkpoint.C8, changes=SIGNAL[Signal.KILL])
def kill_stopped(stage: Stage) -> None:
    """The device model that was stopped under A, whose domain xenstore has long forgotten; then A's zombie must go."""
    with stage.host.deeds.doing("kill_stopped_device_model"):
        if stage.former.device_model.kill():
            stage.former.wait_gone()
