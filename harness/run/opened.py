"""A bundle that is unpacked and read, before anything is said of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from harness.base.errors import EvidenceError
from harness.evidence.sealed import Sealed, read_inside
from harness.model.observation import Reading
from harness.report.begun import Begun
from harness.report.bundle.fidelity import Fidelity, Look, MachineKind, device_ids
from harness.report.bundle.statement import Statement
from harness.report.results import CaseResult, CaseSide, RunResult, Side
from harness.run.cases import CasePlayed, told_of
from harness.run.chain import NAME as CHAIN
from harness.run.chain import Link, events
from harness.run.comparison import Comparison
from harness.run.sidefile import NAME


@dataclass(frozen=True)
class Try:
    """One try of a scenario, or one side of a test: its raw files, and its looks at each device, by the device's name.

    `opened`: it went on from a host that was frozen after C2. `of_test`: somebody wrote it.
    """

    files: Sealed
    devices: tuple[tuple[str, Sequence[Reading]], ...]
    opened: bool = False
    of_test: bool = False

    @property
    def folder(self) -> str:
        return self.files.folder

    @property
    def looks(self) -> Iterator[Reading]:
        """At all of its devices."""
        return (look for _, readings in self.devices for look in readings)


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
    def dom0_commandline(self) -> str:
        """As dom0's kernel printed it; empty: no raw file shows it."""
        return next((one.dom0_commandline for one in self.machines if one.dom0_commandline), "")

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
    def tries(self) -> list[Try]:
        """Every try of every side, of scenarios and of tests."""
        found: list[Try] = []
        for side in self.comparison.again.sides:
            for file, record, raw in zip(side.tries, side.records, side.raws, strict=True):
                parts = [part.readings for part in (record, record.second) if part is not None]
                devices = tuple(zip(record.scenario.devices, parts, strict=False))
                files = Sealed(self.root, raw.path.removesuffix(f"/{NAME}"), file.files)
                found.append(Try(files, devices, record.opened is not None))
        for _, mine, _ in self.tests:
            names = (name.partition(" at ")[0] for name in mine.record.devices)
            files = Sealed(self.root, mine.raw_directory, mine.files)
            found.append(Try(files, tuple(zip(names, mine.record.readings, strict=False)), of_test=True))
        return found

    @cached_property
    def events(self) -> list[Link]:
        """Of run.jsonl; none where it cannot be read, which is told where it is looked at."""
        try:
            return events(read_inside(self.root, CHAIN))
        except EvidenceError:
            return []

    @cached_property
    def tests(self) -> list[tuple[CaseResult, CaseSide, CasePlayed]]:
        """Every side of a test that was played, with its record. EvidenceError for one that cannot be read."""
        sides = [(case, side) for case in self.results.cases for _, side in case.sides if side.raw_directory]
        return [(case, side, told_of(self.root, side)) for case, side in sides]
