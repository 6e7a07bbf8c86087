"""What a text shows of hosts and devices: read block by block, in memory that does not grow with it. Pure."""

from __future__ import annotations

import codecs
import contextlib
import functools
import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from harness.base.errors import ParseError
from harness.model.address import FUNCTION, SEGMENT, Bdf
from harness.model.config import MAX_BYTES, ConfigSpace, MsixControl
from harness.model.message import Marker, MarkerKind, Origin
from harness.report.explain.lines import PastedLine, PastedPlace, Speaker, Unreadable, clean, encoding, plain
from harness.report.explain.rounds import PastedRound, merged
from harness.xen.keys.console import ASSIGN, ConsoleLine, find_markers
from harness.xen.keys.debugkeys import (
    DEVICES,
    HEADER,
    IRQS,
    MASKS,
    IrqRow,
    MaskRow,
    PciRow,
    irq_row,
    mask_row,
    pci_row,
)
from harness.xen.keys.lspci import parse_lspci
from harness.xen.keys.messages import Rules, catalogue
from harness.xen.keys.version import Version, parse_linux, parse_xen

_MOST_PLACES = 6  # lines kept for each thing that is shown
_MOST_DEVICES = 4096
_MOST_HOSTS = 64
_MOST_NOTES = 20
_JOINS = 3  # lines that may belong to one that was wrapped or torn
_LSPCI_LINES = 200  # of one device
_CARRY = 48 << 10  # characters kept until more is read, for what stands on several lines
LONGEST_LINE = 64 << 10
_HEAD_BYTES = 64 << 10  # by which it is told how a file is written
_LONGEST_ENTITY = 12


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


@dataclass
class PastedHost:
    """What is known of one host, and of its devices."""

    name: str
    xen: Version | None = None
    linux: Version | None = None
    boots: int = 0
    devices: dict[Bdf, DeviceFacts] = field(default_factory=dict)
    found: dict[str, Shown] = field(default_factory=dict)  # where no device is named
    losses: list[PastedPlace] = field(default_factory=list)  # lines that say that others are missing
    broken: list[PastedPlace] = field(default_factory=list)  # lines that begin as something known and cannot be read
    notes: list[str] = field(default_factory=list)  # why something was not concluded
    round: PastedRound = field(default_factory=PastedRound)
    keys: set[str] = field(default_factory=set)  # dumps that were seen
    headers: list[str] = field(default_factory=list)  # keys in the order of their dumps, the first few
    pieces: list[PastedRound] = field(default_factory=list)  # of the first few dumps
    unnamed: list[tuple[MsixControl, PastedPlace]] = field(default_factory=list)  # of config space without an address

    def device(self, address: Bdf) -> DeviceFacts | None:
        known = self.devices.get(address)
        if known is None and len(self.devices) < _MOST_DEVICES:
            known = self.devices[address] = DeviceFacts(address)
        return known

    def show(self, name: str, *places: PastedPlace) -> None:
        self.found.setdefault(name, Shown()).add(*places)

    def note(self, text: str) -> None:
        if text not in self.notes and len(self.notes) < _MOST_NOTES:
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
        if name not in self.hosts and len(self.hosts) >= _MOST_HOSTS:
            self.truncated = True
            name = next(iter(self.hosts))
        return self.hosts.setdefault(name, PastedHost(name))


