"""Scenarios as data: endings, follow-ons, profiles (catalogue.yaml), and the rows made of them.

Pure but for reading our own data file.
"""

from __future__ import annotations

import difflib
import enum
import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from harness.errors import SafetyRefusal, UsageError
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


@dataclass(frozen=True)
class Candidate:
    """A device that scenarios may be played with."""

    name: str
    kind: str  # what profiles call it: its driver, or the nested host's name for it, which are the same words
    endings: frozenset[str] | None = None  # the endings it may suffer; None: all, it is thrown away afterwards

    @classmethod
    def unlimited(cls, names: Iterable[str]) -> list[Candidate]:
        """Devices of a host that is thrown away afterwards."""
        return [cls(name, name) for name in names]

    def may_suffer(self, ending: str) -> bool:
        return self.endings is None or ending in self.endings


def catalogue() -> Catalogue:
    return load_models(Path(__file__).with_name("catalogue.yaml"), Catalogue)


def all_scenarios(known: Catalogue, devices: Iterable[Candidate]) -> list[Scenario]:
    """Every combination that these devices allow."""
    return [row for row in _combinations(known, devices) if _allowed(row, devices)]


def _combinations(known: Catalogue, devices: Iterable[Candidate]) -> list[Scenario]:
    return [
        Scenario(ending, follow_on, GuestType.HVM, device.name, end, follow)
        for device in devices
        for ending, end in known.endings.items()
        for follow_on, follow in known.follow_ons.items()
    ]


def _allowed(row: Scenario, devices: Iterable[Candidate]) -> bool:
    return any(device.name == row.device and device.may_suffer(row.ending) for device in devices)


def select(known: Catalogue, devices: Sequence[Candidate], patterns: list[str], profile: str) -> list[Scenario]:
    """The scenarios that match the patterns; without patterns those of the profile. UsageError when one is empty.

    SafetyRefusal when a pattern names only what the inventory does not let its device suffer.
    """
    everything = all_scenarios(known, devices)
    if not patterns:
        return _of_profile(known, devices, everything, profile)
    chosen: dict[str, Scenario] = {}
    for pattern in patterns:
        matching = _matching(everything, pattern)
        if not matching:
            refused = _matching(_combinations(known, devices), pattern)
            if refused:
                raise SafetyRefusal(
                    f"{refused[0].device} may not suffer {refused[0].ending}",
                    hint="the inventory says which endings it may: `endings` of the device",
                )
            words = [*known.endings, *(row.id for row in everything)]
            near = difflib.get_close_matches(pattern, words, 1, 0.5)
            guess = f"did you mean {near[0]}? " if near else ""
            raise UsageError(f"no scenario matches {pattern!r}", hint=f"{guess}see maskall list --all")
        chosen |= {row.id: row for row in matching}
    return list(chosen.values())


def _matching(rows: Iterable[Scenario], pattern: str) -> list[Scenario]:
    return [row for row in rows if fnmatch.fnmatch(row.id, pattern) or row.id.startswith(f"{pattern}-")]


def _of_profile(
    known: Catalogue, devices: Sequence[Candidate], everything: Iterable[Scenario], profile: str
) -> list[Scenario]:
    """A profile's patterns name kinds of device, whatever the inventory calls the device itself."""
    if profile not in known.profiles:
        near = difflib.get_close_matches(profile, known.profiles, 1, 0)
        raise UsageError(f"there is no profile {profile!r}", hint=f"did you mean {near[0]}?")
    kinds = {device.name: device.kind for device in devices}
    wanted = [
        row
        for row in everything
        if any(fnmatch.fnmatch(replace(row, device=kinds[row.device]).id, one) for one in known.profiles[profile])
    ]
    if not wanted:
        names = ", ".join(kinds)
        raise UsageError(
            f"profile {profile} has no scenario for {names}", hint="see maskall list, or take --profile full"
        )
    return wanted
