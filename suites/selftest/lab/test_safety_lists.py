"""Every element of every list the gate goes by is needed: with one left out, one of these fails."""

from __future__ import annotations

import struct

import pytest

from harness.lab.safety.checks.far import far
from harness.lab.safety.checks.finding import Lending, Level
from harness.lab.safety.checks.network import check as network
from harness.lab.safety.checks.storage import check as storage
from harness.lab.safety.facts.facts import HostFacts
from harness.model.address import Bdf
from suites.selftest.lab.test_safety_gate import (
    DISK,
    ETH0,
    NIC,
    NIC_HOME,
    ROOT,
    card,
    decision,
    facts,
    function,
)
from suites.selftest.lab.test_safety_holes import ask

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
    "fuse.apfs-fuse",
    "fuse.ifuse",
    "fuse.kio-fuse",
    "fuse.ltfs",
    "fuse.rar2fs",
    "fuse.rofiles-fuse",
    "fuse.securefs",
    "fuse.sysboxfs",
    "fuse.envfs",
    "fuse.xrdp-chansrv",
    "fuse.gvfs-fuse-daemon",
    "fuse.xdg-document-portal",
    "fuse.vmware-vmblock-fuse",
    "fuse.hfsfuse",
    "fuse.fuse-ext2",
    "fuse.fuse-ufs",
    "fuse.lklfuse",
    "fuse.zfs-fuse",
    "fuse.wimfs",
    "fuse.vboximg-mount",
    "fuse.truecrypt",
    "fuse.ewfmount",
    "fuse.xmount",
    "fuse.affuse",
    "fuse.vshadowmount",
    "fuse.bdemount",
    "fuse.dislocker-fuse",
    "fuse.fuse-archive",
    "fuse.avfsd",
    "fuse.mp3fs",
    "fuse.ffmpegfs",
    "fuse.gphotofs",
    "fuse.aft-mtp-mount",
    "fuse.posixovl",
    "fuse.loggedfs",
    "fuse.unionfs-fuse",
    "fuse.tagsistant",
    "oracleasmfs",
    "vxodmfs",
    "ibmasmfs",
    "usbdevfs",
    "simfs",
    "sdcardfs",
    "esdfs",
    "incremental-fs",
    "prl_fs",
    "nullfs",
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
    ("cifs", "//127.0.0.1/share", "rw", ["127.0.0.1"]),
    *(
        (kind, source, f"rw,port={port}", ["127.0.0.1"] if port == own else [])
        for own, source, *served in ((2049, "127.0.0.1:/x", "nfs", "nfs4"), (445, "//127.0.0.1/x", "cifs", "smb3"))
        for kind in served
        for port in (445, 2049, 4450)
    ),
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


# what a guest's device model fetches, and the servers that are told
FETCHED = [
    ("nbd:192.0.2.9:10809:exportname=a", ("192.0.2.9",)),
    ("raw:nbd:[2001:db8::9]:10809", ("2001:db8::9",)),
    ("nbd+tls://192.0.2.9/a", ("192.0.2.9",)),
    ("qcow2:ssh://root@192.0.2.9:22/a", ("192.0.2.9",)),
    ("iscsi://user%password@192.0.2.9/iqn/1", ("192.0.2.9",)),
    ("iser://192.0.2.9/iqn/1", ("192.0.2.9",)),
    ("gluster+tcp://192.0.2.9/v/a", ("192.0.2.9",)),
    ("nfs://192.0.2.9/a", ("192.0.2.9",)),
    ("vxhs://192.0.2.9:9999/a", ("192.0.2.9",)),
    ("nbd:store:10809", ()),
    ("ssh://192.0.2.9.example.net/a", ()),
    ("rbd:pool/192.0.2.9:mon_host=x", ()),
]


