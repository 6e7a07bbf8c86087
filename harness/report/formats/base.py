"""What every format of a report promises. A format is a file beside this one, found by its name. Pure."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar

from harness.base import ways
from harness.report import formats
from harness.report.told import Told


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
