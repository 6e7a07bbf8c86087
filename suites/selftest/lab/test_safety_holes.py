"""Ways round the safety gate that look harmless: each was open once."""

from __future__ import annotations

import pytest

from harness.base.errors import SafetyRefusal
from harness.lab.inventory.models import DeviceEntry
from harness.lab.safety.facts.collect import read_facts
from harness.lab.safety.facts.facts import HostFacts
from harness.lab.safety.facts.parse import parse_facts
from harness.lab.safety.facts.resolve import resolve
from harness.lab.safety.gate import Decision, Level, decide, explain
from harness.model.address import Bdf
from suites.selftest.fakes.fakelab import FakeLab, fake_host
from suites.selftest.fakes.patience import soon
from suites.selftest.lab.test_safety_gate import (
    ACCEPT_ALL,
    BASE,
    BLOCK,
    DISK,
    DISK_HOME,
    ETH0,
    IDENTITIES,
    NIC,
    NIC_HOME,
    ROOT,
    card,
    config,
    decision,
    facts,
    function,
    level,
)

__all__ = ["fake_host"]

UP = "3: eth1    inet 198.51.100.1/24 x\n"
ROOT_MOUNT = "21 20 259:4 / / rw - ext4 /dev/nvme1n1 rw\n"
VF = "0000:02:10.0"
VF_HOME = f"{NIC_HOME.rsplit('/', 1)[0]}/{VF}"
ISCSI = "sda realpath /sys/devices/platform/host3/session1/target3:0:0/3:0:0:1/block/sda\nsda dev 8:0\n"


ODD = "odd0 realpath /sys/devices/virtual/block/odd0\nodd0 dev 250:0\nodd0 size 8\n"
ODD_MOUNT = "21 20 250:0 / /srv rw - ext4 /dev/odd0 rw\n"


def serial_card(code: str) -> str:
    return "=" + function(NIC, NIC_HOME, "8086:10d3", code)