# the kinds of tunnels that have one other end, and how ip(8) prints one of another kind, or without
TUNNELS = [
    "gre",
    "gretap",
    "erspan",
    "ip6gre",
    "ip6gretap",
    "ip6erspan",
    "ipip ipip",
    "sit ip6ip",
    "ip6tnl ip6ip6",
    "vti",
    "vti6",
    "geneve id 7",
]
UNKNOWN_ENDS = [
    "gre remote any local any",
    "gre remote 192.0.2.9 link-netnsid 0",
    "vxlan id 7 remote 192.0.2.9",
    "wireguard",
]


BLOCKS = ["nbd0", "rbd1", "drbd2", "rnbd0", "etherd!e1.1"]


def levels(seen: HostFacts, check: str, device: str = "card") -> list[Level]:
    found = decision(device, seen) if device == "disk" else ask(device, seen)
    return [one.level for one in found.findings if one.check == check]


@pytest.mark.parametrize("kind", FAR)
def test_file_systems_of_elsewhere(kind: str) -> None:
    """The card is up and idle; where the server is nobody says."""
    assert Level.LETHAL in levels(facts(mounts=f"50 1 0:50 / /x rw - {kind} store rw\n"), "network")


@pytest.mark.parametrize(
    "kind", ["ceph", "lustre", "glusterfs", "beegfs", "orangefs", "pvfs2", "panfs", "moosefs", "lizardfs"]
)
def test_file_systems_that_are_on_more_servers_than_a_mount_tells(kind: str) -> None:
    (one,) = far(facts(mounts=f"50 1 0:50 / /x rw - {kind} 192.0.2.9:/ rw\n"))
    assert one.more


@pytest.mark.parametrize("kind", NEAR)
def test_file_systems_of_here(kind: str) -> None:
    assert levels(facts(mounts=f"50 1 0:50 / /x rw - {kind} store rw\n"), "network") == [Level.OK]


@pytest.mark.parametrize(("params", "servers"), FETCHED)
def test_servers_of_what_a_device_model_fetches(params: str, servers: tuple[str, ...]) -> None:
    told = f'/local/domain/0/backend/qdisk/3/51712/params = "{params}"\n'
    assert [one.servers for one in far(facts(backends=told))] == [servers]


def tunnelled(text: str, **more: str) -> list[Level]:
    """The session's address is on a tunnel, whose other end, 192.0.2.9, is beside the onboard card."""
    return levels(
        facts(
            ssh="=10.9.0.2 50000 10.9.0.1 22\n",
            net="tun7 realpath /sys/devices/virtual/net/tun7\ntun7 flags 0x10d1\n",
            links=rf"7: tun7@NONE: <NOARP,UP,LOWER_UP> mtu 1476\    link/none promiscuity 0 \    {text}" + "\n",
            addresses="7: tun7    inet 10.9.0.1/24 scope global tun7\\\n",
            **more,
        ),
        "network",
    )


@pytest.mark.parametrize("kind", TUNNELS)
def test_a_tunnel_that_tells_its_other_end_is_carried_by_the_card_that_leads_there(kind: str) -> None:
    assert tunnelled(f"{kind} remote 192.0.2.9 local 192.0.2.1 ttl inherit") == [Level.OK]


@pytest.mark.parametrize("text", UNKNOWN_ENDS)
def test_a_tunnel_whose_other_end_nobody_tells_may_be_on_any_card(text: str) -> None:
    assert Level.LETHAL in tunnelled(text)
    assert tunnelled("wireguard", peers="tun7 192.0.2.9\n") == [Level.OK]
    assert Level.LETHAL in tunnelled("wireguard", peers="tun7 192.0.2.9\ntun7 2001:db8::9\n"), "no way leads there"


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


