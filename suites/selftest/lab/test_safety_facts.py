"""What facts.sh printed is understood, or it is doubted; never filled in. One odd function condemns no other."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness.base.errors import ParseError
from harness.host.pciback import CHANGED
from harness.lab.safety.checks.disks import Disks, decimal
from harness.lab.safety.checks.storage import blank
from harness.lab.safety.facts.collect import PROGRAM, read_facts, still
from harness.lab.safety.facts.facts import HostFacts
from harness.lab.safety.facts.parse import parse_facts
from harness.model.address import Bdf
from harness.transport.base import Script
from suites.selftest.fakes.fakehost import board
from suites.selftest.fakes.fakelab import FakeLab, fake_host
from suites.selftest.fakes.patience import soon
from suites.selftest.lab.test_safety_gate import BASE, DISK, NIC, facts

__all__ = ["fake_host"]
pytestmark = pytest.mark.whole

ROW = "00 " * 15 + "00"
ONES = "ff " * 15 + "ff"


def dumped(*rows: str) -> str:
    return "\n".join([f"=function {NIC}", *rows, ""])


def whole(size: int) -> list[str]:
    return [f"000000 {ONES}", f"000010 {ROW}", "*", f"{size:06x}"]


@pytest.mark.parametrize("size", [64, 256, 4096])
def test_a_repeated_row_is_filled_to_the_size_that_stands_at_the_end(size: int) -> None:
    config = facts(config=dumped(*whole(size))).functions[Bdf.parse(NIC)].config
    assert config is not None and config.data == b"\xff" * 16 + bytes(size - 16)


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        (whole(256)[:-1], "its end is lost"),
        ([f"000000 {ONES}", f"000020 {ROW}", "000100"], "a row is lost before 0x20"),
        ([f"000000 {ONES}", "*", f"0000f0 {ROW}"], "its end is lost"),
        ([f"000000 {ONES}", "000100"], "a row is lost before 0x100"),
        ([*whole(256), f"000100 {ROW}"], "behind its end"),
        (["*", "000100"], "a repetition of nothing"),
        ([f"000000 {ONES}", "*", "*", "000100"], "a repetition of nothing"),
        ([f"000000 {ONES}", "*", f"000020 {ONES}", "000030"], "a repetition that ends nowhere"),
        ([f"000000 {ONES}", "*", "000010"], "a repetition that ends nowhere"),
        ([f"000000 {ONES}", "*", "000018"], "a repetition that ends nowhere"),
        ([f"000000 {ONES}", "*", "100000"], "a repetition that ends nowhere"),
        ([f"000000 {ONES[:-3]}", "00000f"], "a row is lost"),
        ([f"000000 {ONES} ff", "000011"], "a row is lost"),
        ([f"000000 {ONES}", "00001g"], "no row of od"),
        (["000000 fff", "000010"], "no row of od"),
        ([f"000000 {ONES}", f"000010 {ROW}", "000020"], "has 32 bytes"),
        ([f"000000 {ONES}", f"000010 {ROW}", "*", "000110"], "has 272 bytes"),
        ([*whole(256), f"function {NIC}", *whole(256)], "listed twice"),
        ([*whole(256), f"function {NIC}", *whole(64)[:-1]], "its end is lost"),
        ([*whole(256)[:-1], f"function {NIC}", *whole(64)], "listed twice"),
    ],
)
def test_config_space_that_is_not_whole_is_doubted(rows: list[str], why: str) -> None:
    found = facts(config=dumped(*rows)).functions
    nic = found[Bdf.parse(NIC)]
    assert nic.config is None
    assert any(why in text for text, _ in nic.doubts), nic.doubts
    assert found[Bdf.parse(DISK)].doubts == ()


@pytest.mark.parametrize("rows", [whole(256)[:-1], [f"000000 {ONES}", "*", f"0000f0 {ROW}"]])
def test_a_dump_without_an_end_is_doubted_from_its_last_row(rows: list[str]) -> None:
    ((_, line),) = facts(config=dumped(*rows)).functions[Bdf.parse(NIC)].doubts
    assert line.text == rows[-1]


def test_tools_and_the_busybox_for_guests() -> None:
    seen = facts(tools="=/usr/sbin/xl\nod\nbusybox /usr/bin/busybox\nbusybox odd\nother /bin/sh\n")
    assert seen.busybox == ("/usr/bin/busybox",)
    assert seen.tools == {"xl", "od", "busybox", "other"}
    assert facts(tools="-").busybox == ()


def test_what_the_host_calls_itself() -> None:
    seen = facts(os_release='=NAME="Debian"\nPRETTY_NAME="XCP-ng 8.3"\nID=xcp\n', kernel="=6.12.9+deb13\n")
    assert (seen.os_name, seen.kernel, seen.xen_version) == ("XCP-ng 8.3", "6.12.9+deb13", "4.20.4")
    assert facts(os_release="=missing /etc/os-release\n", xen="=").os_name == ""


def test_rows_before_any_function_belong_to_nobody() -> None:
    seen = facts(config="=" + "\n".join(whole(64)) + "\n" + BASE["config"])
    assert all(one.config is not None and not one.doubts for one in seen.functions.values())


def test_nothing_printed_is_no_config_space_and_no_doubt() -> None:
    nic = facts(config=dumped()).functions[Bdf.parse(NIC)]
    assert nic.config is None and nic.doubts == ()


@pytest.mark.parametrize(
    ("lines", "strange"),
    [
        ("0000:02:0z.0 vendor 0x8086\n", "0000:02:0z.0"),
        ("0000:07:00.0 vendor 0x8086\n", "0000:07:00.0"),
        ("0000:07:00.0 realpath /sys/devices/pci0000:00/0000:08:00.0\n", "0000:07:00.0"),
        ("07:00.0 realpath /sys/devices/pci0000:00/0000:07:00.0\n", "07:00.0"),
    ],
)
def test_a_function_that_nobody_can_make_out_condemns_no_other(lines: str, strange: str) -> None:
    seen = facts(pci=lines)
    assert [thing.name for thing in seen.strange] == [strange]
    assert {str(bdf) for bdf in seen.functions} == {NIC, DISK}


def test_two_functions_at_one_place_are_both_strange() -> None:
    seen = facts(pci=f"0000:02:00.7 realpath {facts().functions[Bdf.parse(NIC)].place}\n")
    assert {thing.name for thing in seen.strange} == {NIC, "0000:02:00.7"}


def test_a_driver_that_is_listed_twice_alike_is_one() -> None:
    seen = facts(drivers=f"{NIC} e1000e\n")
    assert seen.functions[Bdf.parse(NIC)].doubts == () and seen.functions[Bdf.parse(NIC)].driver == "e1000e"


@pytest.mark.parametrize("name", ["boot_id", "pci", "config", "drivers"])
def test_without_these_sections_there_is_no_host(name: str) -> None:
    with pytest.raises(ParseError, match=f"no section {name}"):
        parse_facts({key: text.encode() for key, text in BASE.items() if key != name})


def test_what_the_first_program_did_not_print_is_missed_only_of_the_second() -> None:
    assert facts().missing("tables", "users") is None
    sections = {**{key: text.encode() for key, text in BASE.items()}, "program": b"version 2\nuid 0\n"}
    newer = parse_facts(sections)
    assert newer.version == 2
    line = newer.missing("net", "tables")
    assert line is not None and line.section == "tables"
    assert newer.missing("engines", "majors", "namespaces") is None
    third = parse_facts({**sections, "program": b"version 3\nuid 0\n"})
    lost = third.missing("engines")
    assert third.version == 3 and lost is not None and lost.section == "engines"
    later = ("modules", "attached", "rdma", "redirects", "peers", "meant")
    assert third.missing(*later) is None
    fourth = parse_facts({**sections, "program": b"version 4\nuid 0\n"})
    assert [line.section for name in later if (line := fourth.missing(name))] == [*later]
    latest = ("layouts", "ipsec")
    assert fourth.missing(*latest) is None
    newest = parse_facts({**sections, "program": b"version 5\nuid 0\n"})
    assert [line.section for name in latest if (line := newest.missing(name))] == [*latest]


ZERO = " ".join([*["00"] * 16, "*"] * 5)


@pytest.mark.parametrize(
    ("text", "version", "expected"),
    [
        (f"sdb 2 {ZERO}", 2, True),
        (f"sdb 127 {ZERO}", 2, True),
        (f"sdb 0 {ZERO}", 2, False),
        (f"sdb {ZERO}", 2, False),
        ("sdb 2", 2, False),
        ("sdb 2", 1, True),
        ("sdb 127", 1, False),
        ("sdb 127 00 00 *", 1, True),
        ("sdb 127 00 00 *", 2, False),
        ("sdb 2 00 01 *", 1, False),
        ("sdb", 1, False),
        ("", 1, False),
        (f"sdb 2 {ZERO.removesuffix(' *')}", 2, False),
        (f"sdb 2 {ZERO} 53 ef", 2, False),
        ("sdb 2 empty", 1, False),
    ],
)
def test_blank_is_what_blkid_and_the_samples_say_together(text: str, version: int, expected: bool) -> None:
    assert blank(text, version) is expected


def test_numbers_and_names_of_block_devices() -> None:
    assert (decimal("103:5"), decimal("fe:0"), decimal("x"), decimal("")) == ("259:5", "254:0", "", "")
    links = "/dev/disk/by-id/x -> ../../nvme1n1\n/dev/vg/lv -> ../dm-7\n/dev/sm/a/b node 103:4\n"
    disks = Disks(with_more(devlinks=links))
    assert disks.name("/dev/nvme1n1") == disks.name("/dev/disk/by-id/x") == disks.name("/dev/sm/a/b") == "nvme1n1"
    assert disks.name("/dev/vg/lv") is None and disks.name("") is None and disks.name("/dev/") is None
    assert disks.whole("/dev/vda7") == "vda" and disks.whole("/dev/nvme1n1p7") == "nvme1n1"
    assert disks.whole("/dev/vdb7") is None and disks.whole("/dev/vda") is None and disks.whole("/dev/nvme1n17") is None


def with_more(**more: str) -> HostFacts:
    return parse_facts({**{key: text.encode() for key, text in BASE.items()},
                        **{key: text.encode() for key, text in more.items()}})  # fmt: skip


# -- the program itself


def read(lab: FakeLab) -> dict[str, bytes]:
    return read_facts(lab.transport(), soon())


def lines(sections: dict[str, bytes], name: str, start: str) -> list[str]:
    return [line for line in sections[name].decode().splitlines() if line.startswith(start)]


@pytest.mark.parametrize("place", [0, 512 << 20, (1 << 30) - 17])
def test_data_at_the_head_the_middle_and_the_end_of_a_disk_is_seen(fake_host: FakeLab, place: int) -> None:
    (before,) = lines(read(fake_host), "signatures", "nvme1n1 ")
    assert blank(before)
    with fake_host.fake.tree.real("/dev/nvme1n1").open("r+b") as node:
        node.seek(place)
        node.write(b"\x53\xef")
    (after,) = lines(read(fake_host), "signatures", "nvme1n1 ")
    assert not blank(after), after


def test_what_the_kernel_serves_to_others_is_told(fake_host: FakeLab) -> None:
    assert lines(read(fake_host), "exported", "") == []
    config = "/sys/kernel/config"
    fake_host.fake.tree.write(f"{config}/nvmet/subsystems/nqn.1/namespaces/1/device_path", "/dev/nvme1n1\n")
    fake_host.fake.tree.write(f"{config}/target/core/fileio_0/srv/udev_path", "/srv/disk.img\n")
    fake_host.fake.tree.write(f"{config}/usb_gadget/g1/functions/mass_storage.0/lun.0/file", "/dev/sda\n")
    assert lines(read(fake_host), "exported", "") == ["/dev/nvme1n1", "/srv/disk.img", "/dev/sda"]
    fake_host.fake.tree.write(f"{config}/nvmet/subsystems/nqn.2/passthru/device_path", "/dev/nvme1\n")
    fake_host.fake.tree.write("/sys/kernel/scst_tgt/devices/disk1/filename", "/dev/sdb\n[key]\n")
    fake_host.fake.tree.link("/sys/class/rnbd-server/ctl/devices/sdc/block_dev", "/sys/class/block/nvme1n1")
    fake_host.fake.tree.write(f"{config}/cluster/c1/heartbeat/0004FB0000050000/dev", "dm-3\n")
    fake_host.fake.tree.write(f"{config}/cluster/c1/heartbeat/0004FB0000050001/dev", "\n")
    told = ["/dev/nvme1n1", "/dev/nvme1", "/dev/sdb", "[key]", "/srv/disk.img", "/dev/sda", "/dev/nvme1n1", "/dev/dm-3"]
    assert lines(read(fake_host), "exported", "") == told
    fake_host.fake.tree.write(f"{config}/target/core/pscsi_1/tape/udev_path", "/dev/sg3\n")
    fake_host.fake.tree.link("/sys/kernel/scst_tgt/devices/6:0:1:0/scsi_device", "/sys/class/block/nvme1n1")
    place = str(fake_host.fake.tree.real("/sys/class/block/nvme1n1").resolve())
    served = lines(read(fake_host), "exported", "")
    assert [*served[:5], *served[6:7], *served[8:]] == told
    assert served[5] == "/dev/sg3"
    assert served[7].startswith("/sys/devices/pci") and place.endswith(served[7])


def test_who_speaks_without_ip_is_told_and_what_comes_and_goes_is_not(fake_host: FakeLab) -> None:
    head = "sk       RefCnt Type Proto  Iface R Rmem   User   Inode\n"
    form = "ffff8881 3      3    {}   {}     1 0      0      2218{}\n"
    usual = [(protocol, 3) for protocol in ("0003", "0004", "0800", "0806", "86dd", "88cc", "888e", "0000")]
    for rows, told in (([], []), (usual, []), ([*usual, ("88a4", 3), ("88a4", 3), ("88f7", 2)], ["88a4 3", "88f7 2"])):
        text = "".join(form.format(protocol, index, number) for number, (protocol, index) in enumerate(rows))
        fake_host.fake.tree.write("/proc/net/packet", head + text)
        assert lines(read(fake_host), "frames", "") == told


def test_what_the_kernel_itself_takes_at_a_card_is_told_and_sockets_of_programs_are_not(fake_host: FakeLab) -> None:
    """ptype_seq_show (net/core/net-procfs.c): type, device, function, module; without a device it takes them of all."""
    rows = [
        "Type Device      Function",
        "ALL  eth1     packet_rcv",
        "0800          ip_rcv",
        "88cc eth1     tpacket_rcv",
    ]
    rows += ["88ca eth1     tipc_l2_rcv_msg [tipc]", "8906 eth0     fcoe_rcv [fcoe]", "8137          ipx_rcv [ipx]"]
    fake_host.fake.tree.write("/proc/net/ptype", "\n".join(rows) + "\n")
    assert lines(read(fake_host), "frames", "") == ["88ca eth1", "8906 eth0"]


def says(lab: FakeLab, name: str, text: str, status: int = 0) -> None:
    """A program of the host that prints this, whatever it is asked."""
    place = lab.fake.root / "bin" / name
    place.write_text(f"#!/bin/sh\ncat <<'EOF'\n{text}\nEOF\nexit {status}\n")
    place.chmod(0o755)


BUILT_IN = f"/lib/modules/{board.RELEASE}/modules.builtin"


def test_who_moves_data_by_rdma_is_told(fake_host: FakeLab) -> None:
    tree = fake_host.fake.tree
    assert lines(read(fake_host), "rdma", "") == []
    place = "/sys/devices/pci0000:40/0000:41:00.0/infiniband/mlx5_0"
    tree.write(f"{place}/node_guid", "1\n")
    tree.link("/sys/class/infiniband/mlx5_0", place)
    says(fake_host, "rdma", "", status=1)
    assert lines(read(fake_host), "rdma", "m") == [f"mlx5_0 realpath {place}", "missing rdma"]
    port = "link mlx5_0/1 state ACTIVE physical_state LINK_UP netdev eth1 "
    queue = "link mlx5_0/1 lqpn {} type {} state RTS sq-psn 0 {} "
    queues = [queue.format(number, kind, who) for number, kind, who in (
        (1, "GSI", "comm [ib_core]"), (8, "RC", "pdn 4 comm [ib_srpt]"), (9, "RC", "pid 77 comm fio"),
        (10, "RC", "pid 77 comm fio"))]  # fmt: skip
    says(fake_host, "rdma", "\n".join([port, *queues]))
    told = ["mlx5_0 netdev eth1", "mlx5_0 qp [ib_core]", "mlx5_0 qp [ib_srpt]", "mlx5_0 qp fio"]
    assert lines(read(fake_host), "rdma", "") == [f"mlx5_0 realpath {place}", *told]


def test_interfaces_of_other_network_namespaces_are_told(fake_host: FakeLab) -> None:
    """Those built on another by its number, and those of a device; what is neither says nothing of a card."""
    link = "{}: {}: <UP> mtu 1500 qdisc mq \\    link/ether 02:00:5e:00:00:01 promiscuity 0 {}"
    told = [link.format(3, "v0@if2", "minmtu 0 "), link.format(4, "wan", "parentbus usb parentdev 3-2:1.0 ")]
    says(fake_host, "nsenter", "\n".join([link.format(1, "lo", ""), *told]))
    assert lines(read(fake_host), "namespaces", "") == []
    for process in ("self", "1", "77"):
        fake_host.fake.tree.write(f"/proc/{process}/ns/net", "")
    assert lines(read(fake_host), "namespaces", "") == sorted(told * 2)  # the fake has each for itself


def test_over_which_interface_netconsole_sends_is_told(fake_host: FakeLab) -> None:
    """A target that is not enabled sends nothing; a new one has eth0 and is none yet (netconsole.rst)."""
    target = "/sys/kernel/config/netconsole/t1"
    fake_host.fake.tree.write(f"{target}/dev_name", "eth1\n")
    for enabled, told in (("1", ["t1 dev eth1"]), ("0", []), ("", ["t1 dev eth1"])):
        fake_host.fake.tree.write(f"{target}/enabled", f"{enabled}\n")
        assert lines(read(fake_host), "netconsole", "") == told


def test_the_bridges_of_open_vswitch_are_told(fake_host: FakeLab) -> None:
    """Which port is of which, a VLAN's bridge of its parent (XCP-ng), and which bridges are joined by patch ports."""
    answers = {
        "list-br": "br0 br1 br0v5", "list-ifaces br0": "eth0 to-br1", "list-ifaces br1": "vif1.0 to-br0",
        "br-to-parent br0v5": "br0", "br-to-parent br0": "br0", "br-to-parent br1": "br1",
        "--bare --columns=name,options find interface type=patch": "to-br1 peer=to-br0 to-br0 peer=to-br1",
    }  # fmt: skip
    says(fake_host, "ovs-vsctl", "")
    cases = "\n".join(f'"--timeout=5 {words}") printf "%s\\n" {text} ;;' for words, text in answers.items())
    (fake_host.fake.root / "bin/ovs-vsctl").write_text(f'#!/bin/sh\ncase "$*" in\n{cases}\nesac\n')
    told = ["eth0 bridge br0", "to-br1 bridge br0", "vif1.0 bridge br1", "to-br0 bridge br1", "br0v5 bridge br0",
            "to-br1 lower to-br0", "to-br0 lower to-br1"]  # fmt: skip
    place = "/sys/devices/virtual/net/ovs-system"
    for expected in ([], told):
        seen = lines(read(fake_host), "net", "")
        assert [line for line in seen if " bridge " in line or "to-br0" in line] == expected
        fake_host.fake.tree.write(f"{place}/address", "02:00:5e:00:00:07\n")
        fake_host.fake.tree.link("/sys/class/net/ovs-system", place)