# What a line must have in it to be looked at, each with a text that is in all of them: a block without that text is not
# searched for the expression.
_WANTED = {
    "annot ": r"annot (?:mask|disable) ",
    "masking MSI": r"masking MSI",
    "assign ": r"assign (?:\(|phantom|[0-9a-f]{4,}:)",
    "MSI-X on ": r"MSI-X on ",
    "MSI-X: Enable": r"MSI-X: Enable",
    "buffer overrun": r"buffer overrun",
    "initial MSI": r"initial MSI",
    "MSI information": r"MSI information",
    "PCI devices ==": r"PCI devices ==",
    "IRQ information": r"IRQ information",
    "vec": r"\bvec[:=]",
    " - node": r" - node",
    "en version": r"[Xx]en version",
    "xen_version": r"xen_version",
    "Linux version": r"Linux version",
    " suppressed": r" suppressed",
    "messages ": r"messages (?:dropped|lost)",
    "Missed ": r"Missed [0-9]",
    "MSI-X ": r"MSI-X (?:release|preparation)",
    "map irq failed": r"map irq failed",
    "enabling MSI": r"enabling MSI",
    "xc_assign_device": r"xc_assign_device",
    "new xl format": r"new xl format",
    "timed out": r"timed out",
    "frontend error": r"frontend error",
    "not ready ": r"not ready ",
    "power state": r"power state",
    "header type 7f": r"header type 7f",
    "pciehp: ": r"pciehp: ",
    "Bus Error": r"Bus Error",
    "DPC: ": r"DPC: ",
    "AER: ": r"AER: ",
    "Link Active not": r"Link Active not",
    "nobody cared": r"nobody cared",
    "Disabling IRQ #": r"Disabling IRQ #",
    "VPD": r"VPD",
    "completion polled": r"completion polled",
    "controller is down": r"controller is down",
    "not permitted": r"not permitted",
    "map:fail": r"map:fail",
    "fault ": r"fault (?:addr|index)",
    "PAGE_FAULT": r"PAGE_FAULT",
    "no free pirq": r"no free pirq",
    "ATS device": r"ATS device",
    "not found/assigned": r"not found/assigned",
    "wait ": r"wait (?:descriptor|taking|took)",
}
_LISTED = r"\b[0-9a-f]{2}:[01][0-9a-f]\.[0-7] [A-Z0-9]"
_LISTS = ("Control: I/O", "Flags: ", "Capabilities: ", "Kernel driver", "header type 7f")
_MOST_KNOWN = 50_000  # lines remembered, so that what is repeated a million times is read once


@functools.lru_cache(maxsize=256)
def _searched(needles: tuple[str, ...], listed: bool) -> re.Pattern[str]:
    return re.compile("|".join([*(_WANTED[needle] for needle in needles), *([_LISTED] if listed else [])]))


_KERNEL_LINE = re.compile(r"^(?:.{0,60} kernel: |[> |]{0,8}(?:<\d>)?\[ *\d+\.\d{3,9}\] )", re.MULTILINE)
_LSPCI = re.compile(rf"((?:{SEGMENT}:)?[0-9a-f]{{2}}:[01][0-9a-f]\.[0-7]) ((?:[0-9a-f]{{4}}: |[A-Z])\S.*)")
_PART = re.compile(
    r"\s*(?:(Subsystem): |(Control): I/O|(Status): Cap|(Interrupt): pin|(Region) \d|(Capabilities): |(Flags): [a-z6]"
    r"|(Kernel driver) in use: |(Kernel modules): |(!!! Unknown header type 7f)|\(?(rev ff)\))"
)
_RANK = (
    "Subsystem",
    "Flags",
    "Control",
    "Status",
    "Interrupt",
    "Region",
    "Capabilities",
    "Kernel driver",
    "Kernel modules",
)
_MSIX = re.compile(r"Capabilities: \[[0-9a-f]{2}\] MSI-X: Enable([+-]) Count=([0-9]{1,4}) Masked([+-])")
_MSIX_BEGUN = re.compile(r"Capabilities: \[[0-9a-f]{2}\] MSI-X: ")
_CONTROL = re.compile(r"Control: I/O[+-] .*DisINTx[+-]")
_HAZARD = re.compile(rf"cannot (?:mask|disable) IRQ \d+: masking MSI-X on .*{FUNCTION}")
_HAZARD_BEGUN = re.compile(r"annot (?:mask|disable) |masking MSI")
_ASSIGN_BEGUN = re.compile(
    r"(?:d\d+|d\[\w+\]|Dom\w+): assign (?:\(|phantom|[0-9a-f]{4})|\bassign [0-9a-f:]{7,}\.[0-7] to d"
)
# a line of dom0's kernel into which Xen wrote its own: on a serial line both come out piece by piece
_TORN = re.compile(r"[\w.,:;)/-](?=\(XEN\) )")
_TORN_BY_XEN = re.compile(
    r"^(\[ *\d+\.\d{6}\] (?:(?!\(XEN\)).)*)((?:\(XEN\) .*\n)+)(?!\(XEN\)|\(d\d|\[|<\d)(.*)\n", re.MULTILINE
)
_CUT = re.compile(rf"[a-zA-Z0-9: ]*MSI-X on (?:(?:Dom\w+|d\[?\w+\]?)'s )?{FUNCTION}\W*")
_LOST = re.compile(r"Missed \d+ kernel messages|/dev/kmsg buffer overrun|messages lost due to rate-limiting")
_INITIAL = re.compile(rf"{FUNCTION}: unexpected initial MSI-X state \(MASKALL=[01], ENABLE=[01]\), fixing")
_INITIAL_BEGUN = re.compile(r"unexpected initial MSI")
_XEN_VERSION = re.compile(r"(?:Xen version:? |xen_version +: )([0-9][0-9A-Za-z.+~-]*)")
_LINUX_VERSION = re.compile(r"Linux version ([0-9]\S*)")
_ADDRESS = re.compile(FUNCTION)
_SAVED = re.compile(r"Saving to .* new xl format")
_UNANSWERED = re.compile(
    r"pci_remove_timeout: Domain \d+:timed out waiting for DM to remove|Backend .*/pci/\S+ not ready"
)
_BUSY = re.compile(r"xc_assign_device failed: Device or resource busy")
_NOT_OWNER = re.compile(r"map irq failed -19 for 32752\b")
_STILL_IN_USE = re.compile(r"MSI-X (?:release|preparation) failed \(-16\)")
_FRONTEND = re.compile(r"Xen PCI frontend error: -\d+!|has not registered MSI/MSI-X support")
_LEVEL = re.compile(r"(?<=.)<[0-7]>(?=\S)")
_HEX = re.compile(r"^[> |]*(?:([0-9a-f]{2,3}): ?)?((?:[0-9a-f]{2} ){15}[0-9a-f]{2}) *$", re.MULTILINE)
_MOST_CONFIGS = 256
_MOST_PIECES = 4
_IO_APIC = re.compile(r" +(?:Apic 0x[0-9a-f]+, Pin|IRQ *[0-9]+ Vec)")  # the end of key i
_LINUX_BEGINS = re.compile(
    rf"[A-Za-z][\w-]* (?:{FUNCTION}|nvme[0-9]+|pci-[0-9]+)[ :]|xen:|DMAR:|AMD-Vi:|irq [0-9]|Disabling IRQ|\*\* [0-9]"
)
_HEXADECIMAL = str.maketrans("", "", "0123456789abcdef")


