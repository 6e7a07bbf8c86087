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
from harness.model.verdict import ControlRole


class Verb(enum.StrEnum):
    """The steps a scenario is made of; harness/play/verbs carries them out."""

    CREATE = "create"
    # to a guest that lives on
    UNLOAD_DRIVER = "unload_driver"
    LOAD_DRIVER = "load_driver"
    KILL_DEVICE_MODEL = "kill_device_model"
    SEGFAULT_DEVICE_MODEL = "segfault_device_model"
    ABORT_DEVICE_MODEL = "abort_device_model"
    STOP_DEVICE_MODEL = "stop_device_model"
    DECODE_OFF = "decode_off"
    GUEST_CLEARS_ENABLE = "guest_clears_enable"
    DECODE_ON = "decode_on"
    CLEAR_MASKALL = "clear_maskall"
    GUEST_SETS_MASKALL = "guest_sets_maskall"
    START_LOAD = "start_load"
    START_CHURN = "start_churn"
    ATTACH = "attach"
    DETACH = "detach"
    FORCE_DETACH = "force_detach"
    UNBIND_IN_USE = "unbind_in_use"
    LOSE_BACKEND = "lose_backend"
    SAVE = "save"
    CRASH_AND_STAY = "crash_and_stay"
    # that end it
    SHUT_DOWN = "shut_down"
    POWER_OFF_WITH_MSIX_ON = "power_off_with_msix_on"
    REBOOT_GUEST = "reboot_guest"
    CRASH = "crash"
    TRIPLE_FAULT = "triple_fault"
    DESTROY = "destroy"
    DESTROY_WITH_DECODE_OFF = "destroy_with_decode_off"
    DESTROY_TO_ZOMBIE = "destroy_to_zombie"
    RESET_HOST_MASKED = "reset_host_masked"
    # to the idle device
    ASSIGN = "assign"
    BUS_RESET = "bus_reset"
    REBIND = "rebind"
    BIND_AGAIN = "bind_again"
    # that give it to the next owner
    SAME_GUEST = "same_guest"
    OTHER_GUEST = "other_guest"
    PV_GUEST = "pv_guest"
    HVM_GUEST = "hvm_guest"
    BACK_TO_DOM0 = "back_to_dom0"
    ROUNDS = "rounds"
    # once that one works
    KILL_STOPPED_DEVICE_MODEL = "kill_stopped_device_model"
    DESTROY_FORMER = "destroy_former"

    @property
    def makes_next_guest(self) -> bool:
        return self in (Verb.SAME_GUEST, Verb.OTHER_GUEST, Verb.PV_GUEST, Verb.HVM_GUEST)


class Power(enum.StrEnum):
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


class Interrupts(enum.StrEnum):
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
    interrupts: Interrupts = Interrupts.MSIX


Pairing = Literal["no", "may", "must"]


class Ending(StrictModel):
    title: str
    why: str
    hazard: bool = False  # the hazard is promised: a run that did not take it proves nothing
    needs: tuple[Power, ...] = ()
    kinds: tuple[GuestType, ...] = (GuestType.HVM,)
    not_for: dict[GuestType, str] = Field({}, description="guests for which this ending makes no sense, and why")
    no_op_reset: bool = False  # only for a device whose reset does not clear MASKALL
    virtual_function: bool = False  # only for a device that is one
    second_device: Pairing = "no"
    bystander: bool = False  # the second device belongs to a guest of its own, which must not notice anything
    decoding_stays_off: bool = False
    expects_messages: tuple[str, ...] = Field((), description="rules of messages.yaml: symptoms that it provokes")
    guest: GuestOptions = GuestOptions()
    fault: tuple[Verb, ...] = ()
    works_after_fault: bool = False  # guest A must still get interrupts at C3
    end: tuple[Verb, ...] = ()
    fate: Fate = Fate.GONE
    next: NextGuest = NextGuest()
    late: tuple[Verb, ...] = Field((), description="done to what is left of A once guest B works; B is looked at again")
    refusals: dict[Verb, Words] = Field({}, description="steps that must be refused, and the words that must be said")

    @property
    def switches_decoding(self) -> bool:
        """The device's own memory decoding goes off."""
        return bool({Verb.DECODE_OFF, Verb.DESTROY_WITH_DECODE_OFF} & {*self.fault, *self.end})

    @model_validator(mode="after")
    def _kinds_are_disjoint(self) -> Ending:
        if both := set(self.kinds) & set(self.not_for):
            raise ValueError(f"{', '.join(sorted(both))} is under both 'kinds' and 'not_for'")
        return self


class FollowOn(StrictModel):
    title: str
    why: str = ""
    cures: bool = False
    kinds: tuple[GuestType, ...] = tuple(GuestType)
    second_device: Pairing = "no"
    rounds: int = Field(default=0, ge=0, description="how often guest A comes and ends, counting what each time leaves")
    steps: tuple[Verb, ...]


@dataclass(frozen=True)
class Scenario:
    """One row: how guest A ends, what follows, with which kind of guest and which device, or two joined by a plus."""

    ending: str
    follow_on: str
    guest: GuestType
    device: str
    end: Ending
    follow: FollowOn

    @property
    def id(self) -> str:
        return self.id_with(self.device)

    def id_with(self, device: str) -> str:
        """As `id`, with another word for the device."""
        return f"{self.ending}-{self.follow_on}-{self.guest}-{device}"

    @property
    def title(self) -> str:
        return f"{self.end.title}; then {self.follow.title}"

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
        if Verb.PV_GUEST in self.follow.steps:
            return GuestType.PV
        if Verb.HVM_GUEST in self.follow.steps:
            return GuestType.HVM
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
        harmless = self.follow.cures or self.end.next.interrupts is Interrupts.INTX
        return ControlRole.CURES if harmless else ControlRole.NOTICES
