"""Every element of every list the gate goes by is needed: with one left out, one of these fails."""

from __future__ import annotations

import contextlib
import ipaddress

import pytest

from harness.base.errors import SafetyRefusal
from harness.lab.inventory.models import DeviceEntry
from harness.lab.safety.checks.disks import Disks
from harness.lab.safety.checks.far import far
from harness.lab.safety.checks.finding import Lending, Level
from harness.lab.safety.checks.network import check as network
from harness.lab.safety.checks.storage import check as storage
from harness.lab.safety.checks.wires import Route, Wires
from harness.lab.safety.facts.facts import FactLine, HostFacts
from harness.lab.safety.facts.resolve import resolve, where_hidden
from harness.lab.safety.gate import decide, decide_at, explain
from harness.model.address import Bdf
from suites.selftest.lab.test_safety_gate import (
    DISK,
    ETH0,
    IDENTITIES,
    MAC,
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
from suites.selftest.lab.test_safety_holes import ISCSI, TOP, ask, bridge

FAR = [
    "afs",
    "9p",
    "beegfs",
    "ceph",
    "cifs",
    "coda",
    "davfs",
    "fuse.ceph",
    "fuse.glusterfs",
    "fuse.moosefs",
    "fuse.sshfs",
    "gfs2",
    "glusterfs",
    "gpfs",
    "lizardfs",
    "lustre",
    "moosefs",
    "ncpfs",
    "nfs",
    "nfs4",
    "ocfs2",
    "orangefs",
    "panfs",
    "pvfs2",
    "quobyte",
    "smb3",
    "smbfs",
    "weka",
    "wekafs",
    "fuse.anything",
]
NEAR = [
    "fuse.archivemount",
    "fuse.bindfs",
    "fuse.catfs",
    "fuse.cryfs",
    "fuse.dwarfs",
    "fuse.erofsfuse",
    "fuse.fuseiso",
    "fuse.go-mtpfs",
    "fuse.squashfuse_ll",
    "fuse.tool.AppImage",
    "fuse.veracrypt",
    "fuse.dislocker",
    "fuse.encfs",
    "fuse.exfat",
    "fuse.exfat-fuse",
    "fuse.ext4",
    "fuse.fuse-overlayfs",
    "fuse.fuse2fs",
    "fuse.gocryptfs",
    "fuse.guestmount",
    "fuse.gvfsd-fuse",
    "fuse.jmtpfs",
    "fuse.lxcfs",
    "fuse.mergerfs",
    "fuse.ntfs",
    "fuse.ntfs-3g",
    "fuse.portal",
    "fuse.qemu-storage-daemon",
    "fuse.revokefs-fuse",
    "fuse.simple-mtpfs",
    "fuse.snapfuse",
    "fuse.squashfuse",
    "fuse.unionfs",
    "fuse.vmware-vmblock",
    "ext4",
    "tmpfs",
    "overlay",
    "zfs",
    "autofs",
    "fuseblk",
]
SOURCES = ["//server/share", "server:/path", "root@server:/x", "s3://bucket", "[2001:db8::1]:/x"]
IMAGES = [
    "rbd:p/i",
    "nbd:host:1",
    "iscsi://h/t",
    "iser://h/t",
    "gluster://h/v",
    "sheepdog:v",
    "ssh://h/f",
    "http://h/f",
    "https://h/f",
    "ftp://h/f",
    "ftps://h/f",
    "nfs://h/f",
    "vxhs://h/f",
    "gluster+tcp://h/v",
    "raw:rbd:p/i",
]
# what is mounted, and the servers that are told; none: by any card
SERVERS = [
    ("nfs4", "store:/x", "rw,clientaddr=192.0.2.1,addr=192.0.2.9", ["192.0.2.9"]),
    ("nfs4", "store:/x", "rw,addr=fe80::1%eth0", ["fe80::1%eth0"]),
    ("nfs4", "store:/x", "rw", []),
    ("nfs4", "store:/addr=192.0.2.9", "rw", []),
    ("nfs", "192.0.2.9:/x", "rw", ["192.0.2.9"]),
    ("nfs", "[2001:db8::9]:/x", "rw", ["2001:db8::9"]),
    ("cifs", "//192.0.2.9/share", "rw", ["192.0.2.9"]),
    ("cifs", "//store/share", "rw,addr=192.0.2.9", ["192.0.2.9"]),
    ("ceph", "192.0.2.9:6789,192.0.2.8:/volumes/csi-1/x,y:2", "rw", ["192.0.2.9", "192.0.2.8"]),
    ("ceph", "[2001:db8::9]:6789,[2001:db8::8]:/", "rw", ["2001:db8::9", "2001:db8::8"]),
    ("ceph", "store:6789:/", "rw", []),
    ("ceph", "192.0.2.9:6789,store:/", "rw", []),
    ("fuse.ceph", "192.0.2.9:/", "rw", ["192.0.2.9"]),
    ("ceph", "admin@1f.fs=/", "rw,mon_addr=192.0.2.9:6789/[2001:db8::8]:3300,x", ["192.0.2.9", "2001:db8::8"]),
    ("ceph", "admin@1f.fs=/", "rw,mon_addr=store", []),
    ("ceph", "admin@1f.fs=/", "rw", []),
    ("lustre", "192.0.2.9@tcp:192.0.2.8@tcp1:/fs", "rw", ["192.0.2.9", "192.0.2.8"]),
    ("lustre", "192.0.2.9@o2ib,192.0.2.8@o2ib12:/fs", "rw", ["192.0.2.9", "192.0.2.8"]),
    ("lustre", "12345@gni:/fs", "rw", []),
    ("lustre", "192.0.2.9@tcp:store@tcp:/fs", "rw", []),
]
BLOCKS = ["nbd0", "rbd1", "drbd2", "rnbd0", "etherd!e1.1"]


def levels(seen: HostFacts, check: str, device: str = "card") -> list[Level]:
    found = decision(device, seen) if device == "disk" else ask(device, seen)
    return [one.level for one in found.findings if one.check == check]


@pytest.mark.parametrize("kind", FAR)
def test_file_systems_of_elsewhere(kind: str) -> None:
    """The card is up and idle; where the server is nobody says."""
    assert Level.LETHAL in levels(facts(mounts=f"50 1 0:50 / /x rw - {kind} store rw\n"), "network")


@pytest.mark.parametrize("kind", NEAR)
def test_file_systems_of_here(kind: str) -> None:
    assert levels(facts(mounts=f"50 1 0:50 / /x rw - {kind} store rw\n"), "network") == [Level.OK]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("kind", ["zfs", "overlay", "autofs"])
def test_file_systems_whose_source_is_no_place(kind: str, source: str) -> None:
    """A snapshot is `pool@name`, an overlay is called anything, and autofs has not mounted what it watches."""
    assert levels(facts(mounts=f"50 1 0:50 / /x rw - {kind} {source} rw\n"), "network") == [Level.OK]


@pytest.mark.parametrize("source", SOURCES)
def test_sources_of_elsewhere_whatever_the_file_system(source: str) -> None:
    assert Level.LETHAL in levels(facts(mounts=f"50 1 0:50 / /x rw - new {source} rw\n"), "network")


@pytest.mark.parametrize(("kind", "source", "options", "servers"), SERVERS)
def test_servers_that_a_mount_tells(kind: str, source: str, options: str, servers: list[str]) -> None:
    (one,) = far(facts(mounts=f"50 1 0:50 / /x rw - {kind} {source} {options}\n"))
    assert list(one.servers) == servers


@pytest.mark.parametrize(
    ("transport", "expected"),
    [
        ("virtio", Level.OK),
        ("xen", Level.OK),
        ("fd", Level.OK),
        ("unix", Level.OK),
        ("tcp", Level.LETHAL),
        ("rdma", Level.LETHAL),
    ],
)
def test_transports_of_9p(transport: str, expected: Level) -> None:
    assert expected in levels(facts(mounts=f"50 1 0:50 / /x rw - 9p share rw,trans={transport}\n"), "network")


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("backend", ["vbd", "vbd3", "qdisk", "tap"])
def test_images_that_a_device_model_fetches(image: str, backend: str) -> None:
    line = f'/local/domain/0/backend/{backend}/3/51712/params = "{image}"\n'
    assert Level.LETHAL in levels(facts(backends=line), "network")


@pytest.mark.parametrize("name", BLOCKS)
def test_disks_of_elsewhere(name: str) -> None:
    block = f"{name} realpath /sys/devices/virtual/block/{name}\n{name} dev 90:0\n{name} size "
    assert Level.LETHAL in levels(facts(block=f"{block}8\n"), "network")
    assert [one.line.text for one in far(facts(block=f"{block}8\n"))] == [block.splitlines()[0]]
    assert levels(facts(block=f"{block}0\n"), "network") == [Level.OK]


@pytest.mark.parametrize("driver", ["pciback", "xen-pciback", "vfio-pci", "pci-stub", "uio_pci_generic", "igb_uio"])
def test_drivers_that_lend_a_card(driver: str) -> None:
    """As owner; as an idle card; and as one that a program may drive while the session cannot be explained."""
    seen = facts(net=f"={ETH0}", drivers=f"={NIC} {driver}\n")
    assert levels(seen, "owner") == [Level.DENY]
    assert levels(seen, "network") == [Level.OK]
    over = facts(pci=f"{NIC} driver_override {driver}\n")
    assert levels(over, "owner") == [Level.DENY]
    lost = facts(net=f"={ETH0}", drivers=f"={NIC} {driver}\n", ssh="=")
    may = driver in ("vfio-pci", "uio_pci_generic", "igb_uio")
    assert (Level.LETHAL in levels(lost, "network")) is may
    held = facts(net=f"={ETH0}", drivers=f"={NIC} {driver}\n", ssh="=", owners='/libxl/pci/0000-02-00-0/domid = "2"\n')
    assert (Level.LETHAL in levels(held, "network")) is (may or "pciback" in driver)


@pytest.mark.parametrize("code", ["020000", "028000", "020700", "0d1100", "0d8000", "0c0600"])
def test_classes_that_carry_packets(code: str) -> None:
    seen = facts(pci="=" + function(NIC, NIC_HOME, "8086:10d3", code), net=f"={ETH0}")
    assert levels(seen, "network") == [Level.DENY], "its interface is not seen"


@pytest.mark.parametrize("code", ["010000", "010802", "018000", "0c0400", "080501"])
def test_classes_that_store(code: str) -> None:
    seen = facts(
        pci="=" + function(DISK, NIC_HOME.replace(NIC, DISK), "1b36:0010", code), block=f"={ROOT}", drivers="="
    )
    found = [one.level for one in storage(seen.functions[Bdf.parse(DISK)], seen, Lending())]
    assert found == [Level.DENY]


@pytest.mark.parametrize(
    "kind", ["local", "broadcast", "multicast", "anycast", "blackhole", "unreachable", "prohibit", "throw", "nat"]
)
def test_routes_that_lead_nowhere(kind: str) -> None:
    assert levels(facts(tables=f"{kind} default dev eth1 table 7\n", program="version 2\n"), "network") != []
    tables = "default via 192.0.2.254 dev eth0\n"
    assert Level.LETHAL not in levels(facts(tables=f"{tables}{kind} 10.0.0.0/8 dev eth1\n"), "network")
    assert Level.LETHAL not in levels(facts(tables=f"{tables}{kind} default dev eth1\n"), "network")
    assert Level.LETHAL in levels(facts(tables=f"{tables}unicast default dev eth1\n"), "network")


@pytest.mark.parametrize(
    "kind",
    [
        "vxlan id 1",
        "geneve id 1",
        "gre remote any",
        "gretap",
        "erspan",
        "ip6gre",
        "ip6gretap",
        "ipip",
        "sit",
        "ip6tnl",
        "vti",
        "vti6",
        "xfrm",
        "macsec sci 1",
    ],
)
def test_tunnels_are_carried_by_the_device_they_name(kind: str) -> None:
    link = f"9: t0: <UP> mtu 1400\\    link/ether promiscuity 0 {kind} remote 203.0.113.9 dev eth1 ttl 64\n"
    seen = facts(net=card("t0"), links=link, addresses="=9: t0    inet 192.0.2.1/24 x\n")
    assert Level.LETHAL in levels(seen, "network")
    assert any("carries our own session" in line for line in explain(ask("card", seen), {}))


@pytest.mark.parametrize("detail", ["tun type tap pi off", "ppp", "wireguard", "dummy"])
def test_interfaces_of_programs_explain_nothing_even_beside_open_vswitch(detail: str) -> None:
    ovs = ETH0 + "eth0 master /sys/devices/virtual/net/ovs-system\n" + card("ovs-system") + card("x0")
    down = card("eth1", f"{NIC_HOME}/net/")
    link = f"9: x0: <UP> mtu 1400\\    link/ether promiscuity 0 \\    {detail} \n"
    seen = facts(
        net=f"={ovs}{down}",
        links=link,
        addresses="=9: x0    inet 192.0.2.1/24 x\n",
        routes="=x0 000200C0 00000000 0001 0 0 0 00FFFFFF 0 0 0\n",
    )
    assert Level.LETHAL in levels(seen, "network")
    fine = facts(
        net=f"={ovs}{down}",
        links=link.replace(detail, "openvswitch"),
        addresses="=9: x0    inet 192.0.2.1/24 x\n",
        routes="=x0 000200C0 00000000 0001 0 0 0 00FFFFFF 0 0 0\n",
    )
    assert levels(fine, "network") == [Level.OK]


@pytest.mark.parametrize("code", ["070002", "070202", "070300"])
@pytest.mark.parametrize("name", ["ttyS1", "ttyS4", "ttyS17"])
def test_serial_classes(code: str, name: str) -> None:
    seen = facts(pci="=" + function(NIC, NIC_HOME, "8086:10d3", code), consoles=f"{name} -W- (E) 4:65\n")
    assert Level.LETHAL in levels(seen, "console")
    other = facts(pci="=" + function(NIC, NIC_HOME, "8086:10d3", "078000"), consoles=f"{name} -W- (E) 4:65\n")
    assert levels(other, "console") == [Level.OK]


@pytest.mark.parametrize(
    "driver", ["serial", "8250_lpss", "8250_exar", "exar_serial", "intel-lpss", "parport_serial", "jsm", "mxser"]
)
def test_drivers_of_serial_ports_whatever_the_class(driver: str) -> None:
    pci = "=" + function(NIC, NIC_HOME, "8086:10d3", "118000")
    seen = facts(pci=pci, drivers=f"={NIC} {driver}\n", consoles="ttyS4 -W- (E) 4:68\n")
    assert Level.LETHAL in levels(seen, "console")


@pytest.mark.parametrize(
    "name",
    [
        "hvc0",
        "xvc0",
        "tty0",
        "tty1",
        "ttyAMA0",
        "ttySAC1",
        "ttymxc2",
        "ttyLP0",
        "ttyPS0",
        "ttyUL0",
        "ttySC0",
        "ttyMV0",
        "ttyTHS1",
        "ttyMSM0",
        "ttyHV0",
        "sclp0",
        "pstore-1",
        "ramoops-1",
        "ttynull0",
        "ttyS0",
    ],
)
def test_consoles_that_are_on_no_serial_card(name: str) -> None:
    seen = facts(pci="=" + function(NIC, NIC_HOME, "8086:10d3", "070002"), consoles=f"{name} -W- (E) 4:65\n")
    assert levels(seen, "console") == [Level.OK]
    strange = facts(pci="=" + function(NIC, NIC_HOME, "8086:10d3", "070002"), consoles="ttyZZ0 -W- (E) 4:65\n")
    assert levels(strange, "console") == [Level.DENY]


@pytest.mark.parametrize("port", ["0x3f8", "0x2f8", "0x3e8", "0x2e8"])
def test_ports_of_the_board_are_on_no_card(port: str) -> None:
    pci = "=" + function(NIC, NIC_HOME, "8086:10d3", "070002")
    assert levels(facts(pci=pci, xen=f"xen_commandline : com1=115200,8n1,{port},4\n"), "console") == [Level.OK]
    assert Level.LETHAL in levels(facts(pci=pci, xen="xen_commandline : com1=115200,8n1,0xe000,4\n"), "console")


KINDS = [
    *((f"{code:02x}0000", Level.OK) for code in (*range(1, 5), *range(9, 0x14), 0x40, 0xFF)),
    ("070000", Level.OK),
    ("080500", Level.OK),
    ("088000", Level.OK),
    ("00ff00", Level.DENY),  # virtio alone has entropy sources of this class, and other things too
    ("000000", Level.DENY),
    ("140000", Level.DENY),
    ("410000", Level.DENY),
    ("fe0000", Level.DENY),
    ("050000", Level.LETHAL),
    ("058000", Level.LETHAL),
    ("060000", Level.LETHAL),
    ("068000", Level.LETHAL),
    *((f"08{sub:02x}00", Level.LETHAL) for sub in (0, 1, 2, 3, 4, 6, 7)),
]


@pytest.mark.parametrize(("code", "expected"), KINDS)
def test_kinds(code: str, expected: Level) -> None:
    assert levels(facts(pci="=" + function(NIC, NIC_HOME, "8086:10d3", code)), "kind") == [expected]


@pytest.mark.parametrize("driver", ["", "pcieport", "shpchp", "pciehp"])
def test_bridges_beside_a_card_are_used_by_nobody_themselves(driver: str) -> None:
    beside = "0000:02:00.1"
    pci = function(beside, NIC_HOME.replace(NIC, beside), "8086:0001", "060400")
    drivers = f"{beside} {driver}\n" if driver else ""
    assert levels(facts(pci=pci, drivers=drivers), "siblings") == [Level.OK]
    assert levels(facts(pci=pci, drivers=f"{beside} ntb_hw_amd\n"), "siblings") == [Level.DENY]


@pytest.mark.parametrize("name", ["net", "ssh", "addresses", "routes", "routes6", "tables"])
def test_sections_the_network_is_judged_by(name: str) -> None:
    seen = facts(
        program="version 2\n", **{**dict.fromkeys(("tables", "consoles", "netconsole"), ""), name: "missing x\n"}
    )
    found = list(network(seen.functions[Bdf.parse(NIC)], seen, Lending()))
    assert any(one.level is Level.LETHAL and one.evidence[:1] and one.evidence[0].text == "missing x" for one in found)


@pytest.mark.parametrize(
    "name", ["block", "devlinks", "nvme", "btrfs", "mounts", "swaps", "zpool", "backends", "cmdline", "users"]
)
def test_sections_a_disk_is_judged_by(name: str) -> None:
    more = {one: "" for one in ("devlinks", "users", "exclusive", "chars")}
    seen = facts(program="version 2\n", **{**more, name: "missing x\n"})
    found = list(storage(seen.functions[Bdf.parse(DISK)], seen, Lending()))
    assert any(one.level is Level.LETHAL and one.evidence[:1] and one.evidence[0].text == "missing x" for one in found)


@pytest.mark.parametrize("name", ["drivers", "owners", "backends", "chars", "users"])
def test_sections_an_owner_is_judged_by(name: str) -> None:
    more = {one: "" for one in ("chars", "users")}
    assert Level.DENY in levels(facts(program="version 2\n", **{**more, name: "missing x\n"}), "owner")


def test_the_mac_stands_for_the_card() -> None:
    entry = {"identity": {"id": "8086:10d3", "mac": MAC}, "driver": "nvme", "endings": ()}
    assert decide("nic", DeviceEntry.model_validate(entry), facts()).allowed({})


SIX = f"{'0' * 32} 00 {'0' * 32} 00 {'0' * 32} 00000400 0 0 00000001 eth0"


@pytest.mark.parametrize(
    ("section", "line"),
    [
        ("routes", "eth0 00000000 FE0200C0 0003 0 0 0"),
        ("routes", "eth0 0000000 FE0200C0 0003 0 0 0 00000000 0 0 0"),
        ("routes", "eth0 00000000 FE0200C0 0003 0 0 0 0000000 0 0 0"),
        ("routes", "eth0 0000000g FE0200C0 0003 0 0 0 00000000 0 0 0"),
        ("routes", "eth0 00000000 FE0200C0 00zz 0 0 0 00000000 0 0 0"),
        ("routes6", SIX.removesuffix(" eth0")),
        ("routes6", f"{SIX} more"),
        ("routes6", SIX[1:]),
        ("routes6", SIX.replace(" 00 ", " 81 ", 1)),
        ("routes6", SIX.replace("00000001 eth0", "0000zz01 eth0")),
        ("routes6", SIX.replace("0", "g", 1)),
        ("routes6", SIX.replace(" 00 ", " zz ", 1)),
        ("tables", "10.0.0.0/8 via 192.0.2.9"),
        ("tables", "10.0.0.0/8 dev"),
        ("tables", "10.0.0.0/33 dev eth0"),
        ("tables", "somewhere dev eth0"),
        ("addresses", "2: eth0    inet 192.0.2.1/33 brd x"),
        ("addresses", "2: eth0    inet6 zz::1/64 scope link"),
        ("addresses", "eth0    inet 192.0.2.1/24 brd x"),
        ("addresses", "2: eth0    inet 192.0.2.1/24peer x"),
    ],
)
def test_addresses_and_routes_that_nobody_understands_are_a_hole(section: str, line: str) -> None:
    found = ask("card", facts(**{section: f"{line}\n"}))
    assert any("not understood" in text for text in explain(found, {})), explain(found, {})
    assert found.level is Level.LETHAL


@pytest.mark.parametrize(
    ("section", "line"),
    [
        ("routes", "eth0 0000000A 00000000 0001 0 0 0 000000FF 0 0 0"),
        ("routes6", SIX.replace(" 00 ", " 80 ", 1)),
        ("tables", "10.0.0.0/8 dev eth0 proto kernel scope link src 192.0.2.1"),
        ("tables", "unicast 10.0.0.0/8 via 192.0.2.9 dev eth0 table 7"),
        ("tables", "fe80::/64 dev eth0 proto kernel metric 256 pref medium"),
        ("addresses", "2: eth0    inet 192.0.2.77 peer 192.0.2.78/32 scope global eth0\\"),
        ("addresses", "2: eth0    inet6 2001:db8::1/64 scope global dynamic mngtmpaddr \\"),
        ("addresses", "2: eth0    link/ether 52:54:00:00:00:01"),
    ],
)
def test_those_that_are_understood_are_none(section: str, line: str) -> None:
    assert ask("card", facts(**{section: f"{line}\n"})).allowed({})


@pytest.mark.parametrize("word", ["/dev/nvme1n1", "/dev/nvme1n1p9"])
def test_pools_name_disks_and_partitions_that_nobody_lists(word: str) -> None:
    assert Level.LETHAL in levels(facts(zpool=f"\t  {word}  ONLINE 0 0 0\n"), "storage", "disk")


@pytest.mark.parametrize(
    ("host", "expected"), [("host3 netdev eth1", ["eth1"]), ("host3 netdev (null)", [""]), ("host4 netdev eth1", [""])]
)
def test_the_interface_that_iscsi_is_bound_to(host: str, expected: list[str]) -> None:
    told = f"connection1:0 address 192.0.2.9\nconnection2:0 address 192.0.2.8\n{host}\n"
    seen = far(facts(block=ISCSI, iscsi=told))
    assert [(list(one.servers), one.bound) for one in seen] == [(["192.0.2.9"], one) for one in expected]


@pytest.mark.parametrize(
    ("bound", "expected"), [("eth0", [Level.OK]), ("eth1", [Level.LETHAL]), ("eth7", [Level.LETHAL])]
)
def test_what_is_stored_over_an_interface_by_name(bound: str, expected: list[Level]) -> None:
    """Wherever the routes lead; an interface that nobody knows may be any."""
    told = f"connection1:0 address 192.0.2.9\nhost3 netdev {bound}\n"
    assert sorted(set(levels(facts(block=ISCSI, iscsi=told), "network"))) == expected


WORDS = [
    ("resume=UUID=77aa", "uuid/77aa"),
    ("resume=PARTUUID=77aa-02", "partuuid/77aa-02"),
    ("resume=LABEL=spare", "label/spare"),
    ("resume=PARTLABEL=spare", "partlabel/spare"),
    ("rd.luks.uuid=luks-77aa", "uuid/77aa"),
    ("rd.luks.name=77aa=vault", "uuid/77aa"),
    ("cryptdevice=UUID=77aa:vault", "uuid/77aa"),
    ("cryptdevice=LABEL=spare:vault", "label/spare"),
    ("dolvm root=/dev/disk/by-id/x", "id/x"),
]


@pytest.mark.parametrize(("word", "link"), WORDS)
def test_words_of_the_command_line_that_name_a_disk(word: str, link: str) -> None:
    links = f"/dev/disk/by-{link} -> ../../nvme1n1\n"
    assert Level.LETHAL in levels(facts(cmdline=f"= ro {word} quiet\n", devlinks=links), "storage", "disk")
    other = links.replace(link, f"{link}9")
    assert levels(facts(cmdline=f"= ro {word} quiet\n", devlinks=other), "storage", "disk") == [Level.OK]
    gone = links.replace("nvme1n1", "sdq")
    assert levels(facts(cmdline=f"= ro {word} quiet\n", devlinks=gone), "storage", "disk") == [Level.OK]


@pytest.mark.parametrize(
    ("methods", "expected"),
    [
        ("flr", Level.OK),
        ("af_flr", Level.OK),
        ("af_flr flr", Level.OK),
        ("flr bus", Level.DENY),
        ("bus", Level.DENY),
        (None, Level.DENY),
    ],
)
def test_a_virtual_function_shares_nothing_that_is_reset(methods: str | None, expected: Level) -> None:
    """Its physical function is at work in the next place, below a port that isolates."""
    beside, home = "0000:02:10.0", f"{TOP}/0000:02:10.0"
    pci = function("0000:00:1c.1", TOP, "8086:0001", "060400") + function(beside, home, "8086:10ed", "020000")
    told = f"{beside} reset_method flr bus\n"
    pci = pci.replace(told, f"{beside} reset_method {methods}\n" if methods else "") + f"{beside} physfn {NIC_HOME}\n"
    for acs, wanted in ((0x1D, expected), (0x1C, Level.DENY)):
        seen = facts(pci=pci, config=bridge("0000:00:1c.1", 4, acs), drivers=f"{beside} igbvf\n")
        found = decide_at(beside, Bdf.parse(beside), seen, Lending())
        assert {one.level for one in found.findings if one.check == "siblings"} == {wanted}


@pytest.mark.parametrize(
    ("name", "place", "expected"),
    [
        ("13:64", "usb3/3-2/3-2:1.0/0003:1.0001/input/input5/event2", Level.DENY),
        ("13:64", "usb3/3-2/3-2:1.0/0003:1.0001/input/input5/mouse0", Level.OK),
        ("13:64", "sound/card0/input5/event2", Level.OK),
    ],
)
def test_what_one_types_on(name: str, place: str, expected: Level) -> None:
    assert levels(facts(chars=f"{name} realpath {NIC_HOME}/{place}\n"), "console") == [expected]
    elsewhere = NIC_HOME.replace(NIC, "0000:09:00.0")
    assert levels(facts(chars=f"{name} realpath {elsewhere}/{place}\n"), "console") == [Level.OK]


def extended(*rows: tuple[int, bytes]) -> str:
    """The card's config space with these bytes in its extended part."""
    data = bytearray(4096)
    for at, text in ((0, bytes.fromhex("8680d31006041000")), *rows):
        data[at : at + len(text)] = text
    lines = [f"{at:06x} {data[at : at + 16].hex(' ')}" for at in range(0, 4096, 16)]
    return "\n".join([f"function {NIC}", *lines, "001000", ""])


CXL = bytes.fromhex("2300 0100 981e 8003 0000 0600 0400")


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([(0x100, CXL)], Level.LETHAL),
        ([(0x100, bytes.fromhex("01000120")), (0x200, CXL)], Level.LETHAL),
        ([(0x100, bytes.fromhex("0100 41ff")), (0xFF4, CXL[:12])], Level.OK),  # cut off where the control would be
        ([(0x100, CXL[:12] + b"\0")], Level.OK),  # memory not enabled
        ([(0x100, CXL[:12] + b"\3")], Level.OK),
        ([(0x100, CXL[:8] + b"\1" + CXL[9:])], Level.OK),  # another DVSEC of the consortium
        ([(0x100, CXL[:4] + bytes.fromhex("8680") + CXL[6:])], Level.OK),  # somebody else's
        ([(0x100, bytes.fromhex("0b00") + CXL[2:])], Level.OK),  # no DVSEC
        ([(0x100, bytes.fromhex("0100 0110"))], Level.OK),  # a circle
    ],
)
def test_memory_of_cxl(rows: list[tuple[int, bytes]], expected: Level) -> None:
    assert levels(facts(config="=" + extended(*rows)), "kind") == [expected]


