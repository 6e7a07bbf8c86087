"""The output of `lspci -vvv` for one device. Pure.

The second witness of the hardware view: people read lspci, so the harness reads it too and can show that it agrees
with the raw bytes. Decisions rest on `harness.model.config`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from harness.base.errors import ParseError
from harness.model.address import SEGMENT, Bdf
from harness.model.config import CommandRegister, MsixControl

# bit 0 upwards, as pciutils lspci.c (show_verbose) names them
_FLAG_NAMES = ["I/O", "Mem", "BusMaster", "SpecCycle", "MemWINV", "VGASnoop"]
_FLAG_NAMES += ["ParErr", "Stepping", "SERR", "FastB2B", "DisINTx"]


@dataclass(frozen=True)
class LspciDevice:
    """What lspci shows of one device. `command` and `msix` raise ParseError when lspci could not see them."""

    address: Bdf
    driver: str | None  # "Kernel driver in use"; None: no driver bound
    gone: bool  # "Unknown header type 7f": config space reads as all ones
    access_denied: bool  # "<access denied>": run without root, nothing is known of the capabilities
    control_line: CommandRegister | None
    msix_line: MsixControl | None
    file: str
    unlisted: str  # why the capabilities that are listed may not be all

    @property
    def command(self) -> CommandRegister:
        """The COMMAND register, put together from the flags of the Control line."""
        if self.control_line is None:
            raise ParseError(f"{self.address} is gone", file=self.file, expected="a device that is present")
        return self.control_line

    @property
    def msix(self) -> MsixControl | None:
        """MSI-X message control, put together from Enable, Count and Masked; None when the device has no MSI-X."""
        if self.gone or self.access_denied:
            why = "is gone" if self.gone else "was read without privilege (<access denied>)"
            raise ParseError(f"{self.address} {why}", file=self.file, expected="lspci -vvv run as root")
        if self.msix_line is None and self.unlisted:
            raise ParseError(
                f"whether {self.address} has MSI-X is not known: {self.unlisted}",
                file=self.file,
                expected="all capabilities, to the end of the list",
            )
        return self.msix_line


_HEADER = re.compile(rf"((?:{SEGMENT}:)?[0-9a-f]{{2}}:[01][0-9a-f]\.[0-7]) \S.*")
_STDERR = re.compile(r"(?:pcilib|lspci): ")
_KNOWN = re.compile(  # the names of pciutils ls-caps.c (show_caps) from 3.1 to 3.13
    r"Power Management version|AGP3? ?(?:version|<)|Vital Product Data|Slot ID: |MSI: |MSI-X: |CompactPCI |PCI-X "
    r"|HyperTransport: |Vendor Specific Information|Debug port|Hot-plug capable|(?:Bridge )?[Ss]ubsystem|Secure device"
    r"|Express |SATA HBA|PCI Advanced Features|Enhanced Allocation|Flattening Portal Bridge|Null"
    r"|#[0-9a-f]{2}|Capability ID |Message Signalled Interrupts"
)
_CAPABILITY = re.compile(r"\[([0-9a-f]{2,3})(?: v[0-9]+)?\] (\S.*)")


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines of standard output, each with its number. A complaint on standard error may stand in the middle of one."""
    begun: tuple[int, str] | None = None
    for number, line in enumerate(text.removesuffix("\n").split("\n"), 1):
        first, said = begun or (number, "")
        complaint = _STDERR.search(line)
        if complaint:
            said += line[: complaint.start()]
            begun = (first, said) if said else None
        else:
            yield first, said + line.rstrip()
            begun = None


