"""What a run leaves behind is found by comparing two readings of the host."""

from __future__ import annotations

import re
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
    return leftovers.parse({**SAID, **changed})


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


SAID = {
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


@pytest.mark.parametrize("name", SAID)
def test_a_missing_section_is_no_empty_one(name: str) -> None:
    with pytest.raises(ParseError, match=f"no section {name};"):
        leftovers.parse({one: said for one, said in SAID.items() if one != name})


@pytest.mark.parametrize(
    ("name", "said"), [("domains", b"x"), ("assignable", b"x"), ("irqs", b"(XEN) IRQ information:\n(XEN)  IRQ: 1 x\n")]
)
def test_an_answer_of_another_form_is_named_by_its_section(name: str, said: bytes) -> None:
    with pytest.raises(ParseError) as raised:
        seen(**{name: said})
    assert raised.value.file == name


@pytest.mark.parametrize(
    ("changed", "ties"),
    [
        ({"domains": LIST + b"(null)   3     0     1     --p--d      12.4\n"}, {"d3"}),
        ({"assignable": b"0000:04:00.0\n"}, {"0000:04:00.0"}),
        ({"owners": b'/libxl/pci/0000-04-00-0/domid = "3"\n'}, {"0000:04:00.0", "d3"}),
        ({"backends": b'/local/domain/0/backend/pci/3/0 = ""\n'}, {"d3"}),
        ({"mounts": b"tmpfs /run/maskall/saved tmpfs rw 0 0\n"}, {"/run/maskall"}),
        ({"mounts": b"tmpfs\n"}, set[str]()),
        ({"interrupts": b" 60: 1  xen-pirq  -msi-x  pciback[0000:04:00.0]\n"}, {"0000:04:00.0"}),
        (
            {"processes": b"812 qemu-dm qemu -xen-domid 9 -name maskall-a -D /run/maskall/log\n"},
            {"maskall-a", "d9", "/run/maskall"},
        ),
        ({"processes": b"812 xl\n\n"}, set[str]()),
    ],
)
def test_what_a_leftover_belongs_to(changed: dict[str, bytes], ties: set[str]) -> None:
    """Each tie by itself makes it ours."""
    nothing = dict.fromkeys(SAID, b"") | {"domains": LIST}
    before, found = seen(**nothing), seen(**nothing | changed)
    new = found.things.keys() - before.things.keys()
    assert {tie for one in new for tie in one.ties if not tie.startswith("zombie")} == ties
    for tie in ties - {"/run/maskall"}:
        number = tie.removeprefix("d")
        ours = Ours(domids=frozenset({int(number)})) if number.isdecimal() else Ours(frozenset({tie}), frozenset({tie}))
        assert found.more_than(before, ours)[0], tie


@pytest.mark.parametrize(("name", "ours"), [("bob", False), ("maskall-a", True), ("(null)", True)])
def test_a_number_that_lives_under_another_name_is_no_tie(name: str, ours: bool) -> None:
    row = f"{name}   3   512     1     -b----      12.4\n"
    changed = {"domains": LIST + row.encode(), "backends": b'/local/domain/0/backend/pci/3/0 = ""\n'}
    told = [f"domain {name.replace('(null)', 'zombie 3')}", "xenstore backend pci of domain 3"]
    assert seen(**changed).more_than(seen(), OURS) == ((told, []) if ours else ([], told))


def test_vectors_that_a_dead_guest_leaks_are_told() -> None:
    """Xen does not say whose they were."""
    guest = (DATA / "nvme_in_running_guest.debugkey_i.txt").read_bytes()
    leaked = re.sub(rb"in-flight=0 d2:.*", b"mapped, unbound", guest)
    count = len(re.findall(rb"PCI-MSI.* in-flight=0 d2:", guest))
    told = seen(irqs=leaked).more_than(seen(irqs=guest), OURS)
    assert told[0] == [] and len(told[1]) == 1 and count
    found = re.fullmatch(r"Xen irq mapped, unbound(?: \((\d+) instead of (\d+)\))?", told[1][0])
    assert found and int(found[1] or 1) - int(found[2] or 0) == count


def test_bytes_that_are_no_text_are_somebodys() -> None:
    told = ["mount /m\N{REPLACEMENT CHARACTER}"]
    assert seen(mounts=SAID["mounts"] + b"x /m\xff ext4\n").more_than(seen(), OURS) == ([], told)


def test_leftovers_are_told_in_the_order_of_their_words() -> None:
    processes = b"".join(b"1 qemu-dm qemu -name %s\n" % name for name in (b"maskall-a", b"maskall-b", b"maskall-b"))
    mounts = b"a /run/maskall/b x\na /run/maskall/a x\na /home x\na /boot x\n"
    leaks, others = seen(processes=processes, mounts=mounts).more_than(seen(), OURS)
    assert leaks == ["mount /run/maskall/a", "mount /run/maskall/b", "process qemu-dm"]
    assert others == ["mount /boot", "mount /home", "process qemu-dm (2 instead of 0)"]


def test_the_dead_of_a_host_are_told_by_number() -> None:
    dead = b"(null)   7     0     1     --p--d      12.4\n(null)   3     0     1     --p--d      12.4\n"
    assert seen(domains=LIST + dead).zombies == ["zombie 3", "zombie 7"]
    assert seen().zombies == []


def test_numbers_of_our_domains_are_those_that_were_noted() -> None:
    assert seen(domids=b"3 17\n005 x -1 123456\n").domids == {3, 17, 5}


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("interrupts", b" 1: " + b"1" * 5000),
        ("interrupts", b" 1: 0 x " + b"-" * 1_000_000),
        ("processes", b"1 xl " + b"xenconsole --" * 400_000),
    ],
    ids=["digits", "dashes", "options"],
)
def test_no_line_takes_more_time_than_it_is_long(section: str, said: bytes) -> None:
    """Digits without an end were tried in all ways to part them: two to the power of their number."""
    assert not seen(**{section: said}).zombies


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