@pytest.mark.parametrize(
    ("code", "driver", "expected"),
    [
        ("088000", "thunderbolt", Level.LETHAL),
        ("0c0340", "", Level.LETHAL),
        ("0c0330", "", Level.OK),
        ("088000", "other", Level.OK),
        ("0c0700", "", Level.LETHAL),
        ("0c0701", "ipmi_si", Level.LETHAL),
        ("0c0600", "", Level.OK),
        ("0c0800", "", Level.OK),
    ],
)
def test_kinds_that_the_machine_hangs_on(code: str, driver: str, expected: Level) -> None:
    pci = "=" + function(NIC, NIC_HOME, "8086:10d3", code)
    assert levels(facts(pci=pci, drivers=f"={NIC} {driver}\n" if driver else "="), "kind") == [expected]


@pytest.mark.parametrize(
    ("bar", "address", "expected"),
    [
        (0xE001, 0xDFFF, Level.OK),
        (0xE001, 0xE000, Level.LETHAL),
        (0xE001, 0xEFFF, Level.LETHAL),
        (0xE001, 0xF000, Level.OK),
        (0xF7000000, 0xF6FFFFFF, Level.OK),
        (0xF7000000, 0xF7000000, Level.LETHAL),
        (0xF7000000, 0xF700FFFF, Level.LETHAL),
        (0xF7000000, 0xF7010000, Level.OK),
        (0x10000, 0x1FFFF, Level.LETHAL),
    ],
)
def test_how_far_behind_a_bar_an_address_is_its_own(bar: int, address: int, expected: Level) -> None:
    pci = "=" + function(NIC, NIC_HOME, "8086:10d3", "070002")
    for at in (0x10, 0x1C, 0x24):
        row, place = at & ~15, at & 15
        told = (bytes(place) + bar.to_bytes(4, "little") + bytes(12 - place)).hex(" ")
        space = config(NIC).replace(f"{row:06x} {bytes(16).hex(' ')}", f"{row:06x} {told}")
        seen = facts(pci=pci, config=f"={space}", xen=f"xen_commandline : com1=115200,8n1,{address:#x},4\n")
        assert levels(seen, "console") == [expected]