HOLES = [
    # evidence that is there is not hidden by a line that says something else is not
    ("disk", "storage", {"mounts": ROOT_MOUNT, "block": "missing x\n"}, Level.LETHAL),
    ("disk", "storage", {"mounts": ROOT_MOUNT, "nvme": "missing x\n", "backends": "missing x\n"}, Level.LETHAL),
    # a domain's disk under another name than the kernel's
    ("disk", "storage", {"backends": '/local/domain/0/backend/qdisk/3/5/params = "raw:/dev/disk/by-id/wwn-1"\n'},
     Level.DENY),
    ("disk", "storage", {"signatures": "=nvme1n1 1 unreadable\n"}, Level.DENY),
    ("disk", "storage", {"signatures": "=nvme1n1 2 \n", "block": "nvme1n1 hidden 1\n"}, Level.OK),
    ("disk", "storage", {"signatures": "=\n", "block": "nvme1n1 hidden 1\n"}, Level.DENY),
    # partitions that nobody listed, of a guest's image and of a pool
    ("disk", "storage", {"backends": '/local/domain/0/backend/qdisk/3/51712/params = "'
                         r'json:{\"driver\": \"raw\", \"file.filename\": \"/dev/nvme1n1p9\"}"' "\n"}, Level.LETHAL),
    ("disk", "storage", {"zpool": "\t  /dev/nvme1n1p9  ONLINE 0 0 0\n"}, Level.LETHAL),
    # a disk that is its own, or one that is built on another
    ("disk", "storage", {"block": f"={ROOT}{ODD}", "mounts": ODD_MOUNT}, Level.LETHAL),
    ("disk", "storage", {"block": f"={ROOT}{ODD}odd0 slave vda\n", "mounts": ODD_MOUNT}, Level.DENY),
    *(("disk", "storage", {"block": f"={ROOT}{ODD}", "mounts": ODD_MOUNT, "drivers": f"={DISK} {driver}\n"}, Level.DENY)
      for driver in ("pciback", "xen-pciback", "pci-stub", "vfio-pci", "igb_uio")),
    # partitions of what is built on it; a disk of cciss, whose name has a slash, by another name
    ("disk", "storage", {"block": "nvme1n1 holder md7\nmd7 realpath /sys/devices/virtual/block/md7\nmd7 dev 9:7\n"
                         "md7p1 realpath /sys/devices/virtual/block/md7/md7p1\nmd7p1 dev 259:7\nmd7p1 partition 1\n",
                         "mounts": "21 20 259:7 / /srv rw - ext4 /dev/md7p1 rw\n"}, Level.LETHAL),
    ("disk", "storage", {"block": f"cciss!c0d0 realpath {DISK_HOME}/block/cciss!c0d0\ncciss!c0d0 dev 104:0\n",
                         "devlinks": "/dev/disk/by-id/odd -> ../../cciss/c0d0\n",
                         "cmdline": "resume=/dev/disk/by-id/odd\n"}, Level.LETHAL),
    # a card that a container has
    ("card", "network", {"net": f"={ETH0}"}, Level.DENY),
    ("card", "network", {"net": "="}, Level.LETHAL),
    ("card", "network", {"net": f"={ETH0}", "drivers": f"={NIC} pciback\n"}, Level.OK),
    # the machine's disks are elsewhere
    ("nic", "network", {"addresses": UP, "mounts": "9 1 0:50 / / rw - nfs4 198.51.100.9:/root rw\n"}, Level.LETHAL),
    ("nic", "network", {"addresses": UP, "block": ISCSI}, Level.LETHAL),
    ("nic", "network", {"mounts": "9 1 0:50 / / rw - nfs4 198.51.100.9:/root rw\n"}, Level.OK),
    # the kernel's own messages go by an interface that nobody can place; a route alone is use, too
    ("nic", "network", {"addresses": UP, "consoles": "netcon0 E\n", "netconsole": "t1 dev far0\n"}, Level.LETHAL),
    ("nic", "network", {"addresses": UP, "consoles": "netcon0 E\n", "netconsole": "t1 dev eth0\n"}, Level.DENY),
    ("nic", "network", {"addresses": UP, "cmdline": "netconsole=@/02:00:5E:00:00:99,@192.0.2.9/\n"}, Level.LETHAL),
    ("nic", "network", {"addresses": UP, "cmdline": "netconsole=@/02:00:5E:00:00:99,@192.0.2.9/\n",
                        "net": "eth0 address 02:00:5e:00:00:99\n"}, Level.DENY),
    ("nic", "network", {"routes": "eth1 000200C6 00000000 0001 0 0 0 00FFFFFF 0 0 0\n"}, Level.DENY),
    # a program that has the memory of a card of the network mapped may send by it, by another it does not
    ("card", "network", {"pci": serial_card("020000"), "net": f"={ETH0}", "ssh": "=",
                         "mapped": f"{NIC_HOME}/resource0\n"}, Level.LETHAL),
    ("card", "network", {"pci": serial_card("120000"), "net": f"={ETH0}", "ssh": "=",
                         "mapped": f"{NIC_HOME}/resource0\n"}, Level.OK),
    # our session comes over a virtual function of it
    ("nic", "network", {"pci": function(VF, VF_HOME, "8086:10ed", "020000") + f"{VF} physfn {NIC_HOME}\n",
                        "net": card("eth9", f"{VF_HOME}/net/"), "addresses": "=9: eth9    inet 192.0.2.1/24 x\n"},
     Level.LETHAL),
    ("card", "console", {"pci": serial_card("070002"), "cmdline": "console=ttyS4,115200\n"}, Level.LETHAL),
    ("card", "console", {"pci": serial_card("078000"), "cmdline": "earlycon=uart8250,mmio,0xf7000000\n"}, Level.LETHAL),
    ("card", "console", {"pci": serial_card("078000"), "consoles": "uart0 -W- (E)\n"}, Level.OK),
    ("card", "console", {"pci": serial_card("078000"), "consoles": "odd0 -W- (E)\n"}, Level.DENY),
    ("card", "console", {"pci": serial_card("070002"), "xen": "xen_commandline : com1=115200,8n1,irq=17\n"}, Level.OK),
    ("card", "console", {"pci": serial_card("070200"), "xen": "xen_commandline : com1=115200,8n1,0xe000,17\n"},
     Level.LETHAL),
    ("card", "console", {"pci": serial_card("070002"), "xen": "xen_commandline : com1=115200,8n1 console=com1\n"},
     Level.OK),
    ("card", "console", {"pci": serial_card("0c0320"), "xen": "xen_commandline : dbgp=ehci console=dbgp\n"},
     Level.LETHAL),
    ("card", "console", {"pci": serial_card("0c0320"), "xen": "xen_commandline : console=dbgp\n"}, Level.LETHAL),
    ("card", "console", {"pci": serial_card("0c0330"), "cmdline": "console=ttyUSB0\n"}, Level.LETHAL),
    ("card", "console", {"pci": serial_card("0c0330"), "cmdline": "kgdboc=kms,kbd,115200,ttyUSB0\n"}, Level.LETHAL),
    ("card", "console", {"pci": serial_card("0c0330"), "cmdline": "earlyprintk=keep,xdbc\n"}, Level.LETHAL),
    ("card", "console", {"pci": serial_card("0c0320"), "cmdline": "earlyprintk=keep,xdbc\n"}, Level.OK),
    ("card", "console", {"pci": serial_card("0c0320"), "xen": "xen_commandline : console=com1,vga,dbgp\n"},
     Level.LETHAL),
    ("card", "console", {"pci": serial_card("0c0320"), "cmdline": "kgdbdbgp=0\n"}, Level.LETHAL),
    ("card", "console", {"pci": serial_card("0c0330"), "cmdline": "kgdbdbgp=0\n"}, Level.OK),
    ("card", "console", {"pci": serial_card("0c0320"),
                         "xen": "xen_commandline : dbgp=xhci@pci00:14.0 console=dbgp\n"}, Level.OK),
    ("card", "console", {"pci": serial_card("038000")}, Level.DENY),
    ("card", "console", {"pci": serial_card("038000") + function(DISK, DISK_HOME, "1234:1111", "030000")
                         + f"{DISK} boot_vga 1\n"}, Level.OK),
    ("card", "console", {"pci": serial_card("030000")}, Level.DENY),
    ("card", "console", {"pci": serial_card("030000") + f"{NIC} boot_vga 0\n"}, Level.DENY),  # no other is the one
    ("card", "console", {"pci": serial_card("030000") + f"{NIC} boot_vga 0\n"
                         + function(DISK, DISK_HOME, "1af4:1050", "030000") + f"{DISK} boot_vga 1\n"}, Level.OK),
    ("card", "console", {"xen": "=missing xl\n"}, Level.DENY),
    ("nic", "reset", {"pci": "=" + function(NIC, NIC_HOME, "8086:10d3", "020000").replace("flr bus", "pm bus")},
     Level.WARN),
    ("nic", "owner", {"backends": "missing xenstore\n"}, Level.DENY),
    ("card", "owner", {"drivers": f"={NIC} igb_uio\n"}, Level.DENY),
]  # fmt: skip


