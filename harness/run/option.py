"""A row of the table of options: what is said about one, and how its value is read and written. Imports nothing heavy.

The table itself is `harness.run.options.RunOptions`. typer's options, pytest's and those of pytest's ini file, --help,
the command that repeats a scenario, and the refusal of what does not go together with the host are made from it.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

from harness.base.errors import UsageError

_DURATION = re.compile(r"(?:([0-9]{1,4})h)?(?:([0-9]{1,5})m)?(?:([0-9]{1,6})s)?")


class Only(enum.StrEnum):
    """The kind of host that an option is for, where it is not for every one. The words are those of a refusal."""

    NESTED = "the nested host"
    LAB = "a lab host"


@dataclass(frozen=True)
class Option:
    """`on`: the commands that have it, besides pytest, which has all. `why` goes with `only`, and ends its refusal."""

    help: str
    metavar: str | None = None
    on: frozenset[str] = frozenset()
    short: str = ""
    least: int | None = None
    most: int | None = None
    only: Only | None = None
    why: str = ""
    repeat: bool = False  # it is needed to do the same again
    ini: bool = False  # pytest may have it from an ini file: it says something about the place, not about one run
    name: str = ""  # the field of RunOptions; this and what follows is filled in by `table_of`
    type: Any = None
    default: Any = None

    @property
    def flag(self) -> str:
        """As it is written behind `maskall`, and behind `--maskall-` without its dashes."""
        return f"--{self.name.rstrip('_').replace('_', '-')}"

    @property
    def is_switch(self) -> bool:
        return self.type is bool

    @property
    def several(self) -> bool:
        return isinstance(self.default, tuple)

    def read(self, text: str) -> Any:  # noqa: ANN401 - whatever the option's type is
        """One value from its text. ValueError, with what is wrong, for one that this option cannot have."""
        if self.type is int:
            number = int(text)
            if (self.least is not None and number < self.least) or (self.most is not None and number > self.most):
                raise ValueError(f"{number} is not in the range {self.least}<=x{f'<={self.most}' if self.most else ''}")
            return number
        return Path(text) if self.type == Path | None else text

    def stored(self, value: Any) -> Any:  # noqa: ANN401
        """What the command line gave, as the field has it."""
        if value is None:
            return self.default
        if self.several:
            return (value,) if isinstance(value, str) else tuple(value)
        return value

    def words(self, value: Any) -> list[str]:  # noqa: ANN401
        """The words that give it this value; none for its default."""
        if value == self.default:
            return []
        if self.is_switch:
            return [self.flag]
        return [word for one in (value if self.several else (value,)) for word in (self.flag, str(one))]


def seconds_of(text: str) -> int:
    """`2h`, `90m`, `1h30m`, `45s` in seconds. UsageError for anything else, and for nothing at all."""
    match = _DURATION.fullmatch(text)
    hours, minutes, seconds = (int(part or 0) for part in match.groups()) if match else (0, 0, 0)
    total = hours * 3600 + minutes * 60 + seconds
    if not total:
        raise UsageError(f"--for {text!r} is no duration", hint="write it as 2h, 90m, 1h30m or 45s")
    return total


def option(default: Any, help: str, metavar: str | None = None, *, on: str, **more: Any) -> Any:  # noqa: ANN401
    """A field of the table; `on` names commands, with blanks between them; `more` are other parts of an Option."""
    return field(default=default, metadata={"option": Option(help, metavar, frozenset(on.split()), **more)})


def table_of(options: type) -> tuple[Option, ...]:
    """The rows, in the order of the fields."""
    types = get_type_hints(options)
    return tuple(_row(one, types[one.name]) for one in fields(options))


def _row(one: Field[Any], type_: Any) -> Option:  # noqa: ANN401
    assert one.default is not MISSING, f"{one.name} has no default"  # noqa: S101 - a mistake in the table
    row: Option = one.metadata["option"]
    return replace(row, name=one.name, type=type_, default=one.default)


def with_kind(row: Option) -> str:
    """Its help, with the kind of host that it is for."""
    return row.help if row.only is None else f"{row.help.rstrip('.')}; {row.only.partition(' ')[2]} only."


def joined(rows: Iterable[tuple[Option, Any]]) -> list[str]:
    """The words of many options."""
    return [word for row, value in rows for word in row.words(value)]