def test_what_tc_and_nft_send_on_is_told(fake_host: FakeLab) -> None:
    says(fake_host, "tc", "\taction order 1: mirred (Egress Redirect to device eth1) stolen")
    says(fake_host, "nft", '\tdevice "eth0" dup to "eth1"\n\tfwd to ip saddr map { 10.0.0.1 : "eth2" }\n\tiif "eth3"')
    assert lines(read(fake_host), "redirects", "") == []
    fake_host.fake.tree.write("/sys/module/nft_dup_netdev/refcnt", "1\n")
    assert lines(read(fake_host), "redirects", "") == ["* nft eth1", "* nft eth2"]
    fake_host.fake.tree.write("/sys/module/nft_dup_netdev/refcnt", "0\n")
    fake_host.fake.tree.write("/sys/module/act_mirred/refcnt", "2\n")
    told = lines(read(fake_host), "redirects", "")
    assert "eth0 tc eth1" in told and len(told) == len(set(told))
    (fake_host.fake.root / "sys/module/act_mirred/refcnt").unlink()
    assert lines(read(fake_host), "redirects", "") == []
    fake_host.fake.tree.write(BUILT_IN, "kernel/net/sched/act_mirred.ko\n")
    assert "eth0 tc eth1" in lines(read(fake_host), "redirects", "")
    (fake_host.fake.root / "bin/tc").unlink()
    says(fake_host, "nft", "", status=1)
    fake_host.fake.tree.write("/sys/module/nft_fwd_netdev/refcnt", "1\n")
    assert "missing nft" in lines(read(fake_host), "redirects", "")


