"""Reads texts block by block, in memory that does not grow with them, and keeps what they show. Pure."""

from __future__ import annotations

import codecs
import itertools
import re
from collections.abc import Iterable

from harness.model.address import FUNCTION
from harness.report.explain.cut import MARKS
from harness.report.explain.facts import Facts, FileFacts, PastedHost
from harness.report.explain.kernellines import KernelLines
from harness.report.explain.lines import PastedPlace, Speaker, Unreadable, encoding
from harness.report.explain.plainlines import PlainLines
from harness.report.explain.unescaped import LONGEST_LINE, Unescaped
from harness.report.explain.window import Window
from harness.report.explain.xenlines import XenLines
from harness.xen.keys.messages import Rules, catalogue

_CARRY = 48 << 10  # characters kept until more is read, for what stands on several lines
_HEAD_BYTES = 64 << 10  # by which it is told how a file is written

# What a line must have in it to be looked at: a text, and an expression where that text alone is too little.
_WANTED = {
    "annot": r"\bcannot\b|annot (?:mask|disable)\b",
    "assign": r"\bassign(?: *$| (?:\(|phantom|[0-9a-f]{4,}:))|XEN_DOMCTL_assign",
    "MSI-X on ": "",
    "MSI-X:": r"MSI-X:(?: Enable|\W*$)|\] MSI-X:",
    "buffer overrun": "",
    "unexpected": r"unexpected(?: initial|\W*$)",
    "fixing": "",
    "MSI information": "",
    "PCI devices ==": "",
    "IRQ information": "",
    "vec=": "",  # of a row that was torn, one of two may be left
    "dest=": "",
    "vec:": "",
    "aff:{": "",
    "MSIs <": "",
    " - node": "",
    "en version": r"[Xx]en version",
    "Command line: ": "",
    "failed (-16)": "",
    "MASKALL=": "",
    "Masked": r"Masked[+-] *$",
    "xen_version": "",
    "Linux version": "",
    " suppressed": "",
    "printk": r"printk: [0-9]|\* [0-9]+ printk",
    "messages ": r"messages (?:dropped|lost)",
    "...": r"(?m)^[\W_]*\.{3}",
    "[..]": "",
    "-- ": r"-- (?:Boot|Reboot) ",
    "\u2026": r"(?m)^[\W_]*$",
    "snip": r"(?m)^[\W_]*snip",
    "omitted": "",
    "truncated": "",
    "Missed ": r"Missed [0-9]",
    "MSI-X release": "",
    "MSI-X preparation": "",
    "pciback": "",
    "setpci ": "",
    "(cap 11 @": "",
    "32752": "",
    "resource busy": "",
    "pci_add_dm_done": "",
    "/H": r"1/H[G ]/[01?]",  # of a row that was torn
    "/  /1": "",
    "Count=": r"Count=[0-9]+ M",
    "s 0000:": rf"'s {FUNCTION} *$",
    "on 0000:": rf"on {FUNCTION} *$",
    " - D": rf"{FUNCTION} - D\S* *(?:- ?)?[node]*$",  # of key Q, cut in the middle
    " - d": rf"{FUNCTION} - d\S* *(?:- ?)?[node]*$",
    "xen": r"\bxen(?: *$|[ _]map)",
    "enabling MSI": "",
    "xc_assign_device": "",
    "new xl format": "",
    "timed out": "",
    "frontend error": "",
    "ready ": r"\bready (?:after )?[0-9]+ms",
    "power state": "",
    "header type 7f": "",
    "Slot": r"Slot\(|Slot:\t",
    "Bus Error": "",
    "DPC": r"DPC:? ",
    "AER: ": "",
    "retraining failed": "",
    "Link Active not set": "",
    "nobody cared": "",
    "Disabling IRQ #": "",
    "VPD": "",
    "completion polled": "",
    "controller is down": "",
    "not permitted": "",
    "map:fail": "",
    "fault ": r"fault (?:addr|index)",
    "PAGE_FAULT": "",
    "no free pirq": "",
    "ATS device": "",
    "not found/assigned": "",
    "wait ": r"wait (?:descriptor|taking|took)",
}
_AT_THE_END = dict.fromkeys(MARKS.strip(), f"[{MARKS.strip()}] *$")  # what a pager has cut
_AT_THE_END[":"] = r"\.[0-7]: *$"  # wrapped behind its device
_WANTED |= {f"{sign}{end}": expression for sign, expression in _AT_THE_END.items() for end in ("\n", " \n")}
_LISTED = re.compile(r"\b[0-9a-f]{2}:[01][0-9a-f]\.[0-7] [A-Z0-9\"]")
_LISTS = ("00: ", "Control: I/O", "Flags: ", "Capabilities: ", "Kernel driver", "header type 7f")


