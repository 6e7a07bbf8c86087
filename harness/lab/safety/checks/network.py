"""Does the way to this machine lead over it? Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from harness.lab.safety.checks.finding import Context, Finding, Level
from harness.lab.safety.facts.facts import Function, HostFacts, Line

_NETWORK = 0x02
_PASSING = {None, "pciback", "xen-pciback", "vfio-pci", "pci-stub"}
_FAR = {"nfs", "nfs4", "cifs", "smb3", "ceph", "glusterfs", "fuse.glusterfs", "fuse.sshfs", "afs", "9p", "ocfs2"}
_UP = 0x1  # IFF_UP, netdevice(7)
_REJECT = 0x200  # RTF_REJECT, linux/ipv6_route.h
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def check(function: Function, facts: HostFacts, context: Context) -> Finding:
    """LETHAL: it carries our session or a default route, through bridge, bond or VLAN too, or that cannot be known.

    DENY: it is in use otherwise.
    """
    gone = facts.missing("net")
    if gone and not function.netdevs:
        return Finding("network", Level.DENY, "unknown: the host's network interfaces cannot be read", (gone,))
    if not function.netdevs and (function.class_code or 0) >> 16 == _NETWORK and function.driver not in _PASSING:
        text = "unknown: a network card whose interface is not seen; a container may have it"
        return Finding("network", Level.DENY, text, function.lines[:1])
    if not function.netdevs:
        return Finding("network", Level.OK, "no network interface below it")
    mine = _uppers(function, facts)
    addresses, routes = list(_addresses(facts)), list(_routes(facts))
    session = [line for name, address, line in addresses if str(address) == _plain(facts.ssh_address)]
    carrying = {name for name, address, _ in addresses if str(address) == _plain(facts.ssh_address)}
    if not carrying:
        carrying = _towards(facts.ssh_address, routes)
    carrying |= _towards(facts.ssh_client, routes)
    if carrying & mine:
        evidence = (*session, *facts.lines("ssh"))
        return Finding("network", Level.LETHAL, f"{_some(carrying & mine)} carries our own session", evidence)
    defaults = tuple(line for name, network, line in routes if network.prefixlen == 0 and name in mine)
    if defaults:
        return Finding("network", Level.LETHAL, "it carries a default route", defaults)
    gone = facts.missing("net", "ssh", "routes", "routes6")
    if gone or "addresses" not in facts.sections:  # without ip(8) the routes tell enough
        evidence = (gone,) if gone else ()
        return Finding("network", Level.LETHAL, "unknown: the host's network cannot be read", evidence)
    if not carrying - {"lo"}:
        return Finding("network", Level.LETHAL, "unknown: which interface carries our session", facts.lines("ssh"))
    flags = [facts.interfaces[name].attributes.get("flags", "") for name in sorted(function.netdevs)]
    known = all(re.fullmatch(r"0x[0-9a-f]{1,8}", flag) for flag in flags)
    up = known and any(int(flag, 16) & _UP for flag in flags)
    far = tuple(_far_storage(facts))
    linked = tuple(line for name in sorted(function.netdevs) for line in facts.interfaces[name].lines
                   if line.text.split(" ")[1] in ("master", "upper"))  # fmt: skip
    used = tuple(line for name, address, line in addresses if name in mine and not address.is_link_local)
    used += tuple(line for name, network, line in routes if name in mine and not _local(network))
    if far and up and (used or linked):
        return Finding("network", Level.LETHAL, "it is in use, and this machine stores over the network", far)
    if linked or mine - function.netdevs:
        return Finding("network", Level.DENY, "another interface is built on it", linked)
    if not known:
        return Finding("network", Level.DENY, "unknown: whether its interface is up")
    if used and up:
        return Finding("network", Level.DENY, "its interface is up and has an address", used)
    return Finding("network", Level.OK, "its interfaces are not in use")


def _far_storage(facts: HostFacts) -> Iterator[Line]:
    """Mounts and disks that would hang if the card to their server went away; which card that is nobody says."""
    for line in facts.lines("mounts"):
        words = line.text.split(" ")
        kind, source = words[words.index("-") + 1 : words.index("-") + 3] if "-" in words[:-2] else ("", "")
        if kind in _FAR or source.startswith(("/dev/nbd", "/dev/rbd", "/dev/drbd")):
            yield line
    for block in facts.blocks.values():
        if re.search(r"/host\d+/session\d+/|/nvme-fabrics/", block.place):  # iSCSI, NVMe over fabrics
            yield block.lines[0]


def _some(names: set[str]) -> str:
    return ", ".join(sorted(names))


def _uppers(function: Function, facts: HostFacts) -> set[str]:
    """Its interfaces and all built on them. Loops end. Open vSwitch does not tell: all virtual ones count."""
    above: dict[str, set[str]] = {}
    for name, card in facts.interfaces.items():
        above.setdefault(name, set()).update(card.related("master", "upper"))
        for lower in card.related("lower"):
            above.setdefault(lower, set()).add(name)
    for line in facts.lines("links"):
        match = re.match(r"\d+: ([^:@ ]+)@([^:@ ]+):", line.text)  # VLAN and macvlan on their parent
        if match:
            above.setdefault(match[2], set()).add(match[1])
    virtual = {name for name, card in facts.interfaces.items() if card.place.startswith("/sys/devices/virtual/")}
    above.setdefault("ovs-system", set()).update(virtual - {"lo"})
    found, new = set(function.netdevs), list(function.netdevs)
    while new:
        for name in above.get(new.pop(), set()) - found:
            found.add(name)
            new.append(name)
    return found


def _plain(text: str | None) -> str:
    """An address as `ipaddress` writes it; empty when it is none. sshd writes IPv4 in IPv6 sockets plainly."""
    try:
        return str(ipaddress.ip_address((text or "").partition("%")[0].removeprefix("::ffff:")))
    except ValueError:
        return ""


def _addresses(facts: HostFacts) -> Iterator[tuple[str, _Address, Line]]:
    """Lines `4: eth0    inet 192.0.2.2/24 ...` of `ip -o addr`; none without ip(8)."""
    for line in facts.lines("addresses"):
        match = re.match(r"\d+: (\S+)\s+inet6? ([0-9a-f.:]+)[/ ]", line.text)
        if match:
            try:
                yield match[1], ipaddress.ip_address(match[2]), line
            except ValueError:
                continue


def _routes(facts: HostFacts) -> Iterator[tuple[str, _Network, Line]]:
    """/proc/net/route (little-endian words) and ipv6_route (proc(5)); rejecting routes are left out."""
    for line in facts.lines("routes"):
        words = line.text.split()
        if len(words) > 7 and re.fullmatch(r"[0-9A-F]{8}", words[1]) and re.fullmatch(r"[0-9A-F]{8}", words[7]):
            place = int.from_bytes(bytes.fromhex(words[1]), "little")
            bits = int(words[7], 16).bit_count()
            yield words[0], ipaddress.IPv4Network((place, bits), strict=False), line
    for line in facts.lines("routes6"):
        words = line.text.split()
        if len(words) == 10 and all(re.fullmatch(r"[0-9a-f]+", word) for word in (words[0], words[1], words[8])):
            if int(words[8], 16) & _REJECT or len(words[0]) != 32 or int(words[1], 16) > 128:
                continue
            yield words[9], ipaddress.IPv6Network((int(words[0], 16), int(words[1], 16)), strict=False), line


def _towards(text: str | None, routes: list[tuple[str, _Network, Line]]) -> set[str]:
    """Interfaces of the most specific routes to an address."""
    plain = _plain(text)
    if not plain:
        return set()
    address = ipaddress.ip_address(plain)
    fitting = [(network.prefixlen, name) for name, network, _ in routes if address in network]
    longest = max((length for length, _ in fitting), default=0)
    return {name for length, name in fitting if length == longest} - {"lo"}


def _local(network: _Network) -> bool:
    """Routes every interface that is up has by itself."""
    return network.network_address.is_link_local or network.network_address.is_multicast