def ask(device: str, seen: HostFacts, **more: frozenset[Bdf]) -> Decision:
    """`card` is `nic`, told by its place: the gate answers although no interface tells its mac."""
    if device != "card":
        return decision(device, seen)
    entry = {"identity": {"id": "8086:10d3", "path": "0000:00:1c.1/00.0"}, "driver": "nvme", "endings": ()}
    return decide(device, DeviceEntry.model_validate(entry), seen, **more)


@pytest.mark.parametrize(("device", "check", "changed", "expected"), HOLES)
def test_hole_is_closed(device: str, check: str, changed: dict[str, str], expected: Level) -> None:
    found = ask(device, facts(**changed))
    assert level(found, check) is expected, explain(found, {})
    if expected is Level.LETHAL:
        assert not found.allowed(ACCEPT_ALL)


OTHER = "0000:02:00.1"
PORT = function(OTHER, f"{NIC_HOME[:-1]}1", "8086:10d4", "020000")
LENT = frozenset({Bdf.parse(NIC), Bdf.parse(OTHER)})


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        ("=9: eth9    inet 192.0.2.1/24 x\n", Level.DENY),
        (UP.replace("eth1", "eth9"), Level.DENY),
        ("", Level.OK),
    ],
)
def test_a_port_that_is_in_use_is_no_sibling_to_reset_even_if_lent(addresses: str, expected: Level) -> None:
    net = card("eth9", f"{NIC_HOME[:-1]}1/net/")
    seen = facts(pci=PORT, drivers=f"{OTHER} igb\n", net=net, addresses=addresses)
    assert level(ask("card", seen, lent=LENT), "siblings") is expected


def bridge(bdf: str, kind: int | None, acs: int = 0) -> str:
    """Config space of a port: `kind` is that of its PCIe capability; None: conventional PCI."""
    data = bytearray(4096)
    data[0:4], data[0x06], data[0x0E], data[0x34] = b"\x86\x80\x01\x00", 0x10, 1, 0x50
    data[0x50:0x54] = bytes([0x0D if kind is None else 0x10, 0, (kind or 0) << 4, 0])
    data[0x100:0x108] = bytes([0x0D, 0, 1, 0, 0, 0, acs, 0])
    rows = [f"{at:06x} {data[at : at + 16].hex(' ')}" for at in range(0, 0x120, 16)]
    return "\n".join([f"function {bdf}", *rows, "*", "001000", ""])


TOP = "/sys/devices/pci0000:00/0000:00:1c.1"
UPSTREAM, LEFT, RIGHT, GUEST = "0000:05:00.0", "0000:06:00.0", "0000:06:01.0", "0000:08:00.0"