@pytest.mark.parametrize("driver", ["", "pciback", "xen-pciback", "vfio-pci", "pci-stub", "e1000e"])
def test_drivers_that_hide_a_mac(driver: str) -> None:
    """Then our journal is asked where it was, and a person is told to name the device by path."""
    hidden = driver in ("pciback", "xen-pciback", "vfio-pci")
    gone = facts(net="=", drivers=f"={NIC} {driver}\n" if driver else "=")
    nic = IDENTITIES["nic"]
    with pytest.raises(SafetyRefusal) as told:
        resolve(gone, nic)
    assert ("hides serial numbers" in str(told.value)) is hidden
    with contextlib.nullcontext() if hidden or not driver else pytest.raises(SafetyRefusal):
        assert resolve(gone, nic, {nic.mark: Bdf.parse(NIC)}) == Bdf.parse(NIC)


@pytest.mark.parametrize(("code", "expected"), [("010000", True), ("020000", True), ("030000", False), ("", False)])
def test_what_a_driver_hides_is_told_of_disks_and_cards_alone(code: str, expected: bool) -> None:
    pci = "=" + function(NIC, NIC_HOME, "8086:10d3", code)
    silent = list(facts(pci=pci, drivers=f"={NIC} pciback\n").functions.values())
    assert bool(where_hidden(silent)) is expected


