"""Is it the machine's console? Pure."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from harness.base.errors import ParseError
from harness.lab.safety.checks import named
from harness.lab.safety.checks.finding import Finding, Lending, Level
from harness.lab.safety.checks.owner import passing
from harness.lab.safety.facts.facts import PCI_PATH, FactLine, Function, HostFacts

_VGA, _DISPLAY, _OTHER_DISPLAY = "0300", "03", "0380"
_USB, _COMMUNICATION, _PARALLEL = "0c03", "07", "0701"
_SERIAL = {"0700", "0702", "0703"}  # serial, multiport serial, modem: what Linux and Xen drive as a UART; not 0780
_UART_DRIVER = re.compile(r"serial|8250|exar|intel-lpss|parport_serial|jsm|mxser")  # whatever class it has
_EHCI, _XHCI = "20", "30"  # programming interfaces of USB controllers
_MULTI_IO = "0780"
_VIRTIO_CONSOLE = {"1af4:1003", "1af4:1043"}
_LEGACY = {0x3F8, 0x2F8, 0x3E8, 0x2E8}  # COM1 to COM4 of a PC's board
_INPUT = re.compile(r"/input/input\d+/event\d+$")  # not of a sound card's jacks, which have no folder `input`
_PORTS, _WINDOW = 0x1000, 0x10000  # how far behind a BAR's start (ports, memory) an address may be its own

# Consoles that are no PCI serial card: Xen's, the display, a board's own UART, memory, the network.
_ELSEWHERE = re.compile(
    r"(?:hvc|xvc|tty|ttyAMA|ttySAC|ttymxc|ttyLP|ttyPS|ttyUL|ttySC|ttyMV|ttyTHS|ttyMSM|ttyHV|sclp|pstore|ramoops|netcon|"
    r"netcon_ext|xenboot|drm_log|ttynull|braille|ttyprintk|efifb|smh|sbi|early(?:vga|ser|dbg|xdbc))-?\d*|none|null|"
    r"ttyS0|vga|com\d?|"
)
_WORDS = r"console|earlyprintk|earlycon|kgdboc|speakup_\w+\.dev"  # of Linux, behind which a terminal is named
_USB_CONSOLE = re.compile(r"(?:ttyUSB|ttyACM|dbc|ttyDBC|xdbc|xhci|ehci|dbgp)\d*")


def check(function: Function, facts: HostFacts, context: Lending) -> Iterator[Finding]:
    """LETHAL: the boot display, or what Xen or Linux really use as console."""
    if function.boot_vga:
        yield Finding("console", Level.LETHAL, "the display the machine booted with", function.where)
    if not function.code:
        yield Finding("console", Level.DENY, "unknown: its class", function.where)
    gone = facts.missing("cmdline", "xen", "tty", "display")
    if gone:
        yield Finding("console", Level.DENY, "unknown: a command line or the host's consoles cannot be read", (gone,))
    gone = facts.missing("consoles")
    if gone and (function.base == _COMMUNICATION or function.kind == _USB):
        yield Finding("console", Level.DENY, "unknown: which consoles Linux uses", (gone,))
    yield from _display(function, facts)
    for line in _command_lines(facts):
        if function.bdf in named.addresses(line.text, "com[12]", "dbgp", "console", "earlyprintk", "earlycon"):
            yield Finding("console", Level.LETHAL, "a command line names its address for a console", (line,))
    for line, reason in (*_uarts(function, facts), *_usb(function, facts), *_terminals(function, facts)):
        yield Finding("console", Level.LETHAL, reason, (line,))
    for line in facts.lines("chars"):
        if _INPUT.search(line.text) and str(function.bdf) in PCI_PATH.findall(line.text):
            yield Finding("console", Level.DENY, "a keyboard or the like hangs on it", (line,))
    for line, name in _named(facts):
        if _home(facts, name) is not None:
            continue
        other = not _ELSEWHERE.fullmatch(name) and not re.fullmatch(r"ttyS\d+|lp\d+", name)
        by_address = re.match(r"uart|ns16550|pl011", name)
        if other and not by_address and not _USB_CONSOLE.match(name) and function.base == _COMMUNICATION:
            yield Finding("console", Level.DENY, f"unknown: what device the console {name} is", (line,))


def _command_lines(facts: HostFacts) -> list[FactLine]:
    return [*facts.lines("cmdline"), *(line for line in facts.lines("xen") if line.text.startswith("xen_commandline"))]


def _named(facts: HostFacts) -> Iterator[tuple[FactLine, str]]:
    """Consoles in use (/proc/consoles) and those that Linux's command line asks for, without their options.

    Speakup reads the screen aloud by a device whose port the kernel itself has (admin-guide/spkguide.txt).
    """
    for line in facts.lines("consoles"):
        if not line.text.startswith("missing "):
            yield line, line.text.split()[0]
    for line in facts.lines("cmdline"):
        for match in re.finditer(rf"(?:^|\s)(?:{_WORDS})=(?:kms,|kbd,)*(\S*)", line.text):
            if re.search(r",0x[0-9a-f]", match[1]):  # by its address: `_uarts`
                continue
            for name in match[1].split(","):
                if not re.fullmatch(r"\d+[a-z]?\d*|keep|efi|xen|serial|pciserial|0x[0-9a-f]+|on|io|mmio\w*", name):
                    yield line, name


def _display(function: Function, facts: HostFacts) -> Iterator[Finding]:
    yield from _drawn(function, facts)
    if function.base != _DISPLAY:
        return
    told = any(" boot_vga " in line.text for line in function.lines)
    if function.kind == _VGA and not told:
        yield Finding("console", Level.DENY, "unknown: whether it is the boot display", function.where)
    if function.kind in (_VGA, _OTHER_DISPLAY) and not any(one.boot_vga for one in facts.functions.values()):
        yield Finding(
            "console", Level.DENY, "unknown: no other display is the one the machine booted with", function.where
        )


def _drawn(function: Function, facts: HostFacts) -> Iterator[Finding]:
    """Linux's console is on a framebuffer of it; that of a USB display hangs on a USB controller."""
    text = any(re.match(r"tty\d", line.text) for line in facts.lines("consoles"))
    words = " ".join(line.text for line in facts.lines("cmdline"))
    mapped = {"fb0", *(f"fb{digit}" for digits in re.findall(r"\bfbcon=map:(\d+)", words) for digit in digits)}
    for line in facts.lines("display"):
        if text and line.text.partition(" ")[0] in mapped and str(function.bdf) in PCI_PATH.findall(line.text):
            yield Finding("console", Level.LETHAL, "Linux's console is drawn on it", (line,))


