"""Does the way to this machine, or to what it stores, lead over it? Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from harness.lab.safety.checks.far import Far, far
from harness.lab.safety.checks.finding import Finding, Lending, Level
from harness.lab.safety.checks.owner import mapped_of, owners_of, passing, terminals_of
from harness.lab.safety.checks.wires import Wires, is_address, link_local
from harness.lab.safety.facts.facts import FactLine, Function, HostFacts

_STORAGE, _NETWORK, _WIRELESS = "01", "02", "0d"
_COMMUNICATION = "07"
_INFINIBAND, _USB = "0c06", "0c03"
_BLUETOOTH = "0d11"  # its links are told by themselves
_MULTI_PF = "mlx5_core"
_FABRICS = {_INFINIBAND, "0207", "0208"}  # whose cards may have no interface: InfiniBand, Omni-Path
_BORROWED = {"pciback", "xen-pciback"}
_VSOCK = {"1af4:1012", "1af4:1053", "15ad:0740"}  # virtio 1.2, 5.10: transitional and modern; VMware's VMCI
_RESTING = re.compile(r" \[(?:ib_core|ib_ipoib|\w+_ib)\]$")
_IDLE = {None, "pci-stub", "pci-pf-stub", *_BORROWED}  # a program may run a card at vfio or uio: DPDK, SPDK
_NEEDED = ("net", "ssh", "addresses", "routes", "routes6", "tables", "ipsec")
_STORES = ("block", "nvme", "iscsi", "backends", "layouts")  # what `far` is told by


@dataclass(frozen=True)
class _Hole:
    """What about the network cannot be explained."""

    reason: str
    lines: tuple[FactLine, ...] = ()


def check(function: Function, facts: HostFacts, context: Lending) -> Iterator[Finding]:
    """LETHAL: it carries our session, a default route or storage, or it could and nobody can tell; DENY: it is used.

    What stands on an interface (bridge, bond, VLAN, tunnel, Open vSwitch) is carried by the cards below it. Where none
    is known below, every card that is up may be the one.
    """
    wires = Wires(facts)
    mine = wires.upwards(function.netdevs)
    yield from _carried(function, mine, wires)
    if not context.holds(function) and _could_carry(function, wires):
        for hole in _holes(wires):
            yield Finding("network", Level.LETHAL, f"unknown: {hole.reason}, and it could be this card", hole.lines)
    yield from _used(function, mine, wires)


def _carried(function: Function, mine: set[str], wires: Wires) -> Iterator[Finding]:
    """What is known to go over it."""
    facts = wires.facts
    session = _session(wires) & mine
    if session:
        at = tuple(one.line for one in wires.addresses if one.interface in session)
        yield Finding("network", Level.LETHAL, f"{_some(session)} carries our own session", (*at, *facts.lines("ssh")))
    defaults = tuple(route.line for route in wires.routes if route.default and route.interface in mine)
    if defaults:
        yield Finding("network", Level.LETHAL, "it carries a default route", defaults)
    for one in far(facts):
        if set().union(*_ways(one, wires)) & mine:
            yield Finding("network", Level.LETHAL, "this machine stores over it", (one.line,))
        elif one.more and any(wires.up(name) for name in function.netdevs) and _told(mine, wires):
            yield Finding("network", Level.LETHAL, "this machine stores over it, or could", (one.line,))
    for line, name in _consoles(facts):
        if name in mine:
            yield Finding("network", Level.LETHAL, "the kernel's own messages go over it", (line,))


def _session(wires: Wires) -> set[str]:
    """Interfaces that have our session's address, and those by which its other end is reached."""
    return _own(wires) | _back(wires)


def _own(wires: Wires) -> set[str]:
    return wires.holders(wires.facts.ssh_address or "") - {"lo"}


def _back(wires: Wires) -> set[str]:
    """The other end of a link-local session is where our own end is."""
    client = wires.facts.ssh_client or ""
    return _own(wires) if link_local(client) else wires.towards(client) - {"lo"}


def _ways(one: Far, wires: Wires) -> list[set[str]]:
    """For each server of it the interfaces that lead there; none for this machine itself."""
    if one.bound:
        return [{name} for name in one.bound]
    ways = [wires.towards(server) for server in one.servers]
    return [way for way in ways if way != {"lo"}]