ROUTES = [
    ("default via 192.0.2.9 dev eth1 proto dhcp metric 100", [("0.0.0.0/0", "main", "eth1")]),
    ("default via fe80::1 dev eth1 table 7 pref medium", [("::/0", "7", "eth1")]),
    ("default via inet6 fe80::1 dev eth1", [("::/0", "main", "eth1")]),
    ("default dev eth1 metric 1 pref high", [("::/0", "main", "eth1")]),
    ("default dev eth1 metric 1 pref low", [("::/0", "main", "eth1")]),
    ("default dev eth1 scope link", [("0.0.0.0/0", "main", "eth1")]),
    ("unicast 192.0.2.0/24 dev eth1 table local", [("192.0.2.0/24", "local", "eth1")]),
    ("192.0.2.7 dev eth1", [("192.0.2.7/32", "main", "eth1")]),
    ("default nhid 5\\\tnexthop via 192.0.2.9 dev eth0\\\tnexthop via 192.0.2.8 dev eth1",
     [("0.0.0.0/0", "main", "eth0"), ("0.0.0.0/0", "main", "eth1")]),
    ("10.0.0.0/8 dev eth1 table", [("10.0.0.0/8", "main", "eth1")]),
    ("local 192.0.2.1 dev eth1 table local", []),
]  # fmt: skip


