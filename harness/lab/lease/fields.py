"""What a field of a journal may hold: a lab host is hostile input, and a journal found there is obeyed as root.

Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from harness.model.address import FUNCTION

Field = Callable[[object], bool]
"""Whether a value is one that the harness itself can have written there."""

MODULES = frozenset({"xen-pciback"})
"""The kernel modules that a run loads and its undo unloads; a journal that names another one is none of ours."""

_WORDS: Mapping[str, str] = {
    "bdf": FUNCTION,
    "driver": r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}",
    "run": r"[A-Za-z0-9][A-Za-z0-9-]{0,79}",
    "boot": r"[A-Za-z0-9 -]{0,64}",
    "at": r"[0-9TZ:-]{0,24}",
    "domain": r"maskall-[a-z0-9-]{1,40}",
    "path": r"/run/maskall(?:/[A-Za-z0-9][A-Za-z0-9._-]{0,80}){0,4}",
}


def text(pattern: str) -> Field:
    """A text that is one of these, from its first character to its last."""
    compiled = re.compile(pattern)
    return lambda value: isinstance(value, str) and compiled.fullmatch(value) is not None


def words(kind: str, *, none: bool = False) -> Field:
    """A word of one of our kinds."""
    whole = text(_WORDS[kind])

    return lambda value: none if value is None else whole(value)


def number(most: int) -> Field:
    """From 0 to `most`."""
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most


def numbers(most: int) -> Field:
    """The same, or None."""
    whole = number(most)
    return lambda value: value is None or whole(value)


def prose(most: int) -> Field:
    """Text for a person, which nobody obeys: printable, on one line."""
    return lambda value: isinstance(value, str) and len(value) <= most and value.isprintable()
