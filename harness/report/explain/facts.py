"""What a text shows of hosts and devices, as it is gathered. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.model.address import Bdf
from harness.model.config import MsixControl
from harness.report.explain.lines import PastedPlace
from harness.report.explain.rounds import PastedRound, merged
from harness.xen.keys.version import Version

_MOST_PLACES = 6  # lines kept for each thing that is shown
_MOST_DEVICES = 4096
_MOST_HOSTS = 64
_MOST_PIECES = 4
_MOST_SAVED = 16
MOST_NOTES = 20
_MOST_CONFIGS = 256
_MOST_VECTORS = 256


@dataclass
class Shown:
    """One thing that a text shows, with the first lines that show it, the last one, and how often."""

    places: list[PastedPlace] = field(default_factory=list)
    count: int = 0
    note: str = ""

    def add(self, *places: PastedPlace) -> None:
        self.count += 1
        for place in places:
            if len(self.places) < _MOST_PLACES and place not in self.places:
                self.places.append(place)


@dataclass
class DeviceFacts:
    """All that is known of one function on one host."""

    address: Bdf
    name: str = ""
    driver: str = ""
    memory: bool | None = None
    was_enabled: bool = False  # lspci showed Enable+ at least once
    control: MsixControl | None = None  # as lspci showed it last
    control_place: PastedPlace | None = None
    unknown: str = ""  # why it is not known whether the device has MSI-X
    without_msix: PastedPlace | None = None
    owner: str = ""  # as key Q showed it last
    owner_place: PastedPlace | None = None
    was_bound: dict[int, str] = field(default_factory=dict)  # irq -> the owner it was bound to, of the last owner
    vectors: str = ""  # how keys M and i showed its vectors last
    found: dict[str, Shown] = field(default_factory=dict)  # by signature or cause
    repaired: bool = False  # MASKALL was set, and later the device was seen Enable+ Masked-

    def show(self, name: str, *places: PastedPlace, note: str = "") -> None:
        shown = self.found.setdefault(name, Shown())
        shown.add(*places)
        shown.note = shown.note or note

    def came_back(self) -> None:
        """It answers after a reset that took long: what was said while it was waited for shows nothing."""
        dead = self.found.get("dead-link")
        if dead is not None and dead.count == sum("; waiting" in place.text for place in dead.places):
            del self.found["dead-link"]

    def take(self, control: MsixControl, place: PastedPlace) -> None:
        """MSI-X control as lspci or config space shows it."""
        self.control, self.control_place, self.unknown = control, place, ""
        self.was_enabled = self.was_enabled or control.enabled
        if control.masked and control.enabled:
            self.show("maskall-kept", place)
        elif control.masked:
            self.show("masked-idle", place)
        elif control.enabled and "maskall-set" in self.found:
            self.repaired = True


@dataclass
class PastedHost:
    """What is known of one host, and of its devices."""

    name: str
    xen: Version | None = None
    linux: Version | None = None
    devices: dict[Bdf, DeviceFacts] = field(default_factory=dict)
    found: dict[str, Shown] = field(default_factory=dict)  # where no device is named
    losses: list[PastedPlace] = field(default_factory=list)  # lines that say that others are missing
    broken: list[PastedPlace] = field(default_factory=list)  # lines that begin as something known and cannot be read
    notes: list[str] = field(default_factory=list)  # why something was not concluded
    round: PastedRound = field(default_factory=PastedRound)
    keys: set[str] = field(default_factory=set)  # dumps that were seen
    headers: list[str] = field(default_factory=list)  # keys in the order of their dumps, the first few
    pieces: list[PastedRound] = field(default_factory=list)  # of the first few dumps
    booted: str = ""  # which boot is read
    saved: list[tuple[bool, list[PastedRound]]] = field(default_factory=list)  # of one boot; if each key is there once
    before: dict[tuple[int, str], list[PastedPlace]] = field(default_factory=dict)  # `unlisted` of what is read already
    listed: dict[int, set[tuple[Bdf, str]]] = field(default_factory=dict)  # irq -> devices and owners of key Q
    unlisted: dict[tuple[int, str], list[PastedPlace]] = field(default_factory=dict)  # irq, signature -> lines
    unnamed: list[tuple[MsixControl, PastedPlace]] = field(default_factory=list)  # of config space without an address

    def device(self, address: Bdf) -> DeviceFacts | None:
        known = self.devices.get(address)
        if known is None and len(self.devices) < _MOST_DEVICES:
            known = self.devices[address] = DeviceFacts(address)
        return known

    def show(self, name: str, *places: PastedPlace, note: str = "") -> None:
        shown = self.found.setdefault(name, Shown())
        shown.add(*places)
        shown.note = shown.note or note

    def unnamed_config(self, control: MsixControl, place: PastedPlace) -> None:
        """Of a device whose address is not in the text."""
        if len(self.unnamed) < _MOST_CONFIGS:
            self.unnamed.append((control, place))

    def finish(self) -> None:
        """The dumps of one moment end; what they say together."""
        ended, self.round = self.round, PastedRound()
        if ended and len(self.pieces) < _MOST_PIECES:
            self.pieces.append(ended)
        self.told_by(ended)

    def told_by(self, ended: PastedRound) -> None:
        """What the dumps of one moment say of each device."""
        if ended.contradicts():
            self.note("dumps of the debug keys do not belong together: key Q names irqs that key i does not have")
            return
        for irq, name, lines in ended.unlisted():
            if len(self.unlisted) < _MOST_VECTORS:
                self.unlisted.setdefault((irq, name), lines)
        for address, (row, place) in ended.devices.items():
            device = self.device(address)
            if device is None:
                continue
            vectors = ended.vectors(address)
            for irq in row.irqs:
                self.listed.setdefault(irq, set()).add((address, row.owner))
            if row.owner != device.owner:
                device.was_bound.clear()
            device.owner, device.owner_place, device.vectors = row.owner, place, vectors.told
            if "unbound-under-owner" in vectors.found and not vectors.unbound <= device.was_bound.keys():
                # its driver may not ask for them
                vectors.found["stale-or-spare"] = vectors.found.pop("unbound-under-owner")
            device.was_bound.update(dict.fromkeys(vectors.bound, row.owner))
            for name, places in vectors.found.items():
                device.show(name, place, *places)

    def settle(self) -> None:
        """Vectors without a device at their own moment: of the one that has them at another, or of the host."""
        for (irq, name), places in self.unlisted.items():
            having = self.listed.get(irq, set())
            devices = {address for address, _ in having}
            device = self.device(next(iter(devices))) if len(devices) == 1 else None
            if name != "masked-by-xen" and having and all(owner == "d0" for _, owner in having):
                continue  # dom0's own driver may keep what it does not use
            if device is not None:
                device.show(name, *places)
            else:
                self.show(name, *places)

    def boot(self, which: str) -> None:
        """Xen's first line. `which` is empty where the text does not tell one boot from another."""
        if which and which == self.booted:
            self._part()  # `xl dmesg` was saved again
        else:
            self.conclude()
        self.booted = which

    def _part(self) -> None:
        """The end of what was saved at once."""
        self.finish()
        once = len(self.headers) == len(set(self.headers))
        if once and len(self.pieces) > 1:
            self.unlisted = dict(self.before)
            self.told_by(merged(self.pieces))  # each key once: one moment, in whatever order they were pressed
        if len(self.saved) < _MOST_SAVED:
            self.saved.append((once, self.pieces))
        self.before = dict(self.unlisted)
        self.headers, self.pieces = [], []

    def _together(self) -> None:
        """Dumps of one boot that were saved one by one, if each key was pressed once, whatever is saved repeatedly."""
        pieces = [piece for once, saved in self.saved for piece in saved if once]
        whole = merged(pieces)
        several = 1 < len(self.saved) < _MOST_SAVED and all(once for once, _ in self.saved)
        if several and all(piece.within(whole) for piece in pieces):
            self.unlisted.clear()
            self.told_by(whole)

    def conclude(self) -> None:
        """All of one boot was read: irqs and domains that are named later are others."""
        self._part()
        self._together()
        self.settle()
        self.saved.clear()
        self.before.clear()
        self.listed.clear()
        self.unlisted.clear()
        for device in self.devices.values():
            device.was_bound.clear()

    def note(self, text: str) -> None:
        if text not in self.notes and len(self.notes) < MOST_NOTES:
            self.notes.append(text)


