"""From what facts.sh printed to the facts of a host. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from harness.base.errors import ParseError
from harness.lab.safety.facts.facts import PCI_PATH, Function, HostFacts, Line, Thing
from harness.model.address import Bdf
from harness.model.config import ConfigSpace

_DSN = 0x0003  # extended capability ID of Device Serial Number (PCIe base spec 7.9.3)


def parse_facts(sections: Mapping[str, bytes]) -> HostFacts:
    """Accepted format: the sections of facts.sh. ParseError when functions are not told apart or contradict."""
    lines = {
        name: tuple(
            Line(name, number, text.rstrip())
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
    return HostFacts(
        functions=_functions(lines, blocks, interfaces),
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
        busybox=tuple(word[1] for word in words if word[0] == "busybox" and len(word) > 1),
    )


def _first(lines: Mapping[str, tuple[Line, ...]], name: str) -> str:
    return lines[name][0].text.strip() if lines.get(name) else ""


def _pairs(lines: Mapping[str, tuple[Line, ...]], name: str, sign: str) -> dict[str, str]:
    split = (line.text.partition(sign) for line in lines.get(name, ()))
    return {key.strip(): value.strip() for key, _, value in split}


def _things(lines: Mapping[str, tuple[Line, ...]], name: str) -> dict[str, Thing]:
    """`NAME KIND VALUE` lines; neighbours keep their last path component."""
    found: dict[str, list[tuple[str, str, Line]]] = {}
    for line in lines.get(name, ()):
        words = line.text.split(" ", 2)
        if len(words) < 3 or words[0] == "missing":
            continue
        found.setdefault(words[0], []).append((words[1], words[2], line))
    relations = ("holder", "slave", "master", "upper", "lower", "subsystem")
    return {
        key: Thing(
            key,
            {kind: value for kind, value, _ in rows if kind not in relations},
            frozenset((kind, value.rpartition("/")[2]) for kind, value, _ in rows if kind in relations),
            tuple(line for _, _, line in rows),
        )
        for key, rows in found.items()
    }


def _functions(
    lines: Mapping[str, tuple[Line, ...]], blocks: Mapping[str, Thing], interfaces: Mapping[str, Thing]
) -> dict[Bdf, Function]:
    drives = _things(lines, "nvme")
    drivers: dict[str, str] = {}
    for line in lines["drivers"]:
        address, _, driver = line.text.partition(" ")
        if drivers.setdefault(address, driver) != driver:
            raise ParseError(f"{address} has two drivers", file="drivers", line=line.number)
    slots = {line.text.rpartition(" ")[2]: line.text.split(" ")[0] for line in lines.get("slots", ())}
    configs = dict(_configs(lines["config"]))
    permanent = _permanent(lines)
    found: dict[Bdf, Function] = {}
    things = _things(lines, "pci")
    for name, thing in things.items():
        bdf = Bdf.parse(name)
        if bdf in found or len({line.text.split(" ")[1] for line in thing.lines}) != len(thing.lines):
            raise ParseError(f"{name} is listed twice", file="pci", line=thing.lines[0].number)
        chain = PCI_PATH.findall(thing.place)
        if not chain or chain[-1] != str(bdf):
            raise ParseError(f"{name} is at {thing.place!r}", file="pci", line=thing.lines[0].number)
        values = thing.attributes
        # what its virtual functions carry goes with it
        places = [thing.place, *(one.place for one in things.values() if one.attributes.get("physfn") == thing.place)]
        ours = {key for key, drive in drives.items() if below(drive.place, thing.place)}
        subsystems = {other for key in ours for other in drives[key].related("subsystem")}
        cards = {key for key, card in interfaces.items() if below(card.place, thing.place)}
        netdevs = {key for key, card in interfaces.items() if any(below(card.place, place) for place in places)}
        config = configs.get(str(bdf))
        serials = {drives[key].attributes.get("serial", "").strip() for key in ours} | {_dsn(config)}
        subsystem = f"{_hex(values, 'subsystem_vendor', 4)}:{_hex(values, 'subsystem_device', 4)}"
        methods: tuple[str, ...] | None = tuple(values.get("reset_method", "").split())
        if "reset_method" not in values and values.get("reset"):
            methods = None
        override = values.get("driver_override")
        vfs = values.get("sriov_numvfs", "0")
        found[bdf] = Function(
            bdf=bdf,
            place=thing.place,
            id=f"{_hex(values, 'vendor', 4)}:{_hex(values, 'device', 4)}",
            subsystem=subsystem,
            class_code=int(text, 16) if (text := _hex(values, "class", 6)) else None,
            driver=drivers.get(str(bdf)),
            override=None if override in (None, "(null)", "") else override,
            reset_methods=methods,
            boot_vga=values.get("boot_vga") == "1",
            numvfs=int(vfs) if vfs.isascii() and vfs.isdecimal() and len(vfs) < 6 else 1,
            is_vf=values.get("is_vf") == "1",
            iommu_group=values.get("iommu_group", "").rpartition("/")[2],
            config=config,
            slot=_slot(slots, chain),
            macs=frozenset(permanent[key] for key in cards if key in permanent),
            netdevs=frozenset(netdevs),
            blocks=frozenset(
                key
                for key, block in blocks.items()
                if any(below(block.place, place) for place in places)
                or any(f"/{name}/" in f"{block.place}/" for name in subsystems)
            ),
            serials=frozenset(serials - {""}),
            lines=thing.lines,
        )
    return found


def below(place: str, above: str) -> bool:
    """Whether one directory of sysfs is in another."""
    return bool(place) and bool(above) and f"{place}/".startswith(f"{above}/")


def _slot(slots: Mapping[str, str], chain: list[str]) -> str | None:
    return slots.get(chain[-1][:-2]) or slots.get(chain[-1])


def _hex(values: Mapping[str, str], name: str, digits: int) -> str:
    match = re.fullmatch(rf"0x([0-9a-f]{{{digits}}})", values.get(name, ""))
    return match[1] if match else ""


def _permanent(lines: Mapping[str, tuple[Line, ...]]) -> dict[str, str]:
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


def _configs(lines: tuple[Line, ...]) -> Iterator[tuple[str, ConfigSpace]]:
    """`function BDF`, then what `od -Ax -tx1` prints: `*` stands for rows equal to the one before."""
    name, data, repeat = "", bytearray(), False

    def whole() -> Iterator[tuple[str, ConfigSpace]]:
        if name and 64 <= len(data) <= 4096:
            yield name, ConfigSpace(bytes(data), f"config of {name}")

    seen: set[str] = set()
    for line in lines:
        words = line.text.split()
        if words[0] == "function" and len(words) == 2:
            yield from whole()
            name, data, repeat = words[1], bytearray(), False
            if name in seen:
                raise ParseError(f"{name} is listed twice", file="config", line=line.number)
            seen.add(name)
        elif words == ["*"]:
            repeat = True
        else:
            try:
                offset, row = int(words[0], 16), bytes(int(word, 16) for word in words[1:])
            except ValueError as error:
                raise ParseError(line.text[:80], file="config", line=line.number, expected="od -Ax -tx1") from error
            if offset > 4096 or (offset != len(data) and not (repeat and len(data) >= 16 and offset > len(data))):
                raise ParseError(line.text[:80], file="config", line=line.number, expected=f"offset {len(data):#x}")
            while len(data) < offset:
                data += data[-16:]
            data, repeat = data + row, False
    yield from whole()


def _dsn(config: ConfigSpace | None) -> str:
    """Device Serial Number as `lspci -vv` prints it; empty when there is none."""
    if config is None or config.gone or len(config.data) < 0x104:
        return ""
    data, offset, seen = config.data, 0x100, set[int]()
    while 0x100 <= offset <= len(data) - 12 and offset not in seen:
        seen.add(offset)
        header = int.from_bytes(data[offset : offset + 4], "little")
        if header & 0xFFFF == _DSN:
            return "-".join(f"{byte:02x}" for byte in reversed(data[offset + 4 : offset + 12]))
        offset = header >> 20 & ~0b11
    return ""