def _uarts(function: Function, facts: HostFacts) -> Iterator[tuple[FactLine, str]]:
    """Serial ports given by an address or as `pci`: Xen's com1 and com2, Linux's earlycon and console=uart.

    Xen: docs/misc/xen-command-line (com1): the third field is where the port is: an address, `pci`, `amt` or a bridge's
    child. Linux: Documentation/admin-guide/kernel-parameters (console=uart[8250],io|mmio,ADDRESS).
    """
    serial = _serial(function)
    perhaps = serial or function.base == _COMMUNICATION
    for line in _command_lines(facts):
        for match in re.finditer(r"\bcom[12]=(\S+)", line.text):
            where = _where(match[1])
            looked_for = serial or _multi_io(function)
            if where and (looked_for if where in ("pci", "amt") else _at(function, facts, where, perhaps)):
                yield line, "Xen's serial console is on it, or could be"
        for match in re.finditer(r"\b(?:earlycon|console|earlyprintk)=(?:[a-z]\w*,)*(0x[0-9a-fA-F]+)", line.text):
            if _at(function, facts, match[1], perhaps):
                yield line, "Linux's early serial console is on it, or could be"


def _serial(function: Function) -> bool:
    return function.kind in _SERIAL or bool(_UART_DRIVER.search(function.driver or ""))


def _multi_io(function: Function) -> bool:
    """A card of serial and parallel ports: pci_uart_config (xen/drivers/char/ns16550.c) takes it where it has ports."""
    return function.kind == _MULTI_IO and function.driver is None and any(bar.ports for bar in _bars(function))


