"""What a kernel says in a text, dom0's or a PV guest's. Pure."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, replace

from harness.base.errors import ParseError
from harness.model.address import FUNCTION, Bdf
from harness.model.message import Origin
from harness.report.explain.cut import MARKS, OTHERS, begins_in_linux, resembles
from harness.report.explain.facts import PastedHost
from harness.report.explain.lines import PastedLine, Speaker
from harness.report.explain.window import JOINS, Window, put_together, without_soft_end
from harness.xen.keys.version import parse_linux

LINUX_VERSION = re.compile(r"Linux version ([0-9]\S*)")
_NOT_OWNER = re.compile(r"map irq failed -19 for 32752\b")
_STILL_IN_USE = re.compile(r"MSI-X (?:release|preparation) failed \(-16\)")
_MAPPING = re.compile(r"xen[ _]map irq")
_MAPPED = re.compile(r"xen[ _]map irq failed -[0-9]+ for [0-9]+ domain")
_CAME_BACK = re.compile(rf"({FUNCTION}): ready [0-9]+ms after ")  # pci_dev_wait
_BEGUN = re.compile(  # and not to its end: another writer may be in it
    rf"pciback {FUNCTION}: (?:xen[-_]pciback: )?MSI(?!-X (?:release|preparation) failed \(-[0-9]+\))"
)
_DROPPED_BEGUN = re.compile(r"\*\* [0-9]+(?: p[rintk]*| *$)")  # as an old kernel begins to tell of lost lines
_FRONTEND = re.compile(r"Xen PCI frontend error: -\d+!|has not registered MSI/MSI-X support")


@dataclass
class KernelLines:
    _window: Window

    def line(self, host: PastedHost, line: PastedLine, at: int) -> None:
        """One message; where it says nothing that is known, with the lines behind it, for it may be wrapped."""
        if self._says(host, line):
            return
        texts = [without_soft_end(line.text)]
        wrapped = () if texts[0].endswith(tuple(MARKS)) else self._window.following(at, JOINS - 1, line.number)
        for other, _ in wrapped:
            rest = other.text.strip()
            if other.speaker is not Speaker.TEXT or not rest:
                break
            texts = put_together(texts, other.text)
            if any(OTHERS.search(text) or self._says(host, replace(line, text=text)) for text in texts):
                self._window.joined = other.number
                return
        if _DROPPED_BEGUN.match(line.text):
            self._window.lost(host, line)
        elif any(map(begins_in_linux, texts)) or _BEGUN.search(line.text) or resembles(line.text):
            self._window.unreadable(host, line)

    def _says(self, host: PastedHost, line: PastedLine) -> bool:
        text = line.text
        if version := LINUX_VERSION.search(text):
            with contextlib.suppress(ParseError):
                host.linux = parse_linux(version.group(1))
        elif _NOT_OWNER.search(text):
            self._window.of_device(host, line, "quarantine-kept")
        elif _STILL_IN_USE.search(text):
            self._window.of_device(host, line, "leftover-pirqs")
        elif back := _CAME_BACK.search(text):
            if device := host.devices.get(Bdf.parse(back[1])):
                device.came_back()
        elif _FRONTEND.search(text):
            self._window.of_device(host, line, "intx")
        elif _MAPPING.search(text) and not _MAPPED.search(text):
            return False  # the error and the domain are still to come
        else:
            return self._window.cause(host, line, Origin.DOM0)
        return True
