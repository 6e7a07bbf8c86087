"""Who gets the device: guest A first, then a guest that is created, lives still, or is restarted by the toolstack."""

from __future__ import annotations

from dataclasses import replace

from harness.host import guest
from harness.host.guest import Guest
from harness.model.change import Deed
from harness.model.guestspec import OnEvent
from harness.model.observation import Checkpoint
from harness.play.stage.stage import Stage
from harness.play.stage.verb import verb
from harness.scenario.spec import CREATE, GUEST_A, GUEST_B, GUEST_REFUSED, Fate, Next, Scenario


@verb(CREATE, at=Checkpoint.C2, changes=guest.CREATE)
def create(stage: Stage) -> None:
    """Guest A comes to be, with the device."""
    stage.bring_up(stage.spec, "A")


def _by_fate(scenario: Scenario) -> tuple[Deed, ...]:
    """What gives the device to the same guest again; one that is restarted gets it from the toolstack."""
    fates: dict[Fate, tuple[Deed, ...]] = {Fate.RESTARTED: (), Fate.DETACHED: (guest.ATTACH,)}
    return fates.get(scenario.end.fate, (guest.CREATE,))


@verb(Next.SAME_GUEST, at=Checkpoint.C5, changes=_by_fate)
def same_guest(stage: Stage) -> None:
    """The same guest again: created, attached to where it lives still, or restarted by the toolstack itself."""
    match stage.scenario.end.fate:
        case Fate.RESTARTED:
            _restarted(stage)
        case Fate.DETACHED:
            _attached(stage)
        case _:
            _created(stage, GUEST_A)


@verb(Next.OTHER_GUEST, at=Checkpoint.C5, changes=guest.CREATE, guest=GUEST_B)
@verb(Next.PV_GUEST, at=Checkpoint.C5, changes=guest.CREATE, guest=GUEST_B)
@verb(Next.HVM_GUEST, at=Checkpoint.C5, changes=guest.CREATE, guest=GUEST_B)
def other_guest(stage: Stage) -> None:
    """Another guest, perhaps of another kind."""
    _created(stage, GUEST_B)


@verb("assign", at=Checkpoint.C4, changes=(guest.CREATE, guest.DESTROY), guest=GUEST_REFUSED)
def assign(stage: Stage) -> None:
    """A create that is expected to be refused; one that is not is ended again."""
    refused = Guest(stage.host, stage.tools, replace(stage.spec, name=GUEST_REFUSED))
    refused.create()
    if refused.exists:
        with stage.host.deeds.aside():
            refused.destroy(wait=False)
        refused.close()


def _created(stage: Stage, name: str) -> None:
    spec = replace(
        stage.spec,
        name=name,
        type=stage.scenario.next_type,
        cmdline=stage.scenario.end.next.cmdline,
        devices=stage.held_by_next,
        on_reboot=OnEvent.PRESERVE,
        on_crash=OnEvent.PRESERVE,
    )
    stage.progress.note(f"creating guest {name}")
    if stage.bring_up(spec, "B"):
        _observed(stage)
    else:
        stage.observe(Checkpoint.C5)


def _observed(stage: Stage) -> None:
    stage.observe(Checkpoint.C5)
    stage.await_userland()
    stage.observe(Checkpoint.C6)


def _attached(stage: Stage) -> None:
    attached = stage.guest.attach(stage.device)
    if attached:
        stage.record.guests["B"] = stage.guest.domid
    stage.observe(Checkpoint.C5)
    if attached:
        stage.observe(Checkpoint.C6)


def _restarted(stage: Stage) -> None:
    """The toolstack's own create: seen by a new domid under the old name."""
    former = stage.guest
    with stage.host.deeds.doing(Next.SAME_GUEST) as act:
        domid = former.wait_restarted()
        act.end(domid is not None, f"d{domid}" if domid else "not restarted")
    if domid is None:
        stage.observe(Checkpoint.C5)
        return
    stage.adopt(former.spec, domid, "B")
    _observed(stage)
