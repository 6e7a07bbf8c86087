"""A bundle that is unpacked and read, before anything is said of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from harness.report.begun import Begun
from harness.report.bundle.fidelity import Fidelity, Look, MachineKind, device_ids
from harness.report.bundle.statement import Statement
from harness.report.results import CaseResult, CaseSide, RunResult, Side
from harness.run.cases import CasePlayed, told_of
from harness.run.comparison import Comparison


@dataclass(frozen=True)
class Read:
    """The run's own files of a bundle, which is unpacked in `root`."""

    root: Path
    begun: Begun
    results: RunResult
    statement: Statement
    machines: list[MachineKind]
    shown: Fidelity
    comparison: Comparison
    looks: list[Look]
    results_sha256: str
    before: dict[str, bytes] | None  # what dom0 consisted of, of a run for a certificate
    after: dict[str, bytes] | None

    @property
    def dmi(self) -> str:
        """The machine, as dom0's kernel names it; empty: it does not."""
        return next((one.dmi for one in self.machines if one.dmi), "")

    @property
    def device_ids(self) -> tuple[str, ...]:
        """Vendor, device, revision and subsystem of each device that was looked at."""
        return tuple(sorted({ids for look in self.looks if (ids := device_ids(look.config))}))

    @property
    def sides(self) -> Iterator[tuple[str, Side]]:
        """Every side, with the id of its scenario."""
        for scenario in self.results.scenarios:
            yield from ((scenario.id, side) for _, side in scenario.sides)

    @cached_property
    def tests(self) -> list[tuple[CaseResult, CaseSide, CasePlayed]]:
        """Every side of a test that was played, with its record. EvidenceError for one that cannot be read."""
        sides = [(case, side) for case in self.results.cases for _, side in case.sides if side.raw_directory]
        return [(case, side, told_of(self.root, side)) for case, side in sides]
