"""The kill matrix, mutant by scenario: the models of `mutants.json` and what they add up to. Pure."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from typing import Final, Literal

from pydantic import AwareDatetime, ConfigDict, Field, computed_field

from harness.base.errors import ExitStatus
from harness.base.strict import StrictModel
from harness.judge.judgement import Check, Outcome, Verdict, sentence
from harness.report.results import Control, HostSummary, Seconds, Side

SCHEMA_VERSION: Final = "2"
FILE = "mutants.json"


class MutantFate(enum.StrEnum):
    """What became of a mutant, in one scenario or in all of them."""

    KILLED = "killed"  # a check failed that did not fail on stock
    CRASHED = "crashed"  # hypervisor or dom0 died of it: noticed, but by no observation
    SURVIVED = "survived"  # nothing was seen
    UNDECIDED = "undecided"  # the lab failed, or evidence is missing
    MISFIT = "does not fit"  # not made for this stack
    EQUIVALENT = "equivalent"  # survived, as was proven beforehand
    NOT_RUN = "not run"  # stopped before, or stock itself could not be played

    @property
    def seen(self) -> bool:
        return self in (MutantFate.KILLED, MutantFate.CRASHED)


_SETTLES_FIRST = (MutantFate.KILLED, MutantFate.CRASHED, MutantFate.UNDECIDED, MutantFate.SURVIVED)  # those of a cell


class MatrixCell(StrictModel):
    """One scenario played on one mutant, or on the stock product, whose fate says nothing."""

    scenario: str
    ending: str
    fate: MutantFate
    verdict: Verdict
    reason: str
    violations: tuple[str, ...] = Field(description="what failed, without numbers that differ from run to run")
    known: tuple[str, ...] = Field((), description="on stock: the known issues that it fails as")
    seconds: Seconds
    raw_directory: str
    log: str


class Row(StrictModel):
    """One mutant through all scenarios it was played in."""

    model_config = ConfigDict(extra="ignore")  # what is computed is in the file too, and computed again

    name: str
    layer: str
    stands_for: str
    notices: tuple[str, ...] = Field(description="endings that promise to see it")
    equivalent: str | None = Field(description="the proof that it cannot be seen")
    fits: bool = Field(description="made for this stack")
    planted: Control | None = Field(description="the bytes that were changed")
    cells: tuple[MatrixCell, ...]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def fate(self) -> MutantFate:
        fates = {cell.fate for cell in self.cells}
        first = min(fates, key=_SETTLES_FIRST.index, default=None)
        if not self.fits:
            return MutantFate.MISFIT
        if first is MutantFate.SURVIVED and self.equivalent:
            return MutantFate.EQUIVALENT
        return first or MutantFate.NOT_RUN

    @property
    def broken_promises(self) -> tuple[str, ...]:
        """Endings that promise to see it, were played, and did not."""
        played = {cell.ending for cell in self.cells}
        kept = {cell.ending for cell in self.cells if cell.fate.seen}
        return tuple(ending for ending in self.notices if ending in played - kept)

    @property
    def why(self) -> str:
        """What settled it."""
        if self.fate is MutantFate.EQUIVALENT:
            return f"as proven: {self.equivalent}"
        cell = next((cell for cell in self.cells if cell.fate is self.fate), None)
        if cell is None:
            return "it is not made for this stack" if self.fate is MutantFate.MISFIT else "no scenario was played on it"
        if self.fate is MutantFate.SURVIVED:
            return f"{len(self.cells)} scenarios saw nothing"
        return f"{cell.scenario}: {cell.reason}"


class KillMatrix(StrictModel):
    """A whole campaign. What it adds up to is counted, also when it is read back."""

    model_config = ConfigDict(extra="ignore")

    schema_version: Literal["2"] = SCHEMA_VERSION
    tool_version: str
    run_id: str
    started: AwareDatetime
    ended: AwareDatetime
    host: HostSummary
    scenarios: tuple[str, ...] = Field(description="in the order of the columns")
    stock: tuple[MatrixCell, ...] = Field(
        description="the same on the unchanged product: what fails here kills no mutant"
    )
    mutants: tuple[Row, ...]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def planted(self) -> int:
        """Mutants that somebody can see: played, and not equivalent."""
        return sum(
            row.fate not in (MutantFate.MISFIT, MutantFate.EQUIVALENT, MutantFate.NOT_RUN) for row in self.mutants
        )

    @computed_field  # type: ignore[prop-decorator]
    @property
    def seen(self) -> int:
        return sum(row.fate.seen for row in self.mutants)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def false_alarms(self) -> int:
        """Scenarios that the stock product failed otherwise than a known issue says."""
        return sum(cell.verdict.blames_product and not cell.known for cell in self.stock)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def exit_status(self) -> ExitStatus:
        fates = [row.fate for row in self.mutants]
        if not self.planted and MutantFate.EQUIVALENT not in fates:
            return ExitStatus.NOTHING_RAN
        disproved = any(row.equivalent and row.fate.seen for row in self.mutants)
        if MutantFate.SURVIVED in fates or disproved:
            return ExitStatus.FAILED
        return ExitStatus.UNDECIDED if {MutantFate.UNDECIDED, MutantFate.NOT_RUN} & set(fates) else ExitStatus.OK


def cell(
    scenario: str, ending: str, side: Side, seconds: float, stock: MatrixCell | None, known: tuple[str, ...] = ()
) -> MatrixCell:
    """What a run says about the mutant it was played on, held against the same scenario on stock (None: this is it)."""
    violations = tuple(sorted(signatures(side.judgement.violations)))
    fate = _fate(side, frozenset(violations), stock)
    return MatrixCell(
        scenario=scenario,
        ending=ending,
        fate=fate,
        verdict=side.verdict,
        reason=_killer(side, stock) if fate is MutantFate.KILLED and stock is not None else side.reason,
        violations=violations,
        known=known,
        seconds=seconds,
        raw_directory=side.raw_directory,
        log=side.log,
    )


def _fate(side: Side, violations: frozenset[str], stock: MatrixCell | None) -> MutantFate:
    if side.verdict.unsettled or side.verdict is Verdict.SKIP or (stock is not None and stock.verdict.unsettled):
        return MutantFate.UNDECIDED
    before = frozenset(stock.violations) if stock is not None else violations
    if side.verdict is Verdict.CRASH and (stock is None or stock.verdict is not Verdict.CRASH):
        return MutantFate.CRASHED
    return MutantFate.KILLED if violations - before else MutantFate.SURVIVED


def _killer(side: Side, stock: MatrixCell) -> str:
    """The first check that failed and does not on stock."""
    before = set(stock.violations)
    return next(sentence(one) for one in side.judgement.violations if signatures([one]) - before)


def signatures(checks: Iterable[Check]) -> set[str]:
    """What was violated, without the numbers of domains and irqs, which differ from run to run."""
    violated = (one for one in checks if one.outcome is Outcome.VIOLATED)
    return {re.sub(r"\d+", "N", f"{one.view} {one.subject}") + f" at {one.checkpoint}" for one in violated}
