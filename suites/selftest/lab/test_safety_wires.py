"""What the host tells of its network, line by line: routes, addresses, and what an interface stands on."""

from __future__ import annotations

import ipaddress

import pytest

from harness.lab.inventory.models import DeviceEntry
from harness.lab.safety.checks.disks import Disks
from harness.lab.safety.checks.far import far
from harness.lab.safety.checks.finding import Lending, Level
from harness.lab.safety.checks.network import check as network
from harness.lab.safety.checks.wires import Route, Wires
from harness.lab.safety.facts.facts import FactLine, HostFacts
from harness.lab.safety.gate import decide, explain
from harness.model.address import Bdf
from suites.selftest.lab.test_safety_gate import (
    ETH0,
    MAC,
    NIC,
    NIC_HOME,
    card,
    facts,
    function,
)
from suites.selftest.lab.test_safety_holes import ISCSI, ask
from suites.selftest.lab.test_safety_lists import levels


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


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"chars": "", "users": ""}, Level.OK),
        ({"chars": f"4:68 realpath {NIC_HOME}/tty/ttyS4\n", "users": "character 4:44 pppd\n"}, Level.LETHAL),
        ({"chars": f"4:68 realpath {NIC_HOME}/tty/ttyS4\n", "users": "character 4:45 pppd\n"}, Level.OK),
        ({"chars": ""}, Level.LETHAL),
        ({"users": ""}, Level.LETHAL),
        ({"chars": "missing x\n", "users": ""}, Level.LETHAL),
        ({"chars": "", "users": "missing x\n"}, Level.LETHAL),
    ],
)
@pytest.mark.parametrize("code", ["070002", "0c0330"])
def test_a_line_of_ppp_begins_at_a_terminal_that_a_program_has_open(
    told: dict[str, str], expected: Level, code: str
) -> None:
    """A card of serial ports, or one with a modem at its USB; where nobody tells who has what open it could be."""
    assert max(levels(over_ppp(code, drivers=f"={NIC} some\n", **told), "network")) is expected


@pytest.mark.parametrize("code", ["070002", "0c0330"])
def test_no_line_of_ppp_begins_at_what_nothing_drives(code: str) -> None:
    for drivers, expected in (("=", Level.OK), (f"={NIC} some\n", Level.LETHAL)):
        assert max(levels(over_ppp(code, drivers=drivers, users="missing x\n"), "network")) is expected


def over_ppp(code: str, **more: str) -> HostFacts:
    """Our session is on ppp0, of which nothing tells the card."""
    return facts(
        pci="=" + function(NIC, NIC_HOME, "8086:10d3", code),
        net=f"={ETH0}{card('ppp0')}",
        links="9: ppp0: <POINTOPOINT,UP> mtu 1400\\    link/ppp \\    ppp \n",
        addresses="=9: ppp0    inet 192.0.2.1/24 x\n",
        **more,
    )


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
        ("ipsec", "src 10.0.0.0/8 dst anywhere \\ dir out"),
        ("ipsec", "dst 10.0.0.0/8"),
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
        ("routes", "eth0 0100000A 00000000 0001 0 0 0 000000FF 0 0 0"),
        ("routes6", SIX.replace(" 00 ", " 80 ", 1)),
        ("routes6", SIX.replace("0", "1", 1).replace(" 00 ", " 02 ", 1)),
        ("ipsec", "src 10.0.0.0/8 dst 10.1.0.0/16 \\ dir fwd priority 1"),
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


@pytest.mark.parametrize(("bits", "expected"), [(64, Level.LETHAL), (48, Level.LETHAL), (96, Level.DENY)])
def test_the_most_specific_way_is_taken_be_it_a_route_or_the_net_of_an_address(bits: int, expected: Level) -> None:
    """Two of one length are two ways."""
    address = "9: eth1    inet6 2001:db8::1/64 scope global \\\n"
    route = f"20010db8{'0' * 24} {bits:02x} {SIX.partition(' 00 ')[2]}\n"
    mounted = "50 1 0:50 / /x rw - nfs4 [2001:db8::9]:/x rw,addr=2001:db8::9\n"
    assert max(levels(facts(addresses=address, routes6=route, mounts=mounted), "network")) is expected


