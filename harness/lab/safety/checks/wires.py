"""The picture of a host's network: what stands on what, where an address is, which way leads to another. Pure.

Whoever asks gets what is known and, apart from it, what cannot be explained: a picture with a hole explains nothing.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from harness.lab.safety.facts.facts import PCI_PATH, FactLine, Function, HostFacts, Thing

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Net = ipaddress.IPv4Network | ipaddress.IPv6Network

_UP, _PROMISCUOUS = 0x1, 0x100  # netdevice(7)
_REJECT, _LOCAL = 0x200, 0x80000000  # RTF_REJECT and RTF_LOCAL, linux/route.h and ipv6_route.h
_STORAGE = "01"
_OVS = "ovs-system"  # the port of the kernel's Open vSwitch that is master of all others
# Types of routes that ip-route(8) prints, and that lead nowhere else.
_NO_WAY = {"local", "broadcast", "multicast", "anycast", "blackhole", "unreachable", "prohibit", "throw", "nat"}
_LINE = re.compile(r"\blink/(?:ppp|slip|cslip)\b")  # frames of a terminal, or of PPPoE
_WITHOUT_IP = re.compile(r"\blink/(?:can|ieee802\.15\.4|ieee802\.11/|ax25|x25|mctp|phonet)")  # if_arp.h, by iproute2
_INTERNAL = re.compile(r"\\\s+openvswitch\b")  # a port that Open vSwitch has made: what is sent there it switches
_DUMMY = re.compile(r"\\\s+dummy\b")
_PAIR = re.compile(r"\\\s+(?:veth|netkit|vxcan)\b")
_GUEST = re.compile(r"/sys/devices/vif-(\d+)-\d+/")  # netback's end of a guest's card
_ENDS = re.compile(  # of a tunnel with one other end, over IP
    r"\\\s+(?:gre|gretap|erspan|ip6gre|ip6gretap|ip6erspan|ipip|sit|ip6tnl|vti|vti6|geneve)\b.*? remote ([0-9a-f.:]+)"
)
_TUNNEL = re.compile(r"\b(?:vxlan|geneve|gre|gretap|erspan|ip6gre|ip6gretap|ipip|sit|ip6tnl|vti|vti6|xfrm|macsec)\b")


@dataclass(frozen=True)
class Route:
    """One next hop of a route of any table."""

    interface: str
    network: Net
    table: str
    line: FactLine

    @property
    def default(self) -> bool:
        """Leads to the whole world, or to a half of it as VPNs write it, or to all global IPv6."""
        return self.network.prefixlen <= (1 if self.network.version == 4 else 4)

    @property
    def local(self) -> bool:
        """Every interface that is up has it by itself."""
        return self.network.network_address.is_link_local or self.network.network_address.is_multicast


@dataclass(frozen=True)
class At:
    """An address of the host's own, and what is reached through it without a router."""

    interface: str
    address: Address
    network: Net
    line: FactLine