@pytest.mark.parametrize(
    ("kind", "acs", "expected"),
    [(6, 0x1D, Level.OK), (6, 0x1C, Level.DENY), (6, 0, Level.DENY), (None, 0x1D, Level.OK)],
)
def test_a_switch_without_acs_joins_what_is_below_it(kind: int | None, acs: int, expected: Level) -> None:
    up = f"{TOP}/{UPSTREAM}"
    pci = function("0000:00:1c.1", TOP, "8086:0001", "060400") + function(UPSTREAM, up, "8086:0001", "060400")
    pci += function(LEFT, f"{up}/{LEFT}", "8086:0001", "060400") + function(
        RIGHT, f"{up}/{RIGHT}", "8086:0001", "060400"
    )
    pci += function(NIC, f"{up}/{LEFT}/{NIC}", "8086:10d3", "020000")
    pci += function(GUEST, f"{up}/{RIGHT}/{GUEST}", "144d:a808", "010802")
    spaces = bridge("0000:00:1c.1", 4) + bridge(UPSTREAM, 5) + bridge(LEFT, kind, acs) + bridge(RIGHT, 6, 0x1D)
    seen = facts(
        pci="=" + pci,
        config="=" + config(NIC) + config(GUEST) + spaces,
        drivers=f"={NIC} e1000e\n{GUEST} nvme\n",
        net=f"={ETH0}" + card("eth1", f"{up}/{LEFT}/{NIC}/net/"),
    )
    assert level(decision("nic", seen), "siblings") is expected


def test_everything_below_a_bridge_to_conventional_pci_is_joined() -> None:
    first, second = f"{TOP}/0000:05:00.0", f"{TOP}/0000:05:00.0/0000:06:00.0"
    pci = function("0000:00:1c.1", TOP, "8086:0001", "060400") + function("0000:05:00.0", first, "8086:1", "060400")
    pci = pci.replace("0x1\n", "0x0001\n") + function("0000:06:00.0", second, "8086:0001", "060400")
    pci += function(NIC, f"{second}/{NIC}", "8086:10d3", "020000")
    pci += function(GUEST, f"{first}/{GUEST}", "144d:a808", "010802")
    spaces = bridge("0000:00:1c.1", 4) + bridge("0000:05:00.0", 7) + bridge("0000:06:00.0", None)
    seen = facts(
        pci="=" + pci,
        config="=" + config(NIC) + spaces,
        drivers=f"={GUEST} nvme\n",
        net=f"={ETH0}" + card("eth1", f"{second}/{NIC}/net/"),
    )
    assert level(decision("nic", seen), "siblings") is Level.DENY


def test_a_changed_address_names_nothing_when_nobody_tells_the_permanent_one() -> None:
    changed = "eth1 assigned 3\n"
    with pytest.raises(SafetyRefusal):
        resolve(facts(net=changed, links="missing ip\n"), IDENTITIES["nic"])
    told = facts(
        net=changed, links="2: eth1: <UP> mtu 1500 link/ether 52:54:00:aa:00:02 x permaddr 52:54:00:00:00:09\n"
    )
    with pytest.raises(SafetyRefusal):
        resolve(told, IDENTITIES["nic"])
    asked = "2: eth1: <UP> mtu 1500 link/ether 52:54:00:aa:00:02 x\n"  # ip tells a permanent one where it is another
    for net, links in (("eth1 assigned 0\n", "missing ip\n"), (changed, asked)):
        assert resolve(facts(net=net, links=links), IDENTITIES["nic"]) == Bdf.parse(NIC)


def test_a_path_of_a_multipath_drive_needs_no_look_of_its_own() -> None:
    place = f"{BLOCK[:-3]}/nvme1c1n1"
    block = f"={ROOT}nvme1n1 realpath /sys/devices/virtual/nvme-subsystem/nvme-subsys1/nvme1n1\nnvme1n1 dev 259:4\n"
    block += f"nvme1n1 size 9\nnvme1c1n1 realpath {place}\nnvme1c1n1 size 9\nnvme1c1n1 hidden 1\n"
    seen = facts(block=block, nvme="nvme1 subsystem nvme-subsys1\n", signatures="nvme1c1n1 1 unreadable\n")
    assert seen.functions[Bdf.parse(DISK)].blocks == {"nvme1n1", "nvme1c1n1"}
    assert level(decision("disk", seen), "storage") is Level.OK


def test_a_disk_that_cannot_be_read_is_not_blank(fake_host: FakeLab) -> None:
    (fake_host.fake.tree.real("/dev/nvme1n1")).unlink()
    seen = parse_facts(read_facts(fake_host.transport(), soon()))
    assert [line.text for line in seen.lines("signatures") if line.text.startswith("nvme1n1 ")] == [
        "nvme1n1 1 unreadable"
    ]
    found = decide("disk0", fake_host.entry.devices["disk0"], seen)
    assert level(found, "storage") is Level.DENY


def test_every_section_is_needed() -> None:
    """With any one section gone, nothing that was refused before is allowed, and what needs it is refused."""
    harmless = {"kernel", "os_release", "consoles", "slots", "tools", "run", "links"}
    for name in BASE.keys() - harmless - {"boot_id", "pci", "config", "drivers"}:
        seen = facts(**{name: "-"})
        assert not all(decision(device, seen).allowed({}) for device in IDENTITIES), name
