"""Scenarios as data: what endings and follow-ons are made of, and the row that is made of one of each. Pure.

Those that there are stand in catalogue.yaml; which rows they make is harness/scenario/choose.py.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from harness.base.strict import StrictModel
from harness.model.guestspec import GuestType, OnEvent


class ControlRole(enum.StrEnum):
    """What the scenario promises about the known-bad hypervisor."""

    NOTICES = "notices"  # it must FAIL there (a CRASH is none), else the scenario is blind
    CURES = "cures"  # it ends with the historic cure, so it must PASS there with the hazard taken
    NONE = "none"  # the defect is not in its reach; no control is run


CREATE = "create"
"""The step that every scenario begins with: guest A comes to be."""


GUEST_A, GUEST_B, GUEST_C = "maskall-a", "maskall-b", "maskall-c"
"""The domains by what becomes of them: one suffers the ending, one follows, one stands by."""

GUEST_REFUSED = "maskall-r"
"""The domain of a create that must be refused."""


class Next(enum.StrEnum):
    """The steps that give the device to its next owner: on them it depends which checkpoints follow."""

    SAME_GUEST = "same_guest"
    OTHER_GUEST = "other_guest"
    PV_GUEST = "pv_guest"
    HVM_GUEST = "hvm_guest"
    BACK_TO_DOM0 = "back_to_dom0"


def makes_next_guest(step: str) -> bool:
    """Whether a guest has the device after this step, which is then looked at (C5, C6)."""
    return step in set(Next) - {Next.BACK_TO_DOM0}


class HostPower(enum.StrEnum):
    """What a host must be able to do for an ending; without it the scenario is skipped."""

    DEBUGGER = "debugger"
    RESET = "reset"


class Fate(enum.StrEnum):
    """What must have become of guest A's domain at C4."""

    GONE = "gone"
    ZOMBIE = "zombie"  # dying, kept by a device model that does not run; the device is free all the same
    DETACHED = "detached"  # alive, without the device
    RESTARTED = "restarted"  # the toolstack creates it again by itself: there is no C4
    REFUSED = "refused"  # it never came to be
    REBOOTED = "rebooted"  # with its host


class InterruptKind(enum.StrEnum):
    MSIX = "msi-x"
    INTX = "intx"