@pytest.mark.parametrize(
    ("place", "more", "bound"),
    [
        ("/sys/devices/virtual/net/eth1.9/ctlr_0/host3/rport-3:0-0/target3:0:0/3:0:0:0/block/sda", "", ("eth1.9",)),
        ("/sys/devices/virtual/block/etherd!e1.1", "sda netif eth1,eth2\n", ("eth1", "eth2")),
    ],
)
def test_disks_that_tell_over_which_interface_they_come(place: str, more: str, bound: tuple[str, ...]) -> None:
    """FCoE on a VLAN by its place in sysfs, AoE by its attribute netif."""
    block = f"sda realpath {place}\nsda dev 8:0\nsda size 8\n{more}"
    assert [(one.line.text, one.bound) for one in far(facts(block=block))] == [(f"sda realpath {place}", bound)]


@pytest.mark.parametrize(
    "driver",
    [
        *("pciback", "xen-pciback", "vfio-pci", "pci-stub", "pci-pf-stub", "uio_pci_generic", "igb_uio"),
        *("qat_vfio_pci", "mlx5_vfio_pci", "hisi-acc-vfio-pci", "nvgrace-gpu-vfio-pci", "xe-vfio-pci"),
    ],
)
def test_drivers_that_lend_a_card(driver: str) -> None:
    """As owner; as an idle card; and as one that a program may drive while the session cannot be explained."""
    seen = facts(net=f"={ETH0}", drivers=f"={NIC} {driver}\n")
    assert levels(seen, "owner") == [Level.DENY]
    assert levels(seen, "network") == [Level.OK]
    over = facts(pci=f"{NIC} driver_override {driver}\n")
    assert levels(over, "owner") == [Level.DENY]
    lost = facts(net=f"={ETH0}", drivers=f"={NIC} {driver}\n", ssh="=")
    may = "vfio" in driver or "uio" in driver
    assert (Level.LETHAL in levels(lost, "network")) is may
    held = facts(net=f"={ETH0}", drivers=f"={NIC} {driver}\n", ssh="=", owners='/libxl/pci/0000-02-00-0/domid = "2"\n')
    assert (Level.LETHAL in levels(held, "network")) is (may or "pciback" in driver)


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        ("rd.qubes.hide_all_usb", "0c0330", Level.DENY),
        ("rd.qubes.hide_all_usb", "020000", Level.OK),
        ("rd.qubes.hide_all_usbx quiet", "0c0330", Level.OK),
        (f"rd.qubes.hide_pci=00:02.0,{NIC[5:]}", "020000", Level.DENY),
        ("rd.qubes.hide_pci=00:02.0", "020000", Level.OK),
    ],
)
def test_what_qubes_hides_from_dom0_is_meant_for_its_guests(words: str, code: str, expected: Level) -> None:
    pci = "=" + function(NIC, NIC_HOME, "8086:10d3", code)
    assert max(levels(facts(pci=pci, cmdline=f"{words}\n"), "owner")) is expected


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
        "ttyprintk0",
        "efifb0",
        "smh0",
        "sbi0",
        "earlyvga0",
        "earlyser0",
        "earlydbg0",
        "earlyxdbc0",
        "ttyS0",
    ],
)
def test_consoles_that_are_on_no_serial_card(name: str) -> None:
    seen = facts(pci="=" + function(NIC, NIC_HOME, "8086:10d3", "070002"), consoles=f"{name} -W- (E) 4:65\n")
    assert levels(seen, "console") == [Level.OK]
    strange = facts(pci="=" + function(NIC, NIC_HOME, "8086:10d3", "070002"), consoles="ttyZZ0 -W- (E) 4:65\n")
    assert levels(strange, "console") == [Level.DENY]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("earlycon=qcom_geni,0xa90000", Level.OK),
        ("earlycon=pl011,mmio32,0x9000000", Level.OK),
        ("earlycon=qcom_geni", Level.DENY),
        ("earlycon=efifb,keep", Level.OK),
        ("console=ttyZZ0,115200", Level.DENY),
    ],
)
def test_early_consoles_are_by_their_address_where_one_is_told(words: str, expected: Level) -> None:
    pci = "=" + function(NIC, NIC_HOME, "8086:10d3", "070002")
    seen = facts(pci=pci, config=with_bars(0xF0000000), cmdline=f"{words}\n")
    assert levels(seen, "console") == [expected]


