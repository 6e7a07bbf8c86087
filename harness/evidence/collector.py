"""Reads all views of a device at a checkpoint, from the host to raw files. What they show is told by observe.py."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.base.deadline import Deadline
from harness.evidence.observe import TABLE, Logs, config_space, observe
from harness.evidence.store import EvidenceStore
from harness.host.vectortable import ENTRY_WORDS, read_table
from harness.model.address import Bdf
from harness.model.checkpoint import Checkpoint
from harness.model.observation import GuestView, Observation
from harness.model.raw import Position, RawRef
from harness.model.reading import Exercised, Reading
from harness.scenario.messages import Message
from harness.transport.base import Script, Transport
from harness.transport.debugger import PhysicalMemory
from harness.transport.sections import ask
from harness.xen.keys.console import Marker
from harness.xen.keys.messages import Log

SNAPSHOT_SECONDS = 60.0


@dataclass
class Collector:
    """Reads one device on one host during one scenario. Keeps how much of the logs it has already read.

    `store` is that of the side, which the collectors of two devices share.
    """

    transport: Transport
    device: Bdf
    store: EvidenceStore
    memory: PhysicalMemory | None = None
    prefix: str = ""  # of the names in the store: empty, or a folder with a slash at its end
    started: float = field(default_factory=time.monotonic)
    readings: list[Reading] = field(default_factory=list)
    msix_offset: int | None = None  # of the capability in config space, once seen
    _logs: Logs = field(default_factory=Logs)
    _ring_seen: int = 0
    _dmesg_seen: int = 0
    _number: int = 0
    _booted: bool = False

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    @property
    def markers(self) -> list[tuple[Marker, RawRef]]:
        """Of all that the logs have gained since the first reading; the list grows."""
        return self._logs.markers

    @property
    def position(self) -> Position:
        return Position(self._ring_seen, self._dmesg_seen, self._number, self.msix_offset)

    def resume(self, readings: Collection[Reading], position: Position, seconds: float) -> None:
        """Go on where another collector stood on this very host, `seconds` after the scenario began.

        What it has read is in the store.
        """
        self._ring_seen, self._dmesg_seen, self._number = position.ring, position.dmesg, position.files
        self.msix_offset = position.msix_offset
        self.started = time.monotonic() - seconds
        for reading in readings:
            self.readings.append(reading)
            self._logs.add(reading, self.store)

    def observe(self, checkpoint: Checkpoint, guest: GuestView | None = None) -> Observation:
        """All views from dom0 at this moment, joined with the guest's view if there is one."""
        reading = self._read("snapshot.sh", str(checkpoint), checkpoint, str(self.device), guest=guest)
        if self._read_table(reading):
            reading = self.readings[-1] = replace(reading, files=(*reading.files, TABLE))
        return observe(self.device, reading, self.store)

    def host_rebooted(self) -> None:
        """Its logs begin anew, and all of them belong to the scenario."""
        self._ring_seen = self._dmesg_seen = 0
        self._booted = True

    def keep(self, name: str, data: bytes) -> RawRef:
        """Store something else that belongs to this scenario, in the order of events."""
        self._number += 1
        return self.store.put(f"{self.prefix}{self._number:02d}-{name}", data)

    def read_silence(self) -> RawRef:
        """What Xen's console has said since it was read last, when a guest does not answer."""
        script = Script(f"xl dmesg | tail -c +{self._ring_seen + 1}")
        text = self.transport.run(script, deadline=Deadline.after(SNAPSHOT_SECONDS)).check().stdout
        return self.keep("xl_dmesg_after_silence.txt", text)

    def close_logs(self, at: Checkpoint) -> None:
        """Read what the logs have gained since the last observation; it belongs to that one's checkpoint."""
        self._read("logs.sh", "end", at)

    def messages(self, expected: Collection[str]) -> list[Message]:
        """All that was read of both logs since the first observation, with its meaning."""
        return self._logs.messages(expected)

    def as_exercised(self, view: GuestView) -> Exercised:
        """Where what the driver did is stored."""
        return Exercised(view.domain, self.store.name_of(view.raw))

    def _read(
        self, program: str, name: str, checkpoint: Checkpoint, *arguments: str, guest: GuestView | None = None
    ) -> Reading:
        """What a program of ours prints, by section, both logs among them from where they were read last."""
        self._number += 1
        folder = f"{self.prefix}{self._number:02d}-{name}"
        store = self.store.below(folder)
        sizes: dict[str, int] = {}

        def keep(section: str, data: bytes) -> None:
            store.put(section, data)
            sizes[section] = data.count(b"\n") if section == Log.DOM0 else len(data)

        ask(
            self.transport,
            Path(__file__).with_name(program),
            *arguments,
            str(self._ring_seen),
            str(self._dmesg_seen),
            deadline=Deadline.after(SNAPSHOT_SECONDS),
            keep=keep,
        )
        self._ring_seen += sizes[Log.XEN]
        self._dmesg_seen += sizes[Log.DOM0]
        exercised = self.as_exercised(guest) if guest else None
        reading = Reading(checkpoint, self.seconds, folder, tuple(sizes), exercised, self._booted)
        self._booted = False
        self.readings.append(reading)
        self._logs.add(reading, self.store)
        return reading

    def _read_table(self, reading: Reading) -> bool:
        """The device's own vector table, from the memory that its config space names; false where it cannot be read."""
        store = self.store.below(reading.folder)
        space = config_space(store)
        capability = None if space.gone else space.msix
        if capability is None:
            return False
        self.msix_offset = capability.offset
        words = read_table(self.memory, space)
        if words is None:
            return False
        controls = words[ENTRY_WORDS - 1 :: ENTRY_WORDS]
        text = "".join(f"{index:4d} control={control:08x}\n" for index, control in enumerate(controls))
        store.put(TABLE, text.encode())
        return True