@dataclass(frozen=True)
class Wires:
    """The network of one host."""

    facts: HostFacts

    @cached_property
    def below(self) -> dict[str, set[str]]:
        """Interface -> those it is directly built on."""
        found: dict[str, set[str]] = {name: set() for name in self.facts.interfaces}
        for name, card in self.facts.interfaces.items():
            found[name] |= card.related("lower")
            for upper in card.related("master", "bridge", "upper"):
                found.setdefault(upper, set()).add(name)
            if _INTERNAL.search(self.detail.get(name, "")):
                found[name] |= card.related("bridge")
        for name, text in self.detail.items():
            parent = re.match(r"\d+: [^:@ ]+@([^:@ ]+):", text)
            dev = re.search(r" dev (\S+)", text) if _TUNNEL.search(text) else None
            for lower in (match[1] for match in (parent, dev) if match):
                if lower in self.facts.interfaces and lower != name:
                    found.setdefault(name, set()).add(lower)
        for name in self.ends:
            found.setdefault(name, set()).update(*self._ways(name))
        # a pair of veth, or of patch ports: what comes to one end goes on where the other is a port
        for name, lowers in found.items():
            peers = [peer for peer in lowers if peer in self.facts.interfaces and name in found.get(peer, set())]
            lowers |= set[str]().union(*(self._masters(peer) for peer in peers))
        if _OVS in self.facts.interfaces and not self._bridges:  # any virtual one may be a port that does not tell
            for name, lowers in found.items():
                if name not in (_OVS, "lo") and not lowers and self.virtual(name):
                    lowers.add(_OVS)
        beyond = {name: masters for name, masters in self._legs.items() if not self._on_a_card(name, found)}
        for name, masters in beyond.items():
            found[name] |= masters
        return found

    @cached_property
    def ends(self) -> dict[str, tuple[str, ...]]:
        """Tunnel -> addresses of its other ends, where ip(8) or wg(8) tells them: its packets go by the routes there.

        Not by ours, if it was made in another network namespace.
        """
        here = {name: text for name, text in self.detail.items() if "link-netnsid" not in text}
        told = {name: (match[1],) for name, text in here.items() if (match := _ENDS.search(text))}
        peers = {name: self.facts.peers(name) for name in self.facts.interfaces}
        for name, text in here.items():  # an interface of IPsec: the policies of its number tell the other ends
            if number := re.search(r"\\\s+xfrm if_id (0x[0-9a-f]+)", text):
                peers[name] += tuple(end for one in self._policies if one.number == number[1] for end in one.ends)
        return told | {name: ends for name, ends in peers.items() if ends}

    def _ways(self, tunnel: str) -> list[set[str]]:
        """For each of its other ends the interfaces that lead there; a tunnel does not lead through itself."""
        return [self.towards(end) - {tunnel, "lo"} for end in self.ends.get(tunnel, ())]

    @cached_property
    def linked(self) -> bool:
        """Whether there is an end of a virtual card by which this machine and another domain speak."""
        return any(card.place.startswith("/sys/devices/vif-") for card in self.facts.interfaces.values())

    @cached_property
    def _guests(self) -> dict[str, str]:
        """Netback's end of a guest's card (vif3.0) -> the number of its domain."""
        cards = self.facts.interfaces.items()
        return {name: match[1] for name, card in cards if (match := _GUEST.match(card.place))}

    @cached_property
    def _legs(self) -> dict[str, set[str]]:
        """Netback's end of a guest's card -> of what else its guest has ports: it may send on there."""
        found = {}
        for name, domain in self._guests.items():
            own = re.compile(rf"(?:vif|tap){domain}\.\d+(?:-emu)?")  # QEMU's too, as libxl or XAPI call them
            ports = {card for card in self.facts.interfaces if own.fullmatch(card)}
            ports |= {card for card, number in self._guests.items() if number == domain}
            masters = set[str]().union(*(self._masters(card) for card in ports))
            found[name] = masters - self._masters(name)
        return found

    @cached_property
    def _bridges(self) -> set[str]:
        """Those of Open vSwitch, where its own program tells them: for the kernel all are one."""
        return set[str]().union(*(card.related("bridge") for card in self.facts.interfaces.values()))

    def _masters(self, name: str) -> set[str]:
        """What it is a port of."""
        card = self.facts.interfaces[name]
        return card.related("bridge") or card.related("master")

    def _on_a_card(self, port: str, below: dict[str, set[str]]) -> bool:
        """Whether what this is a port of has a card: then the way to others does not lead through a guest."""
        return any(not self.virtual(name) for name in _closure(self._masters(port), below))

    def _ends_in_a_guest(self, name: str) -> bool:
        """A guest that has no other port, and no device of its own by which it could reach further; disks do not."""
        domain = self._guests.get(name)
        if domain is None or self.below.get(name) or self.facts.missing("owners", "backends"):
            return False
        owned = re.compile(rf'/libxl/pci/(\S+)-(\S+)-(\S+)-(\S+)/domid = "{domain}"|/backend/(?:vusb|qusb)/{domain}/')
        lines = [line.text for key in ("owners", "backends") for line in self.facts.lines(key)]
        given = {
            match[1] for text in lines if (match := re.search(rf'/backend/pci/{domain}/\S+ = "(\S+:\S+\.\d)"', text))
        }
        if not given and any(f"/backend/pci/{domain}/" in text for text in lines):
            return False
        for match in filter(None, map(owned.search, lines)):
            given.add("{}:{}:{}.{}".format(*match.groups()) if match[1] else "")
        return all(self._of_disks(bdf) for bdf in given)

    def _of_disks(self, bdf: str) -> bool:
        return any(str(one.bdf) == bdf and one.base == _STORAGE for one in self.facts.functions.values())

    @cached_property
    def detail(self) -> dict[str, str]:
        """What `ip -d link` says of each interface, without its alias, which may be any words."""
        texts = (re.sub(r"\\\s+alias .*", "", line.text) for line in self.facts.lines("links"))
        return {match[1]: text for text in texts if (match := re.match(r"\d+: ([^:@ ]+)[:@]", text))}

    def card(self, name: str) -> Thing | None:
        return self.facts.interfaces.get(name)

    def virtual(self, name: str) -> bool:
        """Made by a program or a hypervisor, or of another machine by USB/IP. Unknown ones count.

        That of xen-netfront is below /sys/devices/vif-0.
        """
        card = self.card(name)
        made = ("/sys/devices/virtual/", "/sys/devices/vif-", "/sys/devices/platform/vhci_hcd.")
        return card is None or not card.place or card.place.startswith(made)

    def flags(self, name: str) -> int | None:
        """None when they cannot be read."""
        card = self.card(name)
        text = card.attributes.get("flags", "") if card else ""
        return int(text, 16) if re.fullmatch(r"0x[0-9a-f]{1,8}", text) else None

    def up(self, name: str) -> bool:
        """Unknown counts as up."""
        flags = self.flags(name)
        return flags is None or bool(flags & _UP)

    def nowhere(self, name: str) -> bool:
        """What is sent there ends there."""
        return name == "lo" or bool(_DUMMY.search(self.detail.get(name, "")))

    def listening(self, name: str) -> bool:
        """It takes frames that are not for this host, or before it sees them (XDP): a program switches or records
        them."""
        text = self.detail.get(name, "")
        count = re.search(r"\bpromiscuity (\d+)", text)
        told = bool(count and count[1] != "0") or bool(re.search(r"\s(?:xdp\S*|prog/xdp)\s", text))
        return told or bool((self.flags(name) or 0) & _PROMISCUOUS)

    def works(self, name: str) -> bool:
        """A card that is known to be up, and not known to have no cable."""
        flags = self.flags(name)
        return flags is not None and bool(flags & _UP) and "NO-CARRIER" not in self.detail.get(name, "")

    def apart(self, names: Iterable[str]) -> Iterator[FactLine]:
        """Interfaces of other network namespaces (macvlan, ipvlan, VLAN) that name one of these below them by number.

        Nothing of them is seen here. Whose number it is depends on the namespace, so that another's may be meant.
        """
        wanted = self._numbers(names)
        for line in self.facts.lines("namespaces"):
            match = re.match(r"\d+: [^@ ]+@if(\d+):", line.text)
            if match and match[1] in wanted and not _PAIR.search(line.text):
                yield line

    def away(self, function: Function) -> Iterator[FactLine]:
        """Interfaces of it, or of what hangs on it by USB, that another network namespace has.

        ip(8) names the device since 5.14: an address of PCI, or an interface of USB below the node of its device.
        """
        homes = {line.text.rpartition("/")[2] for line in self.facts.lines("chars")
                 if str(function.bdf) in PCI_PATH.findall(line.text)}  # fmt: skip
        for line in self.facts.lines("namespaces"):
            told = re.search(r" parentdev (\S+)", line.text)
            if told and (told[1] == str(function.bdf) or told[1].partition(":")[0] in homes):
                yield line

    def framed(self, names: Iterable[str]) -> Iterator[FactLine]:
        """Programs that speak by one of these in a protocol of their own, or parts of the kernel, told by name."""
        wanted = self._numbers(names) | set(names)
        for line in self.facts.lines("frames"):
            if line.text.partition(" ")[2] in wanted:
                yield line

    def onwards(self, names: Iterable[str]) -> Iterator[FactLine]:
        """What goes on from one of these, or to it, since tc(8) or nft(8) was told so, whatever the routes say."""
        wanted = set(names)
        lines = self.facts.lines("redirects")
        return (line for line in lines if wanted & {line.text.partition(" ")[0], line.text.rpartition(" ")[2]})

    def _numbers(self, names: Iterable[str]) -> set[str]:
        return {self.detail[name].partition(":")[0] for name in names if name in self.detail}

    def without_ip(self, name: str) -> bool:
        """A field bus or the like: that it has no address says nothing about its use."""
        return bool(_WITHOUT_IP.search(self.detail.get(name, "")))

    @cached_property
    def lines(self) -> bool:
        """Whether there is PPP or SLIP, which may begin at a terminal."""
        return any(_LINE.search(text) for text in self.detail.values())

    def downwards(self, names: Iterable[str]) -> set[str]:
        """These and all they stand on. Loops end."""
        return _closure(names, self.below)

    def upwards(self, names: Iterable[str]) -> set[str]:
        """These and all that is built on them. Loops end."""
        above: dict[str, set[str]] = {}
        for name, lowers in self.below.items():
            for lower in lowers:
                above.setdefault(lower, set()).add(name)
        return _closure(names, above)

    def explained(self, name: str, *, works: bool = True, guests: bool = False) -> bool:
        """Whether it is certain which cards carry it: it is one, or stands on one.

        `works`: what it carries is known to arrive, so that a card which does not work explains nothing.
        `guests`: what it carries may end in a guest of this machine; the whole world does not.
        """
        way = [name]
        seen = set(way)
        while way:
            one = way.pop()
            if not self.virtual(one):
                if self.works(one) or not works:
                    return True
                continue
            if guests and self._ends_in_a_guest(one):
                return True
            text = self.detail.get(one, "")
            if not all(self._ways(one)):
                continue
            lowers = self.below.get(one, set())
            told = bool(text) or self.facts.version > 1  # the first program may have found no ip(8) that tells kinds
            if lowers == {_OVS} and told and "openvswitch" not in text:  # a guess is no explanation
                continue
            way += lowers - seen
            seen |= lowers
        return False

    # -- addresses and routes

    @cached_property
    def addresses(self) -> list[At]:
        """Lines `4: eth0    inet 192.0.2.2/24 ...` of `ip -o addr`; none without ip(8)."""
        return [found for line in self.facts.lines("addresses") if (found := _address(line)) is not None]

    @cached_property
    def routes(self) -> list[Route]:
        """Of every table that was read, and where policies of IPsec lead to. Those that reject are left out."""
        tunnelled = [
            Route(name, policy.network, "ipsec", policy.line)
            for policy in self._policies
            for end in policy.ends
            for name in sorted(self._routed(end, self._plain))
            if policy.number is None
        ]
        return self._plain + tunnelled

    @cached_property
    def _plain(self) -> list[Route]:
        found: list[Route] = []
        for section, read in (("routes", _route4), ("routes6", _route6), ("tables", _table)):
            for line in self.facts.lines(section):
                found += read(line) or ()
        return found

    @cached_property
    def _policies(self) -> list[_Policy]:
        return [policy for line in self.facts.lines("ipsec") for policy in _policy(line) or ()]

    @cached_property
    def strange(self) -> list[FactLine]:
        """Lines about addresses and routes that say something nobody understands."""
        found = [
            line
            for line in self.facts.lines("addresses")
            if re.search(r"\sinet6?\s", line.text) and _address(line) is None
        ]
        for section, read in (("routes", _route4), ("routes6", _route6), ("tables", _table)):
            found += [line for line in self.facts.lines(section) if read(line) is None]
        found += [line for line in self.facts.lines("ipsec") if _policy(line) is None]
        return [line for line in found if not line.text.startswith("missing ")]

    def holders(self, text: str) -> set[str]:
        """Interfaces that have this address; a scope (`fe80::1%eth0`) names the one."""
        address, scope = _plain(text)
        named = self._scope(scope)
        if named is not None:
            return named
        return {one.interface for one in self.addresses if one.address == address}

    def towards(self, text: str) -> set[str]:
        """Interfaces by which an address is reached: of each table the most specific routes."""
        return self._routed(text, self.routes)

    def _routed(self, text: str, routes: list[Route]) -> set[str]:
        address, scope = _plain(text)
        named = self._scope(scope)
        if named is not None:
            return named
        if address is None:
            return set()
        if address.is_loopback:  # ip-rule(8): the table `local` comes first
            return {"lo"}
        best: dict[str, tuple[int, set[str]]] = {}
        ways = [(route.table, route.network, route.interface) for route in routes]
        ways += [("main", one.network, one.interface) for one in self.addresses if self.up(one.interface)]
        for table, network, interface in ways:
            if address not in network:
                continue
            longest, names = best.get(table, (-1, set()))
            if network.prefixlen > longest:
                best[table] = (network.prefixlen, {interface})
            elif network.prefixlen == longest:
                names.add(interface)
        return {name for _, names in best.values() for name in names}

    def _scope(self, scope: str) -> set[str] | None:
        """The interface a scope means, by name or by number; None without a scope."""
        if not scope:
            return None
        numbered = (re.match(rf"{re.escape(scope)}: ([^:@ ]+)", line.text) for line in self.facts.lines("links"))
        return {next((match[1] for match in numbered if match), scope)}