def with_bars(*bars: int) -> str:
    """A section `config` in which the card has these in its base address registers, one after the other."""
    dump = bytearray(256)
    struct.pack_into(f"<{len(bars)}I", dump, 0x10, *bars)
    return (
        f"=function {NIC}\n"
        + "".join(f"{at:06x} {dump[at : at + 16].hex(' ')}\n" for at in range(0, 256, 16))
        + "000100\n"
    )


@pytest.mark.parametrize(
    ("bars", "at", "expected"),
    [
        ((0xE001,), "io,0xe000", Level.LETHAL),
        ((0xE001,), "io,0xefff", Level.LETHAL),
        ((0xE001,), "io,0xf000", Level.OK),
        ((0xE001,), "io,0xdfff", Level.OK),
        ((0xF0000008,), "mmio,0xf0000000", Level.LETHAL),
        ((0xF0000008,), "mmio,0xf000ffff", Level.LETHAL),
        ((0xF0000008,), "mmio,0xf0010000", Level.OK),
        ((0xF000000C, 0x38), "mmio,0x38f0000000", Level.LETHAL),
        ((0xF000000C, 0x38), "mmio,0xf0000000", Level.OK),
        ((0, 0xF0000000), "mmio,0xf0000000", Level.LETHAL),
        ((0, 0xF0000000), "mmio,0x800", Level.OK),
    ],
)
def test_a_serial_card_is_at_its_ports_and_its_memory(bars: tuple[int, ...], at: str, expected: Level) -> None:
    """PCI 3.0, 6.2.5.1: bit 0 says ports; bits 2:1 that the next one holds the upper half."""
    pci = "=" + function(NIC, NIC_HOME, "8086:10d3", "070002")
    seen = facts(pci=pci, config=with_bars(*bars), cmdline=f"earlycon=uart,{at}\n")
    assert levels(seen, "console") == [expected]


@pytest.mark.parametrize(
    ("bar", "expected"), [(0xE001, Level.LETHAL), (0x10000, Level.OK), (0xF0000000, Level.OK), (0, Level.OK)]
)
def test_xen_takes_a_card_of_ports_of_all_kinds_where_it_has_ports(bar: int, expected: Level) -> None:
    pci = "=" + function(NIC, NIC_HOME, "8086:10d3", "078000")
    seen = facts(pci=pci, drivers="=", config=with_bars(bar), xen="xen_commandline : com1=115200,8n1,pci\n")
    assert levels(seen, "console") == [expected]


@pytest.mark.parametrize(
    "words",
    [*("dbgp=ehci@pci{}", "earlyprintk=pciserial,{},115200", "earlycon=pciserial,{}", "console=pciserial,{}"),
     *("com1=115200,8n1,{}", "com2=115200,8n1,{},0")],
)  # fmt: skip
def test_a_console_by_a_cards_address(words: str) -> None:
    short = NIC.removeprefix("0000:")
    section = "xen" if words.startswith(("com", "dbgp")) else "cmdline"
    mark = "xen_commandline : " if section == "xen" else ""
    for address, expected in ((short, Level.LETHAL), ("07:00.1", Level.OK)):
        seen = facts(**{section: f"{mark}{words.format(address)}\n"})
        assert max(levels(seen, "console")) is expected