def test_what_ipsec_sends_through_tunnels_is_told_where_it_is(fake_host: FakeLab) -> None:
    """Asking loads xfrm_user, whose socket in the kernel is of protocol 6 (linux/netlink.h: NETLINK_XFRM)."""
    policy = (
        r"src 10.0.0.0/8 dst 10.9.0.0/16 \ dir out \ tmpl src 192.0.2.1 dst 192.0.2.9\ proto esp reqid 1 mode tunnel"
    )
    says(fake_host, "ip", policy)
    assert lines(read(fake_host), "ipsec", "") == []
    fake_host.fake.tree.write("/proc/net/netlink", "sk Eth Pid\n0000 0   0\n0000 6   0\n")
    assert lines(read(fake_host), "ipsec", "") == [policy]
    says(fake_host, "ip", "", status=1)
    assert lines(read(fake_host), "ipsec", "m") == ["missing ip xfrm"]


def test_mounts_that_store_past_their_server_are_told(fake_host: FakeLab) -> None:
    """show_stats of NFS (fs/nfs/super.c), in containers too."""
    told = "device {} mounted on /n with fstype nfs4 statvers=1.1\n\tnfsv4:\tbm0=0xf,sessions,pnfs={},lease_time=90\n"
    fake_host.fake.tree.write(
        "/proc/self/mountstats", told.format("n1:/a", "LAYOUT_SCSI") + told.format("n2:/b", "not configured")
    )
    assert lines(read(fake_host), "layouts", "") == []
    fake_host.fake.tree.write("/sys/module/nfsv4/refcnt", "2\n")
    assert lines(read(fake_host), "layouts", "") == ["LAYOUT_SCSI n1:/a"]
    fake_host.fake.tree.write("/proc/self/ns/mnt", "")
    fake_host.fake.tree.write("/proc/77/ns/mnt", "")
    fake_host.fake.tree.write("/proc/77/mountstats", told.format("n3:/c", "LAYOUT_FLEX_FILES"))
    assert lines(read(fake_host), "layouts", "") == ["LAYOUT_FLEX_FILES n3:/c", "LAYOUT_SCSI n1:/a"]