@pytest.mark.parametrize(
    ("host", "expected"),
    [("host3 netdev eth1", [("eth1",)]), ("host3 netdev (null)", [()]), ("host4 netdev eth1", [()])],
)
def test_the_interface_that_iscsi_is_bound_to(host: str, expected: list[tuple[str, ...]]) -> None:
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


ROUTES = [
    ("default via 192.0.2.9 dev eth1 proto dhcp metric 100", [("0.0.0.0/0", "main", "eth1")]),
    ("default via fe80::1 dev eth1 table 7 pref medium", [("::/0", "7", "eth1")]),
    ("default via inet6 fe80::1 dev eth1", [("0.0.0.0/0", "main", "eth1")]),
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
    ("", "9: b0: <UP> mtu 1500\\    bridge \\    alias gre dev eth1\n", {}),
    ("", "nothing\n", {}),
    ("".join(map(card, ("ovs-system", "lo", "tap0"))), "", {"b0": {"ovs-system"}, "tap0": {"ovs-system"}}),
]


@pytest.mark.parametrize(("net", "links", "expected"), BELOW)
def test_what_an_interface_stands_on(net: str, links: str, expected: dict[str, set[str]]) -> None:
    wires = Wires(facts(net=card("b0") + net, links=links))
    assert {name: lowers for name, lowers in wires.below.items() if lowers} == expected


@pytest.mark.parametrize(
    ("ports", "beyond"),
    [
        ({"vif1.0": "br0", "vif1.1": "br1", "eth1": "br1"}, {"vif1.0": {"br1"}}),
        ({"vif1.0": "br0", "vif1.1": "br1"}, {"vif1.0": {"br1"}, "vif1.1": {"br0"}}),
        ({"vif1.0": "br0", "vif1.1": "br1", "vif1.2": "br2"},
         {"vif1.0": {"br1", "br2"}, "vif1.1": {"br0", "br2"}, "vif1.2": {"br0", "br1"}}),
        ({"vif1.0": "br0", "vif2.0": "br1", "eth1": "br1"}, {}),  # of another guest
        ({"vif1.0": "br0", "eth0": "br0", "vif1.1": "br1", "eth1": "br1"}, {}),  # each has a card of its own
        ({"vif1.0": "br0", "vif1.1": "br0"}, {}),
    ],
)  # fmt: skip
def test_where_what_comes_to_a_guest_may_go_on(ports: dict[str, str], beyond: dict[str, set[str]]) -> None:
    """By the others of its cards, where the bridge of the one has no card."""
    net = "".join(map(card, sorted(set(ports.values()))))
    for port, bridge in ports.items():
        net += card(port, f"/sys/devices/vif-{port[3:].replace('.', '-')}/net/") if port.startswith("vif") else ""
        net += f"{port} master /sys/devices/virtual/net/{bridge}\n"
    below = Wires(facts(net=net)).below
    assert {name: lowers for name, lowers in below.items() if name.startswith("vif") and lowers} == beyond


@pytest.mark.parametrize(("route", "explained"), [("dev eth0", True), ("dev t0", False), ("dev lo", False)])
def test_a_tunnel_does_not_stand_on_itself(route: str, explained: bool) -> None:
    link = "9: t0: <UP> mtu 1400\\    link/gre promiscuity 0 \\    gre remote 203.0.113.9 local 192.0.2.1 ttl 64\n"
    wires = Wires(facts(net=card("t0"), links=link, routes="=", tables=f"203.0.113.9 {route}\n"))
    assert wires.explained("t0") is explained
    assert wires.below["t0"] == ({"eth0"} if explained else set())


def test_interfaces_and_disks_that_stand_on_each_other() -> None:
    """A pair of veth, or a host that lies: going up or down comes to an end."""
    wires = Wires(facts(net=card("v0") + card("v1") + "eth1 upper v0\n", links="8: v0@v1: <UP>\n9: v1@v0: <UP>\n"))
    assert wires.upwards({"eth1"}) == wires.downwards({"v1"}) == {"eth1", "v0", "v1"}
    assert wires.explained("v1")
    disks = Disks(facts(block="nvme1n1 holder dm-0\ndm-0 holder dm-1\ndm-1 holder dm-0\n"))
    assert disks.stack(frozenset({"nvme1n1"})) == {"nvme1n1", "dm-0", "dm-1"}


