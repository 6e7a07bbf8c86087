"""Everything that giving a lab host back can send there that changes it: the programs of the lease, and a few commands
with words of a fixed form."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from string import Formatter

from harness.lab.lease import claim, deadman, fence, ledger, livepatched, owners, ownxen, undo
from harness.mutants.livepatching import COMPARISON, NAME
from harness.transport import files
from suites.selftest.fakes.faketransport import Executed

_BDF = r"[0-9a-f]{4}:[0-9a-f]{2}:[0-1][0-9a-f]\.[0-7]"
_WORD = r"[A-Za-z0-9_.:@-]+"
_DEVICE = rf"/sys/bus/pci/devices/{_BDF}"
_DRIVERS = "/sys/bus/pci/drivers"
COMMANDS = re.compile(
    "|".join(
        [
            r"xl destroy [1-9]\d{0,4}",
            rf"xl pci-assignable-remove (?:-r )?{_BDF}",
            rf"tee {_DEVICE}/(?:driver_override|power/control|reset_method|sriov_numvfs|reset)",
            rf"tee {_DRIVERS}/(?:pciback/remove_slot|[A-Za-z0-9][A-Za-z0-9_-]*/(?:un)?bind)",
            rf"tee /sys/class/block/{_WORD}/queue/[a-z_]+",
            rf"setpci -s {_BDF} COMMAND=[0-7]+:407",
            rf"ip link set dev {_WORD} (?:up|(?:mtu|address|txqueuelen) {_WORD})",
            rf"ethtool -[KGL] {_WORD} [a-z0-9-]+ {_WORD}",
            r"mkdir -p /run/maskall",
            rf"xen-livepatch (?:revert|unload) (?:{NAME}|{COMPARISON})",
            rf"rm -f {re.escape(livepatched._ARMED)}\*",
        ]
    ),
    re.ASCII,
)
_ONE = r"(?:'[^'\n]*'|[A-Za-z0-9@%+=:,./_-]*)"  # as shlex quotes a word


def _pattern(program: str, **special: str) -> str:
    """A program of ours with any word in the place of each that is filled in, or what is `special` there."""
    parts = Formatter().parse(program)
    return "".join(re.escape(text) + ("" if name is None else special.get(name, _ONE)) for text, name, _, _ in parts)


_BEATING = "(?:true|" + re.escape('[ "$(say heartbeat | head -n 1)" = ') + _ONE + r" \])"
PROGRAMS = re.compile(
    "|".join(
        [
            *(_pattern(claim._TOOLS + one) for one in (claim._RELEASE, claim._BEAT, ledger._APPEND, ledger._CLOSE)),
            _pattern(claim._TOOLS + claim._TAKE, dead=_BEATING),
            _pattern(deadman._DISARM_ALL),
            _pattern(undo.FORGET),
            re.escape(undo._UNLOAD),
            re.escape(ownxen._TAKE_AWAY),
            _pattern(files._PUT),
        ]
    )
)
_FENCED = re.compile(_pattern(claim._TOOLS + fence._FENCE, change="(.*)"), re.DOTALL)
_ASKED = re.compile(
    _pattern(owners._UNLESS_TAKEN, xenstore=f"(?:{re.escape(owners._XENSTORE_MUST_ANSWER)})?", ours="[ 0-9]*")
    + "exec (.*)",
    re.DOTALL,
)


def outside(executed: Sequence[Executed]) -> Iterator[str]:
    """The changes that are none of them, as a person reads them."""
    for one in executed:
        script = one.shown.removeprefix("sh -c '")
        text = one.shown if script == one.shown else script.removesuffix("'").replace("""'"'"'""", "'")
        if not one.changes or PROGRAMS.fullmatch(text):
            continue
        fenced = _FENCED.fullmatch(text)
        inner = fenced[1] if fenced else text
        asked = _ASKED.fullmatch(inner)
        inner = asked[1] if asked else inner
        if not fenced or not (PROGRAMS.fullmatch(inner) or COMMANDS.fullmatch(inner)):
            yield inner if fenced else f"not fenced: {text}"
