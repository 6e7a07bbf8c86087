"""What a run leaves behind is found by comparing two readings of the host."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.base.errors import EvidenceError, ParseError
from harness.lab.lease import leftovers
from harness.lab.lease.leftovers import Leftover, Leftovers, Ours
from harness.transport.sections import ask, split
from suites.selftest.fakes.localtransport import LocalTransport
from suites.selftest.fakes.patience import soon

DATA = (Path(__file__).parents[1] / "data") / "xen-4.20"
LIST = b"""\
Name                                        ID   Mem VCPUs\tState\tTime(s)
Domain-0                                     0  1024     1     r-----       9.1
"""
INTERRUPTS = b"""\
           CPU0
  8:          0   xen-pirq    -ioapic-edge      rtc0
 41:         17   xen-pirq    -msi-x     nvme0q0
 55:          4   xen-dyn    -event     xenbus
NMI:          0   Non-maskable interrupts
"""


OURS = Ours(frozenset({"0000:04:00.0"}), frozenset({"maskall-a"}), frozenset({3}))


def seen(**changed: bytes) -> Leftovers:
    sections = {
        "boot_id": b"1b4e28ba\n",
        "domains": LIST,
        "assignable": b"",
        "owners": b"",
        "backends": b'/local/domain/0/backend = ""\n',
        "mounts": b"/dev/vda / ext4 rw 0 0\ntmpfs /run tmpfs rw 0 0\n",
        "interrupts": INTERRUPTS,
        "processes": b"77 xenconsoled /usr/sbin/xenconsoled\n",
        "domids": b"",
        "irqs": (DATA / "nvme_assignable.debugkey_i.txt").read_bytes(),
    }
    return leftovers.parse({**sections, **changed})


def test_a_host_that_did_not_change_has_no_leaks() -> None:
    assert seen().more_than(seen(), OURS) == ([], [])


@pytest.mark.parametrize(
    ("changed", "leak"),
    [
        ({"domains": LIST + b"(null)   3     0     1     --p--d      12.4\n"}, "domain zombie 3"),
        ({"domains": LIST + b"maskall-a   4   512     1     -b----      12.4\n"}, "domain maskall-a"),
        ({"assignable": b"0000:04:00.0\n"}, "device on pciback 0000:04:00.0"),
        ({"owners": b'/libxl/pci/0000-04-00-0/domid = "3"\n'}, "libxl owner of device 0000-04-00-0"),
        ({"backends": b'/local/domain/0/backend/pci/3/0 = ""\n'}, "xenstore backend pci of domain 3"),
        ({"mounts": b"tmpfs /run/maskall/saved tmpfs rw 0 0\n"}, "mount /run/maskall/saved"),
        ({"interrupts": INTERRUPTS + b" 60: 1  xen-pirq    -msi-x     pciback[0000:04:00.0]\n"}, "dom0 irq"),
        ({"processes": b"812 qemu-system-i38 qemu -xen-domid 9 -name maskall-a\n"}, "process qemu-system-i38"),
        ({"processes": b"812 qemu-system-i38 qemu -xen-domid 3 -name other\n"}, "process qemu-system-i38"),
        ({"processes": b"812 xl xl create /run/maskall/maskall-a.cfg \n"}, "process xl"),
        ({"irqs": (DATA / "nvme_in_running_guest.debugkey_i.txt").read_bytes().replace(b" d2:", b" d3:")}, "Xen irq"),
    ],
)
def test_each_kind_of_leftover_is_named(changed: dict[str, bytes], leak: str) -> None:
    leaks, _ = seen(**changed).more_than(seen(), OURS)
    assert any(leak in line for line in leaks), leaks
    assert seen().more_than(seen(**changed), OURS)[0] == [], "what went away is no leak"


@pytest.mark.parametrize(
    ("changed", "other"),
    [
        ({"domains": LIST + b"bob   4   512     1     -b----      12.4\n"}, "domain bob"),
        ({"domains": LIST + b"(null)   7     0     1     --p--d      12.4\n"}, "domain zombie 7"),
        ({"assignable": b"0000:05:00.0\n"}, "device on pciback 0000:05:00.0"),
        ({"owners": b'/libxl/pci/0000-05-00-0/domid = "7"\n'}, "libxl owner of device 0000-05-00-0"),
        ({"backends": b'/local/domain/0/backend/pci/7/0 = ""\n'}, "xenstore backend pci of domain 7"),
        ({"mounts": b"tmpfs /run/user/1000 tmpfs rw 0 0\n"}, "mount /run/user/1000"),
        ({"mounts": b"tmpfs /run/maskall-of-bob tmpfs rw 0 0\n"}, "mount /run/maskall-of-bob"),
        ({"interrupts": INTERRUPTS + b" 60: 1  xen-pirq    -msi-x     eth0-TxRx-4\n"}, "dom0 irq"),
        ({"interrupts": INTERRUPTS + b" 60: 1  xen-dyn    -event     evtchn:qemu-system-i38\n"}, "dom0 irq"),
        ({"processes": b"812 qemu-system-i38 qemu -xen-domid 7 -name bob\n"}, "process qemu-system-i38"),
        ({"processes": b"812 xl xl create /etc/xen/bob.cfg\n"}, "process xl"),
    ],
)
def test_what_others_do_meanwhile_is_told_and_no_leak(changed: dict[str, bytes], other: str) -> None:
    leaks, others = seen(**changed).more_than(seen(), OURS)
    assert leaks == []
    assert any(other in line for line in others), others


def test_another_number_of_the_same_irq_is_no_leak() -> None:
    renumbered = INTERRUPTS.replace(b" 41:", b" 46:").replace(b"nvme0q0", b"nvme1q0")
    assert seen(interrupts=renumbered).more_than(seen(), OURS) == ([], [])


def test_one_more_of_the_same_is_counted() -> None:
    once, twice = (b"".join(b"%d qemu-dm qemu -name maskall-a\n" % pid for pid in range(count)) for count in (1, 2))
    leaks, _ = seen(processes=twice).more_than(seen(processes=once), OURS)
    assert leaks == ["process qemu-dm (2 instead of 1)"]


def test_a_missing_section_is_no_empty_one() -> None:
    with pytest.raises(ParseError, match="no section"):
        leftovers.parse({"boot_id": b"x"})


def test_the_program_runs_without_xen_too() -> None:
    transport = LocalTransport()
    transport.connect(soon())
    here = leftovers.survey(transport)
    assert Leftover("mount", "/proc") in here.things
    assert here.boot_id


def test_an_answer_cut_short_is_kept_and_refused(tmp_path: Path) -> None:
    program = tmp_path / "short.sh"
    head = 'section() { echo "$separator $1"; }\nseparator=$1\n'
    program.write_text(head + "section first\necho hello\nsection second\nprintf wor\n: section end\n")
    transport, kept = LocalTransport(), dict[str, bytes]()
    transport.connect(soon())
    with pytest.raises(EvidenceError, match="cut short"):
        ask(transport, program, deadline=soon(), keep=kept.__setitem__)
    assert kept == {"first": b"hello", "second": b"wor"}


def test_a_section_cannot_be_forged_without_the_separator() -> None:
    assert split(b"@a one\n@b two\nx\n@a end\n", "@a") == {"one": b"@b two\nx", "end": b""}
