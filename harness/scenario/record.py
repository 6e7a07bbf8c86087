"""Everything that was seen and done in one run of a scenario: the judge's only input. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from harness.base.errors import MaskallError
from harness.model.address import Bdf
from harness.model.message import Marker, Message
from harness.model.observation import Checkpoint, GuestView, Observation, RawRef, Reading, RoundReading
from harness.model.trace import Event, Frame
from harness.scenario.spec import Scenario

NOWHERE = Bdf(0, 0, 0, 0)
"""The address in a record of a device that nobody has looked for."""


@dataclass(frozen=True)
class Action:
    """Something the harness did to the host, and how the product answered."""

    verb: str
    checkpoint: Checkpoint  # the one that follows
    ok: bool
    detail: str  # exit status, last message
    seconds: float
    raw: RawRef | None = None
    said: str = ""  # all that the product said


@dataclass(frozen=True)
class Round:
    """One round of a guest that came, worked and ended: what it saw of the device, and what was left behind."""

    number: int  # from 1, which is guest A's
    domid: int
    guest: GuestView | None
    counts: dict[str, int]  # by harness.judge.growth.COUNTERS
    raw: RawRef  # the dumps of Xen's debug keys


@dataclass(frozen=True)
class Broken:
    """Why the lab did not carry a run to its end: the name of the error's class, and what it says."""

    kind: str
    message: str
    hint: str = ""

    @classmethod
    def by(cls, error: MaskallError) -> Broken:
        return cls(type(error).__name__, error.message, error.hint)

    def __str__(self) -> str:
        return str(MaskallError(self.message, hint=self.hint))


@dataclass
class Record:
    """What is known of one device. That of a second device stands in `second`; what was done is in both.

    `observations`, `markers`, `messages`, `rounds` and what an action `said` are read from raw files, each time anew
    (harness/evidence/observe.py). All else is the harness's own word: no raw byte shows that something was done.
    """

    scenario: Scenario
    reset_effective: bool  # whether the device's reset clears MASKALL, from the inventory
    dom0_driver: str | None = None
    dom0_traffic: bool = False  # whether dom0's driver may be exercised
    quarantines: bool = True  # whether the toolstack gives an assignable device to DomIO at once
    observations: list[Observation] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)
    markers: list[tuple[Marker, RawRef]] = field(default_factory=list)
    messages: list[Message] | None = None  # None: the logs were not read to their end
    strict_messages: bool = False  # a line that no rule describes is a failure
    guests: dict[str, int] = field(default_factory=dict)  # "A", "B", "C" -> domid
    call_chain: tuple[Frame, ...] = ()  # innermost first
    call_chain_raw: RawRef | None = None
    trace: list[Event] = field(default_factory=list)  # empty unless it was asked for
    trace_raw: RawRef | None = None
    planted: RawRef | None = None  # MASKALL was set behind Xen's back before it booted
    opened: datetime | None = None  # when guest A was started, where the host came with it running
    second: Record | None = None
    rounds: list[Round] = field(default_factory=list)
    device: Bdf = NOWHERE
    readings: list[Reading] = field(default_factory=list)
    rounds_read: list[RoundReading] = field(default_factory=list)
    host_console: RawRef | None = None
    silence: RawRef | None = None  # Xen's console when a guest did not answer
    broken: Broken | None = None
    skipped: str = ""  # why it was not played

    @property
    def begun(self) -> bool:
        """Something was seen or done."""
        return bool(self.observations or self.actions)

    @property
    def logs_closed(self) -> bool:
        """The logs were read to their end."""
        return any(not one.shows_device for one in self.readings)

    def at(self, checkpoint: Checkpoint) -> Observation | None:
        """The last observation of this checkpoint."""
        return next((seen for seen in reversed(self.observations) if seen.checkpoint is checkpoint), None)

    def action(self, verb: str) -> Action | None:
        return next((done for done in reversed(self.actions) if done.verb == verb), None)
