"""Is anything of this machine, or of its guests, stored on it? Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from harness.lab.safety.checks.disks import FAR, Disks, homeless
from harness.lab.safety.checks.far import DIRECT
from harness.lab.safety.checks.finding import Finding, Lending, Level
from harness.lab.safety.checks.owner import drivers_of, owners_of, passing
from harness.lab.safety.facts.facts import FactLine, Function, HostFacts, Thing

_NEEDED = ("devlinks", "btrfs", "mounts", "swaps", "zpool", "backends", "cmdline", "users")
_STORAGE = "01"
_FIBRE_CHANNEL, _SD = "0c04", "0805"
# Adapters of file systems of the machine below (virtio 1.2, 5.11 and 5.19): which mount goes over which is not told.
_VIRTIOFS, _NINE = re.compile(r" - virtiofs "), re.compile(r" - 9p .*\btrans=virtio\b")
_SHARES = {"1af4:105a": _VIRTIOFS, "1af4:1009": _NINE, "1af4:1049": _NINE}
_NO_MEDIUM = "unknown No medium found"  # ENOMEDIUM; a CD drive keeps the size of the disc that was in it
_SAMPLES = 5  # of a disk, each a row and `*` when it is zero: see facts.sh


def check(function: Function, facts: HostFacts, context: Lending) -> Iterator[Finding]:
    """LETHAL: in use, directly or through dm, md, LVM, crypt..., or it holds data and who uses what cannot be known.

    DENY: it holds something; or nobody could look.
    """
    disks = Disks(facts)
    stack = disks.stack(function.blocks)
    uses = tuple(dict.fromkeys(line for line, name in disks.uses if name in stack))
    if uses:
        yield Finding("storage", Level.LETHAL, "the running system or a domain stores on it", uses)
    meant = tuple(dict.fromkeys(line for line, name in disks.meant if name in stack))
    if meant:
        yield Finding("storage", Level.DENY, "a guest is to have its disk, whether it runs or not", meant)
    driven = [line for one in facts.family(function) for line in disks.driven(str(one.bdf))]
    if function.base == _STORAGE:
        driven += [line for one in facts.family(function) for line in drivers_of(one, facts)]
    if driven:
        yield Finding("storage", Level.LETHAL, "a program stores on it, or whom the kernel serves it to", tuple(driven))
    share = _SHARES.get(function.id)
    shared = tuple(line for line in facts.lines("mounts") if share and share.search(line.text))
    if shared:
        yield Finding("storage", Level.LETHAL, "the running system stores over it, or could", shared)
    if function.kind == _FIBRE_CHANNEL:
        far = disks.over_fibre_channel()
        over = tuple(dict.fromkeys(line for line, name in disks.uses if name in far))
        if over:
            yield Finding(
                "storage", Level.LETHAL, "a drive in use is on Fibre Channel, and could be reached over it", over
            )
    others = (one for one in facts.family(function) if one.bdf not in context.ours)
    owners = tuple(line for one in others for line in owners_of(one, facts))
    if owners and _stores(function):
        yield Finding("storage", Level.LETHAL, "a domain has this controller of disks, and stores on it", owners)
    gone = facts.missing("block", "nvme")
    if gone:
        level = Level.LETHAL if _stores(function) else Level.DENY
        yield Finding("storage", level, "unknown: the host's block devices cannot be read", (gone,))
    if not function.blocks:
        works = function.driver is not None and not passing(function.driver)
        homes = {name for name, block in facts.blocks.items() if homeless(block) and not FAR.match(name)}
        lost = tuple(dict.fromkeys(line for line, name in disks.uses if name in disks.stack(frozenset(homes))))
        if lost and function.base == _STORAGE and works and not context.holds(function):
            text = "unknown: of which controller a disk in use is, and it could be this one"
            yield Finding("storage", Level.LETHAL, text, lost)
        if _stores(function) and not context.holds(function):
            text = "unknown: what is on a storage controller whose disks are not seen"
            yield Finding("storage", Level.DENY, text, function.where)
        return
    gone = facts.missing(*_NEEDED)
    if gone:
        yield Finding("storage", Level.LETHAL, "unknown: what its disks are used for cannot be read", (gone,))
    held = tuple(_held(function, stack, facts))
    lost = tuple(dict.fromkeys(line for line, name in disks.uses if name is None))
    if lost:
        text = "unknown: on which disk this machine or a domain stores"
        yield Finding(
            "storage", Level.LETHAL if held else Level.DENY, f"{text}, and this one holds data" if held else text, lost
        )
    if held:
        yield Finding("storage", Level.DENY, "its disk holds data, or that is unknown", held)
        if past := tuple(line for line in facts.lines("layouts") if DIRECT.match(line.text)):
            text = "a mount stores past its server on disks that nothing tells (pNFS), and this one holds data"
            yield Finding("storage", Level.LETHAL, text, past)
    unknown = tuple(_unknown_holders(function, facts))
    if unknown:
        yield Finding("storage", Level.DENY, "unknown: whether somebody has its disk for himself", unknown)


def _stores(function: Function) -> bool:
    """A controller of disks by its class, or by what is seen below it, or its class cannot be read."""
    return bool(function.blocks) or function.base in ("", _STORAGE) or function.kind in (_FIBRE_CHANNEL, _SD)


def _held(function: Function, stack: set[str], facts: HostFacts) -> Iterator[FactLine]:
    """Signs of data; a disk that nobody could look at counts."""
    looked: dict[str, list[FactLine]] = {}
    for line in facts.lines("signatures"):
        looked.setdefault(line.text.split(" ")[0], []).append(line)
    for name in sorted(stack - function.blocks):
        yield facts.blocks[name].lines[0] if name in facts.blocks else FactLine("block", 0, name)
    for name in sorted(function.blocks):
        block, lines = facts.blocks[name], looked.get(name, [])
        if block.attributes.get("partition"):
            yield block.lines[0]
        elif not _empty(block, function, facts):
            yield from (line for line in lines if not blank(line.text, facts.version))
            if not lines:
                yield facts.missing("signatures") or FactLine("signatures", 0, f"{name} was not looked at")


def _unknown_holders(function: Function, facts: HostFacts) -> Iterator[FactLine]:
    """Disks of which nobody could say whether they can be had exclusively."""
    if "exclusive" not in facts.sections and facts.version < 2:
        return
    told = {line.text.split(" ")[0]: line for line in facts.lines("exclusive")}
    for name in sorted(function.blocks):
        block, line = facts.blocks[name], told.get(name)
        if _empty(block, function, facts):
            continue
        if line is None:
            yield facts.missing("exclusive") or FactLine("exclusive", 0, f"{name} was not tried")
        elif line.text.partition(" ")[2] not in ("free", "busy"):
            yield line


def _empty(block: Thing, function: Function, facts: HostFacts) -> bool:
    """No medium, as its size tells or an attempt to open it; or a path of an NVMe multipath drive.

    A drive that keeps its medium has no size where its format is not understood: with protection information
    (nvme_update_disk_info), in sectors of 520 bytes (sd_read_capacity). A path has no node: the drive stands beside it.
    """
    tried = any(line.text == f"{block.name} {_NO_MEDIUM}" for line in facts.lines("exclusive"))
    fixed = block.name.startswith("nvme") or block.attributes.get("removable") == "0"
    if (block.attributes.get("size") == "0" and not fixed) or tried:
        return True
    whole = [name for name in function.blocks if "/nvme-subsystem/" in facts.blocks[name].place]
    return block.attributes.get("hidden") == "1" and bool(whole)


def blank(text: str, version: int = 2) -> bool:
    """Whether a line `NAME STATUS FOUND...` of `signatures` tells of a disk that is blank.

    blkid(8) ends with 2 when it finds nothing, and then samples of the disk are shown, which must all be zero. Without
    blkid (127) only they are there. Version 1 of the program showed none after 2, and but the first 128 KiB after 127.
    """
    words = text.split()
    if len(words) < 2 or words[1] not in ("2", "127"):
        return False
    found = words[2:]
    if any(not re.fullmatch(r"00|\*", word) for word in found):
        return False
    if version < 2:
        return words[1] == "2" or "*" in found
    return found.count("*") == _SAMPLES