def test_what_is_built_in_is_looked_for_where_the_modules_are(fake_host: FakeLab) -> None:
    """NixOS and Guix have them elsewhere. Where nobody has a list of what is built in, tc and nft may be at work."""
    says(fake_host, "tc", "\taction order 1: mirred (Egress Redirect to device eth1) stolen")
    assert lines(read(fake_host), "redirects", "") == []
    (fake_host.fake.root / BUILT_IN.strip("/")).unlink()
    told = lines(read(fake_host), "redirects", "")
    assert "eth0 tc eth1" in told and "missing nft" in told
    fake_host.fake.tree.write(f"/run/booted-system/kernel-modules{BUILT_IN}", "kernel/net/sched/act_gact.ko\n")
    assert lines(read(fake_host), "redirects", "") == []


@pytest.mark.parametrize("parent", ["", " ingress", " egress", " parent 8001:", " parent 1:", " parent 1:1f"])
def test_filters_of_every_parent_are_told(fake_host: FakeLab, parent: str) -> None:
    """Of the root, of clsact, and of each queueing discipline and class below the root (tc(8))."""
    fake_host.fake.tree.write("/sys/module/act_mirred/refcnt", "2\n")
    says(fake_host, "tc", "")
    (fake_host.fake.root / "bin/tc").write_text(f"""#!/bin/sh
case "$*" in
    "qdisc show dev eth0") printf '%s\\n' "qdisc htb 1: root refcnt 2 r2q 10" "qdisc prio 8001: parent 1:1f bands 3" \\
        "qdisc fq_codel 0: parent :1 limit 10240p" ;;
    "class show dev eth0") printf '%s\\n' "class htb 1:1f parent 1:1 leaf 8001: prio 0 rate 1Mbit" ;;
    "filter show dev eth0{parent}") echo "action order 1: mirred (Ingress Mirror to device eth1) pipe" ;;
esac
""")
    assert lines(read(fake_host), "redirects", "") == ["eth0 tc eth1"]


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("wg", "wg0\tAbc=\t198.51.100.7:51820\nwg0\tDef=\t(none)\nwg1\tGhi=\t[2001:db8::7]:51820",
         ["wg0 198.51.100.7", "wg1 2001:db8::7"]),
        ("drbdsetup", "resource r0 {\n _remote_host {\n  address\t\tipv4 10.1.1.2:7789;\n }\n _this_host {\n"
         "  address\t\tipv4 10.1.1.1:7789;\n }\n}", ["drbd 10.1.1.2"]),
        ("drbdsetup", " path {\n  _this_host ipv6 [fd00::1]:7000;\n  _remote_host ipv6 [fd00::2]:7000;\n }\n path {\n"
         "  _this_host ipv4 10.1.1.1:7000;\n  _remote_host ipv4 10.1.1.3:7000;\n }", ["drbd 10.1.1.3", "drbd fd00::2"]),
    ],
)  # fmt: skip
def test_with_whom_tunnels_and_drbd_speak_is_told(fake_host: FakeLab, name: str, text: str, told: list[str]) -> None:
    fake_host.fake.tree.write("/proc/drbd", "version: 8.4.11\n")
    assert lines(read(fake_host), "peers", "") == []
    says(fake_host, name, text)
    assert lines(read(fake_host), "peers", "") == told