@pytest.mark.parametrize(("line", "expected"), ROUTES)
def test_routes_that_ip_tells(line: str, expected: list[tuple[str, str, str]]) -> None:
    wires = Wires(facts(routes="=", tables=f"{line}\n"))
    assert [(str(one.network), one.table, one.interface) for one in wires.routes] == expected
    assert not wires.strange


VIRTIO = [
    ("1af4:1005", "00ff00", "kind", Level.OK),
    ("1af4:1044", "00ff00", "kind", Level.OK),
    ("1af4:1045", "00ff00", "kind", Level.DENY),
    ("1af4:1058", "00ff00", "kind", Level.LETHAL),
    ("1af4:105b", "00ff00", "kind", Level.LETHAL),
    ("1af4:1003", "078000", "console", Level.LETHAL),
    ("1af4:1043", "078000", "console", Level.LETHAL),
    ("1af4:1044", "078000", "console", Level.OK),
]


@pytest.mark.parametrize(("identity", "code", "check", "expected"), VIRTIO)
def test_what_virtio_is_by_its_number(identity: str, code: str, check: str, expected: Level) -> None:
    pci = "=" + function(NIC, NIC_HOME, identity, code)
    seen = facts(pci=pci, consoles="hvc1 -W- (E) 229:1\n")
    found = decide_at(NIC, Bdf.parse(NIC), seen, Lending())
    assert [one.level for one in found.findings if one.check == check] == [expected]
    board = facts(pci=pci, consoles="hvc0 -W- (E) 229:0\n")
    found = decide_at(NIC, Bdf.parse(NIC), board, Lending())
    assert check == "kind" or [one.level for one in found.findings if one.check == check] == [Level.OK]


