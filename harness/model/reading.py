"""What was read of a host, as files: the stored side of every observation. Pure.

All paths are relative to the folder of the side's evidence.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.model.checkpoint import Checkpoint

CONFIG = "config.hex"
"""The section that only a look at the device has; a reading without it is of the logs alone."""


@dataclass(frozen=True)
class Exercised:
    """A driver that was made to work: in which domain ("d3"), and the file of what exercise.sh printed."""

    domain: str
    file: str


@dataclass(frozen=True)
class Reading:
    """One look at a host: `files` below `folder`. Both logs among them go on where the reading before them ended."""

    checkpoint: Checkpoint
    seconds: float  # since the scenario began
    folder: str
    files: tuple[str, ...]
    guest: Exercised | None = None
    boot: bool = False  # the logs begin with the boot of the host

    @property
    def shows_device(self) -> bool:
        return CONFIG in self.files


@dataclass(frozen=True)
class RoundReading:
    """What was read after one round: of the guest while it lived, and below `folder` what it left behind."""

    number: int  # from 1, which is guest A's
    domid: int
    guest: Exercised | None
    folder: str
    files: tuple[str, ...]
