"""References to raw files inside stored JSON, which move with the folder of the files. Pure."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from harness.model.observation import RawRef

_REFERENCE = {field.name for field in fields(RawRef)}


def moved(value: Any, old: str, new: str) -> Any:  # noqa: ANN401 - JSON
    """The same with `new` in place of `old` at the beginning of every reference's path."""
    if isinstance(value, list):
        return [moved(one, old, new) for one in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == _REFERENCE:
        return value | {"path": new + str(value["path"]).removeprefix(old)}
    return {name: moved(one, old, new) for name, one in value.items()}