BELOW = [
    ("b0 lower eth1\n", "", {"b0": {"eth1"}}),
    ("eth1 upper b0\n", "", {"b0": {"eth1"}}),
    ("eth1 master /sys/devices/virtual/net/b0\n", "", {"b0": {"eth1"}}),
    ("", "9: b0@eth1: <UP>\n", {"b0": {"eth1"}}),
    ("", "9: b0@if3: <UP>\n", {}),
    ("", "9: b0@b0: <UP>\n", {}),
    ("", "9: b0: <UP> vxlan id 1 dev eth1 ttl 64\n", {"b0": {"eth1"}}),
    ("", "9: b0: <UP> vxlan id 1 dev eth7 ttl 64\n", {}),
    ("", "9: b0: <UP> bridge dev eth1\n", {}),
    ("", "nothing\n", {}),
]


@pytest.mark.parametrize(("net", "links", "expected"), BELOW)
def test_what_an_interface_stands_on(net: str, links: str, expected: dict[str, set[str]]) -> None:
    wires = Wires(facts(net=card("b0") + net, links=links))
    assert {name: lowers for name, lowers in wires.below.items() if lowers} == expected


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("0000:00:05.1", Level.DENY),
        ("0000:00:06.1", Level.OK),
        ("0000:00:05.1/0000:09:00.0", Level.OK),
        ("0000:00:15.1", Level.OK),
    ],
)
def test_functions_nobody_can_make_out_on_the_root_bus(place: str, expected: Level) -> None:
    root = "/sys/devices/pci0000:00"
    pci = "=" + function("0000:00:05.0", f"{root}/0000:00:05.0", "8086:10d3", "020000")
    strange = f"odd realpath {root}/{place}\nodd vendor 0x8086\n"
    seen = facts(pci=pci + strange, net=f"={ETH0}", drivers="=")
    found = decide_at("nic", Bdf.parse("0000:00:05.0"), seen, Lending())
    assert [one.level for one in found.findings if one.check == "siblings"] == [expected]