def _holes(wires: Wires) -> Iterator[_Hole]:
    """Everything that keeps one from saying which cards carry what this machine needs."""
    facts = wires.facts
    gone = facts.missing(*_NEEDED)
    if gone:
        yield _Hole("the host's network cannot be read", (gone,))
    gone = facts.missing("mounts") or facts.unread(*_STORES)
    if gone:
        yield _Hole("what this machine stores elsewhere cannot be read", (gone,))
    if wires.strange:
        yield _Hole("the host's addresses and routes are not understood", tuple(wires.strange))
    own, back = _own(wires), _back(wires)
    if not own:
        yield _Hole("on which interface our own session arrives", facts.lines("ssh"))
    if not back:
        yield _Hole("by which interface our own session is answered", facts.lines("ssh"))
    for name in sorted(own | back):
        # vif-route gives our address to a guest's card too; a guest answers us only where the way back is by it
        if not wires.explained(name, guests=name not in back):
            yield _Hole(f"on which card {name} stands, which carries our own session", _lines(facts, name))
    for name in sorted(
        {route.interface for route in wires.routes if route.default and not wires.nowhere(route.interface)}
    ):
        if not wires.explained(name, works=False):
            yield _Hole(f"on which card {name} stands, which has a default route", _lines(facts, name))
    for one in far(facts):
        ways = _ways(one, wires)
        certain = bool(one.servers or one.bound) and all(
            names and all(wires.explained(name, works=False, guests=True) for name in names) for names in ways
        )
        if not certain:
            yield _Hole("by which card this machine reaches what it stores elsewhere", (one.line,))
    consoles = tuple(line for line in facts.lines("consoles") if line.text.startswith("netcon"))
    named = {name for _, name in _consoles(facts)}
    if consoles and not named:
        yield _Hole("over which card the kernel's own messages go", consoles)
    for name in sorted(named):
        if not wires.explained(name, works=False):
            yield _Hole(f"on which card {name} stands, over which the kernel's own messages go", _lines(facts, name))


def _could_carry(function: Function, wires: Wires) -> bool:
    """Whether it could by itself or by a virtual function of it."""
    return any(_could_alone(one, wires) for one in wires.facts.family(function))


def _could_alone(function: Function, wires: Wires) -> bool:
    """Its interface is up, or is not seen although something drives the card; or a line of PPP begins at it."""
    if wires.lines and _terminal(function, wires.facts):
        return True
    if function.id in _VSOCK:  # what arrives by it has no address
        return function.driver not in _IDLE and not is_address(wires.facts.ssh_address or "")
    if (_network(function) and mapped_of(function, wires.facts)) or any(wires.away(function)):
        return True
    if function.netdevs:
        return any(wires.up(name) for name in function.netdevs)
    if wires.facts.missing("net") and function.driver not in _IDLE:
        return _network(function) or function.kind == _USB
    if function.driver in _BORROWED:  # dom0's network may come from the domain that has it
        owners = owners_of(function, wires.facts)
        linked = wires.linked and (function.kind == _USB or function.base == _COMMUNICATION)  # its phone, its modem
        return (_network(function) or linked) and (
            bool(owners) or wires.facts.missing("owners", "backends") is not None
        )
    return _network(function) and function.driver not in _IDLE


def _terminal(function: Function, facts: HostFacts) -> bool:
    """A program has a terminal of it open; where nobody tells who has what open, it could have one."""
    if {"chars", "users"} <= facts.sections.keys() and not facts.missing("chars", "users"):
        return bool(terminals_of(function, facts))
    return function.driver not in _IDLE and (function.base == _COMMUNICATION or function.kind == _USB)


def _network(function: Function) -> bool:
    """A class that carries packets, or one that cannot be read."""
    return function.base in ("", _NETWORK, _WIRELESS) or function.kind == _INFINIBAND


def _used(function: Function, mine: set[str], wires: Wires) -> Iterator[Finding]:
    """Signs that somebody uses it, other than this machine itself."""
    facts = wires.facts
    gone = facts.missing("net")
    if gone and not function.netdevs and function.base != _STORAGE:
        yield Finding("network", Level.DENY, "unknown: the host's network interfaces cannot be read", (gone,))
    driven = bool(function.code) and function.driver is not None and not passing(function.driver)
    if not function.netdevs and _network(function) and driven and not _without_interface(function, facts):
        text = "unknown: a network card whose interface is not seen; a container may have it"
        yield Finding("network", Level.DENY, text, function.where)
        if _half(function, wires):
            text = "unknown: an interface that carries this machine has its driver, and could stand on both functions"
            yield Finding("network", Level.LETHAL, text, function.where)
    away = tuple(wires.away(function))
    if away:
        yield Finding("network", Level.DENY, "another network namespace has an interface of it", away)
    built = mine - function.netdevs
    linked = tuple(line for name in sorted(function.netdevs) for line in facts.interfaces[name].lines
                   if line.text.split(" ")[1] in ("master", "upper"))  # fmt: skip
    if built:
        yield Finding("network", Level.DENY, f"another interface is built on it: {_some(built)}", linked)
    unread = sorted(name for name in function.netdevs if wires.flags(name) is None)
    if unread:
        yield Finding("network", Level.DENY, "unknown: whether its interface is up", _lines(facts, unread[0]))
    listening = sorted(name for name in function.netdevs if wires.listening(name))
    if listening:
        yield Finding(
            "network", Level.DENY, "a program takes all frames that arrive at it", _lines(facts, listening[0])
        )
    framed = tuple(wires.framed(function.netdevs))
    if framed:
        yield Finding("network", Level.DENY, "a program or the kernel speaks over it without IP", framed)
    elsewhere = tuple(wires.apart(function.netdevs))
    if elsewhere:
        text = "an interface of another network namespace is built on it"
        yield Finding("network", Level.DENY, text, elsewhere)
    onwards = tuple(wires.onwards(function.netdevs))
    if onwards:
        yield Finding(
            "network",
            Level.DENY,
            "frames go from one interface to another by tc or nft, and it is one of them",
            onwards,
        )
    moved = tuple(_moved(function, facts))
    if moved:
        yield Finding("network", Level.DENY, "data is moved by RDMA over it, or that is unknown", moved)
    gone = facts.missing("namespaces", "frames", "redirects") or facts.unread("links")
    if gone and any(wires.up(name) for name in function.netdevs):
        text = "unknown: what other network namespaces have built on it, and who sends by it without IP"
        yield Finding("network", Level.DENY, text, (gone,))
    apart = sorted(name for name in function.netdevs if wires.up(name) and wires.without_ip(name))
    if apart:
        text = "its interface is up, and carries what has no addresses"
        yield Finding("network", Level.DENY, text, _lines(facts, apart[0]))
    used = _told(mine, wires)
    if used and any(wires.up(name) for name in function.netdevs):
        yield Finding("network", Level.DENY, "its interface is up and has an address or a route", used)


