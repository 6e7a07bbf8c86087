"""Which scenarios there are for given devices, why others cannot be, and choosing among them. Pure."""

from __future__ import annotations

import difflib
import fnmatch
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from harness.base.errors import SafetyRefusal, UsageError
from harness.model.guestspec import GuestType
from harness.scenario.catalogue import Catalogue
from harness.scenario.hole import Hole, HoleKind
from harness.scenario.spec import Fate, Next, Scenario

PVH_REFUSED = "Xen does not support passthrough for x86 PVH guests"


@dataclass(frozen=True)
class Candidate:
    """A device that scenarios may be played with."""

    name: str
    kind: str  # what profiles call it: its driver, or the nested host's name for it, which are the same words
    endings: frozenset[str] | None = None  # the endings it may suffer; None: all, it is thrown away afterwards
    reset_effective: bool = True
    virtual_function: bool = False

    @classmethod
    def unlimited(cls, names: Iterable[str]) -> list[Candidate]:
        """Devices of a host that is thrown away afterwards."""
        return [cls(name, name) for name in names]

    @property
    def traits(self) -> tuple[bool, bool]:
        """All that `why_not` looks at."""
        return self.reset_effective, self.virtual_function

    def may_suffer(self, ending: str) -> bool:
        return self.endings is None or ending in self.endings


def why_not(row: Scenario, device: Candidate) -> Hole | None:
    """Why this combination cannot be with this device, the one it is about; None when it can."""
    end, follow = row.end, row.follow
    if row.guest not in end.kinds:
        if row.guest in end.not_for:
            return Hole(HoleKind.IMPOSSIBLE, end.not_for[row.guest])
        if row.guest is GuestType.PVH:
            return Hole(HoleKind.REFUSED, PVH_REFUSED)
        return Hole(HoleKind.NOT_YET, f"not written for {row.guest} guests")
    if row.guest not in follow.kinds:
        return Hole(HoleKind.IMPOSSIBLE, f"{row.follow_on} begins with {_kinds(follow.kinds)} guest")
    if end.fate is Fate.RESTARTED and follow.steps != (Next.SAME_GUEST,):
        reason = "the toolstack starts the same guest again by itself, so only F1 can follow"
        return Hole(HoleKind.IMPOSSIBLE, reason)
    if follow.rounds and (hole := _why_no_rounds(row, device)):
        return hole
    if end.late and not follow.rounds and not follow.makes_next_guest:
        reason = "what is left of guest A is ended late, under the next guest, and here is none"
        return Hole(HoleKind.IMPOSSIBLE, reason)
    if end.next.type and follow.kinds != tuple(GuestType):
        return Hole(HoleKind.IMPOSSIBLE, "the next guest is of one kind in any case")
    if end.no_op_reset and device.reset_effective:
        return Hole(HoleKind.IMPOSSIBLE, "only for a device whose reset does nothing")
    if end.virtual_function and not device.virtual_function:
        return Hole(HoleKind.ELSEWHERE, "only for a virtual function (--device igb-vf)")
    if device.virtual_function and end.switches_decoding and not end.virtual_function:
        return Hole(HoleKind.IMPOSSIBLE, "the memory decoding of a virtual function is its physical function's")
    wants = [one.second_device for one in (end, follow)]
    if len(row.devices) > 1 and not {"may", "must"} & set(wants):
        return Hole(HoleKind.ELSEWHERE, "it is about one device")
    if len(row.devices) == 1 and "must" in wants:
        return Hole(HoleKind.ELSEWHERE, "it takes two devices, joined by a plus (virtio-rng+e1000e)")
    return None


def _why_no_rounds(row: Scenario, device: Candidate) -> Hole | None:
    """Rounds need an ending that ends a guest which worked, and leaves a device that works again."""
    if row.end.fate in (Fate.REFUSED, Fate.REBOOTED):
        return Hole(HoleKind.NOT_YET, f"no rounds are written of guests that are {row.end.fate}")
    if row.end.hazard and not device.reset_effective:
        return Hole(
            HoleKind.IMPOSSIBLE, "MASKALL stays in a device whose reset does nothing, so there is no second round"
        )
    return None


def why_not_through(row: Scenario, toolstack: str) -> Hole | None:
    """Why a row that can be cannot be played through this toolstack; None when it can."""
    reason = row.end.not_through.get(toolstack)
    return Hole(HoleKind.IMPOSSIBLE, reason) if reason else None