EVIDENCE = [
    ("nic", {"pci": f"{NIC} driver_override vfio-pci\n"}, f"(pci:0: {NIC} driver_override vfio-pci)"),
    ("nic", {"drivers": f"={NIC} pciback\n"}, f"(drivers:0: {NIC} pciback)"),
    ("nic", {"config": "=" + config(NIC, 0xC004)}, f"(config:0: {NIC} MSI-X control c004)"),
    ("disk", {"signatures": "="}, "(signatures:0: nvme1n1 was not looked at)"),
    ("disk", {"signatures": "-"}, "(signatures:0: not read)"),
    ("disk", {"exclusive": "vda free\n"}, "(exclusive:0: nvme1n1 was not tried)"),
    ("disk", {"mounts": "-"}, "(mounts:0: not read)"),
    ("disk", {"block": "nvme1n1 holder dm-7\n"}, "(block:0: dm-7)"),
    (
        "nic",
        {"addresses": "=2: eth1    inet 192.0.2.1/24 x\n"},
        "(addresses:1: 2: eth1    inet 192.0.2.1/24 x; ssh:1: 192.0.2.10 50000 192.0.2.1 22)",
    ),
]


@pytest.mark.parametrize(("device", "changed", "told"), EVIDENCE)
def test_evidence(device: str, changed: dict[str, str], told: str) -> None:
    assert any(told in line for line in explain(decision(device, facts(**changed)), {}))