def _closure(names: Iterable[str], further: dict[str, set[str]]) -> set[str]:
    found = set(names)
    new = list(found)
    while new:
        for name in further.get(new.pop(), set()) - found:
            found.add(name)
            new.append(name)
    return found


def _plain(text: str) -> tuple[Address | None, str]:
    """An address and its scope. sshd writes IPv4 in IPv6 sockets plainly or as `::ffff:192.0.2.1`."""
    plain, _, scope = text.partition("%")
    try:
        return ipaddress.ip_address(plain.removeprefix("::ffff:")), scope
    except ValueError:
        return None, scope


def link_local(text: str) -> bool:
    """Whether this address is one that means another machine on every link."""
    address, scope = _plain(text)
    return address is not None and address.is_link_local and not scope


def is_loopback(text: str) -> bool:
    """Whether this is an address of the machine itself, on lo."""
    address = _plain(text)[0]
    return address is not None and address.is_loopback


def is_address(text: str) -> bool:
    """Whether this is an IP address, with a scope or without."""
    return _plain(text)[0] is not None


def _address(line: FactLine) -> At | None:
    match = re.match(r"\d+: ([^@ ]+)\S*\s+inet6? ([0-9a-f.:]+)(?:/(\d+))?(?: peer ([0-9a-f.:]+)(?:/(\d+))?)?(?: |$)",
                     line.text)  # fmt: skip
    if match is None:
        return None
    name, address, bits, peer, peer_bits = match.groups()
    try:
        own = ipaddress.ip_address(address)
        far, length = (peer, peer_bits) if peer else (address, bits)
        network = ipaddress.ip_network(f"{far}/{length or own.max_prefixlen}", strict=False)
    except ValueError:
        return None
    return At(name, own, network, line)