def test_a_disk_by_the_paths_of_its_node() -> None:
    """The kernel writes `!` where a node's name has a slash (kobject_set_name_vargs)."""
    block = "cciss!c0d0 dev 104:0\ndm-0 dm vg--a-data\nsda dev 8:0\n"
    disks = Disks(facts(block=block, devlinks="/dev/disk/by-id/x -> ../../sda\n/dev/other node 68:0\n"))
    for path, name in (
        ("/dev/cciss/c0d0", "cciss!c0d0"), ("/dev/sda/", "sda"), ("/dev/mapper/vg--a-data", "dm-0"),
        ("/dev/vg-a/data", "dm-0"), ("/dev/disk/by-id/x", "sda"), ("/dev/other", "cciss!c0d0"), ("/dev/sdb", None),
    ):  # fmt: skip
        assert disks.name(path) == name


@pytest.mark.parametrize(
    ("network", "default"),
    [
        *[("0.0.0.0/0", True), ("128.0.0.0/1", True), ("64.0.0.0/2", False), ("16.0.0.0/4", False)],
        *[("::/0", True), ("2000::/3", True), ("2000::/4", True), ("2000::/5", False)],
    ],
)
def test_routes_to_the_whole_world(network: str, default: bool) -> None:
    assert Route("eth0", ipaddress.ip_network(network), "main", FactLine("routes", 1, "")).default is default


@pytest.mark.parametrize(
    ("ssh", "told"),
    [
        ("127.0.0.1 50000 127.0.0.1 22\n", ["arrives", "is answered"]),  # from this machine itself: by no card
        ("203.0.113.5 50000 192.0.2.1 22\n", []),
    ],
)
def test_by_which_card_our_session_comes(ssh: str, told: list[str]) -> None:
    seen = facts(ssh=f"={ssh}", addresses="1: lo    inet 127.0.0.1/8 scope host lo\n", net=card("lo"))
    holes = [one for one in network(seen.functions[Bdf.parse(NIC)], seen, Lending()) if "our own session" in one.reason]
    assert [(one.level, one.evidence) for one in holes] == [(Level.LETHAL, seen.lines("ssh"))] * len(told)
    assert all(way in one.reason for way, one in zip(told, holes, strict=True))


def test_the_bridge_that_a_card_is_a_port_of_is_told_with_its_line() -> None:
    found = ask("card", facts(net="eth1 master /sys/devices/virtual/net/br0\n" + card("br0"))).findings
    (told,) = [one for one in found if "another interface is built on it" in one.reason]
    assert [line.text for line in told.evidence] == ["eth1 master /sys/devices/virtual/net/br0"]


def test_a_route_is_before_the_network_of_an_address_that_it_is_a_part_of() -> None:
    told = facts(
        addresses="2: eth0    inet 192.0.2.1/24 scope global noprefixroute eth0\n",
        tables="=192.0.2.128/25 dev eth1 scope link\n",
        routes="=",
    )
    wires = Wires(told)
    assert wires.towards("192.0.2.200") == {"eth1"}
    assert wires.towards("192.0.2.100") == {"eth0"}


BESIDE = "0000:04:00.0"
BESIDE_HOME = f"/sys/devices/pci0000:00/0000:00:1c.3/{BESIDE}"
AWAY = f"7: eth1: <UP> mtu 1500 link/ether parentbus pci parentdev {NIC} \n"


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, [Level.DENY, Level.LETHAL]),
        ({"drivers": f"={NIC} mlx5_core\n{BESIDE} igb\n"}, [Level.DENY]),
        ({"drivers": f"={BESIDE} mlx5_core\n"}, []),
        ({"addresses": "", "routes": ""}, [Level.DENY]),  # the session is by eth0, and the other card has no part in it
        ({"namespaces": AWAY}, [Level.DENY, Level.DENY]),
        ({"namespaces": AWAY.replace(NIC, BESIDE)}, [Level.DENY, Level.LETHAL]),
    ],
)
def test_an_interface_may_stand_on_two_functions_of_its_driver(more: dict[str, str], expected: list[Level]) -> None:
    """One card in two slots: the second function has no interface of its own (multi-PF)."""
    told = {
        "drivers": f"={NIC} mlx5_core\n{BESIDE} mlx5_core\n",
        "addresses": "=9: eth2    inet 192.0.2.1/24 x\n",
        "routes": "=eth2 00000000 FE0200C0 0003 0 0 0 00000000 0 0 0\n",
    }
    seen = facts(
        pci=function(BESIDE, BESIDE_HOME, "15b3:1021", "020000"),
        net=f"={ETH0}{card('eth2', f'{BESIDE_HOME}/net/')}",
        **(told | more),
    )
    assert [one.level for one in network(seen.functions[Bdf.parse(NIC)], seen, Lending())] == expected