def test_reading_loads_no_module(fake_host: FakeLab) -> None:
    """drbdsetup calls modprobe for whatever it is asked, where its module is not there."""
    says(fake_host, "drbdsetup", "_remote_host ipv4 10.1.1.3:7000;")
    assert lines(read(fake_host), "peers", "") == []


def test_with_whom_file_systems_of_clusters_speak_is_told(fake_host: FakeLab) -> None:
    config = "/sys/kernel/config"
    for node, own, last in (("n1", 1, 1), ("n2", 0, 2)):
        fake_host.fake.tree.write(f"{config}/cluster/c1/node/{node}/local", f"{own}\n")
        fake_host.fake.tree.write(f"{config}/cluster/c1/node/{node}/ipv4_address", f"10.1.1.{last}\n")
        fake_host.fake.tree.write(f"{config}/dlm/cluster/comms/{last}/local", f"{own}\n")
        fake_host.fake.tree.write(
            f"{config}/dlm/cluster/comms/{last}/addr_list", f"AF_INET\t10.2.2.{last}\nAF_INET6\tfd00::{last}\n"
        )
    assert lines(read(fake_host), "peers", "") == ["ocfs2 10.1.1.2", "gfs2 10.2.2.2", "gfs2 fd00::2"]


def test_what_guests_are_to_have_is_told_whether_they_run_or_not(fake_host: FakeLab) -> None:
    tree = fake_host.fake.tree
    assert lines(read(fake_host), "meant", "") == []
    tree.write("/etc/xen/win.cfg", "# pci = ['0000:01:00.0']\n\t# pci = ['0000:01:00.0']\n"
               "pci = [ '0000:41:00.0,permissive=1', \"bdf=42:00.*\" ]\n"
               "vif = [ 'mac=00:16:3e:00:00:01,ip=10.0.0.2' ]\ndisk = [ 'phy:/dev/vg/win,xvda,w' ]\n")  # fmt: skip
    tree.write("/etc/libvirt/libxl/nas.xml", "<source dev='/dev/nvme1n1'/>\n<hostdev mode='subsystem'>\n<source>\n"
               "<address domain='0x0000' bus='0x43' slot='0x00' function='0x1'/>\n</source>\n"
               "<address type='pci' domain='0x0000' bus='0x00' slot='0x07' function='0x0'/>\n"
               "<interface type='hostdev'>\n<source>\n"
               "<address type='pci' domain='0x0000' bus='0x43' slot='0x10' function='0x2'/>\n</source>\n")  # fmt: skip
    tree.write(
        "/var/xapi/state.db",
        "<row pci_id='0000:09:00.0' other_config=\"(('a'%.'b') ('pci'%.'0/0000:44:00.0,0/0000:45:00.0'))\"/>",
    )
    tree.write("/etc/xen/old", "pci = ['0000:47:00.0']\n")
    tree.write("/etc/xen/box.conf", "pci = ['0000:4a:00.0']\n")
    for name in ("win.cfg~", "win.cfg.bak", "auto/win.old", "win.cfg.dpkg-old", "win.rpmsave"):
        tree.write(f"/etc/xen/{name}", "pci = ['0000:01:00.0']\n")
    tree.write("/etc/modprobe.d/guests.conf", "# options xen-pciback hide=(0000:01:00.0)\n"
               " options xen-pciback x hide=(0000:48:00.0)(49:00.*)\noptions vfio_pci ids=8086:1521,8086:10d3\n"
               "options  pci-stub  x=1 ids=1af4:1041 y\noptions snd ids=1\n")  # fmt: skip
    tree.write("/var/lib/qubes/qubes.xml", '<device backend-domain="dom0" id="46_00.0"/>\n')
    told = ["disk=/dev/nvme1n1 /etc/libvirt/libxl/nas.xml", "disk=/dev/vg/win /etc/xen/win.cfg",
            "hostdev=0000:41:00.0 /etc/xen/win.cfg", "hostdev=0000:43:00.1 /etc/libvirt/libxl/nas.xml",
            "hostdev=0000:43:10.2 /etc/libvirt/libxl/nas.xml",
            "hostdev=0000:44:00.0 /var/xapi/state.db", "hostdev=0000:45:00.0 /var/xapi/state.db",
            "hostdev=0000:46:00.0 /var/lib/qubes/qubes.xml", "hostdev=0000:47:00.0 /etc/xen/old",
            "hostdev=0000:48:00.0 /etc/modprobe.d/guests.conf", "hostdev=0000:4a:00.0 /etc/xen/box.conf",
            "hostdev=42:00.* /etc/xen/win.cfg",
            "hostdev=49:00.* /etc/modprobe.d/guests.conf", "pci-stub.ids=1af4:1041 /etc/modprobe.d/guests.conf",
            "vfio_pci.ids=8086:1521,8086:10d3 /etc/modprobe.d/guests.conf"]  # fmt: skip
    root = str(fake_host.fake.root)
    assert [line.replace(root, "") for line in lines(read(fake_host), "meant", "")] == told