def _compiles(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
    return pattern


Words = Annotated[str, AfterValidator(_compiles)]


class GuestOptions(StrictModel):
    """How guest A differs from the ordinary one."""

    cmdline: str = ""
    vcpus: int = Field(default=1, ge=1)
    on_reboot: OnEvent = OnEvent.PRESERVE
    on_crash: OnEvent = OnEvent.PRESERVE
    also_wants: str = Field(
        default="", description="BDF of a device that is not assignable, so that the create fails half-way"
    )


class NextGuest(StrictModel):
    """How guest B differs from A."""

    type: GuestType | None = None
    cmdline: str = ""
    interrupts: InterruptKind = InterruptKind.MSIX


Pairing = Literal["no", "may", "must"]


class AfterFault(StrictModel):
    """What the fault must leave of the device at C3, while guest A lives. Without a word: either way."""

    memory: bool | None = None
    enabled: bool | None = None
    masked: bool | None = None
    driver: str | None = None
    no_irqs: bool = Field(
        default=False, description="MSI-X was switched off, so qemu or pciback has unmapped its vectors"
    )


class Ending(StrictModel):
    """How guest A ends. Steps are names of verbs, which harness/play/verbs declares."""

    title: str
    why: str
    hazard: bool = False  # the hazard is promised: a run that did not take it proves nothing
    needs: tuple[HostPower, ...] = ()
    kinds: tuple[GuestType, ...] = (GuestType.HVM,)
    not_for: dict[GuestType, str] = Field({}, description="guests for which this ending makes no sense, and why")
    not_through: dict[str, str] = Field({}, description="toolstacks that cannot do it, and why")
    no_op_reset: bool = False  # only for a device whose reset does not clear MASKALL
    virtual_function: bool = False  # only for a device that is one
    second_device: Pairing = "no"
    bystander: bool = False  # the second device belongs to a guest of its own, which must not notice anything
    switches_decoding: bool = False  # the device's own memory decoding goes off
    decoding_stays_off: bool = False
    expects_messages: tuple[str, ...] = Field((), description="rules of messages.yaml: symptoms that it provokes")
    guest: GuestOptions = GuestOptions()
    fault: tuple[str, ...] = ()
    after_fault: AfterFault = AfterFault()
    works_after_fault: bool = False  # guest A must still get interrupts at C3
    end: tuple[str, ...] = ()
    fate: Fate = Fate.GONE
    next: NextGuest = NextGuest()
    late: tuple[str, ...] = Field((), description="done to what is left of A once guest B works; B is looked at again")
    refusals: dict[str, Words] = Field({}, description="steps that must be refused, and the words that must be said")

    @model_validator(mode="after")
    def _kinds_are_disjoint(self) -> Ending:
        if both := set(self.kinds) & set(self.not_for):
            raise ValueError(f"{', '.join(sorted(both))} is under both 'kinds' and 'not_for'")
        return self


class FollowOn(StrictModel):
    """What becomes of the device afterwards. Steps are names of verbs, as an ending's."""

    title: str
    why: str = ""
    cures: bool = False
    kinds: tuple[GuestType, ...] = tuple(GuestType)
    second_device: Pairing = "no"
    rounds: int = Field(default=0, ge=0, description="how often guest A comes and ends, counting what each time leaves")
    steps: tuple[str, ...]

    @property
    def next(self) -> Next | None:
        """Who gets the device; None: the rounds decide."""
        return next((Next(step) for step in reversed(self.steps) if step in set(Next)), None)

    @property
    def makes_next_guest(self) -> bool:
        return self.next is not None and makes_next_guest(self.next)


_ROW = re.compile(rf".+-F\d+-(?:{'|'.join(GuestType)})-([^@]+)(?:@\d+)?")


def devices_of(name: str) -> tuple[str, ...]:
    """The devices that an id names; endings and devices may have dashes in them. Empty for what is no id."""
    named = _ROW.fullmatch(name)
    return tuple(named[1].split("+")) if named else ()


@dataclass(frozen=True)
class Scenario:
    """One row: how guest A ends, what follows, with which kind of guest and which device, or two joined by a plus."""

    ending: str
    follow_on: str
    guest: GuestType
    device: str
    end: Ending
    follow: FollowOn
    repeat: int = 0  # which time it is, of a row that is played several times (repeats.py)

    @property
    def id(self) -> str:
        return f"{self.row}@{self.repeat}" if self.repeat else self.row

    @property
    def row(self) -> str:
        """What is the same every time that it is played."""
        return self.id_with(self.device)

    def id_with(self, device: str) -> str:
        """As `row`, with another word for the device."""
        return f"{self.ending}-{self.follow_on}-{self.guest}-{device}"

    @property
    def title(self) -> str:
        return f"{self.end.title}; then {self.follow.title}"

    @property
    def steps(self) -> tuple[str, ...]:
        """Every verb of it, in the order in which they are done."""
        return (CREATE, *self.end.fault, *self.end.end, *self.follow.steps, *self.end.late)

    @property
    def devices(self) -> tuple[str, ...]:
        """The device the scenario is about, and perhaps a second one."""
        return tuple(self.device.split("+"))

    @property
    def bystander(self) -> bool:
        """The second device stays out of it: with a guest of its own."""
        return self.end.bystander or self.follow.second_device == "must"

    @property
    def next_type(self) -> GuestType:
        """What guest B is."""
        match self.follow.next:
            case Next.PV_GUEST:
                return GuestType.PV
            case Next.HVM_GUEST:
                return GuestType.HVM
            case _:
                return self.end.next.type or self.guest

    def with_rounds(self, rounds: int) -> Scenario:
        """The same with this many rounds, if it has any."""
        if not self.follow.rounds:
            return self
        return replace(self, follow=self.follow.model_copy(update={"rounds": rounds}))

    def control_role(self, notices: tuple[str, ...]) -> ControlRole:
        """What this row promises of a mutant that the endings `notices` must see."""
        if self.ending not in notices:
            return ControlRole.NONE
        harmless = self.follow.cures or self.end.next.interrupts is InterruptKind.INTX
        return ControlRole.CURES if harmless else ControlRole.NOTICES