FRONT = "eth0 realpath /sys/devices/vif-0/net/eth0\neth0 address 00:16:3e:00:00:01\neth0 flags 0x1003\n"
OWNED = '/libxl/pci/0000-02-00-0/domid = "1"\n'


@pytest.mark.parametrize(
    ("code", "net", "owners", "expected"),
    [
        ("020000", FRONT, OWNED, Level.LETHAL),
        ("0c0330", FRONT, OWNED, Level.LETHAL),
        ("070300", FRONT, OWNED, Level.LETHAL),
        ("0c0330", FRONT.replace("vif-0", "vif-1-0"), OWNED, Level.LETHAL),
        ("0c0330", FRONT.replace("vif-0", "virtual"), OWNED, Level.OK),
        ("020000", FRONT.replace("vif-0", "virtual"), OWNED, Level.LETHAL),
        ("0c0330", FRONT, "", Level.OK),
        ("0c0330", FRONT, "missing x\n", Level.LETHAL),
        ("0b4000", FRONT, OWNED, Level.OK),
        ("0c0500", FRONT, OWNED, Level.OK),
    ],
)
def test_what_a_domain_could_bring_the_network_by(code: str, net: str, owners: str, expected: Level) -> None:
    """Our session is on an interface of which nothing tells the card; the card is a domain's."""
    seen = facts(
        pci="=" + function(NIC, NIC_HOME, "8086:10d3", code),
        drivers=f"={NIC} pciback\n",
        net=f"={net}{card('lo')}",
        links="2: eth0: <UP> mtu 1500\\    link/ether promiscuity 0 \n",
        owners=owners,
    )
    assert max(levels(seen, "network")) is expected


@pytest.mark.parametrize(
    ("driver", "owners", "expected"),
    [("vfio-pci", "", Level.LETHAL), ("pciback", OWNED, Level.LETHAL), ("pciback", "", Level.OK), ("", "", Level.OK)],
)
def test_a_virtual_function_could_carry_what_its_physical_one_does_not(
    driver: str, owners: str, expected: Level
) -> None:
    """The card's own interface is down; our session is on an interface of which nothing tells the card."""
    virtual = f"{NIC_HOME.rpartition('/')[0]}/0000:02:10.0"
    pci = function("0000:02:10.0", virtual, "8086:10ca", "020000") + f"0000:02:10.0 physfn {NIC_HOME}\n"
    seen = facts(
        pci=pci,
        drivers=f"0000:02:10.0 {driver}\n" if driver else "",
        net=f"={card('tap0')}{card('eth1', f'{NIC_HOME}/net/', '0x1002')}",
        addresses="=9: tap0    inet 192.0.2.1/24 x\n",
        routes="=tap0 000200C0 00000000 0001 0 0 0 00FFFFFF 0 0 0\n",
        owners=owners.replace("02-00-0", "02-10-0"),
    )
    found = network(seen.functions[Bdf.parse(NIC)], seen, Lending())
    assert max((one.level for one in found), default=Level.OK) is expected


@pytest.mark.parametrize(
    ("behind", "expected"),
    [(NIC_HOME, Level.LETHAL), (BESIDE_HOME, Level.OK), (f"{NIC_HOME}1", Level.OK), ("", Level.OK)],
)
def test_a_function_that_has_the_transceiver_of_our_card_carries_our_session(behind: str, expected: Level) -> None:
    """An MDIO controller on PCI: no interface is below it, and the link of one is."""
    pci = function(NIC, NIC_HOME, "1131:ee00", "088001")
    phydev = f"eth0 phydev {behind}/mdio_bus/x/x:02\n" if behind else ""
    seen = facts(pci=f"={pci}", net=f"={ETH0}{phydev}", drivers=f"={NIC} fsl_netc_emdio\n")
    found = network(seen.functions[Bdf.parse(NIC)], seen, Lending())
    assert max((one.level for one in found), default=Level.OK) is expected
