"""What the models of stored results are made of: kinds of text and numbers, and where a statement was read. Pure."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from harness.base.strict import StrictModel
from harness.base.text import storable


def _storable(value: object) -> object:
    return storable(value) if isinstance(value, str) else value


# Guests and devices choose their own bytes: a string must never be the reason why results cannot be stored.
Text = Annotated[str, BeforeValidator(_storable)]
Hex = Annotated[str, Field(pattern=r"^0x[0-9a-f]+$")]
Bytes = Annotated[str, Field(pattern=r"^([0-9a-f]{2}( [0-9a-f]{2})*)?$", description="bytes in hexadecimal")]
Seconds = Annotated[float, Field(ge=0)]


class Source(StrictModel):
    """Where a statement was read: a raw file of the run, its SHA-256 and a line in it (0: the whole file)."""

    file: Text
    line: int = Field(default=0, ge=0)
    sha256: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file
