"""The base of the models that our files and the user's are read into. Pure."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, WithJsonSchema


class StrictModel(BaseModel):
    """Unknown keys are refused, instances do not change."""

    model_config = ConfigDict(frozen=True, extra="forbid")


_NUMBER = "^0x[0-9a-f]{4,}$"


_BYTES = "^([0-9a-f]{2}( [0-9a-f]{2})*)?$"


def _read(value: object, pattern: str, wanted: str) -> str:
    if not isinstance(value, str) or re.fullmatch(pattern, value) is None:
        raise ValueError(f"not {wanted}")
    return value


Hex = Annotated[
    int,
    BeforeValidator(lambda value: int(_read(value, _NUMBER, "a number as 0x8040"), 16)),
    PlainSerializer(lambda number: f"{number:#06x}", return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": _NUMBER}),
]


"""An address or the value of a register; stored as `0x8040`, the way setpci and lspci write one."""


HexBytes = Annotated[
    bytes,
    BeforeValidator(lambda value: bytes.fromhex(_read(value, _BYTES, "bytes as 'f3 0f 1e'"))),
    PlainSerializer(lambda data: data.hex(" "), return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": _BYTES}),
]


"""Bytes; stored as `f3 0f 1e`."""