def test_interfaces_and_disks_that_stand_on_each_other() -> None:
    """A pair of veth, or a host that lies: going up or down comes to an end."""
    wires = Wires(facts(net=card("v0") + card("v1") + "eth1 upper v0\n", links="8: v0@v1: <UP>\n9: v1@v0: <UP>\n"))
    assert wires.upwards({"eth1"}) == wires.downwards({"v1"}) == {"eth1", "v0", "v1"}
    assert wires.explained("v1")
    disks = Disks(facts(block="nvme1n1 holder dm-0\ndm-0 holder dm-1\ndm-1 holder dm-0\n"))
    assert disks.stack(frozenset({"nvme1n1"})) == {"nvme1n1", "dm-0", "dm-1"}


@pytest.mark.parametrize(("code", "expected"), [("070002", Level.LETHAL), ("078000", Level.OK), ("020000", Level.OK)])
@pytest.mark.parametrize("where", ["pci", "amt"])
def test_serial_cards_that_xen_looks_for_by_itself(where: str, code: str, expected: Level) -> None:
    pci = "=" + function(NIC, NIC_HOME, "8086:10d3", code)
    assert levels(facts(pci=pci, xen=f"xen_commandline : com1=115200,8n1,{where}\n"), "console") == [expected]


@pytest.mark.parametrize(
    ("consoles", "display", "expected"),
    [
        ("tty0 -WU\n", f"fb0 realpath {NIC_HOME}/graphics/fb0\n", Level.LETHAL),
        ("tty0 -WU\n", f"fb1 realpath {NIC_HOME}/graphics/fb1\n", Level.OK),
        ("tty0 -WU\n", "fb0 realpath /sys/devices/pci0000:00/0000:00:0f.0/graphics/fb0\n", Level.OK),
        ("hvc0 -W-\n", f"fb0 realpath {NIC_HOME}/graphics/fb0\n", Level.OK),
    ],
)
def test_the_display_that_a_text_console_is_drawn_on(consoles: str, display: str, expected: Level) -> None:
    pci = "=" + function(NIC, NIC_HOME, "8086:10d3", "030000") + f"{NIC} boot_vga 0\n"
    seen = facts(pci=pci, consoles=f"={consoles}", display=f"={display}")
    assert level(decision("nic", seen), "console") is expected


@pytest.mark.parametrize(
    ("network", "default"),
    [
        *[("0.0.0.0/0", True), ("128.0.0.0/1", True), ("64.0.0.0/2", False), ("16.0.0.0/4", False)],
        *[("::/0", True), ("2000::/3", True), ("2000::/4", True), ("2000::/5", False)],
    ],
)
def test_routes_to_the_whole_world(network: str, default: bool) -> None:
    assert Route("eth0", ipaddress.ip_network(network), "main", FactLine("routes", 1, "")).default is default


def test_a_guests_node_of_its_own_is_told_by_the_number_beside_it() -> None:
    """XCP-ng's `/dev/sm/backend/...`: of the root disk here, so the other one is idle."""
    backend = "/local/domain/0/backend/vbd/3/51712"
    told = f'{backend}/physical-device-path = "/dev/sm/backend/a/b"\n'
    alone = facts(backends=told)
    beside = facts(backends=told + f'{backend}/physical-device = "fe:1"\n')
    assert level(decision("disk", alone), "storage") > Level.OK
    assert level(decision("disk", beside), "storage") is Level.OK


@pytest.mark.parametrize(
    ("user", "expected"), [("character e1:5", Level.DENY), ("block e1:5", Level.OK), ("character e1:6", Level.OK)]
)
def test_a_user_of_a_character_device_is_no_user_of_a_block_device(user: str, expected: Level) -> None:
    chars = f"225:5 realpath {NIC_HOME}/misc/card\n"
    assert level(decision("nic", facts(chars=chars, users=f"{user}\n")), "owner") == expected


SECOND, SECOND_HOME = "0000:02:00.1", f"{NIC_HOME[:-1]}1"


@pytest.mark.parametrize(
    ("code", "more", "expected"),
    [
        ("010802", {}, Level.OK),
        ("010802", {"mounts": "21 20 259:9 / /srv rw - ext4 /dev/nvme9n1 rw\n"}, Level.DENY),
        ("020000", {"net": card("eth9", f"{SECOND_HOME}/net/", flags="0x1002")}, Level.OK),
        ("020000", {"net": card("eth9", f"{SECOND_HOME}/net/"), "addresses": "9: eth9    inet 198.51.100.1/24 brd x\n"},
         Level.DENY),
        ("030000", {"pci": f"{SECOND} boot_vga 0\n"}, Level.OK),
        ("030000", {"pci": f"{SECOND} boot_vga 1\n"}, Level.DENY),
    ],
)  # fmt: skip
def test_what_a_sibling_that_is_lent_is_used_for(code: str, more: dict[str, str], expected: Level) -> None:
    """To be in the inventory is no leave to be reset with another, whatever the machine lives on by it."""
    beside = function(SECOND, SECOND_HOME, "1b36:0010", code)
    home = f"{SECOND_HOME}/nvme/nvme9/nvme9n1"
    disk = f"nvme9n1 realpath {home}\nnvme9n1 dev 259:9\nnvme9n1 size 2097152\n" if code == "010802" else ""
    seen = facts(
        **{
            **more,
            "pci": beside + more.get("pci", ""),
            "block": disk,
            "signatures": "nvme9n1 2 \n" if disk else "",
            "drivers": f"{SECOND} nvme\n",
            "config": config(SECOND),
        }
    )
    lent = frozenset({Bdf.parse(NIC), Bdf.parse(SECOND)})
    entry = DeviceEntry.model_validate({"identity": IDENTITIES["nic"], "driver": "nvme", "endings": ()})
    found = decide("nic", entry, seen, ours=frozenset(), lent=lent)
    assert (level(found, "siblings") >= Level.DENY) is (expected is Level.DENY), found.findings
