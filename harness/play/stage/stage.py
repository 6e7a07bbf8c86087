"""The stage a scenario plays on: a host, its devices and guests by the parts they have, and the record of it all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from harness.base.errors import CommandFailed, GuestDied, HostHung
from harness.base.progress import Progress
from harness.evidence.collector import Collector
from harness.evidence.observe import emulator_fault
from harness.host.device import Device
from harness.host.guest import Guest
from harness.host.host import Host
from harness.model.address import Bdf
from harness.model.guestspec import GuestSpec
from harness.model.observation import Checkpoint, GuestView
from harness.scenario.record import Record
from harness.scenario.spec import GUEST_C, Scenario
from harness.xen.toolstack.xl import Toolstack

StopCondition = Callable[[Record], bool]


class SeenEnough(Exception):
    """Whoever plays has seen enough."""


@dataclass
class DevicePart:
    """One device of the scenario, and what was noted of it."""

    device: Device
    collector: Collector
    record: Record


@dataclass
class Stage:
    host: Host
    scenario: Scenario
    tools: Toolstack
    parts: list[DevicePart]  # the device the scenario is about, and perhaps a second one
    spec: GuestSpec  # of guest A, and of every guest but for what differs
    progress: Progress
    guests: list[Guest] = field(default_factory=list)
    bystander: Guest | None = None
    enough: StopCondition | None = None
    performing: str | None = field(default=None, init=False)
    """The verb that is played, see `perform` (verb.py)."""

    @property
    def guest(self) -> Guest:
        """The guest that has the device now."""
        return self.guests[-1]

    @property
    def former(self) -> Guest:
        """Guest A, or what is left of it."""
        return self.guests[0]

    @property
    def part(self) -> DevicePart:
        """The device the scenario is about, with its record."""
        return self.parts[0]

    @property
    def device(self) -> Device:
        """The device the scenario is about."""
        return self.part.device

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
        return tuple(part.device.address for part in held)

    @property
    def bystander_spec(self) -> GuestSpec:
        """Guest C, which has the second device to itself."""
        second = self.parts[1].device
        return replace(self.spec, name=GUEST_C, devices=(second.address,), drivers=(second.target.driver,))

    @property
    def next_checkpoint(self) -> Checkpoint:
        """The one that an action on the idle device leads to: C4 while A's end is going on, C5 afterwards."""
        return Checkpoint.C5 if self.record.at(Checkpoint.C4) else Checkpoint.C4

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
            raise SeenEnough

    def read_logs(self) -> None:
        """What Xen and dom0's kernel have said from the first observation to now."""
        with self.progress.phase("read the logs"):
            self.collector.close_logs(self.record.observations[-1].checkpoint)
            self.record.messages = self.collector.messages(self.scenario.end.expects_messages)
            self.record.markers = self.collector.markers

    def _exercise(self, part: DevicePart, checkpoint: Checkpoint) -> GuestView | None:
        if checkpoint in (Checkpoint.C0, Checkpoint.C7):
            return self._exercise_dom0(part)
        if part is not self.part and self.bystander is not None:
            busy = (Checkpoint.C2, Checkpoint.C4, Checkpoint.C6)
            return self.exercise(part.device, self.bystander) if checkpoint in busy else None
        if checkpoint in (Checkpoint.C2, Checkpoint.C6, Checkpoint.C8):
            return self.exercise(part.device, self.guest)
        if checkpoint is Checkpoint.C3 and self.scenario.end.works_after_fault:
            return self.exercise(part.device, self.guest)
        return None

    def _exercise_dom0(self, part: DevicePart) -> GuestView | None:
        if not part.record.dom0_traffic:
            return None
        try:
            return part.device.exercise()
        except HostHung:  # a driver whose device is dead may hang: the other views say why, and whether dom0 answers
            return None

    def exercise(self, device: Device, guest: Guest) -> GuestView | None:
        """Let a guest's driver work; None when the guest cannot be asked."""
        if guest.agent is None:
            return None
        try:
            return guest.exercise(device)
        except (HostHung, CommandFailed):
            self._blame_emulator()
            raise

    def _blame_emulator(self) -> None:
        """Raise EmulatorFault when Xen's console proves that the emulator is why a guest is silent."""
        self.record.silence = self.collector.read_silence()
        fault = emulator_fault(self.collector.store.name_of(self.record.silence), self.collector.store)
        if fault is not None:
            raise fault

    def bring_up(self, spec: GuestSpec, label: str) -> bool:
        """Create a guest and talk to its agent. False when the toolstack refused, which is an observation."""
        guest = Guest(self.host, self.tools, spec, label)
        if not guest.create() or not guest.exists:
            return False
        self._enter(guest)
        return True

    def adopt(self, spec: GuestSpec, domid: int, label: str) -> None:
        """A domain that runs already is a guest of this scenario from now on."""
        guest = Guest(self.host, self.tools, spec, label)
        guest.adopt(domid)
        self._enter(guest)

    def _enter(self, guest: Guest) -> None:
        for part in self.parts:
            part.record.guests[guest.label] = guest.domid
        if guest.label == "C":
            self.bystander = guest
        else:
            self.guests.append(guest)

    def await_userland(self, guest: Guest | None = None) -> None:
        """Wait for a guest's agent, the newest's. EmulatorFault when the emulator is to blame that it never came."""
        guest = guest or self.guest
        with self.progress.phase(f"guest {guest.label} boots", 12):
            up = guest.wait_up()
        if not up:
            self._blame_emulator()
            self.store_transcripts()
            if guest.label != "B":  # nothing of the scenario has happened yet, so nothing is hidden by trying again
                name = f"guest {guest.label} (d{guest.domid})"
                raise GuestDied(f"{name} did not reach its userland, before any fault was made")

    def store_transcripts(self) -> None:
        """What the guests' consoles have said; nobody can be asked any more afterwards."""
        for guest in (*self.guests, *([self.bystander] if self.bystander else [])):
            guest.close()