def _kinds(kinds: Sequence[GuestType]) -> str:
    return " or ".join(f"{'an' if kind is GuestType.HVM else 'a'} {kind}" for kind in kinds)


def combinations(
    known: Catalogue, devices: Sequence[Candidate], *, holes_too: bool = True
) -> Iterator[tuple[Scenario, Hole | None]]:
    """Every row there could be, and why it cannot be; or those that can be alone."""
    pairs = [(f"{one.name}+{other.name}", one, 2) for one, other in itertools.permutations(devices, 2)]
    holes: dict[object, Hole | None] = {}  # for as many devices with the same traits
    for name, first, number in [*((device.name, device, 1) for device in devices), *pairs]:
        for guest in GuestType:
            for ending, end in known.endings.items():
                for follow_on, follow in known.follow_ons.items():
                    alike = ending, follow_on, guest, number, first.traits
                    if alike not in holes:
                        holes[alike] = why_not(Scenario(ending, follow_on, guest, name, end, follow), first)
                    if holes_too or holes[alike] is None:
                        yield Scenario(ending, follow_on, guest, name, end, follow), holes[alike]


def all_scenarios(known: Catalogue, devices: Sequence[Candidate]) -> list[Scenario]:
    """Every combination that these devices allow."""
    may = {device.name: device for device in devices}
    possible = combinations(known, devices, holes_too=False)
    return [row for row, _ in possible if all(may[name].may_suffer(row.ending) for name in row.devices)]


def select(known: Catalogue, devices: Sequence[Candidate], patterns: list[str], profile: str) -> list[Scenario]:
    """The scenarios that match the patterns; without patterns those of the profile. UsageError when one is empty.

    SafetyRefusal when a pattern names only what the inventory does not let its device suffer.
    """
    everything = all_scenarios(known, devices)
    known.profile(profile)  # also where it does not choose: it may still be a strict one
    if not patterns:
        return _of_profile(known, devices, everything, profile)
    chosen: dict[str, Scenario] = {}
    for pattern in patterns:
        wanted = _pattern(pattern)
        matching = {row.id: row for row in everything if wanted.match(row.id)}
        if not matching:
            raise _nothing_matches(pattern, known, combinations(known, devices), everything)
        chosen |= matching
    return list(chosen.values())


def _nothing_matches(
    pattern: str, known: Catalogue, possible: Iterable[tuple[Scenario, Hole | None]], everything: Iterable[Scenario]
) -> UsageError | SafetyRefusal:
    wanted = _pattern(pattern)
    named = [(row, hole) for row, hole in possible if wanted.match(row.id)]
    if row := next((row for row, hole in named if hole is None), None):
        return SafetyRefusal(
            f"{row.device} may not suffer {row.ending}",
            hint="the inventory says which endings it may: `endings` of the device",
        )
    if hole := next((hole for _, hole in named), None):
        return UsageError(f"{pattern} cannot be: {hole.reason}", hint="see maskall coverage")
    for part in pattern.split("-"):
        if hole := known.hole(part):
            return UsageError(f"{part} is no scenario here, {hole.kind}: {hole.reason}", hint="see maskall coverage")
    words = [*known.endings, *(row.id for row in everything)]
    near = difflib.get_close_matches(pattern, words, 1, 0.5)
    guess = f"did you mean {near[0]}? " if near else ""
    return UsageError(f"no scenario matches {pattern!r}", hint=f"{guess}see maskall list --all")


def _pattern(pattern: str) -> re.Pattern[str]:
    """Matches the ids that are so, or that begin so: E14 is all that follows that ending."""
    return re.compile(f"{fnmatch.translate(pattern)}|{re.escape(pattern)}-")


def _of_profile(
    known: Catalogue, devices: Sequence[Candidate], everything: Iterable[Scenario], profile: str
) -> list[Scenario]:
    """A profile's patterns name kinds of device, whatever the inventory calls the device itself."""
    kinds = {device.name: device.kind for device in devices}

    def by_kind(row: Scenario) -> str:
        return row.id_with("+".join(kinds[name] for name in row.devices))

    pattern = re.compile("|".join(map(fnmatch.translate, known.profile(profile).rows)))
    wanted = [row for row in everything if pattern.match(by_kind(row))]
    if not wanted:
        names = ", ".join(kinds)
        raise UsageError(
            f"profile {profile} has no scenario for {names}", hint="see maskall list, or take --profile full"
        )
    return wanted
