"""Takes all views of a device at a checkpoint: raw files first, then the parsers."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from harness.base.deadline import Deadline
from harness.base.errors import ParseError
from harness.evidence.store import EvidenceStore
from harness.host.vectortable import mask_bits, read_table
from harness.model.address import Bdf
from harness.model.checkpoint import Checkpoint
from harness.model.config import ConfigSpace, MsixCapability
from harness.model.observation import (
    DomainView,
    GuestView,
    HardwareView,
    Observation,
    TableView,
    XenView,
)
from harness.model.raw import Position, RawRef
from harness.scenario.messages import Message, Part, read_log
from harness.transport.base import Script, Transport
from harness.transport.debugger import PhysicalMemory
from harness.transport.sections import ask
from harness.xen.keys.console import EmulatorTripleFault, Marker, emulator_triple_fault, find_markers
from harness.xen.keys.debugkeys import parse_irqs, parse_masks, parse_pci_devices
from harness.xen.keys.messages import Log, Rules, catalogue
from harness.xen.keys.view import xen_view
from harness.xen.keys.xl_output import parse_list

SNAPSHOT_SECONDS = 60.0


@dataclass
class Collector:
    """Observes one device on one host during one scenario. Keeps how much of the logs it has already seen."""

    transport: Transport
    device: Bdf
    store: EvidenceStore
    memory: PhysicalMemory | None = None
    started: float = field(default_factory=time.monotonic)
    markers: list[tuple[Marker, RawRef]] = field(default_factory=list)
    msix_offset: int | None = None  # of the capability in config space, once seen
    rules: Rules = field(default_factory=catalogue)
    _ring_seen: int = 0
    _dmesg_seen: int = 0
    _number: int = 0
    _booted: bool = False
    _parts: dict[Log, list[Part]] = field(default_factory=lambda: {log: [] for log in Log})

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    @property
    def position(self) -> Position:
        return Position(self._ring_seen, self._dmesg_seen, self._number, self.msix_offset)

    def resume(self, position: Position, seconds: float) -> None:
        """Go on where another collector stood on this very host, `seconds` after the scenario began."""
        self._ring_seen, self._dmesg_seen, self._number = position.ring, position.dmesg, position.files
        self.msix_offset = position.msix_offset
        self.started = time.monotonic() - seconds
        for raw in self.store.files():  # what the other one stored: what the logs said until then
            folder, _, name = raw.path.removeprefix(f"{self.store.folder}/").partition("/")
            for log in Log:
                if name == log:
                    text = _text((self.store.root / raw.path).read_bytes())
                    self._parts[log].append(Part(Checkpoint(folder.partition("-")[2]), raw, text))

    def observe(self, checkpoint: Checkpoint, guest: GuestView | None = None) -> Observation:
        """All views from dom0 at this moment, joined with the guest's view if there is one."""
        self._number += 1
        store = self.store.below(f"{self._number:02d}-{checkpoint}")
        sections = self._read("snapshot.sh", store, checkpoint, str(self.device))
        hardware, capability, space = _hardware(sections)
        if capability is not None:
            self.msix_offset = capability.offset
        return Observation(
            checkpoint=checkpoint,
            device=self.device,
            seconds=self.seconds,
            hardware=hardware,
            table=self._table(store, hardware, capability, space),
            xen=self._xen(sections),
            guest=guest,
            domains=_domains(sections),
        )

    def host_rebooted(self) -> None:
        """Its logs begin anew, and all of them belong to the scenario."""
        self._ring_seen = self._dmesg_seen = 0
        self._booted = True

    def keep(self, name: str, data: bytes) -> RawRef:
        """Store something else that belongs to this scenario, in the order of events."""
        self._number += 1
        return self.store.put(f"{self._number:02d}-{name}", data)

    def emulator_fault(self) -> EmulatorTripleFault | None:
        """Proof in Xen's console that the emulator broke a guest."""
        script = Script(f"xl dmesg | tail -c +{self._ring_seen + 1}")
        text = self.transport.run(script, deadline=Deadline.after(SNAPSHOT_SECONDS)).check().stdout
        self.keep("xl_dmesg_after_silence.txt", text)
        return emulator_triple_fault(_text(text))

    def close_logs(self, at: Checkpoint) -> None:
        """Read what the logs have gained since the last observation; it belongs to that one's checkpoint."""
        self._number += 1
        self._read("logs.sh", self.store.below(f"{self._number:02d}-end"), at)

    def messages(self, expected: Collection[str]) -> list[Message]:
        """All that was read of both logs since the first observation, with its meaning."""
        return [one for log, parts in self._parts.items() for one in read_log(parts, log, self.rules, expected)]

    def _read(
        self, program: str, store: EvidenceStore, checkpoint: Checkpoint, *arguments: str
    ) -> dict[str, tuple[RawRef, bytes]]:
        """What a program of ours prints, by section, both logs among them from where they were read last."""
        sections: dict[str, tuple[RawRef, bytes]] = {}

        def keep(name: str, data: bytes) -> None:
            sections[name] = (store.put(name, data), data)

        ask(
            self.transport,
            Path(__file__).with_name(program),
            *arguments,
            str(self._ring_seen),
            str(self._dmesg_seen),
            deadline=Deadline.after(SNAPSHOT_SECONDS),
            keep=keep,
        )
        self._ring_seen += len(sections[Log.XEN][1])
        self._dmesg_seen += sections[Log.DOM0][1].count(b"\n")
        for log in Log:
            raw, data = sections[log]
            if self._parts[log]:  # what stands in the logs before we began is not of this scenario
                self.markers += [(marker, raw.at(marker.line)) for marker in find_markers(_text(data))]
            self._parts[log].append(Part(checkpoint, raw, _text(data), self._booted))
        self._booted = False
        return sections

    def _xen(self, sections: dict[str, tuple[RawRef, bytes]]) -> XenView:
        raw, data = sections["xl_dmesg.txt"]
        text = _text(data)
        return xen_view(
            self.device,
            parse_masks(text, file=raw.path),
            parse_pci_devices(text, file=raw.path),
            parse_irqs(text, file=raw.path),
            raw,
        )

    def _table(
        self,
        store: EvidenceStore,
        hardware: HardwareView,
        capability: MsixCapability | None,
        space: ConfigSpace,
    ) -> TableView | None:
        words = read_table(self.memory, space)
        if words is None:
            return None
        text = "".join(f"{index:4d} control={words[index * 4 + 3]:08x}\n" for index in range(len(words) // 4))
        raw = store.put("msix_table.txt", text.encode())
        return TableView(mask_bits(words), raw)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _link(data: bytes) -> str | None:
    """The last part of what readlink printed, if anything."""
    return _text(data).strip().rpartition("/")[2] or None


def _hardware(
    sections: dict[str, tuple[RawRef, bytes]],
) -> tuple[HardwareView, MsixCapability | None, ConfigSpace]:
    raw, data = sections["config.hex"]
    try:
        space = ConfigSpace(bytes.fromhex(_text(data).replace("\n", " ")), raw.path)
    except ValueError as error:
        raise ParseError(str(error), file=raw.path, expected="hexadecimal bytes") from error
    capability = None if space.gone else space.msix
    driver, physfn = (_link(sections[name][1]) for name in ("driver.txt", "physfn.txt"))
    view = HardwareView(
        gone=space.gone,
        command=None if space.gone else space.command,
        control=capability.control if capability else None,
        driver=driver,
        raw=raw,
        physfn=physfn,
    )
    return view, capability, space


def _domains(sections: dict[str, tuple[RawRef, bytes]]) -> DomainView:
    raw, data = sections["xl_list.txt"]
    owner = _text(sections["owner_domid.txt"][1]).strip()
    return DomainView(
        names={row.domid: row.name for row in parse_list(_text(data), file=raw.path)},
        device_owner=int(owner) if owner.isdecimal() else None,
        raw=raw,
    )