_EXPRESSIONS = [(needle, re.compile(wanted) if wanted else None) for needle, wanted in _WANTED.items()]


def _candidates(text: str, end: int, *, listed: bool) -> set[int]:
    """Where the lines begin that are to be looked at. To look for one text after the other is faster than for any."""
    starts: set[int] = set()
    plain = text.isascii()
    for needle, wanted in _EXPRESSIONS:
        if plain and not needle.isascii():
            continue
        at = text.find(needle, 0, end)
        while at >= 0:
            start, stop = text.rfind("\n", 0, at) + 1, text.find("\n", at)
            if wanted is None or wanted.search(text, start, stop if stop >= 0 else len(text)):
                starts.add(start)
            at = text.find(needle, stop, end) if stop >= 0 else -1
    if listed:
        starts.update(text.rfind("\n", 0, hit.start()) + 1 for hit in _LISTED.finditer(text, 0, end))
    return starts


_KERNEL_LINE = re.compile(r"^(?:.{0,60} kernel: |[> |]{0,8}(?:<\d>)?\[ *\d+\.\d{3,9}\] )", re.MULTILINE)
# a line of dom0's kernel into which Xen wrote its own: on a serial line both come out piece by piece
_TORN = re.compile(r"\(XEN\) (?<=[\w.,:;)/-]\(XEN\) )")
_MIXED = re.compile(  # a prefix of Xen, and a time of a kernel, with something else in it
    r"\(X(?:[\n[<]|E[\n[<0-9a-z]|EN[\n[<0-9a-z]|EN\)[a-z0-9])"
    r"|\[ {2,}(?![A-Za-z]+ *\])[A-Za-z(<]"
    r"|\[(?: {1,5}[0-9]{1,6}(?:\.[0-9]{0,5})?|[0-9]{1,6}\.[0-9]{3,5})"
    r"(?=[\n\t[<>A-Za-z(=])(?![KMGT][BbiTH]|[A-Za-z]{1,3}\])"
)
_TORN_BY_XEN = re.compile(
    r"^(\[ *\d+\.\d{6}\] (?:(?!\(XEN\)).)*)((?:\(XEN\) .*\n)+)(?!\(XEN\)|\(d\d|\[|<\d)(.*)\n", re.MULTILINE
)


