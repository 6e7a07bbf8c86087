"""What a verification comes to: a line for each layer, and whether all of it holds. Pure."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field

from harness.base.text import inert


class Word(enum.StrEnum):
    OK = "ok"
    FAILS = "FAILS"
    UNSIGNED = "UNSIGNED"  # nobody vouches for it
    UNKNOWN = "UNKNOWN"  # no raw file shows it
    NOT_ASKED = "not asked"  # the caller wants to know nothing of it
    NOT_REACHED = "not reached"  # a layer below it fails

    @property
    def holds(self) -> bool:
        return self in (Word.OK, Word.NOT_ASKED)


NAMES = (
    "container",
    "manifest",
    "signature",
    "freshness",
    "chain",
    "consistency",
    "completeness",
    "control",
    "fidelity",
    "rejudged",
    "parent",
)
"""All layers, each of which rests on those before it."""


@dataclass(frozen=True)
class Layer:
    name: str
    word: Word
    said: tuple[str, ...]

    @classmethod
    def of(cls, name: str, wrong: list[str], right: list[str], word: Word = Word.FAILS) -> Layer:
        """`word` with all that is wrong, or ok with what is right."""
        return cls(name, word if wrong else Word.OK, tuple(wrong or right))


@dataclass
class Verification:
    layers: list[Layer] = field(default_factory=list)
    run: str = ""  # in one line, what the run was and came to
    notes: list[str] = field(default_factory=list)

    @property
    def failed(self) -> list[Layer]:
        return [one for one in self.layers if not one.word.holds]

    @property
    def status(self) -> int:
        return 1 if self.failed or len(self.layers) < len(NAMES) else 0

    def cut(self) -> None:
        """What could not be looked at."""
        done = {one.name for one in self.layers}
        self.layers += (Layer(name, Word.NOT_REACHED, ()) for name in NAMES if name not in done)

    @property
    def lines(self) -> Iterator[str]:
        for one in self.layers:
            first, *more = one.said or ("",)
            yield inert(f"{one.word:11}  {one.name:12}  {first}").rstrip()
            yield from (inert(f"{'':27}{line}") for line in more)
        yield from map(inert, self.notes)
        if self.status == 0:
            yield inert(f"holds: {self.run}")
        else:
            names = ", ".join(one.name for one in self.failed if one.word is not Word.NOT_REACHED)
            yield f"DOES NOT HOLD: {names}"

    @property
    def as_json(self) -> dict[str, object]:
        return {
            "exit_status": self.status,
            "holds": self.status == 0,
            "run": self.run,
            "layers": [{"name": one.name, "answer": str(one.word), "said": list(one.said)} for one in self.layers],
            "notes": self.notes,
        }
