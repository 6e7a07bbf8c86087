"""The safety gate: whatever the machine or its users need is refused, and so is whatever is not known."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.base.errors import ParseError, SafetyRefusal, UsageError
from harness.lab.inventory.models import DeviceEntry
from harness.lab.safety.facts.facts import HostFacts
from harness.lab.safety.facts.parse import parse_facts
from harness.lab.safety.facts.resolve import resolve
from harness.lab.safety.facts.wanted import find
from harness.lab.safety.gate import Decision, Level, check_names, decide, explain, refuse_unknown
from harness.model.address import Bdf
from harness.model.identity import Identity

NIC, DISK = "0000:02:00.0", "0000:03:00.0"
MAC = "52:54:00:aa:00:02"
NIC_HOME, DISK_HOME = (f"/sys/devices/pci0000:00/0000:00:1c.{n}/{bdf}" for n, bdf in ((1, NIC), (2, DISK)))
BLOCK = f"{DISK_HOME}/nvme/nvme1/nvme1n1"


def identity(**marks: str) -> Identity:
    return Identity.model_validate(marks)


IDENTITIES = {"nic": identity(id="8086:10d3", mac=MAC), "disk": identity(id="1b36:0010", serial="S1")}
ACCEPT_ALL = {"identity": "yes", **dict.fromkeys(check_names(), "yes")}


def function(bdf: str, home: str, kind: str, code: str) -> str:
    vendor, device = kind.split(":")
    return (
        f"{bdf} realpath {home}\n{bdf} vendor 0x{vendor}\n{bdf} device 0x{device}\n{bdf} class 0x{code}\n"
        f"{bdf} subsystem_vendor 0x8086\n{bdf} subsystem_device 0xa01f\n{bdf} reset_method flr bus\n{bdf} reset 1\n"
    )


def config(bdf: str, control: int = 0x8004, header: int = 0) -> str:
    data = bytearray(256)
    data[0:8] = bytes.fromhex("86 80 d3 10 06 04 10 00".replace(" ", ""))
    data[0x0E], data[0x34], data[0x50] = header, 0x50, 0x11
    data[0x52:0x54] = control.to_bytes(2, "little")
    rows = [f"{at:06x} {data[at : at + 16].hex(' ')}" for at in range(0, 256, 16)]
    return "\n".join([f"function {bdf}", *rows, "000100", ""])


def card(name: str, place: str = "/sys/devices/virtual/net/", flags: str = "0x1003", more: str = "") -> str:
    place = f"{place}{name}"
    return f"{name} realpath {place}\n{name} address {MAC}\n{name} flags {flags}\n" + more


ROOT = "vda realpath /sys/devices/pci0000:00/0000:00:04.0/virtio0/block/vda\nvda dev 254:0\nvda size 5242880\n"
ROOT += "vda1 realpath /sys/devices/pci0000:00/0000:00:04.0/virtio0/block/vda/vda1\nvda1 dev 254:1\nvda1 partition 1\n"
ETH0 = card("eth0", "/sys/devices/pci0000:00/0000:00:05.0/virtio1/net/").replace(MAC, "52:54:00:aa:00:09")
BASE = {
    "boot_id": "1b4e28ba-2fa1-4d2b-8e0c-000000000001\n",
    "kernel": "6.12\n",
    "os_release": 'PRETTY_NAME="Debian"\n',
    "cmdline": "root=/dev/vda1 ro console=hvc0\n",
    "consoles": "",
    "ssh": "192.0.2.10 50000 192.0.2.1 22\n",
    "pci": function(NIC, NIC_HOME, "8086:10d3", "020000") + function(DISK, DISK_HOME, "1b36:0010", "010802"),
    "drivers": f"{NIC} e1000e\n{DISK} nvme\n",
    "config": config(NIC) + config(DISK),
    "slots": "4 address 0000:02:00\n",
    "block": f"{ROOT}nvme1n1 realpath {BLOCK}\nnvme1n1 dev 259:4\nnvme1n1 size 2097152\n",
    "nvme": f"nvme1 realpath {DISK_HOME}/nvme/nvme1\nnvme1 serial S1   \n",
    "btrfs": "",
    "signatures": "nvme1n1 2 \n",
    "mounts": "20 1 254:1 / / rw - ext4 /dev/vda1 rw\n",
    "swaps": "Filename Type\n",
    "zpool": "",
    "net": ETH0 + card("eth1", f"{NIC_HOME}/net/"),
    "links": "",
    "addresses": "2: eth0    inet 192.0.2.1/24 brd x\n",
    "routes": "Iface\tDestination\neth0 00000000 FE0200C0 0003 0 0 0 00000000 0 0 0\n",
    "routes6": "",
    "owners": "",
    "backends": "",
    "xen": "xen_version : 4.20.4\nvirt_caps : hvm hvm_directio\n",
    "tools": "/usr/sbin/xl\n",
    "run": "",
}


def facts(**more: str) -> HostFacts:
    """`more` is appended to a section; `=` in front replaces it, `-` takes it away."""
    sections = dict(BASE)
    for name, text in more.items():
        sections[name] = text[1:] if text.startswith("=") else sections.get(name, "") + text
        if text == "-":
            del sections[name]
    return parse_facts({name: text.encode() for name, text in sections.items()})


def decision(device: str, seen: HostFacts, *, mine: frozenset[Bdf] = frozenset()) -> Decision:
    entry = DeviceEntry.model_validate({"identity": IDENTITIES[device], "driver": "nvme", "endings": ()})
    return decide(device, entry, seen, ours=mine, lent=mine)


def level(found: Decision, check: str) -> Level:
    return max(finding.level for finding in found.findings if finding.check == check)


def dm(name: str, slave: str, number: str = "253:0", dm_name: str = "vg-data") -> str:
    place = f"/sys/devices/virtual/block/{name}"
    return f"{name} realpath {place}\n{name} dev {number}\n{name} slave {slave}\n{name} dm {dm_name}\n"


PART = f"nvme1n1p1 realpath {BLOCK}/nvme1n1p1\nnvme1n1p1 dev 259:5\nnvme1n1p1 partition 1\nnvme1n1p1 size 9\n"
MULTIPATH = f"={ROOT}nvme1n1 realpath /sys/devices/virtual/nvme-subsystem/nvme-subsys1/nvme1n1\nnvme1n1 dev 259:4\n"
STORAGE = [
    ({}, Level.OK),
    ({"mounts": "21 20 259:4 / /srv rw - ext4 /dev/nvme1n1 rw\n"}, Level.LETHAL),
    ({"block": PART, "mounts": "21 20 259:5 / /srv rw shared:1 - ext4 /dev/nvme1n1p1 rw\n"}, Level.LETHAL),
    ({"block": PART, "swaps": "/dev/nvme1n1p1 partition 1 0 -2\n"}, Level.LETHAL),
    ({"block": dm("dm-0", "nvme1n1"), "mounts": "21 20 253:0 / /srv rw - ext4 /dev/mapper/vg-data rw\n"}, Level.LETHAL),
    ({"block": PART + dm("dm-0", "nvme1n1p1"), "swaps": "/dev/dm-0 partition 1 0 -2\n"}, Level.LETHAL),
    ({"block": PART + dm("dm-0", "md0") + dm("md0", "nvme1n1p1", "9:0", "x"),
      "mounts": "21 20 253:0 / / rw - ext4 /dev/root rw\n"}, Level.LETHAL),
    ({"block": "nvme1n1 holder bcache0\nbcache0 dev 252:0\n", "mounts": "21 20 252:0 / / rw - xfs x rw\n"},
     Level.LETHAL),
    ({"block": MULTIPATH, "nvme": "nvme1 subsystem nvme-subsys1\n",
      "mounts": "21 20 259:4 / / rw - xfs x rw\n"}, Level.LETHAL),
    ({"btrfs": "nvme1n1\n"}, Level.LETHAL),
    ({"zpool": "\t /dev/nvme1n1  ONLINE 0 0 0\n"}, Level.LETHAL),
    ({"cmdline": "=root=/dev/nvme1n1 ro\n"}, Level.LETHAL),
    ({"backends": '/local/domain/0/backend/vbd/3/51712/physical-device = "103:4"\n'}, Level.LETHAL),
    ({"backends": '/local/domain/0/backend/qdisk/3/51712/params = "aio:/dev/nvme1n1"\n'}, Level.LETHAL),
    ({"block": dm("dm-0", "nvme1n1"),
      "backends": '/local/domain/0/backend/vbd/3/51712/params = "/dev/vg/data"\n'}, Level.LETHAL),
    ({"block": "loop0 dev 7:0\nloop0 backing /dev/nvme1n1\n", "mounts": "21 20 7:0 / / rw - xfs x rw\n"}, Level.LETHAL),
    ({"block": "nvme1n1 size 0\n", "signatures": "="}, Level.DENY),  # a format that Linux does not take
    ({"exclusive": "nvme1n1 unknown No medium found\n", "signatures": "=nvme1n1 1 unreadable\n"}, Level.OK),
    ({"block": PART}, Level.DENY),
    # older facts tell of no exclusive use: what stands on nothing that is told could stand on this one
    ({"block": dm("md0", "vda1", "9:0", "x") + dm("md0p1", "", "9:1", "y").replace("slave ", "partition 1")}, Level.OK),
    ({"block": dm("md0", "", "9:0", "x").replace("md0 slave \n", "")}, Level.DENY),
    ({"block": dm("md0", "", "9:0", "x").replace("md0 slave \n", "md0 size 0\n")}, Level.OK),
    ({"block": dm("dm-0", "nvme1n1")}, Level.DENY),
    ({"signatures": '=nvme1n1 0 /dev/nvme1n1: TYPE="LVM2_member"\n'}, Level.DENY),
    ({"signatures": "=nvme1n1 8 \n"}, Level.DENY),
    ({"signatures": "="}, Level.DENY),
    ({"signatures": "=nvme1n1 127 00 00 00 *\n"}, Level.OK),
    ({"signatures": "=nvme1n1 127 00 53 ef *\n"}, Level.DENY),
    ({"signatures": "=nvme1n1 127 unreadable\n"}, Level.DENY),
    ({"swaps": "/dev/vda9 partition 1 0 -2\n"}, Level.OK),  # a partition nobody listed, of a disk that is known
    ({"swaps": "/dev/nvme1n1p9 partition 1 0 -2\n"}, Level.LETHAL),
    ({"swaps": "/dev/sdq partition 1 0 -2\n"}, Level.DENY),  # of none that is known
    ({"zpool": "\t /dev/vda9  ONLINE 0 0 0\n"}, Level.OK),
    ({"zpool": "\t /dev/sdq  ONLINE 0 0 0\n"}, Level.DENY),
    ({"mounts": "21 20 0:40 / /srv rw - bcachefs /dev/vda9:/dev/vda8 rw\n"}, Level.OK),
    ({"mounts": "21 20 0:40 / /srv rw - bcachefs /dev/vda9:/dev/nvme1n1p9 rw\n"}, Level.LETHAL),
    ({"mounts": "21 20 0:40 / /srv rw - xfs /dev/vda9 rw,logdev=/dev/vda8\n"}, Level.OK),
    ({"mounts": "21 20 0:40 / /srv rw - bcachefs /dev/sdq:/dev/sdr rw\n"}, Level.DENY),
    ({"mounts": "21 20 254:1 / /srv rw - ext4 /dev/nvme1n1 rw\n"}, Level.LETHAL),  # its number is another's
    ({"mounts": "21 20 254:1 / /srv rw - ext4 /dev/sdq rw\n"}, Level.OK),
    *(
        ({"mounts": f"21 20 0:40 / /srv rw - {kind} {source} rw\n"}, expected)
        for kind, source, expected in (
            ("overlay", "/dev/root", Level.OK),
            ("fuse.portal", "/dev/fuse", Level.OK),
            ("tmpfs", "/dev/shm", Level.OK),  # noqa: S108
            ("tmpfs", "/dev/shm/x", Level.OK),  # noqa: S108
            ("devtmpfs", "/dev/nvme1n1", Level.OK),
            ("btrfs", "/dev/sdq", Level.DENY),
            ("btrfs", "/dev/nvme1n1", Level.LETHAL),
        )
    ),
    ({"backends": '/local/domain/0/backend/qdisk/3/5/params = "raw:/dev/shm/x"\n'}, Level.OK),
    ({"zpool": "missing zpool\n"}, Level.LETHAL),
    ({"block": "-"}, Level.LETHAL),
    ({"mounts": "-"}, Level.LETHAL),
]  # fmt: skip


@pytest.mark.parametrize(("changed", "expected"), STORAGE)
def test_storage(changed: dict[str, str], expected: Level) -> None:
    found = decision("disk", facts(**changed))
    assert level(found, "storage") is expected, explain(found, {})
    assert found.allowed({}) is (expected is Level.OK)
    assert found.allowed(ACCEPT_ALL) is (expected < Level.LETHAL)


def test_a_partition_is_shown_by_its_first_line() -> None:
    (found,) = [one for one in decision("disk", facts(block=PART)).findings if one.check == "storage"]
    assert [line.text for line in found.evidence] == [f"nvme1n1p1 realpath {BLOCK}/nvme1n1p1"]


ON = "=2: {0}    inet 192.0.2.1/24 brd x\n"
NETWORK = [
    ({}, Level.OK),
    ({"addresses": ON.format("eth1")}, Level.LETHAL),
    ({"net": "eth1 master /sys/devices/virtual/net/br0\n" + card("br0"), "addresses": ON.format("br0")}, Level.LETHAL),
    ({"net": "eth1 upper bond0\n" + card("bond0", more="bond0 upper bond0.7\n") + card("bond0.7"),
      "addresses": ON.format("bond0.7")}, Level.LETHAL),
    ({"net": card("v7"), "links": "5: v7@eth1: <UP>\n", "addresses": ON.format("v7")}, Level.LETHAL),
    ({"net": card("mv0", more="mv0 lower eth1\n"), "addresses": ON.format("mv0")}, Level.LETHAL),
    ({"net": "eth1 master /sys/devices/virtual/net/ovs-system\n" + card("ovs-system") + card("br-mgmt"),
      "addresses": ON.format("br-mgmt")}, Level.LETHAL),
    ({"routes": "eth1 00000000 FE0200C0 0003 0 0 9 00000000 0 0 0\n"}, Level.LETHAL),
    ({"routes6": f"{'0' * 32} 00 {'0' * 32} 00 fe80{'0' * 27}1 00000400 1 0 00000003 eth1\n"}, Level.LETHAL),
    ({"addresses": "=missing ip\n", "routes": "=eth1 000200C0 00000000 0001 0 0 0 00FFFFFF 0 0 0\n"}, Level.LETHAL),
    ({"addresses": "3: eth1    inet 198.51.100.1/24 x\n"}, Level.DENY),
    ({"addresses": "3: eth1    inet6 fe80::1/64 scope link\n"}, Level.OK),
    ({"net": "eth1 master /sys/devices/virtual/net/br0\n" + card("br0")}, Level.DENY),
    ({"ssh": "=\n"}, Level.LETHAL),
    ({"ssh": "-"}, Level.LETHAL),
    ({"addresses": "=", "routes": "=x\n"}, Level.LETHAL),
    ({"net": "-"}, Level.DENY),
]  # fmt: skip


@pytest.mark.parametrize(("changed", "expected"), NETWORK)
def test_network(changed: dict[str, str], expected: Level) -> None:
    seen = facts(**changed)
    if changed.get("net") == "-":  # then the mac is not known either
        assert decision("nic", seen).level is Level.LETHAL
        return
    found = decision("nic", seen)
    assert level(found, "network") is expected, explain(found, {})
    assert found.allowed({}) is (expected is Level.OK)
    assert found.allowed(ACCEPT_ALL) is (expected < Level.LETHAL)


OTHERS = [
    ("console", {"pci": f"{NIC} boot_vga 1\n"}, Level.LETHAL),
    ("console", {"xen": "xen_commandline : com1=115200,8n1,pci,02:00.0\n"}, Level.LETHAL),
    ("kind", {"pci": "=" + function(NIC, NIC_HOME, "8086:10d3", "060400")}, Level.LETHAL),
    ("kind", {"config": "=" + config(NIC, header=1)}, Level.LETHAL),
    ("kind", {"config": "="}, Level.DENY),
    ("siblings", {"pci": function("0000:02:00.1", NIC_HOME[:-1] + "1", "8086:10d3", "020000"),
                  "drivers": "0000:02:00.1 igb\n"}, Level.DENY),
    ("siblings", {"pci": function("0000:02:00.1", NIC_HOME[:-1] + "1", "8086:10d3", "020000")}, Level.DENY),
    ("reset", {"pci": "=" + function(NIC, NIC_HOME, "8086:10d3", "020000").replace("flr bus", "pm")}, Level.WARN),
    ("reset", {"pci": "=" + function(NIC, NIC_HOME, "8086:10d3", "020000").replace("flr bus", "")
               .replace(f"{NIC} reset 1\n", "")}, Level.DENY),
    ("owner", {"drivers": f"={NIC} pciback\n"}, Level.DENY),
    ("owner", {"owners": '/libxl/pci/0000-02-00-0/domid = "3"\n'}, Level.DENY),
    ("owner", {"owners": '/libxl/pci/0000-02-00-0/driver_path = "/sys/bus/pci/drivers/e1000e"\n'}, Level.WARN),
    ("owner", {"owners": '/libxl/pci/0000-02-00-0/name = "uplink"\n'}, Level.WARN),
    ("owner", {"owners": '/libxl/pci/0000-02-00-0/anything = "3"\n'}, Level.DENY),
    ("owner", {"owners": '/libxl/pci/0000-02-00-0 = ""\n'}, Level.OK),
    ("owner", {"backends": f'/local/domain/0/backend/pci/3/0/dev-0 = "{NIC}"\n'}, Level.DENY),
    ("owner", {"pci": f"{NIC} sriov_numvfs 2\n"}, Level.DENY),
    ("owner", {"pci": f"{NIC} sriov_numvfs 0\n"}, Level.OK),
    *(("owner", {"pci": f"{NIC} sriov_numvfs {odd}\n"}, Level.DENY) for odd in ("lots", "\u0660", "000000", "-0")),
    ("msix", {"config": "=" + config(NIC, 0xC004)}, Level.DENY),
    ("msix", {"config": f"=function {NIC}\n000000{' ff' * 16}\n*\n000100\n"}, Level.DENY),
    ("iommu", {"xen": "="}, Level.DENY),
    ("iommu", {"xen": "=virt_caps : hvm\n"}, Level.DENY),
]  # fmt: skip


@pytest.mark.parametrize(("check", "changed", "expected"), OTHERS)
def test_other_checks(check: str, changed: dict[str, str], expected: Level) -> None:
    found = decision("nic", facts(**changed))
    assert level(found, check) is expected, explain(found, {})
    assert found.allowed({}) is (expected < Level.DENY)


def test_what_is_ours_or_lent_is_fine() -> None:
    twin = function("0000:02:00.1", NIC_HOME[:-1] + "1", "8086:10d3", "020000")
    at_pciback = f"={NIC} pciback\n0000:02:00.1 pciback\n"
    seen = facts(pci=twin, drivers=at_pciback, owners='/libxl/pci/0000-02-00-0/domid = "3"\n')
    mine = frozenset({Bdf.parse(NIC), Bdf.parse("0000:02:00.1")})
    assert decision("nic", seen, mine=mine).allowed({})
    back = facts(pci=twin, drivers="0000:02:00.1 igb\n")
    assert level(decision("nic", back, mine=mine), "siblings") is Level.DENY, "given back, and at work again perhaps"


def test_what_our_guest_left_in_msix_is_ours() -> None:
    """MASKALL after a fault is what is looked for; at dom0's driver, or without our journal, nobody knows of whom."""
    mine = frozenset({Bdf.parse(NIC)})
    for driver, ours, expected in (
        ("pciback", mine, Level.OK),
        ("e1000e", mine, Level.DENY),
        ("pciback", frozenset[Bdf](), Level.DENY),
    ):
        seen = facts(drivers=f"={NIC} {driver}\n", config="=" + config(NIC, 0xC004))
        assert level(decision("nic", seen, mine=ours), "msix") is expected