# Each reads one line: the routes it tells, none when it leads nowhere; None when nobody understands it.


def _route4(line: FactLine) -> list[Route] | None:
    """/proc/net/route (proc(5)): little-endian words, and of several next hops only the first.

    A route that throws away has the interface `*` (fib_route_seq_show, net/ipv4/fib_trie.c).
    """
    if line.text.startswith(("Iface", "*")):
        return []
    match = re.match(
        r"(\S+)\s+([0-9A-Fa-f]{8})\s+\S+\s+([0-9A-Fa-f]+)(?:\s+\S+){3}\s+([0-9A-Fa-f]{8})(?:\s|$)", line.text
    )
    if match is None:
        return None
    name, to, flags, mask = match.groups()
    if int(flags, 16) & _REJECT:
        return []
    place, bits = int.from_bytes(bytes.fromhex(to), "little"), int(mask, 16).bit_count()
    return [Route(name, ipaddress.IPv4Network((place, bits), strict=False), "main", line)]


def _route6(line: FactLine) -> list[Route] | None:
    """/proc/net/ipv6_route (proc(5)): a line for each next hop, of all tables together."""
    match = re.fullmatch(r"([0-9a-f]{32})\s+([0-9a-f]+)(?:\s+\S+){6}\s+([0-9a-f]+)\s+(\S+)", line.text)
    if match is None or int(match[2], 16) > 128:
        return None
    if int(match[3], 16) & (_REJECT | _LOCAL):
        return []
    return [Route(match[4], ipaddress.IPv6Network((int(match[1], 16), int(match[2], 16)), strict=False), "main", line)]