@pytest.mark.parametrize("words", ["console=com1 com1=115200,8n1,0xe000,17", "earlycon=uart,io,0xe000"])
@pytest.mark.parametrize(
    ("code", "driver", "expected"),
    [("070002", "", Level.LETHAL), ("078000", "", Level.LETHAL), ("118000", "exar_serial", Level.LETHAL),
     ("118000", "", Level.OK), ("020000", "igb", Level.OK)],
)  # fmt: skip
def test_a_serial_card_whose_bars_nobody_tells_may_be_at_any_port(
    words: str, code: str, driver: str, expected: Level
) -> None:
    drivers = f"={NIC} {driver}\n" if driver else "="
    pci = "=" + function(NIC, NIC_HOME, "8086:10d3", code)
    section = "xen" if "com1" in words else "cmdline"
    told = f"xen_commandline : {words}\n" if section == "xen" else f"{words}\n"
    found = levels(facts(pci=pci, drivers=drivers, config="=", **{section: told}), "console")
    assert max(found) is expected


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
    ("080100", Level.OK),  # of an add-in card; those of the chipset are on a root bus
    *((f"08{sub:02x}00", Level.LETHAL) for sub in (0, 2, 3, 4, 6, 7)),
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


@pytest.mark.parametrize(
    "name",
    [*("net", "ssh", "addresses", "routes", "routes6", "tables", "ipsec"),
     *("mounts", "block", "nvme", "iscsi", "backends", "layouts")],
)  # fmt: skip
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


@pytest.mark.parametrize(("state", "doubted"), [("free", False), ("busy", False), ("unknown EIO", True), ("", True)])
def test_who_has_a_disk_for_himself_is_known_or_not(state: str, doubted: bool) -> None:
    found = decision("disk", facts(exclusive=f"nvme1n1 {state}\n", program="version 2\n")).findings
    assert any(one.reason.startswith("unknown: whether somebody has its disk") for one in found) is doubted


@pytest.mark.parametrize(("flags", "expected"), [("0x1002", Level.OK), ("0x1003", Level.DENY)])
def test_an_address_counts_where_the_interface_is_up(flags: str, expected: Level) -> None:
    net = f"={ETH0}" + card("eth1", f"{NIC_HOME}/net/", flags)
    seen = facts(net=net, addresses="3: eth1    inet 198.51.100.1/24 x\n")
    assert max(levels(seen, "network")) is expected


@pytest.mark.parametrize(("mounted", "expected"), [("fuse /dev/fuse", Level.OK), ("nfs4 store:/pve", Level.LETHAL)])
def test_proxmoxs_own_files_are_of_here_and_others_at_their_place_are_not(mounted: str, expected: Level) -> None:
    seen = facts(mounts=f"90 23 0:55 / /etc/pve rw - {mounted} rw\n")
    assert max(levels(seen, "network")) is expected


@pytest.mark.parametrize("driver", ["cdc_ether", ""])
@pytest.mark.parametrize(("code", "carries"), [("0c0330", True), ("020000", True), ("070002", False)])
def test_a_card_or_a_usb_controller_may_carry_us_where_no_interface_is_told(
    code: str, carries: bool, driver: str
) -> None:
    drivers = f"={NIC} {driver}\n" if driver else "="
    seen = facts(pci="=" + function(NIC, NIC_HOME, "8086:10d3", code), drivers=drivers, net="=missing x\n")
    assert (Level.LETHAL in levels(seen, "network")) is (carries and bool(driver))


@pytest.mark.parametrize("kind", ["ocfs2", "gfs2", "gpfs"])
def test_file_systems_on_a_disk_of_here_that_other_machines_write_to(kind: str) -> None:
    """A file system of one machine stands on its disk alone, and nothing of it needs a card."""
    for mounted, expected in ((kind, True), ("ext4", False)):
        seen = facts(mounts=f"50 1 8:17 / /x rw - {mounted} /dev/sdb1 rw\n")
        assert (Level.LETHAL in levels(seen, "network")) is expected


@pytest.mark.parametrize(
    "name",
    [*("drivers", "owners", "backends", "chars", "users"),
     *("majors", "engines", "mapped", "modules", "attached", "meant")],
)  # fmt: skip
def test_sections_an_owner_is_judged_by(name: str) -> None:
    more = {one: "" for one in ("chars", "users")}
    assert Level.DENY in levels(facts(program="version 2\n", **{**more, name: "missing x\n"}), "owner")