_UNSAID = (("   ", IRQS), (" ", MASKS), ("", DEVICES))
Row = MaskRow | PciRow | IrqRow
_ROWS: dict[str, Callable[[re.Match[str], int], Row | None]] = {"M": mask_row, "Q": pci_row, "i": irq_row}


class Reader:
    """Reads texts and keeps what they show."""

    def __init__(self, rules: Rules | None = None) -> None:
        self.facts = Facts()
        self._rules = rules or catalogue()
        self._causes = {name: rule for name, rule in self._rules.rules.items() if rule.cause or rule.loses}
        self._known: dict[tuple[Speaker, str], str | None] = {}
        self._rows: dict[str, tuple[PastedHost, str, Row]] = {}
        self._saving = False
        self._file = FileFacts("")
        self._text = self._entity = ""
        self._base = 0  # lines before the text

    def read(self, name: str, blocks: Iterable[bytes]) -> None:
        """One file, in blocks of any size."""
        self._file = FileFacts(name)
        self.facts.files.append(self._file)
        self._text, self._entity, self._base, self._saving = "", "", 0, False
        rest = iter(blocks)
        head = b""
        while len(head) < _HEAD_BYTES and (block := next(rest, b"")):
            head += block
        if not head:
            self._file.refused = "empty"
            return
        try:
            decoder = codecs.getincrementaldecoder(encoding(head))("replace")
        except Unreadable as error:
            self._file.refused = str(error)
            return
        for block in itertools.chain([head], rest):
            self._take(decoder.decode(block), last=False)
        self._take(decoder.decode(b"", True), last=True)
        if self._base <= len(self._text) and "(XEN)" not in self._text:
            self._configs(self._text)

    def refuse(self, name: str, why: str) -> None:
        """A file of which nothing, or nothing more, can be read."""
        known = next((one for one in self.facts.files if one.name == name), None)
        if known is None:
            known = FileFacts(name)
            self.facts.files.append(known)
        known.refused = why

    def close(self) -> Facts:
        """All that was found. Nothing can be read afterwards."""
        for host in self.facts.hosts.values():
            _finish(host)
            if len(host.headers) == len(set(host.headers)) and len(host.pieces) > 1:
                _told_by(host, merged(host.pieces))  # each key once: one moment, in whatever order they were pressed
            self._attach(host)
            for device in host.devices.values():
                unbound = None if device.was_enabled else device.found.pop("unbound-under-owner", None)
                if unbound is not None:  # whether MSI-X is on is not in the text
                    device.found.setdefault("stale-or-spare", unbound)
                if device.found.keys() & {"maskall-set", "firmware-maskall"}:
                    device.found.pop("masked-idle", None)  # who set it is told
                if "leftover-pirqs" in device.found:
                    device.found.pop("stale-or-spare", None)
        _merge(self.facts)
        return self.facts

    def _attach(self, host: PastedHost) -> None:
        """Config space without an address is that of the only device that was passed through, if there is one."""
        lent = [device for device in host.devices.values() if device.found or device.owner not in ("", "d0", "NULL")]
        for control, place in host.unnamed:
            if len(lent) == 1:
                self._control(lent[0], control, place)
            elif control.masked:
                host.show("maskall-kept" if control.enabled else "masked-idle", place)

    def _take(self, more: str, *, last: bool) -> None:
        if "\r" in more:
            more = more.replace("\r\n", "\n").replace("\r", "\n")
        more, self._entity = self._entity + more, ""
        begun = -1 if last else more.rfind("&", max(0, len(more) - _LONGEST_ENTITY))
        if begun >= 0:
            more, self._entity = more[:begun], more[begun:]
        self._text += plain(more)
        if _TORN.search(self._text):
            self._text = _TORN_BY_XEN.sub(r"\1\3\n\2", self._text)
        if len(self._text) > LONGEST_LINE + _CARRY and self._text.find("\n", 0, LONGEST_LINE) < 0:
            self._file.note = "lines longer than 64 KiB were cut"
            cut = self._text.find("\n", LONGEST_LINE)
            self._text = self._text[:LONGEST_LINE] + ("" if cut < 0 else self._text[cut:])
        end = len(self._text) if last else self._text.rfind("\n", 0, max(0, len(self._text) - _CARRY)) + 1
        if end <= 0:
            return
        self._scan(end)
        done = self._text[:end]
        lines = done.count("\n")
        self._file.lines += lines + (1 if last and done and not done.endswith("\n") else 0)
        self._file.xen += done.count("(XEN)")
        self._file.toolstack += done.count("libxl: ")
        self._base += lines
        if not last:
            self._text = self._text[end:]

    def _scan(self, end: int) -> None:
        """Look at each line before `end` that has something in it; those behind may belong to it."""
        text = self._text
        place, number, position = 0, self._base + 1, 0
        if self._file.linux == 0 and _KERNEL_LINE.search(text, 0, end):
            self._file.linux = 1
        needles = tuple(needle for needle in _WANTED if text.find(needle, 0, end) >= 0)
        listed = self._base == 0 or any(text.find(needle, 0, end) >= 0 for needle in _LISTS)
        if not needles and not listed:
            return
        wanted = _searched(needles, listed)
        while (hit := wanted.search(text, place, end)) is not None:
            start = text.rfind("\n", place, hit.start()) + 1 or place
            number += text.count("\n", position, start)
            position = start
            stop = text.find("\n", start)
            stop = len(text) if stop < 0 else stop
            raw = text[start:stop]
            if not self._again(raw, number, stop + 1):
                stop = self._look(raw[:LONGEST_LINE], number, stop + 1)
            place = stop + 1

    def _again(self, raw: str, number: int, at: int) -> bool:
        """Whether a line is one that was read before, for what it says it says again."""
        known = self._rows.get(raw)
        if known is None:
            return False
        host, key, row = known
        if isinstance(row, PciRow) and not row.irqs and not self._text.startswith("(XEN) ", at):
            return False  # the rest of it may follow
        self._put(host, key, row, PastedPlace(self._file.name, number, raw.strip()[:240]))
        return True

    def _following(self, at: int, most: int, number: int) -> Iterator[tuple[PastedLine, int]]:
        """The lines from position `at` on, and where each ends."""
        for count in range(1, most + 1):
            if at > len(self._text) or (at == len(self._text) and count > 1):
                return
            stop = self._text.find("\n", at)
            stop = len(self._text) if stop < 0 else stop
            pieces = list(clean(self._text[at : min(stop, at + LONGEST_LINE)], number + count))
            yield pieces[-1] if pieces else PastedLine(number + count, Speaker.TEXT, "", "", ""), stop
            at = stop + 1

    def _whole(self, line: PastedLine, at: int, wanted: re.Pattern[str]) -> str | None:
        """The text of a line that `wanted` finds itself in, put together with those behind it where it was wrapped."""
        if wanted.search(line.text):
            return line.text
        text = tight = line.text.rstrip()
        if text.endswith("="):  # quoted-printable
            text, tight = text[:-1].rstrip(), text[:-1]
        for other, _ in self._following(at, _JOINS, line.number):
            if other.speaker is Speaker.XEN or other.speaker is Speaker.GUEST:
                continue
            text, tight = f"{text} {other.text.strip()}", f"{tight}{other.text.rstrip()}"
            for joined in (text, tight, f"{line.text}{other.text.rstrip()}"):
                if wanted.search(joined):
                    return joined
        return None

    def _look(self, raw: str, number: int, at: int) -> int:
        """One line with something in it; `at` is where the next one begins. How far was read is returned."""
        far = at - 1
        for line in clean(raw, number):
            host = self.facts.host(line.host)
            if line.speaker is Speaker.XEN:
                self._xen(host, line, at)
            elif line.speaker is Speaker.LINUX:
                self._file.linux += 1
                self._kernel(host, line, at)
            elif line.speaker is Speaker.TEXT:
                far = max(far, self._plain(host, line, at))
        return far

    def _place(self, line: PastedLine) -> PastedPlace:
        return PastedPlace(self._file.name, line.number, line.raw[:240])

    # -- Xen -----------------------------------------------------------------------------------------------------------

    def _xen(self, host: PastedHost, line: PastedLine, at: int) -> None:
        text = line.text
        key = line.speaker, text.translate(_HEXADECIMAL)
        if key in self._known:  # one of a flood
            self._cause(host, line, Origin.XEN)
            return
        stripped = text.strip()
        if HEADER.match(stripped):
            self._header(host, stripped)
        elif version := _XEN_VERSION.search(text):
            self._version(host, version.group(1), boot=stripped.startswith("Xen version"))
        elif _HAZARD_BEGUN.search(text):
            self._marker(host, line, at, _HAZARD)
        elif _ASSIGN_BEGUN.search(text):
            self._marker(host, line, at, ASSIGN)
        elif _INITIAL_BEGUN.search(text):
            self._marker(host, line, at, _INITIAL)
        elif not self._row(host, line, at) and not self._cause(host, line, Origin.XEN):
            said = ConsoleLine(line.number, stripped, Origin.XEN)
            if "MSI-X on " in text and self._rules.first(said) is None:
                self._unreadable(host, line)  # it is one of those that matter, and its words are not

    def _header(self, host: PastedHost, text: str) -> None:
        key = {"M": "M", "=": "Q", "I": "i", "G": "i"}.get(text[0], "")
        if not key:
            return
        host.keys.add(key)
        host.headers.append(key)
        order = "MQi".index(key)
        if any(order <= "MQi".index(one) for one in host.round.keys) or (host.round and not host.round.keys):
            _finish(host)  # in another order they may be of two moments, the lines between them being lost
        host.round.keys.add(key)
        del host.headers[_MOST_PIECES:]

    def _version(self, host: PastedHost, text: str, *, boot: bool) -> None:
        try:
            found = parse_xen(text)
        except ParseError:
            return
        if boot:
            _finish(host)
            host.boots += 1
        if host.xen is not None and host.xen != found:
            host.note(f"several versions of Xen: {host.xen} and {found}; more than one host, or another boot")
        host.xen = found

    def _marker(self, host: PastedHost, line: PastedLine, at: int, wanted: re.Pattern[str]) -> None:
        text = self._whole(line, at, wanted)
        markers = find_markers(f"(XEN) {text.strip()}") if text is not None else ()
        if not markers or markers[0].device is None:
            self._unreadable(host, line)
            return
        self._marked(host, markers[0], self._place(line))

    def _marked(self, host: PastedHost, marker: Marker, place: PastedPlace) -> None:
        device = host.device(marker.device) if marker.device else None
        if device is None:
            return
        if marker.kind is MarkerKind.MASKALL_SET:
            device.show("maskall-set", place)
            device.repaired = False
        elif marker.kind is MarkerKind.ASSIGN_FAILED and marker.error == -16:
            device.show("assign-busy", place)
        elif marker.kind is MarkerKind.INITIAL_STATE_FIXED:
            device.show("firmware-maskall", place)

    def _row(self, host: PastedHost, line: PastedLine, at: int) -> bool:
        """A row of a dump. Rows that are wrapped or torn are put together, or kept as broken."""
        text = f"   {line.text.strip()}"
        if _IO_APIC.match(text):
            return True
        for key, form, begun in (("Q", DEVICES, text[3:]), ("i", IRQS, text), ("M", MASKS, text[2:])):
            if not form.piece.search(text):
                continue
            match = self._whole_row(begun, line, at, form.row)
            row = _ROWS[key](match, 0) if match else None
            if row is None:
                self._unreadable(host, line, key)
            else:
                if match is not None and match.string.strip() == line.text.strip() and len(line.raw) < 240:
                    if len(self._rows) >= _MOST_KNOWN:
                        self._rows.clear()
                    self._rows[line.raw] = host, key, row
                self._put(host, key, row, self._place(line))
            return True
        return False

    def _put(self, host: PastedHost, key: str, row: Row, place: PastedPlace) -> None:
        """Into the round it belongs to: a row that is there already begins another one.

        So does one whose header is missing where others have theirs: lines were lost before it.
        """
        if host.round.keys and key not in host.round.keys:
            _finish(host)
        if isinstance(row, PciRow):
            if row.device in host.round.devices:
                _finish(host)
            host.round.devices[row.device] = row, place
        elif isinstance(row, IrqRow):
            if row.irq in host.round.irqs:
                _finish(host)
            host.round.irqs[row.irq] = row, place
        else:
            if row.irq in host.round.masks:
                _finish(host)
            host.round.masks[row.irq] = row, place
        host.keys.add(key)

    def _whole_row(self, text: str, line: PastedLine, at: int, row: re.Pattern[str]) -> re.Match[str] | None:
        whole = row.fullmatch(text.rstrip())
        if whole is not None and not (row is DEVICES.row and whole.group(3) is None):
            return whole
        last = at > len(self._text)  # no line feed behind it: the text may be cut in the middle of the row
        level = _LEVEL.search(text)  # another message begins in the middle, and the rest has Xen's prefix
        kept = text[: level.start()] if level else text
        loose = tight = kept.rstrip()
        for other, _ in self._following(at, _JOINS, line.number):
            if other.speaker is not Speaker.TEXT and not (level and other.speaker is Speaker.XEN):
                continue
            loose, tight, kept = f"{loose} {other.text.strip()}", f"{tight}{other.text.rstrip()}", f"{kept}{other.text}"
            for joined in (loose, tight, kept.rstrip()):
                if longer := row.fullmatch(joined):
                    return longer
        return None if last else whole

    # -- the kernel ----------------------------------------------------------------------------------------------------

    def _kernel(self, host: PastedHost, line: PastedLine, at: int) -> None:
        """One message; where it says nothing that is known, with the lines behind it, for it may be wrapped."""
        if self._kernel_says(host, line):
            return
        text = line.text.rstrip()
        for other, _ in self._following(at, _JOINS - 1, line.number):
            if other.speaker is not Speaker.TEXT or not other.text.strip():
                return
            text = f"{text} {other.text.strip()}"
            if self._kernel_says(host, replace(line, text=text)):
                return

    def _kernel_says(self, host: PastedHost, line: PastedLine) -> bool:
        text = line.text
        if version := _LINUX_VERSION.search(text):
            with contextlib.suppress(ParseError):
                host.linux = parse_linux(version.group(1))
        elif _NOT_OWNER.search(text):
            self._of_device(host, line, "quarantine-kept")
        elif _STILL_IN_USE.search(text):
            self._of_device(host, line, "leftover-pirqs")
        elif _FRONTEND.search(text):
            self._of_device(host, line, "intx")
        else:
            return self._cause(host, line, Origin.DOM0)
        return True

    def _of_device(self, host: PastedHost, line: PastedLine, name: str) -> None:
        address = _ADDRESS.search(line.text)
        device = host.device(Bdf.parse(address.group())) if address else None
        place = self._place(line)
        if device is not None:
            device.show(name, place)
        else:
            host.show(name, place)

    def _cause(self, host: PastedHost, line: PastedLine, origin: Origin) -> bool:
        """Causes of messages.yaml that are not this defect, and lines that say that others are missing."""
        name = self._rule(line, origin)
        if name is None:
            return False
        rule = self._causes[name]
        if rule.cause:
            self._of_device(host, line, rule.cause)
        elif name != "callbacks-suppressed" and len(host.losses) < _MOST_NOTES:  # they say nothing of this class
            host.losses.append(self._place(line))
        return True

    def _rule(self, line: PastedLine, origin: Origin) -> str | None:
        """The rule of a line, remembered by its words. Those whose numbers count are not remembered."""
        text = line.text.rstrip()
        key = line.speaker, line.text.translate(_HEXADECIMAL)
        if key in self._known:
            return self._known[key]
        said = ConsoleLine(line.number, text, origin)
        name = next((name for name, rule in self._causes.items() if rule.fits(said)), None)
        if "failed (" not in text and not (origin is Origin.XEN and name is None):
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[key] = name
        return name

    # -- lspci, xl -----------------------------------------------------------------------------------------------------

    def _plain(self, host: PastedHost, line: PastedLine, at: int) -> int:
        text = line.text.strip()
        header = _LSPCI.fullmatch(text)
        if header is not None and not line.text.startswith(("\t\t", "        ")):
            return self._lspci(host, line, header, at)
        if version := _XEN_VERSION.search(text):
            self._version(host, version.group(1), boot=False)
        elif version := _LINUX_VERSION.search(text):
            self._kernel(host, line, at)
        elif _LOST.search(text):
            host.losses.append(self._place(line))
        elif _CUT.fullmatch(text) or any(form.row.fullmatch(f"{lead}{text}") for lead, form in _UNSAID):
            self._unreadable(host, line)  # the beginning of it is missing, so that nobody knows who said it
        elif found := _MSIX.fullmatch(text):  # of a device that is not named
            self._file.devices += 1
            if len(host.unnamed) < _MOST_CONFIGS:
                host.unnamed.append((_control(found), self._place(line)))
        elif _SAVED.search(text):
            self._saving = True
        elif _BUSY.search(text):
            host.show("assign-busy", self._place(line))
        elif self._saving and _UNANSWERED.search(text):
            host.show("saved-with-device", self._place(line))
        elif _LINUX_BEGINS.match(text):
            self._file.linux += 1
            self._kernel(host, line, at)  # dmesg -t
        return at - 1

    def _lspci(self, host: PastedHost, line: PastedLine, header: re.Match[str], at: int) -> int:
        """One device of lspci, to an empty line, another header or speaker, or something of an earlier part."""
        device = host.device(Bdf.parse(header.group(1)))
        rank, taken = 0, [line.text.strip()]
        far, ended, gone = at - 1, False, "(rev ff)" in line.text
        msix: tuple[MsixControl, PastedPlace] | None = None
        recognised = 0
        for other, stop in self._following(at, _LSPCI_LINES, line.number):
            text = other.text.strip()
            if other.speaker is not Speaker.TEXT or _LSPCI.fullmatch(text):
                break
            if not text:
                ended = True
                break
            part = _PART.match(other.text)
            name = next((group for group in part.groups() if group), "") if part else ""
            detail = other.text.startswith(("\t\t", "         "))
            if name == "!!! Unknown header type 7f":
                gone = True
            elif name in _RANK and not (detail and name != "Capabilities"):
                if _RANK.index(name) < rank:
                    break
                rank = _RANK.index(name)
                recognised += 1
                whole = self._part(other, stop + 1, name, text)
                taken.append(f"\t{whole}")
                if found := _MSIX.search(whole):
                    msix = _control(found), self._place(other)
                elif _MSIX_BEGUN.search(text):
                    self._unreadable(host, other)
            far = stop
        if device is None or not (recognised or gone):
            self._file.listed += 1
            return at - 1
        self._file.devices += 1
        self._listed(host, device, line, header.group(2), taken, ended, gone, msix)
        return far

    def _configs(self, text: str) -> None:
        """Config space in hexadecimal: lspci -xxx, or od of a config file, which names no device."""
        if self._file.lines != text.count("\n") + (not text.endswith("\n")):
            return  # the file is a long log
        rows: list[re.Match[str]] = []
        for row in (*_HEX.finditer(text), None):
            follows = rows and row is not None and text.count("\n", rows[-1].start(), row.start()) == 1
            if rows and not (follows and row is not None and row.group(1) != "00"):
                self._config(text, rows)
                rows = []
            if row is not None and (rows or row.group(1) in (None, "00")):
                rows.append(row)

    def _config(self, text: str, rows: list[re.Match[str]]) -> None:
        try:
            space = ConfigSpace(bytes.fromhex("".join(row.group(2) for row in rows))[:MAX_BYTES])
            capability = None if space.gone else space.msix
        except ParseError:
            return  # not config space, or none that tells of MSI-X
        if capability is None:
            return
        number = text.count("\n", 0, rows[0].start()) + 1
        place = PastedPlace(self._file.name, number, rows[0].group().strip())
        named = None
        for line in text[: rows[0].start()].splitlines():
            named = _LSPCI.fullmatch(line.strip(" >|\t")) or named
        host = self.facts.host("")
        device = host.device(Bdf.parse(named.group(1))) if named and rows[0].group(1) else None
        self._file.devices += 1
        if device is not None:
            self._control(device, capability.control, place)
        elif len(host.unnamed) < _MOST_CONFIGS:
            host.unnamed.append((capability.control, place))

    def _part(self, line: PastedLine, at: int, name: str, text: str) -> str:
        wanted = {"Control": _CONTROL, "Capabilities": _MSIX if _MSIX_BEGUN.search(text) else None}.get(name)
        if wanted is None:
            return text
        return (self._whole(line, at, wanted) or text).strip()

    def _listed(
        self,
        host: PastedHost,
        device: DeviceFacts,
        line: PastedLine,
        name: str,
        taken: list[str],
        ended: bool,
        gone: bool,
        msix: tuple[MsixControl, PastedPlace] | None,
    ) -> None:
        if device.name and device.name.split(" (")[0] != name.split(" (")[0]:
            host.note(f"{device.address} is listed as two different devices: more than one host")
        device.name = device.name or name
        driver = next((text for text in taken if "Kernel driver in use: " in text), "")
        device.driver = driver.rpartition(": ")[2] or device.driver
        place = self._place(line)
        if gone:
            device.show("dead-link", place)
            return
        try:
            listed = parse_lspci("\n".join(taken) + ("\n\n" if ended else "\n"))
            device.memory = listed.command.memory
            line_in_use = driver and "pciback" not in driver and not listed.command.intx_disabled
            if line_in_use and listed.command.bus_master and msix is not None and not msix[0].enabled:
                lines = [text for text in taken if "] MSI: Enable+" in text]
                if not lines:
                    device.show("intx", place, msix[1])
            if msix is None and listed.msix is None:
                device.without_msix = place
                if "pciback" in driver:
                    device.show("no-msix", place)
        except ParseError as error:
            if msix is None:
                device.unknown = error.message.partition(": ")[2] or error.message
        if msix is not None:
            self._control(device, *msix)

    def _control(self, device: DeviceFacts, control: MsixControl, place: PastedPlace) -> None:
        device.control, device.control_place, device.unknown = control, place, ""
        device.was_enabled = device.was_enabled or control.enabled
        if control.masked and control.enabled:
            device.show("maskall-kept", place)
        elif control.masked:
            device.show("masked-idle", place)
        elif control.enabled and "maskall-set" in device.found:
            device.repaired = True

    def _unreadable(self, host: PastedHost, line: PastedLine, key: str = "") -> None:
        if len(host.broken) < _MOST_NOTES:
            host.broken.append(self._place(line))
        if key:
            host.round.broken.add(key)


