"""Is it the machine's console? Pure."""

from __future__ import annotations

import re

from harness.lab.safety.checks.finding import Context, Finding, Level
from harness.lab.safety.facts.facts import Function, HostFacts

_VGA, _USB, _COMMUNICATION = 0x0300, 0x0C03, 0x07
# Linux: Documentation/admin-guide/kernel-parameters; Xen: docs/misc/xen-command-line (com1: a third field is where the
# port is: an address, `pci` or `amt`)
_USB_CONSOLE = re.compile(r"\bdbgp=|\bxdbc\b|earlyprintk=dbgp|console=(?:dbc|xhci|ehci|ttyDBC|ttyUSB|ttyACM)")
_SERIAL_CONSOLE = re.compile(
    r"console=(?:ttyS|ttyMX|ttyLP|uart)|earlycon=\S*(?:uart|0x)|earlyprintk=\S*(?:serial|ttyS)|\bcom[12]=[^,\s]*,[^,\s]*,\S"
)


def check(function: Function, facts: HostFacts, context: Context) -> Finding:
    """LETHAL: the boot display, or what Xen's or Linux's command line uses as console."""
    if function.boot_vga:
        return Finding("console", Level.LETHAL, "the display the machine booted with", function.lines[:1])
    lines = [*facts.lines("cmdline"), *(line for line in facts.lines("xen") if line.text.startswith("xen_commandline"))]
    if function.class_code is None:
        return Finding("console", Level.DENY, "unknown: its class", function.lines[:1])
    for line in lines:
        short = re.escape(str(function.bdf)[5:])
        if re.search(rf"(?:com[12]|ehci|dbgp|console|earlyprintk)=\S*\b{short}", line.text):
            return Finding("console", Level.LETHAL, "a command line names its address for a console", (line,))
        if function.class_code >> 8 == _USB and _USB_CONSOLE.search(line.text):
            return Finding("console", Level.LETHAL, "the debug port of a USB controller is a console", (line,))
        if function.class_code >> 16 == _COMMUNICATION and _SERIAL_CONSOLE.search(line.text):
            return Finding("console", Level.LETHAL, "a serial port, and a serial console is in use", (line,))
    gone = facts.missing("cmdline", "xen")
    if gone:
        return Finding("console", Level.DENY, "unknown: a command line cannot be read", (gone,))
    if function.class_code >> 8 == _VGA and not any(" boot_vga " in line.text for line in function.lines):
        return Finding("console", Level.DENY, "unknown: whether it is the boot display", function.lines[:1])
    return Finding("console", Level.OK, "no console")