def test_a_display_beside_it_that_we_hold_is_idle() -> None:
    """At pciback nobody sees whether it is the boot display; what our journal answers for was looked at before."""
    beside = Bdf.parse("0000:02:00.1")
    display = function(str(beside), NIC_HOME[:-1] + "1", "1234:1111", "030000")
    for driver, expected in (("pciback", Level.OK), ("bochs", Level.DENY)):
        seen = facts(pci=display, drivers=f"={NIC} e1000e\n{beside} {driver}\n")
        assert level(decision("nic", seen, mine=frozenset({Bdf.parse(NIC), beside})), "siblings") is expected
        assert level(decision("nic", seen, mine=frozenset({Bdf.parse(NIC)})), "siblings") is Level.DENY


def test_what_is_ours_is_refused_once_a_domain_of_somebody_else_has_it() -> None:
    mine, backend = frozenset({Bdf.parse(NIC)}), "/local/domain/0/backend/pci/7/0"
    for name, expected in (("maskall-a", Level.OK), ("web1", Level.DENY)):
        lines = f'{backend}/dev-0 = "{NIC}"\n{backend}/domain = "{name}"\n'
        assert level(decision("nic", facts(backends=lines), mine=mine), "owner") is expected


def test_a_device_is_told_by_every_mark_and_by_the_journal_once_its_driver_is_gone() -> None:
    for mark in ({"mac": MAC}, {"slot": "4"}, {"path": "0000:00:1c.1/00.0"}):
        assert resolve(facts(), identity(id="8086:10d3", **mark)) == Bdf.parse(NIC)
    gone = facts(net="=", drivers=f"={NIC} pciback\n")
    with pytest.raises(SafetyRefusal, match=r"path 0000:00:1c\.1/00\.0"):
        resolve(gone, IDENTITIES["nic"])
    assert resolve(gone, IDENTITIES["nic"], {IDENTITIES["nic"].mark: Bdf.parse(NIC)}) == Bdf.parse(NIC)
    with pytest.raises(SafetyRefusal):
        resolve(gone, IDENTITIES["nic"], {IDENTITIES["nic"].mark: Bdf.parse(DISK)})
    with pytest.raises(SafetyRefusal, match="several"):
        resolve(facts(pci=function("0000:02:00.1", NIC_HOME[:-1] + "1", "8086:10d3", "020000")),
                identity(id="8086:10d3", slot="4"))  # fmt: skip