def test_what_a_driver_stands_on_and_what_stands_on_it_is_told(fake_host: FakeLab) -> None:
    """ef_vi: sfc_char stands on sfc_resource, which stands on the driver."""
    tree = fake_host.fake.tree
    for driver, module in (("wct4xxp", "wct4xxp"), ("sfc", "sfc")):
        tree.write(f"/sys/module/{module}/initstate", "live\n")
        tree.link(f"/sys/bus/pci/drivers/{driver}/module", f"/sys/module/{module}")
    for lower, upper in (
        ("dahdi", "wct4xxp"),
        ("dahdi", "oct612x"),
        ("sfc", "sfc_resource"),
        ("sfc_resource", "sfc_char"),
    ):
        tree.write(f"/sys/module/{lower}/holders/{upper}", "")
    told = ["sfc sfc", "sfc sfc_char", "sfc sfc_resource", "wct4xxp dahdi", "wct4xxp wct4xxp"]
    seen = lines(read(fake_host), "modules", "")
    assert [line for line in seen if line.split()[0] in ("sfc", "wct4xxp")] == told


def test_what_the_kernel_serves_of_usb_and_moves_between_devices_is_told(fake_host: FakeLab) -> None:
    tree = fake_host.fake.tree
    home = "/sys/devices/pci0000:40/0000:43:00.0/usb3"
    tree.write(f"{home}/3-2/busnum", "3\n")
    tree.link("/sys/bus/usb/drivers/usbip-host/3-2", f"{home}/3-2")
    for name in ("hci0", "hci0/hci0:256"):
        tree.write(f"{home}/3-1/bluetooth/{name}/uevent", "\n")
        tree.link(f"/sys/class/bluetooth/{name.rpartition('/')[2]}", f"{home}/3-1/bluetooth/{name}")
    told = [f"usbip realpath {home}/3-2", f"bluetooth realpath {home}/3-1/bluetooth/hci0/hci0:256"]
    assert lines(read(fake_host), "attached", "") == told
    (nic, *_) = lines(read(fake_host), "pci", "0000:00:1f.6 realpath") or lines(read(fake_host), "pci", "0000")
    bdf, _, place = nic.split(" ", 2)
    for available, engines in (("4096", []), ("0", [f"p2p {place}"])):
        tree.write(f"{place}/p2pmem/size", "4096\n")
        tree.write(f"{place}/p2pmem/available", f"{available}\n")
        assert lines(read(fake_host), "engines", "p2p") == engines, bdf