class Reader:
    """Reads texts and keeps what they show."""

    def __init__(self, rules: Rules | None = None) -> None:
        self._window = Window(rules or catalogue())
        self._xen = XenLines(self._window)
        self._kernel = KernelLines(self._window)
        self._plain = PlainLines(self._window, self._xen, self._kernel)
        self._unescaped = Unescaped()

    def read(self, name: str, blocks: Iterable[bytes]) -> None:
        """One file, in blocks of any size."""
        self._window.file = FileFacts(name)
        self._window.facts.files.append(self._window.file)
        self._window.text, self._unescaped, self._window.base, self._window.joined = "", Unescaped(), 0, 0
        self._window.front = None
        self._plain.begin()
        rest = iter(blocks)
        head = b""
        while len(head) < _HEAD_BYTES and (block := next(rest, b"")):
            head += block
        if not head:
            self._window.file.refused = "empty"
            return
        try:
            decoder = codecs.getincrementaldecoder(encoding(head))("replace")
        except Unreadable as error:
            self._window.file.refused = str(error)
            return
        for block in itertools.chain([head], rest):
            self._take(decoder.decode(block), last=False)
        self._take(decoder.decode(b"", True), last=True)
        self._plain.configs(self._window.text)
        mixed = self._window.file.mixed
        if mixed is not None and self._window.file.linux:
            self._window.facts.host("").broken.append(mixed)

    def refuse(self, name: str, why: str) -> None:
        """A file of which nothing, or nothing more, can be read."""
        known = next((one for one in self._window.facts.files if one.name == name), None)
        if known is None:
            known = FileFacts(name)
            self._window.facts.files.append(known)
        known.refused = why

    def close(self) -> Facts:
        """All that was found. Nothing can be read afterwards."""
        for host in self._window.facts.hosts.values():
            host.conclude()
            self._attach(host)
            for device in host.devices.values():
                unbound = None if device.was_enabled else device.found.pop("unbound-under-owner", None)
                if unbound is not None:  # whether MSI-X is on is not in the text
                    device.found.setdefault("stale-or-spare", unbound)
                if device.found.keys() & {"maskall-set", "firmware-maskall"}:
                    device.found.pop("masked-idle", None)  # who set it is told
                if "leftover-pirqs" in device.found:
                    device.found.pop("stale-or-spare", None)
                    device.found.pop("masked-by-whom", None)
        self._window.facts.merge()
        return self._window.facts

    def _attach(self, host: PastedHost) -> None:
        """Config space without an address is that of the only device that was passed through, if there is one."""
        lent = [device for device in host.devices.values() if device.found or device.owner not in ("", "d0", "NULL")]
        for control, place in host.unnamed:
            if len(lent) == 1:
                lent[0].take(control, place)
            elif control.masked:
                host.show("maskall-kept" if control.enabled else "masked-idle", place)

    def _take(self, more: str, *, last: bool) -> None:
        window = self._window
        window.text += self._unescaped.take(more, last=last)
        if _TORN.search(window.text):
            window.text = _TORN_BY_XEN.sub(r"\1\3\n\2", window.text)
        if len(window.text) > LONGEST_LINE + _CARRY and window.text.find("\n", 0, LONGEST_LINE) < 0:
            window.file.note = "lines longer than 64 KiB were cut"
            cut = window.text.find("\n", LONGEST_LINE)
            window.text = window.text[:LONGEST_LINE] + ("" if cut < 0 else window.text[cut:])
        size = len(window.text)
        end = size if last else window.text.rfind("\n", 0, max(0, size - _CARRY)) + 1
        if end <= 0:
            return
        self._scan(end, last=last)
        done = window.text[:end]
        lines = done.count("\n")
        window.file.lines += lines + (1 if last and done and not done.endswith("\n") else 0)
        window.file.xen += done.count("(XEN)")
        window.file.toolstack += done.count("libxl: ")
        window.base += lines
        if not last:
            window.text = window.text[end:]

    def _scan(self, end: int, *, last: bool) -> None:
        """Look at each line before `end` that has something in it; those behind may belong to it.

        And at the first and the last of a file, of which only an end or a beginning may be there.
        """
        text = self._window.text
        place, number, position = 0, self._window.base + 1, 0
        if self._window.file.linux == 0 and _KERNEL_LINE.search(text, 0, end):
            self._window.file.linux = 1
        self._mixed(text, end)
        listed = self._window.base == 0 or any(needle in text for needle in _LISTS)
        edges = {0} if self._window.base == 0 else set()
        edges |= {text.rstrip().rfind("\n") + 1} if last else set()
        for start in sorted(edges | _candidates(text, end, listed=listed)):
            if start < place:
                continue  # it was read with a line before it
            stop = text.find("\n", start)
            stop = len(text) if stop < 0 else stop
            raw = text[start:stop]
            number += text.count("\n", position, start)
            position = start
            if not self._xen.again(raw, number, stop + 1):
                stop = self._look(raw[:LONGEST_LINE], number, stop + 1)
            place = stop + 1

    def _mixed(self, text: str, end: int) -> None:
        """A prefix of Xen or a time of a kernel in which another writer wrote: both wrote sign by sign."""
        file, torn = self._window.file, _MIXED.search(text, 0, end)
        if file.mixed is None and torn is not None:
            start, stop = text.rfind("\n", 0, torn.start()) + 1, text.find("\n", torn.start())
            number = self._window.base + 1 + text.count("\n", 0, start)
            file.mixed = PastedPlace(file.name, number, text[start : stop if stop >= 0 else len(text)].strip()[:240])

    def _look(self, raw: str, number: int, at: int) -> int:
        """One line with something in it; `at` is where the next one begins. How far was read is returned."""
        far = at - 1
        for line in self._window.clean(raw, number):
            host = self._window.facts.host(line.host)
            if line.speaker is Speaker.XEN:
                self._xen.line(host, line, at)
            elif line.speaker is Speaker.LINUX:
                self._window.file.linux += 1
                self._kernel.line(host, line, at)
            elif line.speaker is Speaker.TEXT:
                far = max(far, self._plain.line(host, line, at))
        return far
