"""What neither Xen nor a kernel has said: lspci, config space in hexadecimal, xl and libvirt, and people. Pure."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from errno import errorcode

from harness.base.errors import ParseError
from harness.model.address import FUNCTION, SEGMENT, Bdf
from harness.model.config import ConfigSpace, MsixControl
from harness.report.explain.cut import (
    OTHERS,
    begins_in_assigning,
    begins_in_libxl,
    elided,
    ends_linux,
    ends_xen,
    resembles_without_speaker,
)
from harness.report.explain.facts import DeviceFacts, PastedHost
from harness.report.explain.hexadecimal import ROW, config_space, row_bytes, spaces
from harness.report.explain.kernellines import LINUX_VERSION, KernelLines
from harness.report.explain.lines import PastedLine, PastedPlace, Speaker
from harness.report.explain.signature import BUSY_OR_OWNED
from harness.report.explain.window import Window
from harness.report.explain.xenlines import XEN_VERSION, XenLines
from harness.xen.keys.debugkeys import DEVICES, IRQS, MASKS
from harness.xen.keys.lspci import parse_lspci

_LSPCI_LINES = 400  # of one device, with an empty one behind each
_ASIDE = 8  # lines of other speakers between two of lspci
_SHORT = rf"(?:{SEGMENT}:)?[0-9a-f]{{2}}:[01][0-9a-f]\.[0-7]"
_LSPCI = re.compile(rf"(?:{_SHORT}/)*({_SHORT}) ((?:[0-9a-f]{{4}}: |[A-Z])\S.*|\".*)")
_LSPCI_WITHIN = re.compile(rf"(.{{0,80}}?[^\w\t])(?={_SHORT} (?:[0-9a-f]{{4}}: |[A-Z])\S)")
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
_MSIX = re.compile(r"\bMSI-X: Enable([+-]) Count=([0-9]{1,4}) Masked([+-])(?![\w+-])")
_A_PIECE = re.compile(r"Masked[+-]|MSI-X|\[[0-9a-f]{2}\] |^Cap[abilities: ]*$")  # of a capability
_MSIX_BEGUN = re.compile(r"Capabilities: \[[0-9a-f]{2}\] MSI-X:(?: |\W*$)")
_MSIX_WITHIN = re.compile(r"\] MSI-X: Enable[+-]")
_CONTROL = re.compile(r"Control: I/O[+-](?: [A-Za-z0-9/]+[+-]){9} DisINTx[+-]")
_CUT = re.compile(rf"[a-zA-Z0-9: ]*MSI-X on (?:(?:Dom\w+|d\[?\w+\]?)'s )?{FUNCTION}\W*")
_LOST = re.compile(
    r"\*\* [0-9]+ printk messages dropped|Missed \d+ (?:k[ernl]*|$)|/dev/kmsg buffer overrun"
    r"|messages lost due to rate-limiting"
)
_BOOTED = re.compile(r"-- (?:Boot [0-9a-f]{32}|Reboot) --")  # journalctl
_SAVED = re.compile(r"Saving to .* new xl format")
_UNANSWERED = re.compile(
    r"pci_remove_timeout: Domain \d+:timed out waiting for DM to remove|Backend .*/pci/\S+ not ready"
)
_ASSIGN_FAILED = "xc_assign_device failed:"
_REASONS = "|".join([*(re.escape(os.strerror(one)) for one in errorcode), r"Unknown error -?\d+"])
_ASSIGN_SAID = re.compile(rf"xc_assign_device failed: (?:(Device or resource busy)|{_REASONS})")
_SETPCI = re.compile(
    rf"setpci (?:-\S+ )*-s ?({_SHORT}) (?:-\S+ )*CAP(?:_MSIX|0?11)(?:\+0?x?([0-9a-f]))?(?:\.[bwl])?$",
    re.IGNORECASE,
)
_REGISTER = re.compile(
    rf"(?:({FUNCTION}) \(cap 11 @([0-9a-f]+)\) @([0-9a-f]+) = )?([0-9a-f]{{2}}|[0-9a-f]{{4}}|[0-9a-f]{{8}})"
)
_CONFIG_FILE = re.compile(rf"({FUNCTION})/config\b")
_LINUX_BEGINS = re.compile(
    rf"[A-Za-z][\w-]* (?:{FUNCTION}|nvme[0-9]+|pci-[0-9]+)[ :]|xen:|DMAR:|AMD-Vi:|irq [0-9]|Disabling IRQ|\*\* [0-9]"
)
_LINUX_WITHIN = re.compile(
    rf"(?<=[\"';,>|\t])[a-z][\w-]* {FUNCTION}: |(?<=kernel: )[a-z][\w-]* {FUNCTION}: |\b(?:xen-)?pciback {FUNCTION}: "
)
_ROW_PIECE = re.compile(
    r"\bvec=[0-9a-f]{2} .*assert|\bmask=[01]/[H ][G ]/[01?]|\bIRQ: *[0-9]+ vec:|\baff:\{[0-9,-]*\}/\{"
    r"|\bMSIs <[ 0-9]*(?:>|$)"
)
_MESSAGE_PIECE = re.compile(rf"MSI-X (?:release|preparation) failed \(-16\)$|masking MSI-X on .*{FUNCTION}$")
_UNSAID = (("   ", IRQS), (" ", MASKS), ("", DEVICES))


@dataclass
class PlainLines:
    _window: Window
    _xen: XenLines
    _kernel: KernelLines
    _saving: bool = False
    _spaces: set[int] = field(default_factory=set)  # lines in hexadecimal that belong to a device of lspci

    def begin(self) -> None:
        """Another file."""
        self._saving = False
        self._spaces.clear()

    def line(self, host: PastedHost, line: PastedLine, at: int) -> int:
        text = line.text.strip()
        header = _LSPCI.fullmatch(text)
        if header is not None and not line.text.startswith(("\t\t", "        ")):
            return self._lspci(host, line, header, at)
        if (within := _LSPCI_WITHIN.match(line.text)) and self._window.learn(within[1], at):
            return self.line(host, replace(line, text=line.text[within.end(1) :]), at)
        if version := XEN_VERSION.search(text):
            self._xen.version(host, version.group(1))
        elif version := LINUX_VERSION.search(text):
            self._kernel.line(host, line, at)
        elif _LOST.search(text) or (elided(text) and self._window.beside_log(at)):
            self._window.lost(host, line)
        elif _MSIX_BEGUN.match(text):
            self._unnamed(host, line, at)
        elif (
            (line.number > self._window.joined and _CUT.fullmatch(text))
            or (line.number == 1 and (ends_xen(text) or any(form.piece.search(text) for _, form in _UNSAID)))
            or any(form.row.fullmatch(f"{lead}{text}") for lead, form in _UNSAID)
            or (line.number > self._window.joined and _ROW_PIECE.search(text))
        ):
            self._window.unreadable(host, line)  # the beginning of it is missing, so that nobody knows who said it
        elif _SAVED.search(text):
            self._saving = True
        elif text.startswith("Slot:\t"):
            self._window.file.listed += 1  # lspci -vmm
        elif _BOOTED.match(text):
            for one in self._window.facts.hosts.values():
                one.boot("")
        elif self._assigning(text):
            self._assigned(host, line, at)
        elif asked := _SETPCI.search(text):
            return self._register(host, line, asked, at)
        elif (told := _REGISTER.fullmatch(text)) and told[1]:  # setpci -v
            self._read(host, Bdf.parse(told[1]), int(told[3], 16) - int(told[2], 16), told[4], line)
        elif self._saving and _UNANSWERED.search(text):
            host.show("saved-with-device", self._window.place(line))
        elif said := _LINUX_BEGINS.match(text) or _LINUX_WITHIN.search(text):
            self._window.file.linux += 1
            self._kernel.line(host, replace(line, text=text[said.start() :]), at)  # dmesg -t, or a column of a table
        elif not self._quoted(host, line) or (line.number > self._window.joined and self._torn(line, at)):
            self._window.unreadable(host, line)
        return at - 1

    def _torn(self, line: PastedLine, at: int) -> bool:
        """Whether it may be one of those that matter, of which a part is missing; and not the end of another."""
        text = line.text.strip()
        if ends_linux(text) or ends_xen(text) or _MESSAGE_PIECE.search(text):
            torn = True
        else:
            torn = _MSIX.search(text) is None and resembles_without_speaker(text)
        return torn and not any(OTHERS.search(whole) for whole in self._window.above(at, line.text))

    def _quoted(self, host: PastedHost, line: PastedLine) -> bool:
        """MSI-X in the middle of a line, of a device that is not known. False if it cannot be read."""
        shown = list(_MSIX.finditer(line.text))
        for found in shown:
            self._window.file.devices += 1
            host.unnamed_config(_control(found), self._window.place(line))
        return bool(shown) or _MSIX_WITHIN.search(line.text) is None

    def _unnamed(self, host: PastedHost, line: PastedLine, at: int) -> None:
        """MSI-X of a device that is not named."""
        whole = self._window.whole(line, at, _MSIX)
        found = _MSIX.search(whole) if whole is not None else None
        if found is None:
            self._window.unreadable(host, line)
            return
        self._window.file.devices += 1
        host.unnamed_config(_control(found), self._window.place(line))

    def _assigning(self, text: str) -> bool:
        if "xc_assign_device" not in text:
            return begins_in_assigning(text)
        return _ASSIGN_FAILED in text or begins_in_libxl(text) or "libxl" in text

    def _assigned(self, host: PastedHost, line: PastedLine, at: int) -> None:
        """What libxl got from Xen. A reason that was cut or is in another language is not guessed at."""
        whole = self._window.whole(line, at, _ASSIGN_SAID)
        said = _ASSIGN_SAID.search(whole) if whole is not None else None
        if said is None:
            if self._window.whole(line, at, OTHERS) is None:
                self._window.unreadable(host, line)
        elif said[1]:
            host.show("assign-busy", self._window.place(line), note=BUSY_OR_OWNED)

    def _register(self, host: PastedHost, line: PastedLine, asked: re.Match[str], at: int) -> int:
        """A register of MSI-X, read with setpci, and the answer in the line behind."""
        answer, stop = next(self._window.following(at, 1, line.number), (None, at - 1))
        told = _REGISTER.fullmatch(answer.text.strip()) if answer is not None else None
        if answer is None or told is None or told[1]:
            return at - 1  # with -v the answer says of what it is one
        if not self._read(host, Bdf.parse(asked[1]), int(asked[2] or "0", 16), told[4], answer):
            self._window.unreadable(host, answer)
        return stop

    def _read(self, host: PastedHost, address: Bdf, offset: int, value: str, line: PastedLine) -> bool:
        """Message control is the word at 2, and so the upper half of the first four bytes. False for anything else."""
        device = host.device(address)
        if device is None or (offset, len(value)) not in ((2, 4), (0, 8)):
            return False
        self._window.file.devices += 1
        control = int(value[:4], 16)
        if control == 0xFFFF:
            device.show("dead-link", self._window.place(line))
        else:
            device.take(MsixControl(control), self._window.place(line))
        return True

    def _lspci(self, host: PastedHost, line: PastedLine, header: re.Match[str], at: int) -> int:
        """One device of lspci, to an empty line, another header or speaker, or something of an earlier part."""
        device = host.device(Bdf.parse(header.group(1)))
        rank, taken = 0, [line.text.strip()]
        far, ended, gone = at - 1, False, "(rev ff)" in line.text
        msix: list[tuple[MsixControl, PastedPlace]] = []
        recognised = 0
        space: list[tuple[bytes, PastedPlace]] = []  # its config space in hexadecimal
        doubled = False  # an empty line stands behind each, so that none is the end
        lost = ""  # what shows that a capability may be missing
        begin = at
        for other, stop in self._window.following(at, _LSPCI_LINES, line.number):
            text, begin, start = other.text.strip(), stop + 1, begin
            if other.speaker is not Speaker.TEXT and self._goes_on(begin):
                for piece in self._window.pieces(start, stop, other.number):
                    if piece.speaker is Speaker.XEN:
                        self._xen.line(host, piece, begin)
                    elif piece.speaker is Speaker.LINUX:
                        self._kernel.line(host, piece, begin)
                    elif piece.text.strip():
                        lost = piece.text.strip()
                far = stop
                continue
            if other.speaker is not Speaker.TEXT or _LSPCI.fullmatch(text):
                break
            if not text:
                ended = "\t" not in other.text  # else a line was cut
                continue
            if row := ROW.fullmatch(text):
                space.append((row_bytes(row), self._window.place(other)))
                if not self._window.base:  # only of a short text is config space read that names no device
                    self._spaces.add(other.number)
                ended, far = False, stop
                continue
            part = _PART.match(other.text)
            if ended and (part is None and not other.text.startswith(("\t", " "))):
                break
            doubled, ended = doubled or ended, False
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
                    msix.append((_control(found), self._window.place(other)))
                elif _MSIX_BEGUN.search(text):
                    self._window.unreadable(host, other)
            elif found := _MSIX.search(other.text):
                msix.append((_control(found), self._window.place(other)))
            elif other.number > self._window.joined and (_A_PIECE.search(text) or elided(text)):
                lost = text
            far = stop
        else:
            ended = ended and not doubled
        config = config_space(b"".join(row for row, _ in space))
        gone = gone or (config is not None and config.gone)
        shown = _msix_of(config) if config is not None else None
        if shown is not None and not msix:
            msix.append((shown, space[0][1]))
        if device is None or not (recognised or gone or config is not None):
            self._window.file.listed += 1
            return at - 1
        self._window.file.devices += 1
        self._listed(host, device, line, header.group(2), taken, ended, gone, msix, config)
        if lost and not msix and not gone:
            device.without_msix = None
            device.found.pop("no-msix", None)
            device.unknown = f"whether it has MSI-X is not known: a line of lspci cannot be read: {lost[:80]}"
        return far

    def _goes_on(self, at: int) -> bool:
        """Whether lspci goes on behind what others wrote on the same console."""
        behind = (line.text for line, _ in self._window.following(at, _ASIDE, 0) if line.speaker is Speaker.TEXT)
        first, second = next(behind, "-"), next(behind, "-")  # the rest of a line may come first
        return not first or first.startswith(("\t", "    ")) or second.startswith("\t")

    def configs(self, text: str) -> None:
        """Config space in hexadecimal that follows no header of lspci: of a config file, which the prompt may name."""
        if self._window.file.lines != text.count("\n") + (not text.endswith("\n")):
            return  # the file is a long log
        for begin, data in spaces(text):
            number = text.count("\n", 0, begin) + 1
            space = config_space(data)
            control = _msix_of(space) if space is not None else None
            if number in self._spaces or control is None:
                continue
            self._window.file.devices += 1
            above = text.rfind("\n", 0, max(0, begin - 1)) + 1
            named = _CONFIG_FILE.search(text, above, begin)
            place = PastedPlace(self._window.file.name, number, text[begin : text.find("\n", begin)].strip())
            host = self._window.facts.host("")
            device = host.device(Bdf.parse(named[1])) if named else None
            if device is not None:
                device.take(control, place)
            else:
                host.unnamed_config(control, place)

    def _part(self, line: PastedLine, at: int, name: str, text: str) -> str:
        wanted = {"Control": _CONTROL, "Capabilities": _MSIX if _MSIX_BEGUN.search(text) else None}.get(name)
        if wanted is None:
            return text
        return (self._window.whole(line, at, wanted) or text).strip()

    def _listed(
        self,
        host: PastedHost,
        device: DeviceFacts,
        line: PastedLine,
        name: str,
        taken: list[str],
        ended: bool,
        gone: bool,
        msix: list[tuple[MsixControl, PastedPlace]],
        config: ConfigSpace | None,
    ) -> None:
        if device.name and device.name.split(" (")[0] != name.split(" (")[0]:
            host.note(f"{device.address} is listed as two different devices: more than one host")
        device.name = device.name or name
        driver = next((text for text in taken if "Kernel driver in use: " in text), "")
        device.driver = driver.rpartition(": ")[2] or device.driver
        place = self._window.place(line)
        if gone:
            device.show("dead-link", place)
            return
        try:
            listed = parse_lspci("\n".join(taken) + ("\n\n" if ended else "\n"))
            device.memory = listed.command.memory
            line_in_use = driver and "pciback" not in driver and not listed.command.intx_disabled
            if line_in_use and listed.command.bus_master and msix and not msix[-1][0].enabled:
                lines = [text for text in taken if "] MSI: Enable+" in text]
                if not lines:
                    device.show("intx", place, msix[-1][1])
            if not msix and listed.msix is None:
                device.without_msix = place
                if "pciback" in driver:
                    device.show("no-msix", place)
        except ParseError as error:
            if config is not None and not msix:
                device.without_msix = place
            elif not msix:
                device.unknown = error.message.partition(": ")[2] or error.message
        for control, where in msix:
            device.take(control, where)


def _control(found: re.Match[str]) -> MsixControl:
    """What `_MSIX` took."""
    return MsixControl((found[1] == "+") << 15 | (found[3] == "+") << 14 | max(0, int(found[2]) - 1) & 0x7FF)


def _msix_of(space: ConfigSpace) -> MsixControl | None:
    return None if space.gone or space.msix is None else space.msix.control