def test_what_far_disks_tell_of_the_way_to_them(fake_host: FakeLab) -> None:
    tree = fake_host.fake.tree
    for name, place in (
        ("etherd!e1.1", "/sys/devices/virtual/block/etherd!e1.1"),
        ("rbd0", "/sys/devices/rbd/0/block/rbd0"),
    ):
        tree.write(f"{place}/size", "0\n")
        tree.link(f"/sys/class/block/{name}", place)
    tree.write("/sys/devices/virtual/block/etherd!e1.1/netif", "eth2,eth3\n")
    tree.write("/sys/bus/rbd/devices/0/client_addr", "10.50.0.9:0/314159\n")
    tree.write("/sys/class/iscsi_connection/connection1:0/persistent_address", "san1.example.net\n")
    tree.write("/sys/class/iscsi_connection/connection1:0/address", "192.0.2.50\n")
    sections = read(fake_host)
    assert lines(sections, "block", "etherd!e1.1 netif") == ["etherd!e1.1 netif eth2,eth3"]
    assert lines(sections, "block", "rbd0 client") == ["rbd0 client 10.50.0.9:0/314159"]
    told = ["connection1:0 address san1.example.net", "connection1:0 peer 192.0.2.50"]
    assert lines(sections, "iscsi", "connection1:0") == told


def test_memory_of_functions_in_programs_is_told_once(fake_host: FakeLab) -> None:
    assert lines(read(fake_host), "mapped", "") == []
    place = "/sys/devices/pci0000:40/0000:40:01.0/0000:41:00.0"
    row = "7f5a00000000-7f5a00100000 {} 00000000 00:14 30215                      {}\n"
    text = row.format("rw-s", f"{place}/resource0") + row.format("r-xp", "/usr/lib/libc.so.6") + row.format("rw-p", "")
    for process in (4242, 4243):
        fake_host.fake.tree.write(f"/proc/{process}/maps", text + row.format("rw-s", f"{place}/resource2_wc"))
    assert lines(read(fake_host), "mapped", "") == [f"{place}/resource0", f"{place}/resource2_wc"]


def test_what_the_kernel_itself_works_with_is_told(fake_host: FakeLab) -> None:
    """A module of algorithms is below that of the driver, above it, or the same; one user is the algorithm's own."""
    assert lines(read(fake_host), "engines", "") == []
    tree = fake_host.fake.tree
    for channel, used in (("dma0chan0", 2), ("dma0chan1", 0)):
        tree.write(f"/sys/devices/pci0000:00/0000:00:04.0/dma/{channel}/in_use", f"{used}\n")
        tree.link(f"/sys/class/dma/{channel}", f"/sys/devices/pci0000:00/0000:00:04.0/dma/{channel}")
    for driver, module in (("c6xx", "qat_c62x"), ("ccp", "ccp"), ("nitrox", "n5pf")):
        tree.write(f"/sys/module/{module}/initstate", "live\n")
        tree.link(f"/sys/bus/pci/drivers/{driver}/module", f"/sys/module/{module}")
    tree.write("/sys/module/intel_qat/holders/qat_c62x", "")
    tree.write("/sys/module/ccp/holders/ccp_crypto", "")
    algorithms = [("xts-aes-ccp", "ccp_crypto", 2), ("qat_aes_xts", "intel_qat", 4), ("qat_aes_cbc", "intel_qat", 1)]
    algorithms += [("n5_aes", "n5pf", 3), ("xts-aes-aesni", "aesni_intel", 9), ("sha256-generic", "kernel", 5)]
    form = (
        "name : x\ndriver       : {}\nmodule       : {}\npriority     : 100\nrefcnt       : {}\nselftest     : passed\n"
    )
    tree.write("/proc/crypto", "\n".join(form.format(*one) for one in algorithms))
    told = ["crypto c6xx qat_aes_xts", "crypto ccp xts-aes-ccp", "crypto nitrox n5_aes"]
    told += ["dma /sys/devices/pci0000:00/0000:00:04.0/dma/dma0chan0"]
    assert sorted(lines(read(fake_host), "engines", "")) == told