def _control(found: re.Match[str]) -> MsixControl:
    """What `_MSIX` took."""
    return MsixControl((found[1] == "+") << 15 | (found[3] == "+") << 14 | max(0, int(found[2]) - 1) & 0x7FF)


def _finish(host: PastedHost) -> None:
    """What the dumps of one moment say together."""
    ended, host.round = host.round, PastedRound()
    if ended and len(host.pieces) < _MOST_PIECES:
        host.pieces.append(ended)
    _told_by(host, ended)


def _told_by(host: PastedHost, ended: PastedRound) -> None:
    if ended.contradicts():
        host.note("dumps of the debug keys do not belong together: key Q names irqs that key i does not have")
        return
    for address, (row, place) in ended.devices.items():
        device = host.device(address)
        if device is None:
            continue
        vectors = ended.vectors(address)
        if row.owner != device.owner:
            device.was_bound.clear()
        device.owner, device.owner_place, device.vectors = row.owner, place, vectors.told
        if "unbound-under-owner" in vectors.found and not vectors.unbound <= device.was_bound.keys():
            vectors.found["stale-or-spare"] = vectors.found.pop(
                "unbound-under-owner"
            )  # its driver may not ask for them
        device.was_bound.update(dict.fromkeys(vectors.bound, row.owner))
        for name, places in vectors.found.items():
            device.show(name, place, *places)


def _merge(facts: Facts) -> None:
    """Lines that name no host belong to the only one that is named."""
    named = [name for name in facts.hosts if name]
    nameless = facts.hosts.get("")
    if len(named) != 1 or nameless is None:
        return
    only = facts.hosts[named[0]]
    only.xen, only.linux, only.boots = (
        only.xen or nameless.xen,
        only.linux or nameless.linux,
        only.boots + nameless.boots,
    )
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
    del facts.hosts[""]
