"""The models of `results.json`, schema version 1: what a run came to, each statement with its evidence. Pure.

Paths are relative to the run's directory. Register values are hexadecimal strings and addresses too, because
JSON numbers lose the low bits of a 64-bit address. None means "not read", never "all is well".
The published schema (docs/results.schema.json) is made from these models by harness/report/schema.py.
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from harness.errors import ExitStatus
from harness.report.inert import storable
from harness.scenario.checkpoint import Checkpoint
from harness.scenario.judgement import Outcome
from harness.scenario.verdict import Conclusion, ControlRole, Verdict
from harness.xen.console import Origin
from harness.xen.messages import Meaning
from harness.xen.trace import Actor

SCHEMA_VERSION: Final = "1"
NESTED_LABEL = "nested host: says nothing about hardware"


def _storable(value: object) -> object:
    return storable(value) if isinstance(value, str) else value


# Guests and devices choose their own bytes: a string must never be the reason why results cannot be stored.
Text = Annotated[str, BeforeValidator(_storable)]
Hex = Annotated[str, Field(pattern=r"^0x[0-9a-f]+$")]
Bytes = Annotated[str, Field(pattern=r"^([0-9a-f]{2}( [0-9a-f]{2})*)?$", description="bytes in hexadecimal")]
Seconds = Annotated[float, Field(ge=0)]


class Model(BaseModel):
    """Base: unknown keys are refused, instances do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(Model):
    """Where a statement was read: a raw file of the run, its SHA-256 and a line in it (0: the whole file)."""

    file: Text
    line: int = Field(default=0, ge=0)
    sha256: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


class Register(Model):
    """A register in lspci's words and as the number it held."""

    text: str
    raw: Hex


class MaskRow(Model):
    """Mask state of one vector in Xen (`xl debug-keys M`); `hardware` is None where Xen could not read it."""

    irq: int
    host: bool
    guest: bool
    hardware: bool | None
    line: int


class GuestSeen(Model):
    """The device as its guest saw it, around a burst of forced traffic."""

    domain: Text
    driver: Text | None
    command: Register | None
    control: Register | None
    enabled: bool | None
    masked: bool | None
    vectors: int
    delta: int = Field(description="interrupts that arrived during the traffic")
    traffic_ok: bool


class Moment(Model):
    """All views of the device at one checkpoint; `sources` has one file per view that was read."""

    checkpoint: Checkpoint
    moment: str
    seconds: Seconds = Field(description="since the scenario began")
    gone: bool = Field(description="every byte of config space reads 0xff")
    driver: Text | None = Field(description="dom0's driver")
    command: Register | None
    control: Register | None
    enabled: bool | None
    masked: bool | None
    owner: Text | None = Field(description="as Xen names it: d0, d3, DomIO")
    irqs: tuple[int, ...] | None
    unbound_irqs: tuple[int, ...] | None
    masks: tuple[MaskRow, ...] | None
    masked_vectors: tuple[int, ...] | None = Field(description="entries masked in the device's own vector table")
    guest: GuestSeen | None
    sources: dict[str, Source]


class HazardSeen(Model):
    """Whether the dangerous moment was reached; without it a run proves nothing about the fix."""

    promised: bool
    taken: bool
    how: Text
    raw: Source | None


class CheckSeen(Model):
    """One expectation held against what was seen."""

    checkpoint: Checkpoint
    view: str
    subject: str
    expected: Text
    seen: Text
    outcome: Outcome
    raw: Source | None


class MessageSeen(Model):
    """A kind of line in the logs of Xen and dom0's kernel: the first of them, how many there are, what it means."""

    meaning: Meaning
    rule: str | None = Field(description="of harness/xen/messages.yaml; null: none describes it")
    origin: Origin
    checkpoint: Checkpoint
    text: Text
    count: int = Field(ge=1)
    expected: bool = Field(description="a symptom that the ending provokes")
    reason: str
    raw: Source


class MessagesSeen(Model):
    """All lines that a run added to the logs of Xen and dom0's kernel."""

    lines: dict[Meaning, int] = Field(description="lines per meaning, with those that belong to them")
    esrch: int = Field(description="messages that what was to be unmapped was not there; harmless, and counted there")
    kinds: tuple[MessageSeen, ...]

    @property
    def shown(self) -> tuple[MessageSeen, ...]:
        """What a report repeats: symptoms and unknown lines."""
        return tuple(kind for kind in self.kinds if kind.meaning.is_shown)