def _table(line: FactLine) -> list[Route] | None:
    """Lines of `ip -o route show table all`: `[TYPE] TO via GATEWAY dev NAME table T \\ nexthop via ... dev NAME`."""
    to, *words = line.text.removeprefix("unicast ").replace("\\", " ").split() or [""]
    if to in _NO_WAY:
        return []
    if to == "default":
        # `via inet6` is written where the route itself is not of IPv6 (RFC 5549)
        six = re.search(r"\bvia [0-9a-f]*:|\bpref (?:medium|low|high)\b", line.text)
        to = "::/0" if six else "0.0.0.0/0"
    pairs = list(pairwise(words))
    names = [name for word, name in pairs if word == "dev"]
    try:
        network = ipaddress.ip_network(to, strict=False)
    except ValueError:
        return None
    table = next((name for word, name in pairs if word == "table"), "main")
    return [Route(name, network, table, line) for name in names] or None


@dataclass(frozen=True)
class _Policy:
    """What IPsec sends through a tunnel to these ends; of the interface of this number, or of none."""

    network: Net
    ends: tuple[str, ...]
    number: str | None
    line: FactLine


def _policy(line: FactLine) -> list[_Policy] | None:
    """`ip -o xfrm policy`: `src NET dst NET \\ dir out ... \\ tmpl src END dst END\\ proto esp ... mode MODE\\`.

    What is marked is of a tunnel that is an interface and tells its end (VTI).
    """
    told, numbered = re.match(r"src \S+ dst (\S+)", line.text), re.search(r"\sif_id (0x[0-9a-f]+)", line.text)
    form = r"\btmpl src \S+ dst ([0-9a-f.:]+)\\\s+proto \S+ (?:spi \S+ )?reqid \S+ mode (?:tunnel|beet|iptfs)\b"
    try:
        network = ipaddress.ip_network(told[1] if told else "", strict=False)
    except ValueError:
        return None
    if re.search(r"\smark ", line.text):
        return []
    return [_Policy(network, tuple(re.findall(form, line.text)), numbered[1] if numbered else None, line)]
