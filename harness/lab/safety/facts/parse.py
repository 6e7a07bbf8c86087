"""From what facts.sh printed to the facts of a host. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.base.errors import ParseError
from harness.lab.safety.facts.extended import capabilities
from harness.lab.safety.facts.facts import NEWEST, PCI_PATH, FactLine, Function, HostFacts, Thing
from harness.model.address import Bdf
from harness.model.config import ConfigSpace

_RELATIONS = ("holder", "slave", "master", "bridge", "upper", "lower", "subsystem")
_DSN = 0x0003  # extended capability ID of Device Serial Number (PCIe base spec 7.9.3)


def parse_facts(sections: Mapping[str, bytes]) -> HostFacts:
    """Accepted format: the sections of facts.sh, of this version or of the first. ParseError without four of them.

    What is wrong with one function is a doubt about that function and condemns no other.
    """
    lines = {
        name: tuple(
            FactLine(name, number, text.rstrip())
            for number, text in enumerate(data.decode("utf-8", "replace").split("\n"), start=1)
            if text.strip()
        )
        for name, data in sections.items()
    }
    for name in ("boot_id", "pci", "config", "drivers"):
        if name not in lines:
            raise ParseError(f"no section {name}", file="facts", expected="the sections of facts.sh")
    boot_id = _first(lines, "boot_id")
    if not re.fullmatch(r"[0-9a-f-]{36}", boot_id):
        raise ParseError(f"{boot_id[:80]!r}", file="boot_id", line=1, expected="a boot ID")
    blocks, interfaces = _things(lines, "block"), _things(lines, "net")
    xen = _pairs(lines, "xen", ":")
    session = _first(lines, "ssh").split()
    words = [line.text.split() for line in lines.get("tools", ())]
    functions, strange = _functions(lines, blocks, interfaces)
    return HostFacts(
        functions=functions,
        blocks=blocks,
        interfaces=interfaces,
        sections=lines,
        boot_id=boot_id,
        kernel=_first(lines, "kernel"),
        os_name=_pairs(lines, "os_release", "=").get("PRETTY_NAME", "").strip('"'),
        xen_version=xen.get("xen_version"),
        virt_caps=frozenset(xen["virt_caps"].split()) if "virt_caps" in xen else None,
        tools=frozenset(word[0].rpartition("/")[2] for word in words),
        ssh_address=session[2] if len(session) == 4 else None,
        ssh_client=session[0] if len(session) == 4 else None,
        busybox=tuple(
            match[1] for line in lines.get("tools", ()) if (match := re.fullmatch(r"busybox (/\S+)", line.text))
        ),
        version=_version(lines),
        strange=strange,
    )


def _version(lines: Mapping[str, tuple[FactLine, ...]]) -> int:
    if "program" not in lines:
        return 1
    match = re.fullmatch(r"version (\d)", _first(lines, "program"))
    return int(match[1]) if match else NEWEST


def _first(lines: Mapping[str, tuple[FactLine, ...]], name: str) -> str:
    return lines[name][0].text.strip() if lines.get(name) else ""


def _pairs(lines: Mapping[str, tuple[FactLine, ...]], name: str, sign: str) -> dict[str, str]:
    split = (line.text.partition(sign) for line in lines.get(name, ()))
    return {key.strip(): value.strip() for key, _, value in split}


def _things(lines: Mapping[str, tuple[FactLine, ...]], name: str) -> dict[str, Thing]:
    """`NAME KIND VALUE` lines; neighbours keep their last path component."""
    found: dict[str, list[tuple[str, str, FactLine]]] = {}
    for line in lines.get(name, ()):
        words = line.text.split(" ", 2)
        if len(words) < 3:
            continue
        found.setdefault(words[0], []).append((words[1], words[2], line))
    return {
        key: Thing(
            key,
            {kind: value for kind, value, _ in rows if kind not in _RELATIONS},
            frozenset((kind, value.rpartition("/")[2]) for kind, value, _ in rows if kind in _RELATIONS),
            tuple(line for _, _, line in rows),
        )
        for key, rows in found.items()
    }


def _functions(
    lines: Mapping[str, tuple[FactLine, ...]], blocks: Mapping[str, Thing], interfaces: Mapping[str, Thing]
) -> tuple[dict[Bdf, Function], tuple[Thing, ...]]:
    """The functions, and those of which one cannot say which they are."""
    things = _things(lines, "pci")
    drivers, configs = _drivers(lines["drivers"]), _configs(lines["config"])
    places = Counter(thing.place for thing in things.values())
    virtual: dict[str, set[str]] = {}  # place of a function -> those of its virtual ones: what they carry goes with it
    for thing in things.values():
        virtual.setdefault(thing.attributes.get("physfn", ""), set()).add(thing.place)
    drives, permanent = _things(lines, "nvme"), _permanent(lines)
    slots = {line.text.rpartition(" ")[2]: line.text.split(" ")[0] for line in lines.get("slots", ())}
    found: dict[Bdf, Function] = {}
    strange = []
    for name, thing in things.items():
        chain = PCI_PATH.findall(thing.place)
        try:
            bdf = Bdf.parse(name)
        except ParseError:
            strange.append(thing)
            continue
        if not chain or chain[-1] != name or places[thing.place] > 1:
            strange.append(thing)
            continue
        values = thing.attributes
        doubts = [*_twice(thing), *configs.doubts.get(name, ())]
        if len(drivers.get(name, ())) > 1:
            doubts.append(("two drivers have it", drivers[name][1]))
        here = [thing.place, *virtual.get(thing.place, ())]
        ours = {key for key, drive in drives.items() if below(drive.place, thing.place)}
        subsystems = {other for key in ours for other in drives[key].related("subsystem")}
        cards = {key for key, card in interfaces.items() if below(card.place, thing.place)}
        ends = (
            (key, end) for key, card in interfaces.items() for end in (card.place, card.attributes.get("phydev", ""))
        )
        netdevs = {key for key, end in ends if any(below(end, place) for place in here)}
        config = configs.spaces.get(name)
        serials = {drives[key].attributes.get("serial", "").strip() for key in ours} | {_dsn(config)}
        subsystem = f"{_hex(values, 'subsystem_vendor', 4)}:{_hex(values, 'subsystem_device', 4)}"
        methods: tuple[str, ...] | None = tuple(values.get("reset_method", "").split())
        if "reset_method" not in values and values.get("reset"):
            methods = None
        vfs = values.get("sriov_numvfs", "0")
        found[bdf] = Function(
            bdf=bdf,
            place=thing.place,
            id=f"{_hex(values, 'vendor', 4)}:{_hex(values, 'device', 4)}",
            subsystem=subsystem,
            code=_hex(values, "class", 6),
            driver=drivers[name][0].text.partition(" ")[2] if name in drivers else None,
            override=values.get("driver_override", ""),
            reset_methods=methods,
            boot_vga=values.get("boot_vga") == "1",
            physfn=values.get("physfn", ""),
            numvfs=int(vfs) if vfs.isascii() and vfs.isdecimal() and len(vfs) < 6 else 1,
            iommu_group=values.get("iommu_group", "").rpartition("/")[2],
            config=config,
            slot=_slot(slots, chain),
            doubts=tuple(doubts),
            macs=frozenset(permanent[key] for key in cards if key in permanent),
            netdevs=frozenset(netdevs),
            blocks=frozenset(
                key
                for key, block in blocks.items()
                if any(below(block.place, place) for place in here)
                or any(f"/{name}/" in f"{block.place}/" for name in subsystems)
            ),
            serials=frozenset(serials - {""}),
            lines=thing.lines,
        )
    return found, tuple(strange)


def _twice(thing: Thing) -> list[tuple[str, FactLine]]:
    """What is said of a function more than once."""
    seen: dict[str, FactLine] = {}
    return [
        ("it is listed twice", line)
        for line in thing.lines
        if seen.setdefault(line.text.split(" ")[1], line) is not line
    ]


def _drivers(lines: tuple[FactLine, ...]) -> dict[str, list[FactLine]]:
    """Lines `BDF DRIVER` by function, each driver once."""
    found: dict[str, list[FactLine]] = {}
    for line in lines:
        same = found.setdefault(line.text.partition(" ")[0], [])
        if all(one.text != line.text for one in same):
            same.append(line)
    return found


def below(place: str, above: str) -> bool:
    """Whether one directory of sysfs is in another."""
    return bool(above) and f"{place}/".startswith(f"{above}/")


def _slot(slots: Mapping[str, str], chain: list[str]) -> str | None:
    return slots.get(chain[-1][:-2]) or slots.get(chain[-1])


def _hex(values: Mapping[str, str], name: str, digits: int) -> str:
    match = re.fullmatch(rf"0x([0-9a-f]{{{digits}}})", values.get(name, ""))
    return match[1] if match else ""


def _permanent(lines: Mapping[str, tuple[FactLine, ...]]) -> dict[str, str]:
    """Permanent address of each interface; ip(8) tells it where it is not the one in use, a bond where it is a port."""
    found = {}
    asked = {match[1] for line in lines.get("links", ()) if (match := re.match(r"\d+: ([^:@ ]+)[:@]", line.text))}
    for name, card in _things(lines, "net").items():
        born = card.attributes.get("assigned", "0") == "0"  # NET_ADDR_PERM, linux/netdevice.h: nobody has changed it
        address = card.attributes.get("address", "") if born or name in asked else ""
        found[name] = card.attributes.get("permanent", address).lower()
    for line in lines.get("links", ()):
        match = re.match(r"\d+: ([^:@ ]+)[:@].* permaddr ([0-9a-f:]{17})\b", line.text)
        if match:
            found[match[1]] = match[2]
    return {name: mac for name, mac in found.items() if mac}


@dataclass
class _Configs:
    """Config space by address, and what is wrong with what was printed of it; then there is none."""

    spaces: dict[str, ConfigSpace] = field(default_factory=dict)
    doubts: dict[str, list[tuple[str, FactLine]]] = field(default_factory=dict)


_SIZES = (64, 256, 4096)  # without privilege; conventional; PCI Express (linux/pci.h: pci_cfg_space_size)


def _configs(lines: tuple[FactLine, ...]) -> _Configs:
    """`function BDF`, then what `od -Ax -tx1` prints: rows of 16 bytes, and at last the size alone.

    A `*` stands for rows equal to the one before, so that the next row differs. Nothing is filled in where one is lost.
    """
    found = _Configs()
    blocks: list[list[FactLine]] = []
    for line in lines:
        words = line.text.split()
        if words[0] == "function" and len(words) == 2:
            blocks.append([line])
        elif blocks:
            blocks[-1].append(line)
    for head, *rows in blocks:
        name = head.text.split()[-1]
        known = name in found.spaces or name in found.doubts
        try:
            data = _dumped(rows)
        except _Lost as lost:
            found.doubts.setdefault(name, []).append((f"its config space cannot be read: {lost.why}", lost.line))
            found.spaces.pop(name, None)
            continue
        if known:
            found.doubts.setdefault(name, []).append(("its config space is listed twice", head))
            found.spaces.pop(name, None)
        elif len(data) in _SIZES:
            found.spaces[name] = ConfigSpace(data, f"config of {name}")
        elif data:
            found.doubts.setdefault(name, []).append((f"its config space has {len(data)} bytes", head))
    return found


class _Lost(Exception):
    """Bytes are missing or contradict."""

    def __init__(self, why: str, line: FactLine) -> None:
        super().__init__(why)
        self.why, self.line = why, line


def _dumped(rows: list[FactLine]) -> bytes:
    """The bytes of one dump; none when nothing was printed. _Lost."""
    data, row, repeat, ended = bytearray(), b"", False, not rows
    for line in rows:
        words = line.text.split()
        if ended:
            raise _Lost("something stands behind its end", line)
        if words == ["*"]:
            if len(row) != 16 or repeat:
                raise _Lost("a repetition of nothing", line)
            repeat = True
            continue
        if not all(re.fullmatch(r"[0-9a-f]{2}", word) for word in words[1:]) or not re.fullmatch(
            r"[0-9a-f]{6,8}", words[0]
        ):
            raise _Lost("that is no row of od -Ax -tx1", line)
        offset, new = int(words[0], 16), bytes.fromhex("".join(words[1:]))
        if repeat and (offset <= len(data) or (offset - len(data)) % 16 or offset > _SIZES[-1] or new == row):
            raise _Lost("a repetition that ends nowhere", line)
        if repeat:
            data += row * ((offset - len(data)) // 16)
        if offset != len(data) or len(new) not in (0, 16):
            raise _Lost(f"a row is lost before {offset:#x}", line)
        data, row, repeat, ended = data + new, new, False, not new
    if not ended:
        raise _Lost("its end is lost", rows[-1])
    return bytes(data)


def _dsn(config: ConfigSpace | None) -> str:
    """Device Serial Number as `lspci -vv` prints it; empty when there is none."""
    found = capabilities(config, _DSN) if config is not None else iter(())
    return next(("-".join(f"{byte:02x}" for byte in reversed(text[4:12])) for text in found), "")