@pytest.mark.parametrize(
    "word",
    [
        *(NIC, NIC[5:], "8086:10d3", "8086:10D3", "id=8086:10d3", MAC, MAC.upper(), "0000:00:1c.1/00.0"),
        *(f"id=8086:10d3,mac={MAC}", f"mac={MAC},id=8086:10d3", "slot=4,id=8086:10d3"),
        *("path=0000:00:1c.1/00.0,id=8086:10d3", "subsystem=8086:a01f,id=8086:10d3,slot=4"),
    ],
)
def test_the_words_that_mean_a_device(word: str) -> None:
    board = facts(pci=f"{NIC} subsystem_vendor 0x8086\n{NIC} subsystem_device 0xa01f\n")
    assert find(word, board) == Bdf.parse(NIC)


@pytest.mark.parametrize("word", ["serial=S1,id=1b36:0010", "id=1b36:0010,serial=S1", "S1"])
def test_the_words_that_mean_a_disk(word: str) -> None:
    assert find(word, facts()) == Bdf.parse(DISK)


def test_one_that_is_not_found_is_told_what_there_is() -> None:
    (lost,) = decision("nic", facts(net=f"={ETH0}")).findings
    assert (lost.check, lost.level) == ("identity", Level.LETHAL)
    other = identity(id="8086:10d3", mac="52:54:00:00:00:77")
    with pytest.raises(SafetyRefusal, match=r"no function is 8086:10d3 with mac 52:54:00:00:00:77 ") as told:
        resolve(facts(), other)
    assert told.value.hint == f"{NIC} has mac {MAC}, slot 4, path 0000:00:1c.1/00.0"
    nobody = identity(id="8086:ffff", subsystem="8086:0001", slot="4")
    with pytest.raises(SafetyRefusal, match=r"no function is 8086:ffff of board 8086:0001 with slot 4 ") as told:
        resolve(facts(), nobody)
    assert told.value.hint == "nothing on this host is 8086:ffff of board 8086:0001"
    with pytest.raises(SafetyRefusal, match=r"no function is 8086:10d3 of board 8086:0001 with slot 4 "):
        resolve(facts(), identity(id="8086:10d3", subsystem="8086:0001", slot="4"))
    twins = "".join(function(f"0000:02:00.{n}", NIC_HOME[:-1] + str(n), "8086:10d3", "020000") for n in range(1, 6))
    with pytest.raises(SafetyRefusal, match="several functions are 8086:10d3 with slot 4") as told:
        resolve(facts(pci=twins), identity(id="8086:10d3", slot="4"))
    assert told.value.hint is not None and told.value.hint.count(" has ") == 4
    with pytest.raises(SafetyRefusal, match="6 functions are 8086:10d3") as told:
        find("8086:10d3", facts(pci=twins))
    assert told.value.hint is not None and told.value.hint.count(" has ") == 4