@dataclass
class FileFacts:
    """What of one file could be read."""

    name: str
    lines: int = 0
    xen: int = 0  # lines with Xen's prefix
    linux: int = 0  # with a kernel's time stamp
    toolstack: int = 0  # of libxl
    devices: int = 0  # shown by lspci
    listed: int = 0  # only named by it
    mixed: PastedPlace | None = None  # a line in which two wrote sign by sign
    refused: str = ""  # why nothing of it was read
    note: str = ""

    @property
    def read(self) -> bool:
        return bool(self.xen or self.linux or self.toolstack or self.devices or self.listed)


@dataclass
class Facts:
    files: list[FileFacts] = field(default_factory=list)
    hosts: dict[str, PastedHost] = field(default_factory=dict)
    truncated: bool = False

    def host(self, name: str) -> PastedHost:
        known = self.hosts.get(name)
        if known is None and len(self.hosts) >= _MOST_HOSTS:
            self.truncated = True
            known = next(iter(self.hosts.values()))
        elif known is None:
            known = self.hosts[name] = PastedHost(name)
        return known

    def merge(self) -> None:
        """Lines that name no host belong to the only one that is named."""
        named = [name for name in self.hosts if name]
        nameless = self.hosts.get("")
        if len(named) != 1 or nameless is None:
            return
        only = self.hosts[named[0]]
        only.xen, only.linux = only.xen or nameless.xen, only.linux or nameless.linux
        only.losses += nameless.losses
        only.broken += nameless.broken
        only.notes += nameless.notes
        only.keys |= nameless.keys
        for name, shown in nameless.found.items():
            only.found.setdefault(name, shown)
        for address, device in nameless.devices.items():
            known = only.devices.get(address)
            if known is None:
                only.devices[address] = device
                continue
            for name, shown in device.found.items():
                known.found.setdefault(name, shown)
            if device.control is not None:
                known.control, known.control_place = device.control, device.control_place
            if device.owner:
                known.owner, known.owner_place, known.vectors = device.owner, device.owner_place, device.vectors
            known.name, known.driver = known.name or device.name, known.driver or device.driver
            known.unknown = known.unknown or device.unknown
            known.without_msix = known.without_msix or device.without_msix
            known.repaired = known.repaired or device.repaired
        del self.hosts[""]