def test_an_empty_disk_is_not_blank(fake_host: FakeLab) -> None:
    fake_host.fake.tree.real("/dev/nvme1n1").write_bytes(b"")
    (line,) = lines(read(fake_host), "signatures", "nvme1n1 ")
    assert not blank(line)


def test_exclusive_open_is_tried_and_its_failure_is_told(fake_host: FakeLab) -> None:
    assert lines(read(fake_host), "exclusive", "nvme1n1 ") == ["nvme1n1 free"]
    fake_host.fake.tree.real("/dev/nvme1n1").unlink()
    (line,) = lines(read(fake_host), "exclusive", "nvme1n1 ")
    assert line == "nvme1n1 unknown No such file or directory"


def test_two_readings_of_a_host_at_rest_are_equal_and_the_shell_sees_it(fake_host: FakeLab) -> None:
    link = fake_host.transport()
    sections = read_facts(link, soon())
    script = Script(f"{still(sections)}\necho bound")
    done = link.run(script, deadline=soon())
    assert (done.status, done.text) == (0, "bound\n"), done
    for path, more in (
        ("/proc/swaps", "/dev/nvme1n1 partition 1 0 -3\n"),
        ("/proc/self/mountinfo", "99 1 259:4 / /x\n"),
    ):
        real = fake_host.fake.tree.real(path)
        text = real.read_text()
        real.write_text(text + more)
        done = link.run(script, deadline=soon())
        assert (done.status, done.text) == (CHANGED, ""), path
        assert b"no longer as it was" in done.stderr
        real.write_text(text)
    assert link.run(script, deadline=soon()).ok


def test_how_much_swap_is_used_and_how_often_a_route_was_is_no_change(fake_host: FakeLab) -> None:
    link = fake_host.transport()
    script = Script(f"{still(read_facts(link, soon()))}\necho bound")
    for path, old, new in (("/proc/swaps", "1048576\t\t0", "1048576\t\t77"),
                           ("/proc/net/ipv6_route", "00000001 00000000", "00000009 00000077")):  # fmt: skip
        text = board.PROC[path]
        assert old in text
        fake_host.fake.tree.write(path, text.replace(old, new))
    assert link.run(script, deadline=soon()).ok


def test_the_exclusive_readers_in_perl_and_python_say_the_same(tmp_path: Path) -> None:
    """Both are taken out of the program and run on two plain files, of which one is not there."""
    program = PROGRAM.read_text()
    perl, python = (program.split(start)[1].split("' $disks")[0] for start in ("-MErrno -e '", '"$python" -c \''))
    (tmp_path / "sdx").write_bytes(b"")
    (tmp_path / "sr0").write_bytes(b"")  # no drive, so that it cannot say that a disc is in it
    for argv in (["perl", "-MFcntl", "-MErrno", "-e", perl], ["python3", "-c", python]):
        words = [word.replace("/dev/", f"{tmp_path}/") for word in argv]
        done = subprocess.run([*words, "sdx", "sdy", "sr0"], capture_output=True, text=True)  # noqa: S603
        told = "sdx free\nsdy unknown No such file or directory\nsr0 unknown No medium found\n"
        assert done.stdout == told, done.stderr


def test_a_drive_without_a_disc_is_not_opened_so_that_its_tray_would_close(fake_host: FakeLab) -> None:
    """`od` and `blkid` wait for a disc, and the kernel then closes the tray (cdrom_open, drivers/cdrom/cdrom.c)."""
    tree = fake_host.fake.tree
    tree.write("/sys/class/block/sr0/size", "2097151\n")
    tree.real("/dev/sr0").write_bytes(b"what a reading would find")
    seen = read(fake_host)
    assert lines(seen, "signatures", "sr0 ") == ["sr0 1 unreadable"]
    assert lines(seen, "exclusive", "sr0 ") == ["sr0 unknown No medium found"]


def test_behind_which_function_the_transceiver_of_a_card_is(fake_host: FakeLab) -> None:
    assert not [line for line in lines(read(fake_host), "net", "") if " phydev " in line]
    name, _, place = next(line.split(" ") for line in lines(read(fake_host), "net", "") if "/pci" in line)
    fake_host.fake.tree.link(f"{place}/phydev", "/sys/class/block/nvme1n1")
    (told,) = (line for line in lines(read(fake_host), "net", name) if " phydev " in line)
    assert told.startswith(f"{name} phydev /sys/devices/pci") and told.endswith("/nvme1n1")