def test_twins_stay_twins_whatever_the_journal_knows() -> None:
    other = "0000:07:00.0"
    home = DISK_HOME.replace(DISK, other)
    nvme = f"nvme2 realpath {home}/nvme/nvme2\nnvme2 serial S1\n"
    seen = facts(pci=function(other, home, "1b36:0010", "010802"), nvme=nvme, drivers=f"={DISK} pciback\n")
    with pytest.raises(SafetyRefusal, match="several functions"):
        resolve(seen, IDENTITIES["disk"], {IDENTITIES["disk"].mark: Bdf.parse(DISK)})


def test_words_for_a_person() -> None:
    found = decision("disk", facts(mounts="21 20 259:4 / /\x1b[2J rw - ext4 /dev/nvme1n1 rw\n"))
    (line,) = explain(found, {"storage": "mine"})
    assert line.startswith("LETHAL storage: ") and "mounts:2: " in line and "\x1b" not in line
    assert "accepted" not in line
    with pytest.raises(UsageError, match="storage"):
        refuse_unknown({"storrage": "x"})


ROOT_ON_IT = {"mounts": "21 20 259:4 / /srv rw - ext4 /dev/nvme1n1 rw\n", "addresses": ON.format("eth1")}
NAMES = st.sampled_from(sorted(BASE))
NOISE = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([BASE["pci"].encode(), b"nvme1n1 holder nvme1n1\nnvme1n1 slave dm-0\ndm-0 slave nvme1n1\n",
                     b"eth1 upper br0\nbr0 upper eth1\n", b"missing x\n", b"* *\n", b"eth1 00000000\n", b"\xff\n"]),
)  # fmt: skip


@settings(max_examples=250, deadline=None)
@given(st.dictionaries(NAMES, NOISE, max_size=3), st.sets(NAMES, max_size=2))
def test_hostile_facts_never_open_the_gate(noise: dict[str, bytes], without: set[str]) -> None:
    """The disk is mounted, the card carries the session: only a damaged answer may hide how bad, never make it good."""
    sections = {name: text.encode() for name, text in BASE.items()}
    sections["mounts"] += ROOT_ON_IT["mounts"].encode()
    sections["addresses"] = ROOT_ON_IT["addresses"][1:].encode()
    for name, data in noise.items():
        sections[name] += b"\n" + data
    for name in without:
        del sections[name]
    try:
        seen = parse_facts(sections)
    except ParseError:
        return
    for device in IDENTITIES:
        found = decision(device, seen)
        assert not found.allowed({}), explain(found, {})
        if not without & {"block", "net"}:  # then nothing tells that it has a disk or an interface at all
            assert not found.allowed(ACCEPT_ALL), explain(found, {})
