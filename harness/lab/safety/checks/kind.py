"""Is it a device at all? Pure."""

from __future__ import annotations

from harness.lab.safety.checks.finding import Context, Finding, Level
from harness.lab.safety.facts.facts import Function, HostFacts

_BRIDGE = 0x06
_KNOWN = {*range(0x01, 0x06), *range(0x07, 0x14), 0x40, 0xFF}  # PCI ID database, device classes


def check(function: Function, facts: HostFacts, context: Context) -> Finding:
    """LETHAL: a bridge; DENY: a class that cannot be told. 0x00ff is what virtio's entropy source has."""
    code = function.class_code
    if code is None:
        return Finding("kind", Level.DENY, "unknown: its class cannot be read", function.lines[:1])
    if code >> 16 == _BRIDGE:
        return Finding("kind", Level.LETHAL, "it is a bridge", function.lines[:1])
    if function.config is None:
        return Finding("kind", Level.DENY, "unknown: its config space cannot be read", function.lines[:1])
    if not function.config.gone and function.config.header_type != 0:
        return Finding("kind", Level.LETHAL, "its config space is that of a bridge", function.lines[:1])
    if code >> 16 not in _KNOWN and code >> 8 != 0x00FF:
        return Finding("kind", Level.DENY, f"unknown: class {code:06x}", function.lines[:1])
    return Finding("kind", Level.OK, f"class {code:06x}")
