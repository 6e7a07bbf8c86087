"""The catalogue of scenarios (catalogue.yaml): endings, follow-ons, what is no scenario and why, and profiles.

Pure but for reading a data file. Verbs stand on a higher floor, so whoever reads the file says which there are
(harness/play/catalogue.py, for our own).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from pydantic import Field

from harness.base.errors import UsageError
from harness.base.modelpath import Loc
from harness.base.strict import StrictModel
from harness.base.yamlfile import load_yaml, nearest, validate
from harness.scenario.hole import Hole, HoleKind
from harness.scenario.repeats import MOST
from harness.scenario.spec import Ending, FollowOn, Scenario
from harness.xen.keys.messages import catalogue as messages


class Profile(StrictModel):
    """Which combinations a run takes when none is named: ENDING-FOLLOWON-GUEST-DEVICE, * is any."""

    why: str
    rows: tuple[str, ...] = Field(min_length=1)
    strict_messages: bool = False  # a line of Xen or dom0's kernel that no rule describes is a failure
    hazard_repeats: int = Field(default=1, ge=1, le=MOST, description="how often a row that takes the hazard is played")

    def times(self, row: Scenario) -> int:
        """How often the profile wants a row to be played."""
        return self.hazard_repeats if row.end.hazard else 1


class Absent(StrictModel):
    """A row of the matrix that is no scenario here, and why."""

    title: str
    kind: HoleKind
    why: str


class Catalogue(StrictModel):
    endings: dict[str, Ending]
    controls: dict[str, tuple[str, ...]] = Field({}, description="endings by the mutant that each must notice")
    follow_ons: dict[str, FollowOn]
    absent: dict[str, Absent] = Field({})
    profiles: dict[str, Profile]

    def hole(self, name: str) -> Hole | None:
        """Why an ending or follow-on of this name is no scenario; None when it is one, or is unknown."""
        found = self.absent.get(name)
        return Hole(found.kind, found.why) if found else None

    def control_of(self, ending: str) -> str | None:
        """The mutant that an ending must notice, where it has one of its own."""
        return next((name for name, endings in self.controls.items() if ending in endings), None)

    @property
    def titles(self) -> dict[str, str]:
        """What each row of the matrix is about, played or not."""
        return {
            name: one.title for group in (self.endings, self.follow_ons, self.absent) for name, one in group.items()
        }

    def profile(self, name: str) -> Profile:
        """Raises UsageError with the nearest right name."""
        if name not in self.profiles:
            raise UsageError(f"there is no profile {name!r}", hint=nearest(name, self.profiles))
        return self.profiles[name]


OURS = Path(__file__).with_name("catalogue.yaml")


def load_catalogue(path: Path, verbs: Collection[str]) -> Catalogue:
    """Raises InventoryError, also for a verb that nobody declares and a message that messages.yaml does not have."""
    document = load_yaml(path)
    known = validate(document, Catalogue)
    for loc, verb in _steps(known):
        if verb not in verbs:
            where = document.place(loc, key="refusals" in loc)
            raise document.error(f"there is no verb {verb!r}", where, hint=nearest(verb, verbs))
    rules = messages().rules
    for name, ending in known.endings.items():
        for number, rule in enumerate(ending.expects_messages):
            if rule not in rules:
                place = document.place(("endings", name, "expects_messages", number))
                raise document.error(f"there is no rule {rule!r} in messages.yaml", place, hint=nearest(rule, rules))
    return known


def _steps(known: Catalogue) -> Iterator[tuple[Loc, str]]:
    """Every verb that the catalogue names, and where."""
    for name, end in known.endings.items():
        for part, verbs in (("fault", end.fault), ("end", end.end), ("late", end.late)):
            yield from ((("endings", name, part, number), verb) for number, verb in enumerate(verbs))
        yield from ((("endings", name, "refusals", verb), verb) for verb in end.refusals)
    for name, follow in known.follow_ons.items():
        yield from ((("follow_ons", name, "steps", number), verb) for number, verb in enumerate(follow.steps))
