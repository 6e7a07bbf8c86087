"""From stored bytes to observations: the only road, for a scenario that is being played and for one played long ago.

Reads files that are already stored, and nothing else: the same files give the same observations, any time, anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field, replace

from harness.base.errors import EmulatorFault, ParseError
from harness.base.text import whole
from harness.evidence.store import Files
from harness.guest.exercise import parse_exercise
from harness.model.address import Bdf
from harness.model.config import ConfigSpace
from harness.model.message import Marker, Meaning, Message, Origin
from harness.model.observation import (
    CONFIG,
    Checkpoint,
    DomainView,
    Exercised,
    GuestView,
    HardwareView,
    Observation,
    RawRef,
    Reading,
    RoundReading,
    TableView,
    XenView,
)
from harness.scenario.messages import LogPart, read_log
from harness.scenario.record import Broken, Record, Round
from harness.xen.keys.console import emulator_triple_fault, find_markers
from harness.xen.keys.debugkeys import parse_irqs, parse_masks, parse_pci_devices
from harness.xen.keys.leaks import count
from harness.xen.keys.messages import Log, Rules, catalogue
from harness.xen.keys.view import xen_view
from harness.xen.keys.xl_output import parse_list

TABLE = "msix_table.txt"
CUT_SHORT = "cut_short.txt"
"""In the folder of what became no look: why not. What had come by then is beside it."""
SECOND = "second/"
"""Where the second device's evidence stands in the folder of the first."""
_ENTRY = re.compile(r" *(\d+) control=([0-9a-f]{8})")
_KEYS = "xl_dmesg.txt"  # the debug keys print there


def observed(record: Record, files: Files) -> Record:
    """The same run with all that its raw files show; whatever stood there of it before counts for nothing.

    What cannot be parsed ends the record there and breaks it, as it does when it is played. EvidenceError when a file
    is not there, or was changed.
    """
    seen = replace(
        record,
        observations=[],
        markers=[],
        messages=None,
        rounds=[],
        actions=[replace(done, said=_said(done.raw, files)) for done in record.actions],
    )
    try:
        _fill(seen, files)
        if record.second is not None:
            seen.second = replace(record.second, observations=[], markers=[], actions=seen.actions)
            _fill(seen.second, files)
    except ParseError as error:
        seen.broken = seen.broken or Broken.by(error)
    return seen


def _fill(seen: Record, files: Files) -> None:
    logs = Logs()
    seen.markers = logs.markers
    for reading in seen.readings:
        logs.add(reading, files)
        if reading.shows_device:
            seen.observations.append(observe(seen.device, reading, files))
    if seen.logs_closed:
        seen.messages = logs.messages(seen.scenario.end.expects_messages)
    seen.rounds += (round_of(one, seen.device, files) for one in seen.rounds_read)
    if seen.host_console is not None:
        seen.markers += host_crashes(files.name_of(seen.host_console), files)
    if seen.silence is not None and seen.broken is not None and seen.broken.kind == EmulatorFault.__name__:
        fault = emulator_fault(files.name_of(seen.silence), files)
        seen.broken = Broken.by(fault or EmulatorFault(f"{seen.silence} shows no fault of the emulator"))


def observe(device: Bdf, reading: Reading, files: Files) -> Observation:
    """All views of one look at the device. ParseError when a file is not in the accepted format."""
    below = files.below(reading.folder)
    return Observation(
        checkpoint=reading.checkpoint,
        device=device,
        seconds=reading.seconds,
        hardware=_hardware(below),
        table=_table(below) if TABLE in reading.files else None,
        xen=_xen(device, below, lossy=not {lost_file(Log.XEN), console_file(Log.XEN)}.isdisjoint(reading.files)),
        guest=exercised(reading.guest, files) if reading.guest else None,
        domains=_domains(below),
    )


def exercised(one: Exercised, files: Files) -> GuestView:
    """The device as the driver saw it that was made to work."""
    raw, data = files.read(one.file)
    return parse_exercise(_text(data), one.domain, raw)


def round_of(one: RoundReading, device: Bdf, files: Files) -> Round:
    """One round, with the counters of `harness.xen.keys.leaks` after it."""
    below = files.below(one.folder)
    counts = count({name: below.read(name)[1] for name in one.files}, device)
    guest = exercised(one.guest, files) if one.guest else None
    return Round(one.number, one.domid, guest, counts, below.read(_KEYS)[0])


def config_space(files: Files) -> ConfigSpace:
    """The device's config space as dom0 read it, in a reading's folder."""
    raw, data = files.read(CONFIG)
    try:
        return ConfigSpace(bytes.fromhex(_text(data).replace("\n", " ")), raw.path)
    except ValueError as error:
        raise ParseError(str(error), file=raw.path, expected="hexadecimal bytes") from error


def emulator_fault(name: str, files: Files) -> EmulatorFault | None:
    """Proof in this part of Xen's console that the emulator broke a guest."""
    fault = emulator_triple_fault(_text(files.read(name)[1]))
    if fault is None:
        return None
    return EmulatorFault(f"the emulator, not Xen, killed {fault.domain}: triple fault at {fault.rip:#x} in Xen's text")


def host_crashes(name: str, files: Files) -> list[tuple[Marker, RawRef]]:
    """What the host's own console says of the death of Xen or dom0."""
    raw, data = files.read(name)
    return [(marker, raw.at(marker.line)) for marker in find_markers(_text(data)) if marker.kind.is_host_crash]


