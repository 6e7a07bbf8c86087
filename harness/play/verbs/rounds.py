"""The same guest again and again: each round is created, works, suffers the scenario's ending, and is counted."""

from __future__ import annotations

from harness.evidence.counting import read_counts
from harness.evidence.observe import round_of
from harness.host import guest
from harness.model.observation import Checkpoint, GuestView, RoundReading
from harness.play.stage.stage import Stage
from harness.play.stage.verb import perform, verb
from harness.scenario.spec import CREATE


@verb("rounds", at=Checkpoint.C4, changes=guest.CREATE)
def rounds(stage: Stage) -> None:
    """Guest A was the first round and has ended; the others follow until one cannot be created or never answers."""
    total = stage.scenario.follow.rounds
    first = stage.record.at(Checkpoint.C2)
    _late(stage)
    _count(stage, 1, first.guest if first else None)
    while len(stage.record.rounds) < total and _round(stage, len(stage.record.rounds) + 1, total):
        pass
    with stage.host.deeds.doing("rounds") as act:
        played = len(stage.record.rounds)
        act.end(played == total, f"{played} of {total} rounds")


def _round(stage: Stage, number: int, total: int) -> bool:
    stage.progress.note(f"round {number} of {total}")
    stage.store_transcripts()
    stage.guests.clear()  # the steps of the ending are done to the guest of this round
    with stage.host.deeds.called(CREATE, Checkpoint.C2):
        if not stage.bring_up(stage.spec, "B"):
            return False
    stage.await_userland()
    view = stage.exercise(stage.device, stage.guest)
    if view is None:
        return False
    end = stage.scenario.end
    for step in (*end.fault, *end.end):
        perform(stage, step)
    _late(stage)
    _count(stage, number, view)
    return True


def _late(stage: Stage) -> None:
    """What is left of this round's guest is ended with no other guest beside it."""
    for step in stage.scenario.end.late:
        perform(stage, step)


def _count(stage: Stage, number: int, view: GuestView | None) -> None:
    store, folder = stage.collector.store, f"round-{number:02d}"
    with stage.progress.phase("count what is left behind"):
        files = read_counts(stage.host.transport, store.below(folder))
    exercised = stage.collector.as_exercised(view) if view else None
    reading = RoundReading(number, stage.guest.domid, exercised, folder, files)
    stage.record.rounds_read.append(reading)
    stage.record.rounds.append(round_of(reading, stage.device.address, store))