def _where(options: str) -> str:
    """Where Xen looks for a UART: an address, `pci`, `amt`, another word; empty for the board's own."""
    named = re.search(r"(?:^|,)(?:dev|io-base)=([^,]+)", options)
    if named:
        return named[1]
    fields = options.split(",")
    return fields[2] if len(fields) > 2 and "=" not in fields[2] else ""


def _at(function: Function, facts: HostFacts, where: str, serial: bool) -> bool:
    """Whether an address is in one of the function's BARs; a serial card whose BARs nobody tells may be at any."""
    try:
        address = int(where, 16)
    except ValueError:
        return serial and not re.search(r":[0-9a-f]{2}\.[0-7]$", where)  # another function's address is no answer
    if address in _LEGACY:
        return False
    bars = _bars(function)
    if not bars:
        return serial
    near = [bar.start for bar in bars if address - bar.start in range(_PORTS if bar.ports else _WINDOW)]
    others = (bar.start for one in facts.functions.values() if one is not function for bar in _bars(one))
    return bool(near) and not any(max(near) < start <= address for start in others)


class _Bar(NamedTuple):
    start: int
    ports: bool  # I/O ports, not memory


def _bars(function: Function) -> list[_Bar]:
    """Where its BARs are; none when that cannot be read."""
    config = function.config
    if config is None:
        return []
    found = []
    try:
        if config.header_type != 0:
            return []
        for index, value in enumerate(struct.unpack_from("<6I", config.data, 0x10)):
            ports = bool(value & 1)
            start = value & ~0x3 if ports else config.bar_address(index)
            if start:
                found.append(_Bar(start, ports))
    except ParseError:
        return []
    return found


def _usb(function: Function, facts: HostFacts) -> Iterator[tuple[FactLine, str]]:
    """Debug ports, and serial adapters that are a console."""
    if function.kind != _USB:
        return
    for line in _command_lines(facts):
        for option, kind, more in re.findall(
            r"\b(dbgp|earlyprintk|console)=(?:[^\s=]*,)?(ehci|xhci|dbgp|xdbc)(\S*)", line.text
        ):
            if "@pci" in more or (option == "console" and "dbgp=" in line.text):
                continue  # that it is named by its address is seen elsewhere; and `dbgp=` says where the port is
            if function.code[4:] == (_XHCI if kind in ("xhci", "xdbc") else _EHCI):
                yield line, "the debug port of a USB controller is a console"
        if function.code[4:] == _EHCI and re.search(r"\bkgdbdbgp=", line.text):
            yield line, "the kernel debugger is at the debug port of a USB controller"
    for line, name in _named(facts):
        unknown = _home(facts, name) is None and not _nowhere(function, facts, line)
        if re.match(r"ttyUSB|ttyACM|ttyDBC", name) and unknown:  # where it is known: `_terminals`
            yield line, "a console hangs on a USB controller"


def _terminals(function: Function, facts: HostFacts) -> Iterator[tuple[FactLine, str]]:
    """Consoles that a driver of Linux serves: where it is known on which device one is, only there."""
    for line, name in _named(facts):
        home = _home(facts, name)
        if home is not None:
            if str(function.bdf) in PCI_PATH.findall(home.text):
                yield line, f"the console {name} is on it"
        elif re.fullmatch(r"ttyS[1-9]\d*", name) and _serial(function) and not _nowhere(function, facts, line):
            yield line, f"a serial port, and the serial console {name} is in use"
        elif re.fullmatch(r"lp\d+", name) and function.kind == _PARALLEL:
            yield line, f"a parallel port, and the console {name} is in use"
        elif re.fullmatch(r"hvc[1-9]\d*", name) and function.id in _VIRTIO_CONSOLE:
            yield line, f"a console of a virtual machine, and {name} is in use"


def _nowhere(function: Function, facts: HostFacts, line: FactLine) -> bool:
    """Whether a terminal that is not there is asked for by the command line alone, and this function could not have it.

    What no driver of Linux has may have been its device when the machine started.
    """
    told = bool(facts.lines("tty")) and facts.missing("tty") is None
    driven = function.driver is not None and not passing(function.driver)
    return line.section == "cmdline" and told and driven


def _home(facts: HostFacts, name: str) -> FactLine | None:
    """Where a terminal's device is."""
    return next((line for line in facts.lines("tty") if line.text.startswith(f"{name} realpath ")), None)
