"""The moments of a scenario at which all views of a device are taken. Pure."""

from __future__ import annotations

import enum


class Checkpoint(enum.StrEnum):
    """C0..C8 as docs/scenarios.md describes them; guest A suffers the ending, guest B follows."""

    C0 = "C0"
    C1 = "C1"
    C2 = "C2"
    C3 = "C3"
    C4 = "C4"
    C5 = "C5"
    C6 = "C6"
    C7 = "C7"
    C8 = "C8"

    @property
    def moment(self) -> str:
        return _MOMENTS[self]


_MOMENTS = {
    Checkpoint.C0: "dom0's own driver",
    Checkpoint.C1: "bound to pciback, idle",
    Checkpoint.C2: "guest A's driver up",
    Checkpoint.C3: "fault applied, domain alive",
    Checkpoint.C4: "domain gone",
    Checkpoint.C5: "next create returned",
    Checkpoint.C6: "guest B's driver up",
    Checkpoint.C7: "back to dom0's driver",
    Checkpoint.C8: "the rest of A's domain ended under guest B",
}
