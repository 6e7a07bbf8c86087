"""Scenarios as data: endings, follow-ons, profiles (catalogue.yaml), and the rows made of them.

Pure but for reading our own data file.
"""

from __future__ import annotations

import difflib
import enum
import fnmatch
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from harness.errors import UsageError
from harness.guest.spec import GuestType
from harness.scenario.verdict import ControlRole
from harness.yamlfile import load_models


class Verb(enum.StrEnum):
    """The steps a scenario is made of; harness/scenario/verbs.py carries them out."""

    CREATE = "create"
    UNLOAD_DRIVER = "unload_driver"
    KILL_DEVICE_MODEL = "kill_device_model"
    DECODE_OFF = "decode_off"
    GUEST_CLEARS_ENABLE = "guest_clears_enable"
    DECODE_ON = "decode_on"
    SHUT_DOWN = "shut_down"
    POWER_OFF_WITH_MSIX_ON = "power_off_with_msix_on"
    DESTROY = "destroy"
    DESTROY_WITH_DECODE_OFF = "destroy_with_decode_off"
    SAME_GUEST = "same_guest"
    OTHER_GUEST = "other_guest"
    BACK_TO_DOM0 = "back_to_dom0"
    REBIND = "rebind"


class Power(enum.StrEnum):
    """What a host must be able to do for an ending; without it the scenario is skipped."""

    DEBUGGER = "debugger"


class Ending(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    why: str
    hazard: bool = False  # the hazard is promised: a run that did not take it proves nothing
    needs: tuple[Power, ...] = ()
    decoding_stays_off: bool = False
    fault: tuple[Verb, ...]
    end: tuple[Verb, ...]


class FollowOn(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    why: str = ""
    cures: bool = False
    steps: tuple[Verb, ...]


class Catalogue(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    endings: dict[str, Ending]
    follow_ons: dict[str, FollowOn]
    profiles: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Scenario:
    """One row: how guest A ends, what follows, with which kind of guest and which device."""

    ending: str
    follow_on: str
    guest: GuestType
    device: str
    end: Ending
    follow: FollowOn

    @property
    def id(self) -> str:
        return f"{self.ending}-{self.follow_on}-{self.guest}-{self.device}"

    @property
    def title(self) -> str:
        return f"{self.end.title}; then {self.follow.title}"

    def control_role(self, notices: tuple[str, ...]) -> ControlRole:
        """What this row promises of a mutant that the endings `notices` must see."""
        if self.ending not in notices:
            return ControlRole.NONE
        return ControlRole.CURES if self.follow.cures else ControlRole.NOTICES


def catalogue() -> Catalogue:
    return load_models(Path(__file__).with_name("catalogue.yaml"), Catalogue)


def all_scenarios(known: Catalogue, devices: list[str]) -> list[Scenario]:
    """Every combination that these devices allow."""
    return [
        Scenario(ending, follow_on, GuestType.HVM, device, end, follow)
        for device in devices
        for ending, end in known.endings.items()
        for follow_on, follow in known.follow_ons.items()
    ]


def select(known: Catalogue, devices: list[str], patterns: list[str], profile: str) -> list[Scenario]:
    """The scenarios that match the patterns; without patterns those of the profile. UsageError when one is empty."""
    everything = all_scenarios(known, devices)
    if not patterns:
        if profile not in known.profiles:
            near = difflib.get_close_matches(profile, known.profiles, 1, 0)
            raise UsageError(f"there is no profile {profile!r}", hint=f"did you mean {near[0]}?")
        wanted = [row for row in everything if any(fnmatch.fnmatch(row.id, one) for one in known.profiles[profile])]
        if not wanted:
            raise UsageError(f"profile {profile} has no scenario for {', '.join(devices)}", hint="see maskall list")
        return wanted
    chosen: dict[str, Scenario] = {}
    for pattern in patterns:
        matching = [row for row in everything if fnmatch.fnmatch(row.id, pattern) or row.id.startswith(f"{pattern}-")]
        if not matching:
            words = [*known.endings, *(row.id for row in everything)]
            near = difflib.get_close_matches(pattern, words, 1, 0.5)
            guess = f"did you mean {near[0]}? " if near else ""
            raise UsageError(f"no scenario matches {pattern!r}", hint=f"{guess}see maskall list --all")
        chosen |= {row.id: row for row in matching}
    return list(chosen.values())
