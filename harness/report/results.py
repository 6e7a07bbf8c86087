"""The models of `results.json`, schema version 2: what a run came to, each statement with its evidence. Pure.

What was seen, done and judged is there as the harness knows it: the record and the judgement of each side. Paths are
relative to the run's directory. Addresses and registers are hexadecimal strings, because JSON numbers lose the low
bits of a 64-bit address. None means "not read", never "all is well".
The published schema (docs/results.schema.json) is made from these models by harness/run/schema.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, Field, model_validator

from harness.base.errors import ExitStatus
from harness.base.strict import StrictModel
from harness.judge.forecast import Forecast
from harness.judge.growth import Growth
from harness.judge.judgement import Conclusion, Judgement, Verdict, conclude, exit_status
from harness.model.observation import RawRef
from harness.mutants.code import Replaced
from harness.scenario.case import CaseRecord
from harness.scenario.record import Record
from harness.scenario.spec import ControlRole

SCHEMA_VERSION: Final = "2"
NESTED_LABEL = "nested host: says nothing about hardware"

Seconds = Annotated[float, Field(ge=0)]


class Attempt(StrictModel):
    """A try that was thrown away because the emulator, not the product, failed; with the evidence of that."""

    reason: str
    seconds: Seconds
    raw: RawRef | None = None


class Side(StrictModel):
    """One run of a scenario on one hypervisor: 'stock', or the name of a mutant."""

    hypervisor: str
    judgement: Judgement
    record: Record
    leaks: tuple[Growth, ...] = Field(default=(), description="every counter over the rounds, leaked or not")
    began: AwareDatetime | None = Field(default=None, description="when it was played: a run may go on another day")
    phases: dict[str, Seconds] = Field(default={}, description="seconds by phase")
    attempts: tuple[Attempt, ...] = ()
    raw_directory: str
    log: str
    stored: RawRef | None = Field(default=None, description="record.json of these raw files; null: there is none")
    kept: AwareDatetime | None = Field(default=None, description="when an earlier run played it; null: this one did")

    @property
    def verdict(self) -> Verdict:
        return self.judgement.verdict

    @property
    def reason(self) -> str:
        return self.judgement.reason


class ExpectedVerdict(StrictModel):
    """What was expected of the hypervisor under test before the scenario was played."""

    verdict: Verdict
    because: str
    issues: tuple[str, ...] = Field(default=(), description="ids of known_issues.yaml that were expected to show")
    documents: tuple[str, ...] = Field(default=(), description="where those issues are written up")

    @classmethod
    def of(cls, forecast: Forecast) -> ExpectedVerdict:
        return cls(
            verdict=forecast.verdict,
            because=forecast.because,
            issues=tuple(name for name, _ in forecast.due),
            documents=tuple(issue.document for _, issue in forecast.due if issue.document),
        )


class ScenarioResult(StrictModel):
    """A scenario with both of its sides and what they say together. Build it with `of`, which concludes."""

    id: str
    title: str
    ending: str
    follow_on: str
    guest: str
    device: str = Field(description="PCI address in dom0")
    device_kind: str
    expected: ExpectedVerdict
    stock: Side
    control: Side | None
    control_role: ControlRole
    conclusion: Conclusion
    remark: str = Field(default="", description="how stock stands to what was expected, and what to do about it")
    seconds: Seconds
    command_to_repeat: str

    @classmethod
    def of(
        cls, forecast: Forecast, stock: Side, control: Side | None, control_role: ControlRole, **named: str | float
    ) -> ScenarioResult:
        """Both sides of a scenario; the conclusion is drawn here and nowhere else. `named`: all other fields."""
        return cls.model_validate(
            {
                **named,
                "expected": ExpectedVerdict.of(forecast),
                "stock": stock,
                "control": control,
                "control_role": control_role,
                "conclusion": conclude(
                    stock.verdict,
                    control.verdict if control else None,
                    control_role,
                    due=bool(forecast.certain),
                    known=bool(forecast.explains(stock.judgement.checks)),
                ),
                "remark": forecast.remark(stock.verdict, stock.judgement.checks),
            }
        )

    @property
    def reason(self) -> str:
        """Why it came to its conclusion, from the side that made it so."""
        stock, control = self.stock, self.control
        if self.conclusion is Conclusion.CHANGED:
            return self.remark
        decisive = stock.verdict.blames_product or stock.verdict.unsettled or self.conclusion is Conclusion.SKIPPED
        if control is None or decisive:
            return stock.reason
        return f"on the control {control.hypervisor}: {control.reason}"

    @property
    def told(self) -> str:
        """The conclusion, and whether its control was played in an earlier run."""
        kept = self.control.kept if self.control else None
        return f"{self.conclusion} (kept proof of {kept:%Y-%m-%d})" if kept else str(self.conclusion)

    @property
    def sides(self) -> tuple[tuple[str, Side], ...]:
        """('stock', side) and, if it was run, ('control', side)."""
        stock = (("stock", self.stock),)
        return stock if self.control is None else (*stock, ("control", self.control))


class CaseSide(StrictModel):
    """One run of a test that somebody wrote with the fixtures, on one hypervisor: 'stock', or the name of a mutant."""

    hypervisor: str
    verdict: Verdict
    reason: str = Field(description="the assertion that failed, or why there is no verdict")
    place: str = Field(default="", description="file and line of the test where it ended, if not at its end")
    expected: Verdict = Field(default=Verdict.PASS, description="FAIL where the test is marked xfail")
    record: CaseRecord
    seconds: Seconds
    phases: dict[str, Seconds] = Field(default={}, description="seconds by phase")
    raw_directory: str
    log: str
    files: dict[str, str] = Field(default={}, description="SHA-256 of every raw file, by its name in raw_directory")

    @property
    def told(self) -> str:
        """The file, beside its raw files, in which the process that played it tells the same."""
        return f"{self.raw_directory}/record.json"


class CaseResult(StrictModel):
    """A test that somebody wrote, with both of its sides. Build it with `of`, which concludes."""

    id: str = Field(description="pytest's node id, without the hypervisor")
    title: str
    devices: tuple[str, ...]
    stock: CaseSide
    control: CaseSide | None
    control_role: ControlRole
    conclusion: Conclusion
    remark: str = ""
    seconds: Seconds
    command_to_repeat: str

    @classmethod
    def of(
        cls, stock: CaseSide, control: CaseSide | None, *, wanted: bool, **named: str | float | tuple[str, ...]
    ) -> CaseResult:
        """Both sides; the conclusion is drawn here and nowhere else.

        `wanted`: the test promises to fail on a control. `named`: all other fields.
        """
        role = ControlRole.NOTICES if wanted else ControlRole.NONE
        foreseen = stock.expected is Verdict.FAIL
        conclusion = conclude(stock.verdict, control.verdict if control else None, role, due=foreseen, known=foreseen)
        return cls.model_validate(
            {**named, "stock": stock, "control": control, "control_role": role, "conclusion": conclusion}
        )

    @property
    def reason(self) -> str:
        """Why it came to its conclusion, in one line, from the side that made it so."""
        stock, control = self.stock, self.control
        if self.conclusion is Conclusion.CHANGED:
            return "it passes, and is marked as one that fails"
        if control is None or stock.verdict is not Verdict.PASS:
            return _first_line(stock)
        if control.verdict is Verdict.PASS:
            return f"it passes on the control {control.hypervisor} too"
        return f"on the control {control.hypervisor}: {_first_line(control)}"

    @property
    def sides(self) -> tuple[tuple[str, CaseSide], ...]:
        """('stock', side) and, if it was run, ('control', side)."""
        stock = (("stock", self.stock),)
        return stock if self.control is None else (*stock, ("control", self.control))


def _first_line(side: CaseSide) -> str:
    return side.reason.partition("\n")[0] or str(side.verdict)


class HostSummary(StrictModel):
    """The machine under test; `facts` by name (xen_version, kernel, qemu, accelerator, stack), all as text."""

    name: str
    nested: bool
    label: str = Field(default="", description="printed beside every verdict of this host")
    facts: dict[str, str]
    packages: dict[str, str] = Field(default={}, description="exact versions by package")

    @classmethod
    def of(cls, facts: dict[str, str], packages: dict[str, str]) -> HostSummary:
        """The host that a lab tells these facts of."""
        nested = "nested" in facts
        label = NESTED_LABEL if nested else ""
        return cls(name=facts.get("host", "nested"), nested=nested, label=label, facts=facts, packages=packages)


class Control(StrictModel):
    """A known-bad hypervisor, device model or dom0 kernel, and how it was made."""

    name: str
    layer: str
    stands_for: str
    changes: tuple[Replaced, ...]


class Parent(StrictModel):
    """The run of which this one plays again what was not as expected (`--failed`)."""

    run_id: str
    started: AwareDatetime
    results: str = Field(description="SHA-256 of its results.json")
    stands: dict[str, Conclusion] = Field(description="what its other scenarios came to, on its word")


class RunResult(StrictModel):
    """A whole run. Build it with `of`, which counts."""

    schema_version: Literal["2"] = SCHEMA_VERSION
    tool_version: str
    run_id: str
    started: AwareDatetime
    ended: AwareDatetime
    host: HostSummary
    controls: tuple[Control, ...]
    scenarios: tuple[ScenarioResult, ...]
    cases: tuple[CaseResult, ...] = Field(default=(), description="tests that somebody wrote with the fixtures")
    parent: Parent | None = Field(default=None, description="the run that this one supplements")
    counts: dict[Conclusion, int] = Field(description="scenarios and cases per conclusion; absent means none")
    emulator_faults: int = Field(ge=0, description="attempts that the emulator spoiled, of all sides")
    overhead_seconds: Seconds = Field(description="wall time not spent inside host or guest operations")
    exit_status: ExitStatus

    @classmethod
    def of(
        cls,
        scenarios: Sequence[ScenarioResult],
        *,
        tool_version: str,
        run_id: str,
        started: datetime,
        ended: datetime,
        host: HostSummary,
        controls: Iterable[Control],
        overhead_seconds: float,
        cases: Sequence[CaseResult] = (),
        parent: Parent | None = None,
        status: ExitStatus | None = None,
    ) -> RunResult:
        """A whole run, counted. `status` only where the run ended for a reason no scenario shows (a lost host).

        `started` and `ended` carry their zone; without one pydantic refuses them.
        """
        conclusions = _conclusions(scenarios, cases)
        return cls(
            tool_version=tool_version,
            run_id=run_id,
            started=started,
            ended=ended,
            host=host,
            controls=tuple(controls),
            scenarios=tuple(scenarios),
            cases=tuple(cases),
            parent=parent,
            counts=dict(Counter(conclusions)),
            emulator_faults=_emulator_faults(scenarios),
            overhead_seconds=round(overhead_seconds, 3),
            exit_status=exit_status(conclusions) if status is None else status,
        )

    @model_validator(mode="after")
    def _counts_are_true(self) -> RunResult:
        """Totals that contradict the list they sum up are refused, whoever wrote them."""
        if self.counts != dict(Counter(_conclusions(self.scenarios, self.cases))):
            raise ValueError("counts do not agree with the scenarios and cases")
        if self.emulator_faults != _emulator_faults(self.scenarios):
            raise ValueError("emulator_faults does not agree with the attempts of the sides")
        return self

    @property
    def played(self) -> tuple[ScenarioResult | CaseResult, ...]:
        """Scenarios, and tests that somebody wrote behind them."""
        return (*self.scenarios, *self.cases)

    @property
    def seconds(self) -> float:
        return (self.ended - self.started).total_seconds()


def _conclusions(scenarios: Iterable[ScenarioResult], cases: Iterable[CaseResult]) -> list[Conclusion]:
    return [*(one.conclusion for one in scenarios), *(one.conclusion for one in cases)]


def _emulator_faults(scenarios: Iterable[ScenarioResult]) -> int:
    return sum(len(side.attempts) for scenario in scenarios for _, side in scenario.sides)
