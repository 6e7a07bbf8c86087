"""What Xen says in a text: markers, versions, and the rows of its debug keys, moment by moment. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from harness.base.errors import ParseError
from harness.model.address import FUNCTION
from harness.model.message import Marker, MarkerKind, Origin
from harness.report.explain.cut import begins_in_xen, resembles
from harness.report.explain.facts import PastedHost
from harness.report.explain.lines import QUOTE, PastedLine, PastedPlace, Speaker
from harness.report.explain.signature import BUSY_OR_OWNED
from harness.report.explain.window import JOINS, MOST_KNOWN, Window, put_together
from harness.xen.keys.console import ASSIGN, INITIAL, MASKING, ConsoleLine, find_markers
from harness.xen.keys.debugkeys import (
    DEVICES,
    HEADER,
    IRQS,
    MASKS,
    Form,
    IrqRow,
    MaskRow,
    PciRow,
    irq_row,
    mask_row,
    pci_row,
)
from harness.xen.keys.version import parse_xen

_MOST_HEADERS = 4
_MOST_JOINS = 256  # of a row of key Q, for a device with very many vectors
_VECTORS = re.compile(r"[0-9 ]+(?:> *)?")
_MARKED = re.compile("|".join(one.pattern for one in (MASKING, ASSIGN, INITIAL)))
_HAZARD_BEGUN = re.compile(r"annot (?:mask|disable)\b|masking MSI")
_ASSIGN_BEGUN = re.compile(
    r"(?:d\d+|d\[\w+\]|Dom\w+): assign(?: *$| (?:\(|phantom|[0-9a-f]{4}))"
    r"|\bassign [0-9a-f:]{7,}\.[0-7](?: to d| *$| to *$)|XEN_DOMCTL_assign_device:? *(?:assign *)?$"
)
_INITIAL_BEGUN = re.compile(rf"unexpected initial(?: MSI| *$)|^{FUNCTION}: unexpected *$")
_MATTERS = re.compile(r"MSI-X on |MASKALL=|failed \(-16\)$")
_MARKING = (None, "maskall-set", "cannot-disable", "assign-refused", "initial-msix-state")  # rules, and none
XEN_VERSION = re.compile(r"(?:Xen version:? |xen_version +: )([0-9][0-9A-Za-z.+~-]*)")
_SUPPRESSED_BEGUN = re.compile(r"printk: [0-9]+(?: m[esag]*| *$)")
_BEHIND = ('"', "'", "`", "$", '",', "',")  # what JSON, CSV or an editor left behind a row
_BOOT = re.compile(r"\(XEN\) ?\[ *([^]]*[1-9a-f][^]]*)\] ?Xen version")  # no two boots begin at one moment
_LEVEL = re.compile(r"(?<=.)<[0-7]>(?=\S)")
_IO_APIC = re.compile(r" +(?:Apic 0x[0-9a-f]+, Pin|IRQ *[0-9]+ Vec)")  # the end of key i

Row = MaskRow | PciRow | IrqRow
_ROWS: dict[str, Callable[[re.Match[str], int], Row | None]] = {"M": mask_row, "Q": pci_row, "i": irq_row}


@dataclass
class XenLines:
    _window: Window
    _rows: dict[str, tuple[PastedHost, str, Row]] = field(default_factory=dict)

    def line(self, host: PastedHost, line: PastedLine, at: int) -> None:
        text = line.text
        if self._shown(host, line):
            return
        if self._window.flooded(line):
            self._window.cause(host, line, Origin.XEN)
            return
        stripped = text.strip()
        if HEADER.match(stripped):
            self._header(host, stripped)
        elif version := XEN_VERSION.search(text):
            if stripped.startswith("Xen version"):
                stamp = _BOOT.search(line.raw)
                host.boot(f"{stamp[1]}{text}" if stamp else "")
            self.version(host, version.group(1))
        elif stripped.startswith("Command line: "):
            if host.round or host.headers or host.pieces:
                host.boot("")  # the first line is not there, or was torn
        elif any(begun.search(text) for begun in (_HAZARD_BEGUN, _ASSIGN_BEGUN, _INITIAL_BEGUN)) or begins_in_xen(text):
            self._marker(host, line, at)
        elif _SUPPRESSED_BEGUN.match(text):
            self._window.lost(host, line)
        elif not self._row(host, line, at) and not self._window.cause(host, line, Origin.XEN):
            behind = line.raw.rpartition(stripped)[2].strip() if stripped else ""
            if behind.startswith("[") and any(form.piece.search(line.raw) for form in (DEVICES, IRQS, MASKS)):
                self._window.unreadable(host, line)  # a row in which dom0's kernel wrote
            matters = _MATTERS.search(stripped) or resembles(text)
            if matters and self._of_marking(stripped) and not self._other(line, at):
                self._window.unreadable(host, line)  # it is one of those that matter, and its words are not

    def _of_marking(self, text: str) -> bool:
        return self._window.rules.first(ConsoleLine(0, text, Origin.XEN)) in _MARKING

    def _other(self, line: PastedLine, at: int) -> bool:
        """Whether it is another message, which goes on in the lines behind."""
        texts = [line.text.strip()]
        for other, _ in self._window.following(at, JOINS, line.number):
            if other.speaker is not Speaker.TEXT or not other.text.strip():
                return False
            texts = put_together(texts, other.text)
            if not all(map(self._of_marking, texts)):
                self._window.joined = other.number
                return True
        return False

    def again(self, raw: str, number: int, at: int) -> bool:
        """Whether a line is one that was read before, for what it says it says again."""
        known = self._rows.get(raw)
        if known is None:
            return False
        host, key, row = known
        if isinstance(row, PciRow) and not row.irqs and not self._window.text.startswith("(XEN) ", at):
            return False  # the rest of it may follow
        self._put(host, key, row, PastedPlace(self._window.file.name, number, raw.strip()[:240]))
        return True

    def _shown(self, host: PastedHost, line: PastedLine) -> bool:
        """A whole row of a dump, of keys M and i, or of Q with its vectors, as nearly all lines of a long log are."""
        key, form, text = _form(line.text)
        match = form.row.fullmatch(text) if form is not None else None
        row = _ROWS[key](match, 0) if match is not None and key else None
        if row is None or (isinstance(row, PciRow) and not row.irqs):
            return False
        self._keep(host, line, key, row)
        self._put(host, key, row, self._window.place(line))
        return True

    def _keep(self, host: PastedHost, line: PastedLine, key: str, row: Row) -> None:
        """For `again`."""
        if len(line.raw) < 240:
            if len(self._rows) >= MOST_KNOWN:
                self._rows.clear()
            self._rows[line.raw] = host, key, row

    def _header(self, host: PastedHost, text: str) -> None:
        key = {"M": "M", "=": "Q", "I": "i", "G": "i"}.get(text[0], "")
        if not key:
            return
        host.keys.add(key)
        host.headers.append(key)
        order = "MQi".index(key)
        if any(order <= "MQi".index(one) for one in host.round.keys) or (host.round and not host.round.keys):
            host.finish()  # in another order they may be of two moments, the lines between them being lost
        host.round.keys.add(key)
        del host.headers[_MOST_HEADERS:]

    def version(self, host: PastedHost, text: str) -> None:
        try:
            found = parse_xen(text)
        except ParseError:
            return
        if host.xen is not None and host.xen != found:
            host.note(f"several versions of Xen: {host.xen} and {found}; more than one host, or another boot")
        host.xen = found

    def _marker(self, host: PastedHost, line: PastedLine, at: int) -> None:
        text = self._window.whole(line, at, _MARKED)
        markers = find_markers(f"(XEN) {text.strip()}") if text is not None else ()
        if not markers or markers[0].device is None:
            self._window.unreadable(host, line)
            return
        self._marked(host, markers[0], self._window.place(line))

    def _marked(self, host: PastedHost, marker: Marker, place: PastedPlace) -> None:
        device = host.device(marker.device) if marker.device else None
        if device is None:
            return
        if marker.kind is MarkerKind.MASKALL_SET:
            device.show("maskall-set", place)
            device.repaired = False
        elif marker.kind is MarkerKind.ASSIGN_FAILED and marker.error == -16:
            old = "XEN_DOMCTL_assign_device" in marker.text  # printed for either refusal
            device.show("assign-busy", place, note=BUSY_OR_OWNED if old else "")
        elif marker.kind is MarkerKind.INITIAL_STATE_FIXED:
            device.show("firmware-maskall", place)

    def _row(self, host: PastedHost, line: PastedLine, at: int) -> bool:
        """A row of a dump. Rows that are wrapped or torn are put together, or kept as broken."""
        text = f"   {_bare(line.text)}"
        if _IO_APIC.match(text):
            return True
        for key, form, begun in (("Q", DEVICES, text[3:]), ("i", IRQS, text), ("M", MASKS, text[2:])):
            if not form.piece.search(text):
                continue
            match = self._whole_row(begun, line, at, form)
            row = _ROWS[key](match, 0) if match else None
            if row is None:
                self._window.unreadable(host, line, key)
            else:
                if match is not None and match.string.strip() == line.text.strip():
                    self._keep(host, line, key, row)
                self._put(host, key, row, self._window.place(line))
            return True
        return False

    def _put(self, host: PastedHost, key: str, row: Row, place: PastedPlace) -> None:
        """Into the round it belongs to: a row that is there already begins another one.

        So does one whose header is missing where others have theirs: lines were lost before it.
        """
        if host.round.keys and key not in host.round.keys:
            host.finish()
        if isinstance(row, PciRow):
            if row.device in host.round.devices:
                host.finish()
            host.round.devices[row.device] = row, place
        elif isinstance(row, IrqRow):
            if row.irq in host.round.irqs:
                host.finish()
            host.round.irqs[row.irq] = row, place
        else:
            if row.irq in host.round.masks:
                host.finish()
            host.round.masks[row.irq] = row, place
        host.keys.add(key)

    def _whole_row(self, text: str, line: PastedLine, at: int, form: Form) -> re.Match[str] | None:
        row, begun = form.row, form.piece
        whole = row.fullmatch(text.rstrip())
        if whole is not None and not (row is DEVICES.row and whole.group(3) is None):
            return whole
        if whole is not None and not line.raw.endswith(line.text.strip()):
            return None  # another writer's stands behind it in the same line
        last = at > len(self._window.text)  # no line feed behind it: the text may be cut in the middle of the row
        level = _LEVEL.search(text)  # another message begins in the middle, and the rest has Xen's prefix
        kept = text[: level.start()] if level else text
        loose = tight = kept.rstrip()
        quote = QUOTE.match(line.raw)
        depth = quote.group().count(">") if quote else 0
        for count, (other, _) in enumerate(self._window.following(at, _MOST_JOINS, line.number)):
            if count >= JOINS and not _VECTORS.fullmatch(other.text):
                break
            if not level and "(XEN)" in other.raw and begun.search(other.raw):
                break  # what follows is of that row
            if other.speaker is not Speaker.TEXT and not (level and other.speaker is Speaker.XEN):
                continue
            rest = other.text
            if not rest and QUOTE.match(other.raw) and other.raw.count(">") == depth + 1:
                rest = ">"  # the end of a row of key Q, alone in its line, looks like a quote of nothing
            loose, tight, kept = f"{loose} {rest.strip()}", f"{tight}{rest.rstrip()}", f"{kept}{rest}"
            for joined in (loose, tight, kept.rstrip()):
                if longer := row.fullmatch(joined):
                    self._window.joined = other.number
                    return longer
        return None if last else whole


def _bare(text: str) -> str:
    text = text.strip()
    return text.removesuffix(",").rstrip("\"'`$") if text.endswith(_BEHIND) else text


def _form(text: str) -> tuple[str, Form | None, str]:
    """By its beginning and middle: of which key a line may be a row, and its text as the form wants it."""
    text = _bare(text)
    if text.startswith("IRQ:"):
        return "i", IRQS, f"   {text}"
    if text.startswith("MSI"):
        if "/ /" in text and "  " not in text:
            text = text.replace("/ /", "/  /")  # HTML makes one blank of two
        return "M", MASKS, f" {text}"
    return ("Q", DEVICES, text) if " - node" in text else ("", None, text)
