"""Is anything of this machine stored on it? Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from harness.lab.safety.checks.finding import Context, Finding, Level
from harness.lab.safety.facts.facts import Function, HostFacts, Line, Thing

_NEEDED = ("block", "nvme", "btrfs", "signatures", "mounts", "swaps", "zpool", "backends", "cmdline")
_STORAGE = 0x01
_PASSING = {None, "pciback", "xen-pciback", "vfio-pci", "pci-stub"}


def check(function: Function, facts: HostFacts, context: Context) -> Finding:
    """LETHAL: in use, directly or through dm, md, LVM, crypt, or that cannot be known; DENY: it holds something."""
    stack = _stack(function, facts)
    uses = tuple(_uses(stack, facts))
    if uses:
        return Finding("storage", Level.LETHAL, "the running system or a domain stores on it", uses)
    gone = facts.missing("block", "nvme")
    controller = (function.class_code is None or function.class_code >> 16 == _STORAGE) or bool(function.blocks)
    if gone:
        level = Level.LETHAL if controller else Level.DENY
        return Finding("storage", level, "unknown: the host's block devices cannot be read", (gone,))
    if not function.blocks:
        if (function.class_code or 0) >> 16 == _STORAGE and function.driver not in _PASSING:
            return Finding("storage", Level.DENY, "unknown: a storage controller whose disks are not seen")
        return Finding("storage", Level.OK, "no block device below it")
    gone = facts.missing(*_NEEDED)
    if gone:
        return Finding("storage", Level.LETHAL, "unknown: what its disks are used for cannot be read", (gone,))
    lost = tuple(line for line, path in _backed(facts) if _name(path, facts) not in facts.blocks)
    if lost:
        return Finding("storage", Level.DENY, "unknown: on which disk a domain stores", lost)
    held = tuple(_held(function, stack, facts))
    if held:
        return Finding("storage", Level.DENY, "its disk holds data, or that is unknown", held)
    return Finding("storage", Level.OK, "its disks are blank and unused")


def _stack(function: Function, facts: HostFacts) -> set[str]:
    """Its block devices, their partitions and whatever is built on them, to the top. Loops end."""
    above: dict[str, set[str]] = {}
    for name, block in facts.blocks.items():
        for holder in block.related("holder"):
            above.setdefault(name, set()).add(holder)
        for slave in block.related("slave"):
            above.setdefault(slave, set()).add(name)
        backing = block.attributes.get("backing", "")
        if backing.startswith("/dev/"):
            above.setdefault(_name(backing, facts), set()).add(name)
        if block.attributes.get("partition"):
            whole = block.place.split("/")[-2:-1]
            if whole:
                above.setdefault(whole[0], set()).add(name)
    found, new = set(function.blocks), list(function.blocks)
    while new:
        for name in above.get(new.pop(), set()) - found:
            found.add(name)
            new.append(name)
    return found


def _name(path: str, facts: HostFacts) -> str:
    """The kernel's name of a device node; /dev/mapper/X and /dev/VG/LV are told by the name dm gives them."""
    word = path.removeprefix("/dev/mapper/").removeprefix("/dev/")
    mapped = {block.attributes["dm"]: name for name, block in facts.blocks.items() if "dm" in block.attributes}
    escaped = "-".join(part.replace("-", "--") for part in word.split("/"))
    return mapped.get(word) or mapped.get(escaped) or word


def _uses(stack: set[str], facts: HostFacts) -> Iterator[Line]:
    numbers = {facts.blocks[name].attributes.get("dev", "") for name in stack if name in facts.blocks} - {""}
    for line in facts.lines("mounts"):
        words = line.text.split(" ")
        source = words[words.index("-") + 2] if "-" in words[:-2] else ""
        if len(words) > 2 and (words[2] in numbers or (source.startswith("/dev/") and _name(source, facts) in stack)):
            yield line
    for line in facts.lines("swaps"):
        if line.text.startswith("/dev/") and _name(line.text.split()[0], facts) in stack:
            yield line
    for section in ("btrfs", "zpool", "cmdline"):
        for line in facts.lines(section):
            words = re.split(r"[\s=]+", line.text)
            if {_name(word, facts) for word in words if word.startswith("/dev/") or section == "btrfs"} & stack:
                yield line
    for line in facts.lines("backends"):
        match = re.search(r'/backend/(?:vbd|vbd3|qdisk|tap)/.*/physical-device = "(.*)"', line.text)
        if match is not None and _number(match[1]) in numbers:
            yield line
    yield from (line for line, path in _backed(facts) if _name(path, facts) in stack)


def _backed(facts: HostFacts) -> Iterator[tuple[Line, str]]:
    """Device nodes that domains store on, as their configuration names them: perhaps a link, /dev/disk/by-id/..."""
    for line in facts.lines("backends"):
        match = re.search(r'/backend/(?:vbd|vbd3|qdisk|tap)/.*/params = "[^"]*?(/dev/.*)"', line.text)
        if match is not None:
            yield line, match[1]


def _number(text: str) -> str:
    """`103:5` in hexadecimal as blkback writes it, in decimal as sysfs does."""
    major, _, minor = text.partition(":")
    try:
        return f"{int(major, 16)}:{int(minor, 16)}"
    except ValueError:
        return ""


def _held(function: Function, stack: set[str], facts: HostFacts) -> Iterator[Line]:
    """Signs of data; a disk that nobody could look at counts."""
    looked = {line.text.split(" ")[0]: line for line in facts.lines("signatures")}
    for name in sorted(stack - function.blocks):
        yield facts.blocks[name].lines[0] if name in facts.blocks else Line("block", 0, name)
    for name in sorted(function.blocks):
        block, line = facts.blocks[name], looked.get(name)
        if block.attributes.get("partition"):
            yield block.lines[0]
        elif block.attributes.get("size") == "0" or _one_path(block, function, facts):
            continue
        elif line is None:
            yield Line("signatures", 0, f"{name} was not looked at")
        elif not _blank(line.text):
            yield line


def _one_path(block: Thing, function: Function, facts: HostFacts) -> bool:
    """A path of an NVMe multipath drive has no node to look at; the drive itself stands beside it."""
    whole = [name for name in function.blocks if "/nvme-subsystem/" in facts.blocks[name].place]
    return block.attributes.get("hidden") == "1" and bool(whole)


def _blank(text: str) -> bool:
    """blkid(8) ends with 2 when it finds nothing; without blkid the first bytes are shown, and must be zero."""
    words = text.split()
    if len(words) < 2:
        return False
    status, found = words[1], words[2:]
    if status == "127":
        return all(word in ("00", "*") for word in found)
    return status == "2" and not found
