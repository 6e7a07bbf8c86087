"""Who gets the device after guest A: a guest that is created, one that lives still, or one the toolstack restarts."""

from __future__ import annotations

from dataclasses import replace

from harness.base.deadline import poll
from harness.model.change import Change, Kind
from harness.model.checkpoint import Checkpoint
from harness.model.guestspec import OnEvent
from harness.play.stage.stage import Stage, outcome
from harness.scenario.spec import Fate, Verb
from harness.xen.keys.xl_output import parse_list

_SAME, _OTHER, _REFUSED = "maskall-a", "maskall-b", "maskall-r"
_RESTART_SECONDS = 60.0


def same(stage: Stage) -> None:
    """The same guest again: created, attached to where it lives still, or restarted by the toolstack itself."""
    match stage.scenario.end.fate:
        case Fate.RESTARTED:
            _restarted(stage)
        case Fate.DETACHED:
            _attached(stage)
        case _:
            _created(stage, Verb.SAME_GUEST, _SAME)


def other(stage: Stage, verb: Verb) -> None:
    """Another guest, perhaps of another kind."""
    _created(stage, verb, _OTHER)


def assign(stage: Stage) -> None:
    """A create that is expected to be refused; one that is not is ended again."""
    spec = replace(stage.spec, name=_REFUSED)
    stage.host.ledger.about_to(
        Change(Kind.DOMAIN, spec.name, f"create domain {spec.name}, which must be refused", f"xl destroy {spec.name}")
    )
    with stage.acting(Verb.ASSIGN, Checkpoint.C4) as note:
        created = stage.toolstack.create(spec, stage.deadline())
        note(created.result.ok, outcome(created.result), created.result.stdout + created.result.stderr)
    if created.domid is not None:
        stage.toolstack.destroy(created.domid, stage.deadline())


def _created(stage: Stage, verb: Verb, name: str) -> None:
    following = stage.scenario.end.next
    spec = replace(
        stage.spec,
        name=name,
        type=stage.scenario.next_type,
        cmdline=following.cmdline,
        devices=stage.held_by_next,
        on_reboot=OnEvent.PRESERVE,
        on_crash=OnEvent.PRESERVE,
    )
    stage.progress.note(f"creating guest {name}")
    if stage.bring_up(spec, "B", verb, Checkpoint.C5):
        _observed(stage)
    else:
        stage.observe(Checkpoint.C5)


def _observed(stage: Stage) -> None:
    stage.observe(Checkpoint.C5)
    stage.await_userland()
    stage.observe(Checkpoint.C6)


def _attached(stage: Stage) -> None:
    guest = stage.guest
    with stage.acting(Verb.SAME_GUEST, Checkpoint.C5) as note:
        result = stage.toolstack.attach(guest.domid, stage.borrowed.address, stage.deadline())
        note(result.ok, outcome(result), result.stdout + result.stderr)
    if result.ok:
        stage.record.guests["B"] = guest.domid
    stage.observe(Checkpoint.C5)
    if result.ok:
        stage.observe(Checkpoint.C6)


def _restarted(stage: Stage) -> None:
    """The toolstack's own create: seen by a new domid under the old name."""
    former = stage.guest
    with stage.acting(Verb.SAME_GUEST, Checkpoint.C5) as note:

        def successor() -> int | None:
            """It is created paused, and runs once it has its devices."""
            listed = stage.host.transport.run(["xl", "list"], deadline=stage.deadline()).check().text
            rows = parse_list(listed, file="xl list")
            new = [row.domid for row in rows if row.name == former.spec.name and row.domid != former.domid]
            return new[0] if new and not any(row.paused for row in rows) else None

        domid = poll(successor, stage.deadline(_RESTART_SECONDS), every=0.3)
        note(domid is not None, f"d{domid}" if domid else "not restarted", b"")
    if domid is None:
        stage.observe(Checkpoint.C5)
        return
    stage.adopt(former.spec, domid, "B")
    _observed(stage)
