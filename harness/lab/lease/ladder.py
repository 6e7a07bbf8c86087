"""When a host does not come back to its baseline: one rung after the other, evidence before each, never two at once.

Which rung comes next is a pure function; climbing is done with what the host offers.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from harness.base.errors import DeviceTaken, HostKeyMismatch, JournalDamaged, LabError, LockHeld, MaskallError


class Rung(enum.Enum):
    """From what hurts nobody to what hurts everybody on the host. The value says it to a person."""

    RECONNECT = "make a new connection"
    UNDO = "undo by the journal"
    DEVICE_RESET = "reset the device"
    DESTROY = "destroy our guests"
    REBOOT = "reboot the host"
    POWER_CYCLE = "power cycle the host"
    QUARANTINE = "leave it alone, claimed and marked"

    @property
    def needs_link(self) -> bool:
        """It is done over ssh."""
        return self in (Rung.UNDO, Rung.DEVICE_RESET, Rung.DESTROY, Rung.REBOOT)


@dataclass(frozen=True)
class Offer:
    """What may be done to this host."""

    allow_reboot: bool
    has_power: bool
    resets_devices: bool

    def allows(self, rung: Rung) -> bool:
        """What everybody on the host feels, the inventory must allow."""
        match rung:
            case Rung.DEVICE_RESET:
                return self.resets_devices
            case Rung.REBOOT:
                return self.allow_reboot
            case Rung.POWER_CYCLE:
                return self.allow_reboot and self.has_power
            case _:
                return True


@dataclass(frozen=True)
class Rescued:
    """One rung that was tried: what came of it, and whether the host answered afterwards."""

    rung: Rung
    ok: bool
    told: str = "done"


@dataclass
class Climb:
    """The rungs tried so far on one host."""

    tried: list[Rescued] = field(default_factory=list)

    @property
    def restored(self) -> bool:
        return bool(self.tried) and self.tried[-1].ok and self.tried[-1].rung is not Rung.QUARANTINE

    @property
    def told(self) -> str:
        """One line for a report."""
        return "; ".join(f"{one.rung.value}: {one.told}" for one in self.tried)


def next_rung(climb: Climb, offer: Offer, *, linked: bool, silent: bool) -> Rung:
    """The lowest rung that was not tried, is allowed and can be done. Quarantine when there is none.

    Power is the last thing, and only for a host that was proven `silent`: one that answers, if only with a refusal, has
    somebody at work on it.
    """
    tried = {one.rung for one in climb.tried}
    for rung in Rung:
        if rung in tried or not offer.allows(rung) or (rung.needs_link and not linked):
            continue
        if rung is Rung.POWER_CYCLE and (linked or not silent):
            continue
        return rung
    return Rung.QUARANTINE


def climb(
    offer: Offer,
    actions: Mapping[Rung, Callable[[], None]],
    *,
    verify: Callable[[], None],
    linked: Callable[[], bool],
    silent: Callable[[], bool],
    evidence: Callable[[Rung], None],
    notice: Callable[[str], None],
) -> Climb:
    """Climb until `verify` is content or the host is in quarantine.

    `actions` do a rung, `verify` compares the host with its baseline; both raise MaskallError when they fail.
    `evidence` is taken before each rung; that it cannot be taken stops nothing and is noticed. A host key that has
    changed, a lock of somebody else, a device that somebody else has by now or a record that is not to be trusted ends
    the climb at once: whatever is there is not ours to touch.
    """
    done = Climb()
    for _ in Rung:
        rung = next_rung(done, offer, linked=linked(), silent=silent())
        try:
            evidence(rung)
        except MaskallError as error:
            notice(f"no evidence before '{rung.value}': {error}")
        notice(rung.value)
        try:
            actions[rung]()
            if rung is not Rung.QUARANTINE:
                verify()
            done.tried.append(Rescued(rung, True))
        except (HostKeyMismatch, LockHeld, DeviceTaken, JournalDamaged) as error:
            done.tried.append(Rescued(rung, False, str(error)))
            actions[Rung.QUARANTINE]()
            done.tried.append(Rescued(Rung.QUARANTINE, True))
        except LabError as error:
            done.tried.append(Rescued(rung, False, str(error)))
        if done.tried[-1].ok or done.tried[-1].rung is Rung.QUARANTINE:  # if only in vain
            break
    return done
