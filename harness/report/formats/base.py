"""What every format of a report promises. A format is a file beside this one, found by its name. Pure."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from harness.base import ways
from harness.base.errors import EvidenceError
from harness.model.raw import RawRef
from harness.report import formats
from harness.report.results import RunResult

Read = Callable[[RawRef], bytes]
"""The bytes of a raw file. EvidenceError when they are not at hand, or are not what they were."""


def nothing_at_hand(raw: RawRef) -> bytes:
    """For results without their raw files."""
    raise EvidenceError(f"{raw.path!r} is not at hand")


@dataclass(frozen=True)
class Told:
    """What there is to tell: the results, what is missing in them (lines of text), and their raw files."""

    run: RunResult
    missing: tuple[str, ...] = ()
    read: Read = nothing_at_hand
    width: int = 80  # columns of the terminal


class Format(ABC):
    """One way to tell results. Its docstring's first line is what help and docs say of it."""

    file: ClassVar[str] = ""
    """How every run calls the file in which it tells its results this way; empty: only where it is asked for."""

    @abstractmethod
    def render(self, told: Told) -> bytes:
        """The whole document."""


def load(name: str) -> Format:
    """The format of this name, one of `ways.names(formats)`."""
    return ways.load(formats, name, Format)()  # type: ignore[type-abstract]  # what is found is none


def written(told: Told) -> Iterator[tuple[str, bytes]]:
    """The files that every run leaves behind, by name: results.json before those that only tell it again."""
    made = sorted(map(load, ways.names(formats)), key=lambda one: one.file != "results.json")
    yield from ((one.file, one.render(told)) for one in made if one.file)