def _half(function: Function, wires: Wires) -> bool:
    """Whether it could be a second function of an interface that is needed: of a card in two slots.

    Source: Documentation/networking/multi-pf-netdev.rst; one driver does it. Where a container has an interface of it,
    that is what it has.
    """
    if function.driver != _MULTI_PF:
        return False
    alike = (one for one in wires.facts.functions.values() if one.driver == _MULTI_PF)
    needed = any(tuple(_carried(one, wires.upwards(one.netdevs), wires)) for one in alike)
    return needed and not any(wires.away(function))


def _told(mine: set[str], wires: Wires) -> tuple[FactLine, ...]:
    """Addresses and routes of these that not every interface has by itself."""
    used = [one.line for one in wires.addresses if one.interface in mine and not one.address.is_link_local]
    used += [route.line for route in wires.routes if route.interface in mine and not route.local]
    return tuple(used)


def _without_interface(function: Function, facts: HostFacts) -> bool:
    """Bluetooth; or a card of a fabric that RDMA tells of, where ip(8) would tell of an interface a container has."""
    if function.kind == _BLUETOOTH:
        return "attached" in facts.sections
    told = any(f"/{function.bdf}/" in line.text for line in facts.lines("rdma"))
    knows = any(" parentdev " in line.text for line in facts.lines("links"))
    return function.kind in _FABRICS and told and knows and facts.missing("rdma", "namespaces") is None


def _moved(function: Function, facts: HostFacts) -> Iterator[FactLine]:
    """RDMA: a soft one (rdma_rxe, siw) on its interface; queue pairs other than the kernel's own at rest.

    Every device has those of ib_core, a driver's own, and those of IPoIB, whose interface is judged by itself. Without
    rdma(8) nobody can say that of a device, nor on which interface a soft one is.
    """
    lines = facts.lines("rdma")
    place = re.compile(rf"(\S+) realpath .*/{re.escape(str(function.bdf))}/")
    own = {match[1] for line in lines if (match := place.match(line.text))}
    virtual = any("/virtual/" in line.text for line in lines)
    for line in lines:
        name, _, told = line.text.partition(" ")
        soft = told.startswith("netdev ") and told.split(" ")[1] in function.netdevs and name not in own
        works = told.startswith("qp ") and not _RESTING.search(told)
        if soft or (name in own and works) or (name == "missing" and (own or (virtual and function.netdevs))):
            yield line


def _consoles(facts: HostFacts) -> Iterator[tuple[FactLine, str]]:
    """Interfaces over which netconsole sends (Documentation/networking/netconsole.rst): `[+][r]PORT@IP/DEV,...;...`.

    Without a name it is eth0 (alloc_and_init, drivers/net/netconsole.c).
    """
    for line in facts.lines("cmdline"):
        for targets in re.findall(r"\bnetconsole(?:\.netconsole)?=(\S+)", line.text):
            for target in targets.split(";"):
                _, told, name = target.partition(",")[0].partition("/")
                if re.fullmatch(r"(?:[0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}", name):  # since Linux 6.15
                    yield from ((line, one) for one in _with_mac(name.lower(), facts) or [name])
                elif told:
                    yield line, name or "eth0"
    for line in facts.lines("netconsole"):
        if told := re.fullmatch(r"\S+ dev (\S+)", line.text):
            yield line, told[1]


def _with_mac(mac: str, facts: HostFacts) -> list[str]:
    return [name for name, card in facts.interfaces.items() if card.attributes.get("address", "").lower() == mac]


def _lines(facts: HostFacts, name: str) -> tuple[FactLine, ...]:
    card = facts.interfaces.get(name)
    return card.lines[:1] if card else ()


def _some(names: set[str]) -> str:
    return ", ".join(sorted(names))
