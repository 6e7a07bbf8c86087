"""Reads all views of a device at a checkpoint, from the host to raw files. What they show is told by observe.py."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.base.deadline import Deadline
from harness.base.errors import EvidenceError, MaskallError
from harness.evidence.observe import CUT_SHORT, TABLE, Logs, config_space, console_file, lost_file, observe, whole_file
from harness.evidence.store import EvidenceStore
from harness.host.logs import Console, read_on
from harness.host.vectortable import ENTRY_WORDS, read_table
from harness.model.address import Bdf
from harness.model.message import Marker, Message
from harness.model.observation import Checkpoint, Exercised, GuestView, Observation, Position, RawRef, Reading
from harness.transport.base import Transport
from harness.transport.debugger import PhysicalMemory
from harness.transport.sections import ask
from harness.xen.keys.messages import Log
from harness.xen.keys.ring import gained
from harness.xen.toolstack.xl import owner_note

SNAPSHOT_SECONDS = 180.0  # a second on an emulated host, a minute on one that is starved


@dataclass
class Collector:
    """Reads one device on one host during one scenario. Keeps both logs as it read them last.

    `store` is that of the side, which the collectors of two devices share.
    """

    transport: Transport
    device: Bdf
    store: EvidenceStore
    memory: PhysicalMemory | None = None
    console: Console | None = None
    prefix: str = ""  # of the names in the store: empty, or a folder with a slash at its end
    started: float = field(default_factory=time.monotonic)
    readings: list[Reading] = field(default_factory=list)
    msix_offset: int | None = None  # of the capability in config space, once seen
    _logs: Logs = field(default_factory=Logs)
    _read_last: dict[Log, bytes] = field(default_factory=dict)
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
        return Position(self._number, self.msix_offset)

    def resume(self, readings: Collection[Reading], position: Position, seconds: float) -> None:
        """Go on where another collector stood on this very host, `seconds` after the scenario began.

        What it has read is in the store.
        """
        self._number, self.msix_offset = position.files, position.msix_offset
        self.started = time.monotonic() - seconds
        for reading in readings:
            self.readings.append(reading)
            self._logs.add(reading, self.store)
            for log in Log:
                _, data = self.store.below(reading.folder).read(log)
                self._read_last[log] = (b"" if reading.boot else self._read_last.get(log, b"")) + data

    def observe(self, checkpoint: Checkpoint, guest: GuestView | None = None, *, name: str = "") -> Observation:
        """All views from dom0 at this moment, joined with the guest's view if there is one.

        `name`: what its folder is called, if not as the checkpoint.
        """
        asked = (str(self.device), owner_note(self.device))
        reading = self._read("snapshot.sh", name or str(checkpoint), checkpoint, *asked, guest=guest)
        if self._read_table(reading):
            reading = self.readings[-1] = replace(reading, files=(*reading.files, TABLE))
        return observe(self.device, reading, self.store)

    def host_rebooted(self) -> None:
        """Its logs begin anew, and all of them belong to the scenario."""
        self._read_last.clear()
        self._booted = True

    def keep(self, name: str, data: bytes) -> RawRef:
        """Store something else that belongs to this scenario, in the order of events."""
        self._number += 1
        return self.store.put(f"{self.prefix}{self._number:02d}-{name}", data)

    def read_silence(self) -> RawRef:
        """What Xen's console has said since it was read last, when a guest does not answer."""
        now = self.transport.run(["xl", "dmesg"], deadline=Deadline.after(SNAPSHOT_SECONDS)).check().stdout
        return self.keep("xl_dmesg_after_silence.txt", gained(Log.XEN, self._read_last.get(Log.XEN), now).data)

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
        """What a program of ours prints, by section; of both logs what they have gained since they were read last."""
        self._number += 1
        folder = f"{self.prefix}{self._number:02d}-{name}"
        store = self.store.below(folder)
        files: list[str] = []

        def keep(section: str, data: bytes) -> None:
            log = next((log for log in Log if log == section), None)
            stored = {section: data} if log is None else self._gained(log, data, presses=bool(arguments))
            for each, content in stored.items():
                store.put(each, content)
                files.append(each)

        try:
            ask(
                self.transport,
                Path(__file__).with_name(program),
                *arguments,
                deadline=Deadline.after(SNAPSHOT_SECONDS),
                keep=keep,
            )
        except MaskallError as error:
            if files:
                with contextlib.suppress(EvidenceError):
                    store.put(CUT_SHORT, f"{error}\n".encode())
            raise
        exercised = self.as_exercised(guest) if guest else None
        reading = Reading(checkpoint, self.seconds, folder, tuple(files), exercised, self._booted)
        self._booted = False
        self.readings.append(reading)
        self._logs.add(reading, self.store)
        return reading

    def _gained(self, log: Log, now: bytes, *, presses: bool) -> dict[str, bytes]:
        """The files of a log: what it has gained; where the ring has lost some of it, the whole ring, and what of the
        console stands for that, or why lines may be missing.

        `presses`: debug keys were pressed before, so that a mark before the dumps and one behind them must be in it.
        """
        before, least = self._read_last.get(log), 2 if presses and log is Log.XEN else 0
        news = read_on(log, before, now, self.transport, self.console, least=least, boot=self._booted)
        self._read_last[log] = now
        files: dict[str, bytes] = {log: news.data}
        if news.console is not None:
            files |= {console_file(log): news.console.raw, whole_file(log): now}
        if news.lost:
            files |= {lost_file(log): f"{news.lost}\n".encode(), whole_file(log): now}
        return files

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