class Frame(Model):
    """A place in the hypervisor's text on a call chain."""

    address: Hex
    symbol: Text
    offset: int

    def __str__(self) -> str:
        return f"{self.symbol}+{self.offset:#x}"


class Traced(Model):
    """One thing done to an interrupt of the device or to its registers, and who had Xen do it (`--trace`)."""

    seconds: Seconds = Field(description="since the scenario began")
    what: str = Field(description="map, bind, unbind, unmap, mask, ... in harness/xen/tracepoints.py")
    function: str = Field(description="Xen's, where it was stopped")
    subject: str = Field(description="domid, pirq, irq and entry of the vector table in words")
    domid: int | None
    pirq: int | None
    irq: int | None
    entry: int | None
    detail: str
    actor: Actor
    caller: Text = Field(description="the actor with its name and what it asked")
    times: int = Field(ge=1, description="how often in a row")
    chain: tuple[Text, ...] = Field(description="the hypervisor's call chain, innermost first")
    dom0_process: Text | None = Field(description="what ran in dom0, when dom0 was the one that called")
    dom0_chain: tuple[Text, ...] = Field(description="its kernel's call chain, innermost first")


class RoundSeen(Model):
    """One round of a guest that came, worked and ended, and what all rounds so far have left behind."""

    number: int = Field(ge=1)
    domid: int
    vectors: int | None = Field(description="interrupts the guest's driver held; None: the guest never answered")
    delta: int | None = Field(description="interrupts that arrived during its traffic")
    counts: dict[str, int] = Field(description="what is there after its end, by counter")
    source: Source


class Leak(Model):
    """How one counter went over the rounds after the warm-up; `leaked` when it grew by more than its noise."""

    counter: str
    title: str
    first: int
    last: int
    noise: int
    rises: int = Field(description="rounds with more than the round before")
    steps: int = Field(description="rounds that were held against the one before")
    leaked: bool


class Attempt(Model):
    """A try that was thrown away because the emulator, not the product, failed; with the evidence of that."""

    reason: Text
    seconds: Seconds
    raw: Source | None


class Side(Model):
    """One run of a scenario on one hypervisor: 'stock', or the name of a mutant."""

    hypervisor: str
    verdict: Verdict
    reason: Text
    hazard: HazardSeen
    checks: tuple[CheckSeen, ...]
    timeline: tuple[Moment, ...]
    call_chain: tuple[Frame, ...] = Field(default=(), description="outermost caller first")
    call_chain_raw: Source | None = None
    trace: tuple[Traced, ...] = Field(default=(), description="with --trace: who did what to the device's interrupts")
    trace_raw: Source | None = None
    phases: dict[str, Seconds] = Field(default={}, description="seconds by phase")
    attempts: tuple[Attempt, ...] = ()
    rounds: tuple[RoundSeen, ...] = ()
    leaks: tuple[Leak, ...] = Field(default=(), description="every counter, leaked or not")
    opened: AwareDatetime | None = Field(
        default=None, description="when C0 to C2 were played, where the host was frozen with guest A running after them"
    )
    messages: MessagesSeen | None = Field(default=None, description="null: the logs were not read to their end")
    raw_directory: str
    log: str

    @property
    def violations(self) -> tuple[CheckSeen, ...]:
        return tuple(check for check in self.checks if check.outcome is not Outcome.MET)


class Expected(Model):
    """What was expected of the hypervisor under test before the scenario was played."""

    verdict: Verdict
    because: Text
    issues: tuple[str, ...] = Field(default=(), description="ids of known_issues.yaml that were expected to show")
    documents: tuple[str, ...] = Field(default=(), description="where those issues are written up")


class ScenarioResult(Model):
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


class Host(Model):
    """The machine under test; `facts` by name (xen_version, kernel, qemu, accelerator, stack), all as text."""

    name: Text
    nested: bool
    label: str = Field(default="", description="printed beside every verdict of this host")
    facts: dict[str, Text]
    packages: dict[str, Text] = Field(default={}, description="exact versions by package")


class Replaced(Model):
    """Bytes that were replaced, and that were read back: at `address` in memory, or at that offset of a file."""

    place: str = Field(description="function or file, and offset")
    address: Hex
    original: Bytes
    replacement: Bytes


class Control(Model):
    """A known-bad hypervisor, device model or dom0 kernel, and how it was made."""

    name: str
    layer: str
    stands_for: Text
    changes: tuple[Replaced, ...]


class EmulatorFaultSeen(Model):
    """A fault of the emulator that cost an attempt."""

    scenario: str
    hypervisor: str
    reason: Text
    raw: Source | None


class RunResult(Model):
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
