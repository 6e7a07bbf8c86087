"""The models of what one side of a scenario showed: its timeline, checks, messages, traces, rounds. Pure."""

from __future__ import annotations

from pydantic import AwareDatetime, Field

from harness.base.strict import StrictModel
from harness.judge.judgement import Outcome
from harness.model.checkpoint import Checkpoint
from harness.model.verdict import Verdict
from harness.report.model import Hex, Seconds, Source, Text
from harness.xen.keys.console import Origin
from harness.xen.keys.messages import Meaning
from harness.xen.trace.calls import Actor


class Register(StrictModel):
    """A register in lspci's words and as the number it held."""

    text: str
    raw: Hex


class MaskRow(StrictModel):
    """Mask state of one vector in Xen (`xl debug-keys M`); `hardware` is None where Xen could not read it."""

    irq: int
    host: bool
    guest: bool
    hardware: bool | None
    line: int


class GuestSeen(StrictModel):
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


class Moment(StrictModel):
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


class HazardSeen(StrictModel):
    """Whether the dangerous moment was reached; without it a run proves nothing about the fix."""

    promised: bool
    taken: bool
    how: Text
    raw: Source | None


class CheckSeen(StrictModel):
    """One expectation held against what was seen."""

    checkpoint: Checkpoint
    view: str
    subject: str
    expected: Text
    seen: Text
    outcome: Outcome
    raw: Source | None


class MessageSeen(StrictModel):
    """A kind of line in the logs of Xen and dom0's kernel: the first of them, how many there are, what it means."""

    meaning: Meaning
    rule: str | None = Field(description="of harness/xen/keys/messages.yaml; null: none describes it")
    origin: Origin
    checkpoint: Checkpoint
    text: Text
    count: int = Field(ge=1)
    expected: bool = Field(description="a symptom that the ending provokes")
    reason: str
    raw: Source


class MessagesSeen(StrictModel):
    """All lines that a run added to the logs of Xen and dom0's kernel."""

    lines: dict[Meaning, int] = Field(description="lines per meaning, with those that belong to them")
    esrch: int = Field(description="messages that what was to be unmapped was not there; harmless, and counted there")
    kinds: tuple[MessageSeen, ...]

    @property
    def shown(self) -> tuple[MessageSeen, ...]:
        """What a report repeats: symptoms and unknown lines."""
        return tuple(kind for kind in self.kinds if kind.meaning.is_shown)


class Frame(StrictModel):
    """A place in the hypervisor's text on a call chain."""

    address: Hex
    symbol: Text
    offset: int

    def __str__(self) -> str:
        return f"{self.symbol}+{self.offset:#x}"


class Traced(StrictModel):
    """One thing done to an interrupt of the device or to its registers, and who had Xen do it (`--trace`)."""

    seconds: Seconds = Field(description="since the scenario began")
    what: str = Field(description="map, bind, unbind, unmap, mask, ... in harness/xen/trace/tracepoints.py")
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


class RoundSeen(StrictModel):
    """One round of a guest that came, worked and ended, and what all rounds so far have left behind."""

    number: int = Field(ge=1)
    domid: int
    vectors: int | None = Field(description="interrupts the guest's driver held; None: the guest never answered")
    delta: int | None = Field(description="interrupts that arrived during its traffic")
    counts: dict[str, int] = Field(description="what is there after its end, by counter")
    source: Source


class Leak(StrictModel):
    """How one counter went over the rounds after the warm-up; `leaked` when it grew by more than its noise."""

    counter: str
    title: str
    first: int
    last: int
    noise: int
    rises: int = Field(description="rounds with more than the round before")
    steps: int = Field(description="rounds that were held against the one before")
    leaked: bool


class Attempt(StrictModel):
    """A try that was thrown away because the emulator, not the product, failed; with the evidence of that."""

    reason: Text
    seconds: Seconds
    raw: Source | None


class Side(StrictModel):
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
