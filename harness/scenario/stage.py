"""The stage a scenario plays on: one host, one device, its guests, and everything noted down on the way."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from harness.deadline import Deadline
from harness.errors import CommandFailed, EmulatorFault, GuestDied, HostHung
from harness.evidence.collector import Collector
from harness.evidence.raw import RawRef
from harness.guest.agent import Agent
from harness.guest.drivers import Driver
from harness.guest.spec import GuestSpec
from harness.journal.change import Change, Kind
from harness.lab.host import Host, TargetDevice
from harness.lab.transport.base import CommandResult
from harness.pci.pciback import Borrowed
from harness.report.progress import Progress
from harness.scenario.checkpoint import Checkpoint
from harness.scenario.observation import GuestView
from harness.scenario.record import Action, Record
from harness.scenario.spec import Verb
from harness.xen.toolstack import Toolstack

Note = Callable[[bool, str, bytes], None]
GUEST_UP_SECONDS = 90.0
PATIENCE_SECONDS = 6
TOOLSTACK_SECONDS = 120.0


@dataclass
class Guest:
    spec: GuestSpec
    domid: int
    agent: Agent | None
    label: str  # "A" or "B"


@dataclass
class Stage:
    host: Host
    target: TargetDevice
    driver: Driver
    toolstack: Toolstack
    borrowed: Borrowed
    collector: Collector
    record: Record
    progress: Progress
    guests: list[Guest] = field(default_factory=list)

    @property
    def guest(self) -> Guest:
        """The guest that has the device now."""
        return self.guests[-1]

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
                self.record.actions.append(Action(verb, checkpoint, ok, detail, seconds, raw))

            yield note

    def act(self, verb: Verb, checkpoint: Checkpoint, deed: Callable[[], CommandResult]) -> CommandResult:
        """An action that is one command: it succeeds when the command does."""
        with self.acting(verb, checkpoint) as note:
            result = deed()
            note(result.ok, outcome(result), result.stdout + result.stderr)
        return result

    def keep(self, name: str, data: bytes) -> RawRef:
        return self.collector.keep(name, data)

    def observe(self, checkpoint: Checkpoint) -> None:
        """All views at a checkpoint; where a driver must work, it is made to work first."""
        exercise = {
            Checkpoint.C0: self._exercise_dom0,
            Checkpoint.C2: self._exercise_guest,
            Checkpoint.C6: self._exercise_guest,
            Checkpoint.C7: self._exercise_dom0,
        }.get(checkpoint)
        with self.progress.phase(f"observe {checkpoint}"):
            view = exercise() if exercise else None
            self.record.observations.append(self.collector.observe(checkpoint, view))
            self.record.markers = self.collector.markers

    def _exercise_dom0(self) -> GuestView | None:
        if not self.record.dom0_traffic:
            return None
        return self.collector.exercise_dom0(self.driver, self.target.identity, PATIENCE_SECONDS, self.deadline())

    def _exercise_guest(self) -> GuestView | None:
        guest = self.guest
        if guest.agent is None:
            return None
        try:
            return self.collector.exercise_guest(
                guest.agent, f"d{guest.domid}", self.target.identity, PATIENCE_SECONDS, self.deadline()
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
        self.record.guests[label] = created.domid
        agent = Agent(self.toolstack.console(created.domid, self.deadline()))
        self.guests.append(Guest(spec, created.domid, agent, label))
        return True

    def await_userland(self) -> None:
        """Wait for the newest guest's agent. Raises EmulatorFault when the emulator is to blame that it never came."""
        guest = self.guest
        with self.progress.phase(f"guest {guest.label} boots", 12):
            up = guest.agent is not None and guest.agent.await_up(self.deadline(GUEST_UP_SECONDS))
        if not up:
            self._blame_emulator()
            self.store_transcripts()
            if guest.label == "A":  # nothing of the scenario has happened yet, so nothing is hidden by trying again
                raise GuestDied(f"guest A (d{guest.domid}) did not reach its userland, before any fault was made")

    def store_transcripts(self) -> None:
        for guest in self.guests:
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
