"""Whatever a host answers, the gate decides or says in one line that it cannot: it never breaks."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.base.errors import ParseError
from harness.lab.safety.checks.finding import Lending
from harness.lab.safety.facts.facts import SECTIONS
from harness.lab.safety.facts.parse import parse_facts
from harness.lab.safety.gate import check_names, decide_at, explain
from suites.selftest.lab.test_safety_gate import BASE

ODD = """\
default
default via
default via fe80::1 dev eth1 table 7 pref medium
unicast
local
\\
dev
block
block x
block 103:4 qemu
character 1:
/dev/a -> ../../..
/dev/a node zz
eth1 dev
eth1 master
ttyS4 realpath
1 - - -
1 2 0:9 / / rw - btrfs /dev/a:/dev/b rw,logdev=/dev/,journal_dev=0xz
1 2 0:9 / / rw - nfs [fe80::1%eth9]:/x rw,addr=fe80::1%9
1 2 0:9 / / rw - ceph a@b.c=/ rw
9: x@y: <UP>
3: eth1    inet 999.1.1.1/99 x
nvme1n1 2
nvme5 realpath /nvme-fabrics/
nvme5 address traddr=1.2.3.4.5
connection1:0 address zz
missing x
* *
0x
fb0 realpath /
version
eth1 0 0 0 0 0 0 0
eth1 00000000 00000000 zz 0 0 0 00000000
xen_commandline : com1=,,,0x console=@pci: dbgp=xhci@pci com2=dev=
console=ttyS4,,, earlycon=uart,0xzz netconsole=/, root=/dev/ resume=/dev/:
/local/domain/0/backend/vbd/3/5/params = "/dev/"
/local/domain/0/backend/vbd/3/5/physical-device = "x:y"
""".splitlines()
LINES = st.sampled_from([*ODD, *(line for text in BASE.values() for line in text.splitlines())]) | st.text(max_size=12)


@pytest.mark.parametrize("name", sorted(SECTIONS))
def test_no_odd_line_breaks_the_gate(name: str) -> None:
    for odd in ODD:
        survives({name: [odd]}, newer=False)
    survives({name: ODD}, newer=True)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(SECTIONS)), st.lists(LINES, max_size=4), max_size=6), st.booleans())
def test_no_lines_of_a_host_break_the_gate(more: dict[str, list[str]], newer: bool) -> None:
    survives(more, newer=newer)


def survives(more: dict[str, list[str]], *, newer: bool) -> None:
    """A decision of every check, or a ParseError."""
    sections = {name: text.encode() for name, text in BASE.items()}
    if newer:
        sections["program"] = b"version 2\nuid 0\n"
    for name, lines in more.items():
        sections[name] = sections.get(name, b"") + "\n".join(["", *lines]).encode("utf-8", "surrogatepass")
    try:
        seen = parse_facts(sections)
    except ParseError:
        return
    for bdf in seen.functions:
        found = decide_at(str(bdf), bdf, seen, Lending(lent=frozenset(seen.functions)))
        assert {one.check for one in found.findings} == set(check_names())
        explain(found, {})
