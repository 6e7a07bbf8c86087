"""Why a cell of the matrix holds no scenario. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class HoleKind(enum.StrEnum):
    """The value is what the coverage map calls it. Of several holes shown as one, the first of this order is."""

    NOT_YET = "not yet"  # it could be played, and nobody has written it
    HARDWARE = "hardware only"  # nothing that an emulator can show
    ELSEWHERE = "elsewhere"  # it would be the same as another row
    IMPOSSIBLE = "impossible"  # the parts contradict each other
    REFUSED = "refused"  # the product refuses it, and a scenario of its own shows that it does
    NO_DEVICE = "no such device here"  # QEMU does not offer it


@dataclass(frozen=True)
class Hole:
    kind: HoleKind
    reason: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.reason}"