def lost_file(log: Log) -> str:
    """In a reading's folder: why lines of a log may be missing before this reading. Not there: none are."""
    return log.replace(".txt", "_lost.txt")


def whole_file(log: Log) -> str:
    """The whole ring then, of which what is new could not be told for sure."""
    return log.replace(".txt", "_whole.txt")


def console_file(log: Log) -> str:
    """What the ring has lost, as the host's console has it; the log of this reading has it in its place."""
    return log.replace(".txt", "_console.txt")


def _from_console(log: Log, checkpoint: Checkpoint, raw: RawRef) -> Message:
    origin = Origin.XEN if log is Log.XEN else Origin.DOM0
    text = f"{log}: the ring has lost lines, and what the host's console recorded of them stands in their place"
    reason = "both ends of the stretch stand in the ring too"
    return Message(checkpoint, origin, Meaning.HARMLESS, text, raw, name="lines-from-console", reason=reason)


def _loss(log: Log, checkpoint: Checkpoint, raw: RawRef, why: str) -> Message:
    origin = Origin.XEN if log is Log.XEN else Origin.DOM0
    reason = "lines may be missing: whether something was said is not known"
    return Message(checkpoint, origin, Meaning.SYMPTOM, why, raw, name="lines-missing", reason=reason, loses=True)


@dataclass
class Logs:
    """Both logs as far as they were read, and the markers in all of it but what stood there at the beginning."""

    rules: Rules = field(default_factory=catalogue)
    markers: list[tuple[Marker, RawRef]] = field(default_factory=list)
    _parts: dict[Log, list[LogPart]] = field(default_factory=lambda: {log: [] for log in Log})
    _losses: list[Message] = field(default_factory=list)

    def add(self, reading: Reading, files: Files) -> None:
        """What the logs have gained since the reading before."""
        for log in Log:
            raw, data = files.below(reading.folder).read(log)
            text = _text(data)
            if self._parts[log]:  # what stands in the logs before we began is not of this scenario
                self.markers += [(marker, raw.at(marker.line)) for marker in find_markers(text)]
            self._parts[log].append(LogPart(reading.checkpoint, raw, text, reading.boot))
            if lost_file(log) in reading.files:
                raw, data = files.below(reading.folder).read(lost_file(log))
                self._losses.append(_loss(log, reading.checkpoint, raw, _text(data).strip()))
            if console_file(log) in reading.files:
                raw, _ = files.below(reading.folder).read(console_file(log))
                self._losses.append(_from_console(log, reading.checkpoint, raw))

    def messages(self, expected: Collection[str]) -> list[Message]:
        """Every line since the first reading, with its meaning; `expected` are rules that the ending provokes.

        And a message for each place where lines may be missing, or come from the host's console.
        """
        said = [one for log, parts in self._parts.items() for one in read_log(parts, log, self.rules, expected)]
        return [*said, *self._losses]


def driver_of(files: Files) -> str | None:
    """dom0's driver that the device is bound to, in a reading's folder."""
    return _link(files.read("driver.txt")[1])


def _hardware(files: Files) -> HardwareView:
    raw, _ = files.read(CONFIG)
    space = config_space(files)
    capability = None if space.gone else space.msix
    return HardwareView(
        gone=space.gone,
        command=None if space.gone else space.command,
        control=capability.control if capability else None,
        driver=driver_of(files),
        raw=raw,
        physfn=_link(files.read("physfn.txt")[1]),
    )


def _table(files: Files) -> TableView:
    """Accepted format: `   0 control=00000001`, a line for each entry of the vector table."""
    raw, data = files.read(TABLE)
    masked = []
    for number, line in enumerate(_text(data).splitlines()):
        match = _ENTRY.fullmatch(line)
        if match is None or int(match[1]) != number:
            wanted = f"entry {number} as '{number:4d} control=00000000'"
            raise ParseError(f"{line!r}", file=raw.path, line=number + 1, expected=wanted)
        masked.append(bool(int(match[2], 16) & 1))
    return TableView(tuple(masked), raw)


def _xen(device: Bdf, files: Files, *, lossy: bool) -> XenView | None:
    """None where the dumps of the debug keys are not whole because lines were lost, or dom0 wrote into them."""
    raw, data = files.read(_KEYS)
    text = _text(data)
    try:
        return xen_view(
            device,
            parse_masks(text, file=raw.path),
            parse_pci_devices(text, file=raw.path),
            parse_irqs(text, file=raw.path),
            raw,
        )
    except ParseError:
        if lossy:
            return None
        raise


def _domains(files: Files) -> DomainView:
    raw, data = files.read("xl_list.txt")
    owner = _text(files.read("owner_domid.txt")[1]).strip()
    # the one word of xenstore-read for what is not there
    told = whole(owner) is not None or "couldn't read path" in owner
    return DomainView(
        names={row.domid: row.name for row in parse_list(_text(data), file=raw.path)},
        device_owner=whole(owner),
        raw=raw,
        owner_unread="" if told else owner.partition("\n")[0] or "nothing",
    )


def _said(raw: RawRef | None, files: Files) -> str:
    return _text(files.read(files.name_of(raw))[1]) if raw else ""


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _link(data: bytes) -> str | None:
    """The last part of what readlink printed, if anything."""
    return _text(data).strip().rpartition("/")[2] or None
