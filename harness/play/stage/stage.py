"""The stage a scenario plays on: one host, its devices and guests, and everything noted down on the way."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from harness.base.deadline import Deadline
from harness.base.errors import CommandFailed, EmulatorFault, GuestDied, HostHung
from harness.base.progress import Progress
from harness.evidence.collector import Collector
from harness.guest.agent import Agent
from harness.guest.drivers import Driver
from harness.host.host import Host, TargetDevice
from harness.host.pciback import Borrowed
from harness.model.address import Bdf
from harness.model.change import Change, Kind
from harness.model.checkpoint import Checkpoint
from harness.model.guestspec import GuestSpec
from harness.model.observation import GuestView
from harness.model.raw import RawRef
from harness.scenario.record import Action, Record
from harness.scenario.spec import Scenario, Verb
from harness.transport.base import CommandResult
from harness.xen.toolstack.xl import Toolstack

Enough = Callable[[Record], bool]
Note = Callable[[bool, str, bytes], None]
GUEST_UP_SECONDS = 150.0
PATIENCE_SECONDS = 6
TOOLSTACK_SECONDS = 120.0
_GONE_SECONDS = 30.0


class Settled(Exception):
    """Whoever plays has seen enough."""


@dataclass
class Guest:
    spec: GuestSpec
    domid: int
    agent: Agent | None
    label: str  # "A", "B", or "C" for the bystander
    device_model: int | None = None  # pid of its qemu, once it was sent a signal


@dataclass
class Part:
    """One device of the scenario, and what was noted of it."""

    target: TargetDevice
    driver: Driver
    borrowed: Borrowed
    collector: Collector
    record: Record


@dataclass
class Stage:
    host: Host
    scenario: Scenario
    toolstack: Toolstack
    parts: list[Part]  # the device the scenario is about, and perhaps a second one
    spec: GuestSpec  # of guest A, and of every guest but for what differs
    progress: Progress
    guests: list[Guest] = field(default_factory=list)
    bystander: Guest | None = None
    enough: Enough | None = None

    @property
    def guest(self) -> Guest:
        """The guest that has the device now."""
        return self.guests[-1]

    @property
    def part(self) -> Part:
        """The device the scenario is about."""
        return self.parts[0]

    @property
    def target(self) -> TargetDevice:
        return self.part.target

    @property
    def borrowed(self) -> Borrowed:
        return self.part.borrowed

    @property
    def collector(self) -> Collector:
        return self.part.collector

    @property
    def record(self) -> Record:
        return self.part.record

    @property
    def held_by_next(self) -> tuple[Bdf, ...]:
        """The devices that guest A had and B gets; a bystander keeps its own."""
        held = self.parts[:1] if self.scenario.bystander else self.parts
        return tuple(part.borrowed.address for part in held)

    @property
    def bystander_spec(self) -> GuestSpec:
        """Guest C, which has the second device to itself."""
        second = self.parts[1]
        return replace(self.spec, name="maskall-c", devices=(second.borrowed.address,), drivers=(second.target.driver,))

    @property
    def next_checkpoint(self) -> Checkpoint:
        """The one that an action on the idle device leads to: C4 while A's end is going on, C5 afterwards."""
        return Checkpoint.C5 if self.record.at(Checkpoint.C4) else Checkpoint.C4

    def deadline(self, seconds: float = TOOLSTACK_SECONDS) -> Deadline:
        return Deadline.after(seconds)

    @contextlib.contextmanager
    def acting(self, verb: Verb, checkpoint: Checkpoint) -> Iterator[Note]:
        """Times an action; the body calls what it is given with (ok, detail, raw output)."""
        begun = time.monotonic()
        with self.progress.phase(verb.replace("_", " ")):

            def note(ok: bool, detail: str, output: bytes) -> None:
                raw = self.keep(f"{verb}.txt", output) if output else None
                seconds = time.monotonic() - begun
                said = output.decode("utf-8", "replace")
                self.record.actions.append(Action(verb, checkpoint, ok, detail, seconds, raw, said))

            yield note

    def act(self, verb: Verb, checkpoint: Checkpoint, deed: Callable[[], CommandResult]) -> CommandResult:
        """An action that is one command: it succeeds when the command does."""
        with self.acting(verb, checkpoint) as note:
            result = deed()
            note(result.ok, outcome(result), result.stdout + result.stderr)
        return result

    def await_gone(self, guest: Guest, note: Note) -> None:
        """Wait until the guest's domain is no more, and note whether it is."""
        gone = self.toolstack.await_gone(guest.domid, self.borrowed.address, self.deadline(_GONE_SECONDS))
        note(gone.ok, "gone" if gone.ok else "the domain is still there", gone.stdout + gone.stderr)

    def keep(self, name: str, data: bytes) -> RawRef:
        return self.collector.keep(name, data)

    def observe(self, checkpoint: Checkpoint) -> None:
        """All views of every device at a checkpoint; where a driver must work, it is made to work first.

        Settled when that was enough.
        """
        with self.progress.phase(f"observe {checkpoint}"):
            for part in self.parts:
                view = self._exercise(part, checkpoint)
                part.record.observations.append(part.collector.observe(checkpoint, view))
                part.record.markers = part.collector.markers
        if self.enough is not None and self.enough(self.record):
            raise Settled

    def read_logs(self) -> None:
        """What Xen and dom0's kernel have said from the first observation to now."""
        with self.progress.phase("read the logs"):
            self.collector.close_logs(self.record.observations[-1].checkpoint)
            self.record.messages = self.collector.messages(self.scenario.end.expects_messages)
            self.record.markers = self.collector.markers

    def _exercise(self, part: Part, checkpoint: Checkpoint) -> GuestView | None:
        if checkpoint in (Checkpoint.C0, Checkpoint.C7):
            return self._exercise_dom0(part)
        if part is not self.part and self.bystander is not None:
            busy = (Checkpoint.C2, Checkpoint.C4, Checkpoint.C6)
            return self.exercise(part, self.bystander) if checkpoint in busy else None
        if checkpoint in (Checkpoint.C2, Checkpoint.C6, Checkpoint.C8):
            return self.exercise(part, self.guest)
        if checkpoint is Checkpoint.C3 and self.scenario.end.works_after_fault:
            return self.exercise(part, self.guest)
        return None

    def _exercise_dom0(self, part: Part) -> GuestView | None:
        if not part.record.dom0_traffic:
            return None
        try:
            return part.collector.exercise_dom0(part.driver, part.target.identity, PATIENCE_SECONDS, self.deadline())
        except HostHung:  # a driver whose device is dead may hang: the other views say why, and whether dom0 answers
            return None

    def exercise(self, part: Part, guest: Guest) -> GuestView | None:
        """Let a guest's driver work; None when the guest cannot be asked."""
        if guest.agent is None:
            return None
        try:
            return part.collector.exercise_guest(
                guest.agent,
                f"d{guest.domid}",
                part.target.driver,
                part.target.identity,
                PATIENCE_SECONDS,
                self.deadline(),
            )
        except (HostHung, CommandFailed):
            self._blame_emulator()
            raise

    def _blame_emulator(self) -> None:
        """Raise EmulatorFault when Xen's console proves that the emulator is why a guest is silent."""
        fault = self.collector.emulator_fault()
        if fault is not None:
            raise EmulatorFault(
                f"the emulator, not Xen, killed {fault.domain}: triple fault at {fault.rip:#x} in Xen's text"
            )

    def bring_up(self, spec: GuestSpec, label: str, verb: Verb, checkpoint: Checkpoint) -> bool:
        """Create a guest and talk to its agent. False when the toolstack refused, which is an observation."""
        undo = f"xl destroy {spec.name}"
        self.host.ledger.about_to(Change(Kind.DOMAIN, spec.name, f"create domain {spec.name}", undo))
        with self.acting(verb, checkpoint) as note:
            created = self.toolstack.create(spec, self.deadline())
            note(created.result.ok, outcome(created.result), created.result.stdout + created.result.stderr)
        if not created.result.ok or created.domid is None:
            return False
        self.adopt(spec, created.domid, label)
        return True

    def adopt(self, spec: GuestSpec, domid: int, label: str) -> None:
        """A domain that runs is a guest of this scenario from now on."""
        agent = Agent(self.toolstack.console(domid, self.deadline()))
        guest = Guest(spec, domid, agent, label)
        for part in self.parts:
            part.record.guests[label] = domid
        if label == "C":
            self.bystander = guest
        else:
            self.guests.append(guest)

    def await_userland(self, guest: Guest | None = None) -> None:
        """Wait for a guest's agent, the newest's. EmulatorFault when the emulator is to blame that it never came."""
        guest = guest or self.guest
        with self.progress.phase(f"guest {guest.label} boots", 12):
            up = guest.agent is not None and guest.agent.await_up(self.deadline(GUEST_UP_SECONDS))
        if not up:
            self._blame_emulator()
            self.store_transcripts()
            if guest.label != "B":  # nothing of the scenario has happened yet, so nothing is hidden by trying again
                name = f"guest {guest.label} (d{guest.domid})"
                raise GuestDied(f"{name} did not reach its userland, before any fault was made")

    def store_transcripts(self) -> None:
        for guest in (*self.guests, *([self.bystander] if self.bystander else [])):
            if guest.agent is not None:
                self.keep(f"console-{guest.label}-d{guest.domid}.txt", guest.agent.transcript)
                guest.agent.close()
                guest.agent = None


def outcome(result: CommandResult) -> str:
    """Exit status and last message, for a check's text."""
    if result.ok:
        return "status 0"
    lines = (result.stdout + result.stderr).decode("utf-8", "replace").strip().splitlines()
    told = [line for line in lines if not line.startswith("domid ")]
    status = f"signal {result.signal}" if result.signal else f"status {result.status}"
    return f"{status}: {told[-1]}" if told else status
