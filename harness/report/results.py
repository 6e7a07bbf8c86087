"""The models of `results.json`, schema version 1: what a run came to, each statement with its evidence. Pure.

Paths are relative to the run's directory. Register values are hexadecimal strings and addresses too, because
JSON numbers lose the low bits of a 64-bit address. None means "not read", never "all is well".
The published schema (docs/results.schema.json) is made from these models by harness/report/schema.py.
"""

from __future__ import annotations

from collections import Counter
from typing import Final, Literal

from pydantic import AwareDatetime, Field, model_validator

from harness.base.errors import ExitStatus
from harness.base.strict import StrictModel
from harness.model.verdict import Conclusion, ControlRole, Verdict
from harness.report.model import Bytes, Hex, Seconds, Source, Text
from harness.report.seen import Side

SCHEMA_VERSION: Final = "1"
NESTED_LABEL = "nested host: says nothing about hardware"


class Expected(StrictModel):
    """What was expected of the hypervisor under test before the scenario was played."""

    verdict: Verdict
    because: Text
    issues: tuple[str, ...] = Field(default=(), description="ids of known_issues.yaml that were expected to show")
    documents: tuple[str, ...] = Field(default=(), description="where those issues are written up")


class ScenarioResult(StrictModel):
    """A scenario with both of its sides and what they say together."""

    id: str
    title: str
    ending: str
    follow_on: str
    guest: str
    device: str = Field(description="PCI address in dom0")
    device_kind: str
    expected: Expected
    stock: Side
    control: Side | None
    control_role: ControlRole
    conclusion: Conclusion
    remark: Text = Field(default="", description="how stock stands to what was expected, and what to do about it")
    seconds: Seconds
    command_to_repeat: str

    @property
    def sides(self) -> tuple[tuple[str, Side], ...]:
        """('stock', side) and, if it was run, ('control', side)."""
        stock = (("stock", self.stock),)
        return stock if self.control is None else (*stock, ("control", self.control))


class Host(StrictModel):
    """The machine under test; `facts` by name (xen_version, kernel, qemu, accelerator, stack), all as text."""

    name: Text
    nested: bool
    label: str = Field(default="", description="printed beside every verdict of this host")
    facts: dict[str, Text]
    packages: dict[str, Text] = Field(default={}, description="exact versions by package")


class Replaced(StrictModel):
    """Bytes that were replaced, and that were read back: at `address` in memory, or at that offset of a file."""

    place: str = Field(description="function or file, and offset")
    address: Hex
    original: Bytes
    replacement: Bytes


class Control(StrictModel):
    """A known-bad hypervisor, device model or dom0 kernel, and how it was made."""

    name: str
    layer: str
    stands_for: Text
    changes: tuple[Replaced, ...]


class EmulatorFaultSeen(StrictModel):
    """A fault of the emulator that cost an attempt."""

    scenario: str
    hypervisor: str
    reason: Text
    raw: Source | None


class RunResult(StrictModel):
    """A whole run. Build it with harness.report.convert.run_result, which counts."""

    schema_version: Literal["1"] = SCHEMA_VERSION
    tool_version: str
    run_id: str
    started: AwareDatetime
    ended: AwareDatetime
    host: Host
    controls: tuple[Control, ...]
    scenarios: tuple[ScenarioResult, ...]
    counts: dict[Conclusion, int] = Field(description="scenarios per conclusion; absent means none")
    emulator_faults: int = Field(ge=0)
    emulator_fault_list: tuple[EmulatorFaultSeen, ...]
    overhead_seconds: Seconds = Field(description="wall time not spent inside host or guest operations")
    exit_status: ExitStatus

    @model_validator(mode="after")
    def _counts_are_true(self) -> RunResult:
        """Totals that contradict the list they sum up are refused, whoever wrote them."""
        if self.counts != dict(Counter(scenario.conclusion for scenario in self.scenarios)):
            raise ValueError("counts do not agree with the scenarios")
        if self.emulator_faults != len(self.emulator_fault_list):
            raise ValueError("emulator_faults does not agree with emulator_fault_list")
        return self

    @property
    def seconds(self) -> float:
        return (self.ended - self.started).total_seconds()
