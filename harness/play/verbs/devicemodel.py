"""Signals to guest A's device model (qemu)."""

from __future__ import annotations

from harness.model.checkpoint import Checkpoint
from harness.play.stage.stage import Stage, outcome
from harness.scenario.spec import Verb
from harness.xen.toolstack.xl import Signal


def send(stage: Stage, verb: Verb, signal: Signal) -> None:
    """Send it and see that it took effect."""
    with stage.acting(verb, Checkpoint.C3) as note:
        sent = stage.toolstack.signal_device_model(stage.guest.domid, signal, stage.deadline())
        stage.guest.device_model = sent.pid
        note(sent.result.ok, outcome(sent.result), sent.result.stdout + sent.result.stderr)


def kill_stopped(stage: Stage) -> None:
    """The device model that was stopped under A, whose domain xenstore has long forgotten; then A's zombie must go."""
    former = stage.guests[0]
    with stage.acting(Verb.KILL_STOPPED_DEVICE_MODEL, Checkpoint.C8) as note:
        if former.device_model is None:
            note(False, "the device model's pid is not known", b"")
            return
        killed = stage.toolstack.kill_process(former.device_model, stage.deadline())
        if not killed.ok:
            note(False, outcome(killed), killed.stdout + killed.stderr)
            return
        stage.await_gone(former, note)