def parse_lspci(text: str, *, file: str = "<text>") -> LspciDevice:
    """Accepted format: the output of `lspci -vvv -s BDF` (pciutils 3.7 and later) for exactly one device.

        04:00.0 Non-Volatile memory controller: ...
        <tab>Control: I/O- Mem+ BusMaster- ... DisINTx-
        <tab>Status: Cap+ 66MHz- ...
        <tab>Capabilities: [40] MSI-X: Enable- Count=65 Masked-
        <tab>Kernel driver in use: pciback
        <an empty line>

    or, without root, `<tab>Capabilities: <access denied>`; or, for a device that is gone,
    `<tab>!!! Unknown header type 7f`. Other indented lines are ignored, and what lspci and its library said on standard
    error. Raises ParseError. Where MSI-X is not listed, it is absent only if the list was seen to its end: `<chain
    broken>`, `<chain looped>` and an output that was cut make it unknown.
    """
    address: Bdf | None = None
    driver: str | None = None
    command: CommandRegister | None = None
    msix: MsixControl | None = None
    gone = access_denied = ended = False
    listed: bool | None = None  # whether the device says that it has capabilities
    any_listed = False
    broken = ""
    for number, line in _lines(text):
        if not line:
            ended = address is not None
        elif not line.startswith("\t"):
            header = _HEADER.fullmatch(line)
            if header is None:
                raise ParseError(f"{line!r}", file=file, line=number, expected="a line as '04:00.0 class: name'")
            if address is not None:
                raise ParseError("a second device", file=file, line=number, expected="one device")
            address = Bdf.parse(header.group(1))
        # the details of a capability, which may reuse these names, stand behind another tab
        name, _, rest = line.removeprefix("\t").partition(": ")
        if name == "Control":
            command = _parse_control(rest, file, number)
        elif name == "Status":
            listed = {"Cap+": True, "Cap-": False}.get(rest.split(" ")[0])
        elif line == "\tCapabilities: <access denied>":
            access_denied = True
        elif name == "Capabilities":
            capability = _CAPABILITY.fullmatch(rest)
            if capability is None:
                raise ParseError(f"Capabilities: {rest}", file=file, line=number, expected="[offset] name")
            any_listed = True
            if "MSI-X" in capability[2]:
                msix = _parse_msix(rest, file, number)
            elif int(capability[1], 16) < 0x100 and not _KNOWN.match(capability[2]):
                broken = f"the list breaks off at [{capability[1]}] {capability[2]}"
        elif name in ("Kernel driver in use", "Kernel modules"):
            ended = True
            driver = rest if name == "Kernel driver in use" else driver
        elif name == "!!! Unknown header type 7f":
            gone = True
    if address is None:
        raise ParseError("no device in the output", file=file, expected="a line as '04:00.0 class: name'")
    if command is None and not gone:
        raise ParseError(f"no Control line for {address}", file=file, expected="the output of lspci -vvv")
    unlisted = broken or _left_out(listed, any_listed=any_listed, ended=ended)
    return LspciDevice(address, driver, gone, access_denied, command, msix, file, unlisted)


def _left_out(listed: bool | None, *, any_listed: bool, ended: bool) -> str:
    """Why an unbroken list may not have all capabilities; empty if it has."""
    if listed is None:
        return "there is no Status line"
    if listed and not any_listed:
        return "no capability is listed, though Status says Cap+"
    return "the output is cut off" if listed and not ended else ""


_FLAG = re.compile(r"([A-Za-z0-9/]+)([+-])")


def _parse_control(rest: str, file: str, number: int) -> CommandRegister:
    """Accepted format: `I/O- Mem+ BusMaster- ... DisINTx-`, all eleven flags in the order of their bits."""
    flags = [match.groups() if (match := _FLAG.fullmatch(word)) else (word, "") for word in rest.split()]
    if [name for name, _ in flags] != _FLAG_NAMES or not all(sign for _, sign in flags):
        raise ParseError(f"Control: {rest}", file=file, line=number, expected=f"a sign on each of {_FLAG_NAMES}")
    return CommandRegister(sum((sign == "+") << bit for bit, (_, sign) in enumerate(flags)))


_MSIX = re.compile(r"\[[0-9a-f]{2,3}\] MSI-X: Enable([+-]) Count=([0-9]{1,4}) Masked([+-])")


def _parse_msix(rest: str, file: str, number: int) -> MsixControl:
    """Accepted format: `[40] MSI-X: Enable- Count=65 Masked-` (pciutils ls-caps.c, cap_msix)."""
    match = _MSIX.fullmatch(rest)
    if match is None or not 1 <= int(match.group(2)) <= 0x800:
        raise ParseError(f"Capabilities: {rest}", file=file, line=number, expected="Enable± Count=1..2048 Masked±")
    enable, count, masked = match.groups()
    return MsixControl((enable == "+") << 15 | (masked == "+") << 14 | int(count) - 1)
