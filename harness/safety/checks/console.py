"""Is it the machine's console? Pure."""

from __future__ import annotations

import re

from harness.safety.facts import Function, HostFacts
from harness.safety.finding import Context, Finding, Level

_SERIAL, _XHCI = 0x0700, 0x0C0330


def check(function: Function, facts: HostFacts, context: Context) -> Finding:
    """LETHAL: the boot display, or what Xen's or Linux's command line uses as console."""
    gone = facts.missing("cmdline")
    if gone:
        return Finding("console", Level.DENY, "unknown: the kernel's command line cannot be read", (gone,))
    if function.boot_vga:
        return Finding("console", Level.LETHAL, "the display the machine booted with", function.lines[:1])
    lines = [*facts.lines("cmdline"), *(line for line in facts.lines("xen") if line.text.startswith("xen_commandline"))]
    if function.class_code is None:
        return Finding("console", Level.DENY, "unknown: its class", function.lines[:1])
    for line in lines:
        short = re.escape(str(function.bdf)[5:])
        if re.search(rf"(?:com[12]|ehci|dbgp|console|earlyprintk)=\S*\b{short}", line.text):
            return Finding("console", Level.LETHAL, "a command line names its address for a console", (line,))
        if function.class_code == _XHCI and re.search(r"dbgp=xhci|xdbc|console=dbc", line.text):
            return Finding("console", Level.LETHAL, "the debug port of a USB controller is a console", (line,))
        serial = re.search(r"console=ttyS|com[12]=\S*(?:amt|pci)", line.text)
        if function.class_code >> 8 == _SERIAL and serial:
            return Finding("console", Level.LETHAL, "a serial port, and a serial console is in use", (line,))
    return Finding("console", Level.OK, "no console")
