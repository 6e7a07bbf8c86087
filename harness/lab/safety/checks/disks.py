"""The picture of a host's block devices: what is built on what, under which names, who uses it. Pure."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from harness.lab.safety.facts.facts import PCI_PATH, FactLine, HostFacts, Thing

_GUESTS = r"/backend/(?:vbd|vbd3|qdisk|tap|virtio_disk)/.*"
# In memory, in a file (whose file system is mounted), in a pool of ZFS, far away, or without anything below.
_NEAR = re.compile(r"(?:loop|ram|zram|nullb|zd|nbd|rbd|rnbd|sr|fd)\d")
# Block devices that stand on no device for all that sysfs tells, and are made of memory or of others of here.
_MADE = re.compile(
    r"(?:loop|ram|zram|nullb|zd|md|md_d|dm-|bcache|mtdblock|ubiblock|pmem|sr|fd|cas|tapdev|zloop|pktcdvd)\d|td[a-z]"
)
FAR = re.compile(r"(?:nbd|rbd|drbd|rnbd)\d|etherd!")
"""Of a server."""
FLASH = re.compile(r"(?:fio|hio|vgc|df|memdisk)[a-z]|sfdv\d")
"""Of flash cards whose driver does not tell of which card a disk is: Fusion-io, Huawei, Virident, Shannon, Memblaze,
ScaleFlux."""
_STORAGE_NODE = re.compile(r"/(?:nvme-generic|scsi_generic|bsg|scsi_tape|st|osst)/")
_NO_DISK = re.compile(r"/(?:nvme-generic|scsi_tape|st|osst)/")  # what stores without a block device; sg may be a shelf


@dataclass(frozen=True)
class Disks:
    """The block devices of one host."""

    facts: HostFacts

    @cached_property
    def numbers(self) -> dict[str, str]:
        """`8:1` -> name of the block device."""
        return {block.attributes["dev"]: name for name, block in self.facts.blocks.items() if "dev" in block.attributes}

    @cached_property
    def mapped(self) -> dict[str, str]:
        """Name that dm gives -> kernel's name."""
        return {block.attributes["dm"]: name for name, block in self.facts.blocks.items() if "dm" in block.attributes}

    @cached_property
    def links(self) -> dict[str, str]:
        """Other path below /dev -> kernel's name."""
        found = {}
        for line in self.facts.lines("devlinks"):
            link = re.fullmatch(r"(/dev/\S+) -> (\S+)", line.text)
            node = re.fullmatch(r"(/dev/\S+) node ([0-9a-f]+:[0-9a-f]+)", line.text)
            if link:
                target = posixpath.normpath(posixpath.join(posixpath.dirname(link[1]), link[2]))
                found[link[1]] = target.removeprefix("/dev/").replace("/", "!")
            elif node:
                found[node[1]] = self.numbers.get(decimal(node[2]), "")
        return found

    def name(self, path: str) -> str | None:
        """The kernel's name of a device node, by whatever path; None when no block device is known by it.

        /dev/mapper/X and /dev/VG/LV are told by the name dm gives them.
        """
        word = path.removeprefix("/dev/mapper/").removeprefix("/dev/").rstrip("/")
        escaped = "-".join(part.replace("-", "--") for part in word.split("/"))
        for one in (
            word,
            word.replace("/", "!"),
            self.mapped.get(word),
            self.mapped.get(escaped),
            self.links.get(path),
        ):
            if one in self.facts.blocks:
                return one
        return None

    def whole(self, path: str) -> str | None:
        """The known disk of which this is a partition that nobody listed."""
        for match in (re.fullmatch(r"/dev/([a-z]+)\d+", path), re.fullmatch(r"/dev/([a-z0-9]+\d)p\d+", path)):
            if match and match[1] in self.facts.blocks:
                return match[1]
        return None

    @cached_property
    def above(self) -> dict[str, set[str]]:
        """Block device -> those built directly on it."""
        found: dict[str, set[str]] = {}
        for name, block in self.facts.blocks.items():
            for holder in block.related("holder"):
                found.setdefault(name, set()).add(holder)
            for slave in block.related("slave"):
                found.setdefault(slave, set()).add(name)
            lower = self.name(block.attributes.get("backing", ""))
            if lower is not None:
                found.setdefault(lower, set()).add(name)
            if block.attributes.get("partition"):
                whole = block.place.split("/")[-2:-1]
                if whole:
                    found.setdefault(whole[0], set()).add(name)
        return found

    def stack(self, names: frozenset[str]) -> set[str]:
        """These, their partitions and whatever is built on them, to the top. Loops end."""
        found, new = set(names), list(names)
        while new:
            for name in self.above.get(new.pop(), set()) - found:
                found.add(name)
                new.append(name)
        return found

    # -- who uses what

    @cached_property
    def uses(self) -> list[tuple[FactLine, str | None]]:
        """Each use, and the block device used; None when it is one that nobody knows."""
        ways = (
            self._mounts,
            self._swaps,
            self._pools,
            self._words,
            self._guests,
            self._scsi,
            self._open,
            self._hiding,
            self._exported,
        )
        return [use for way in ways for use in way()]

    def _mounts(self) -> Iterator[tuple[FactLine, str | None]]:
        """By number, by source (`/dev/a:/dev/b` of bcachefs), by options (`logdev=`, `rtdev=`, `journal_dev=`...)."""
        for line in self.facts.lines("mounts"):
            words = line.text.split(" ")
            if "-" not in words[:-2]:
                continue
            at = words.index("-")
            kind, source, number = words[at + 1], _unescaped(words[at + 2]), words[2]
            options = f"{words[5] if at > 5 else ''},{' '.join(words[at + 3 :])}"
            named = list(self._devices(source)) if kind not in ("devtmpfs",) else []
            if number in self.numbers:
                yield line, self.numbers[number]
            elif not number.startswith("0:") and not any(named):
                yield line, self.whole(source)
            certain = number in self.numbers and len(named) == 1  # then its own name may be one that nobody lists
            yield from ((line, name) for name in named if name is not None or not certain)
            for option in options.split(","):
                key, _, value = option.partition("=")
                if value.startswith("/dev/"):
                    yield from ((line, name) for name in self._devices(_unescaped(value)))
                elif key in ("journal_dev", "jdev"):
                    yield line, self.numbers.get(_device_number(value))

    def _devices(self, text: str) -> Iterator[str | None]:
        """The block devices of a text: one path, or several with colons between. None for an unknown one."""
        if not text.startswith("/dev/") or text in ("/dev/root", "/dev/fuse") or text.startswith("/dev/shm"):  # noqa: S108
            return
        one = self.name(text)
        if one is not None:
            yield one
            return
        for part in re.split(r":(?=/dev/)", text):
            yield self.name(part) or self.whole(part)

    def _swaps(self) -> Iterator[tuple[FactLine, str | None]]:
        for line in self.facts.lines("swaps"):
            path = _unescaped(line.text.split()[0])
            if path.startswith("/dev/"):
                yield line, self.name(path) or self.whole(path)

    def _exported(self) -> Iterator[tuple[FactLine, str | None]]:
        for line in self.facts.lines("exported"):
            controller = re.fullmatch(r"/dev/(nvme\d+)", line.text.strip())  # nvmet passes it through as a whole
            if controller:
                yield from ((line, name) for name in self._drives(controller[1]))
            elif not self._passed(line):  # that is told of the function below which it is
                yield from ((line, name) for name in self._devices(line.text.strip()))

    def _passed(self, line: FactLine) -> list[str]:
        """Where a SCSI device is that the kernel's target passes through: by the place of its node, or by its own."""
        text = line.text.strip()
        if text.startswith("/sys/devices/"):
            return [text]
        nodes = (one.text.partition(" realpath ")[2] for one in self.facts.lines("chars"))
        return [place for place in nodes if place.endswith(f"/{text.removeprefix('/dev/')}")]

    def _drives(self, controller: str) -> Iterator[str]:
        """Block devices of a controller of NVMe; with multipath they hang below its subsystem."""
        lines = (line.text for line in self.facts.lines("nvme"))
        homes = {controller, *(text.split(" ")[2] for text in lines if text.startswith(f"{controller} subsystem "))}
        for name, block in self.facts.blocks.items():
            if homes & set(block.place.split("/")):
                yield name

    def _pools(self) -> Iterator[tuple[FactLine, str | None]]:
        for line in self.facts.lines("btrfs"):
            if not line.text.startswith("missing "):
                yield line, self.name(line.text.strip())
        for line in self.facts.lines("zpool"):
            for word in line.text.partition(" was ")[0].split():  # behind it stands what a lost drive was called
                if word.startswith("/dev/"):
                    yield line, self.name(word) or self.whole(word)

    def _words(self) -> Iterator[tuple[FactLine, str | None]]:
        """What the command line names: `root=`, `resume=UUID=`, `cryptdevice=A:B`, `rd.luks.uuid=luks-UUID`.

        A name that is not here is no use.
        """
        for line in self.facts.lines("cmdline"):
            for word in re.split(r"[\s=,]+", line.text):
                for part in (word, *word.split(":")):
                    tags = [f"/dev/disk/by-{tag}/{part.removeprefix('luks-')}" for tag in ("uuid", "partuuid")]
                    for path in [part] if part.startswith("/dev/") else tags:
                        if (name := self.name(path)) is not None:
                            yield line, name
            for match in re.finditer(r"\b(?:root|resume|blkdev)=(\d+:\d+)(?:\s|$)", line.text):
                if match[1] in self.numbers:
                    yield line, self.numbers[match[1]]
            for match in re.finditer(r"\b(LABEL|PARTLABEL)=([^\s,:]+)", line.text):
                if (name := self.links.get(f"/dev/disk/by-{match[1].lower()}/{match[2]}")) in self.facts.blocks:
                    yield line, name

    def _guests(self) -> Iterator[tuple[FactLine, str | None]]:
        for line in self.facts.lines("backends"):
            number = re.search(rf'{_GUESTS}/physical-device = "(.*)"', line.text)
            if number and decimal(number[1]) not in ("", "0:0"):
                yield line, self.numbers.get(decimal(number[1]))
            path = re.search(rf'{_GUESTS}/(?:params|physical-device-path) = "[^"/]*(/dev/.*)"', line.text)
            if path and not path[1].startswith("/dev/shm/"):  # noqa: S108
                yield line, self.name(path[1]) or self.whole(path[1]) or self._by_number_beside(line)
            told = re.search(rf'{_GUESTS}/params = ".*\bjson:(.*)"', line.text)  # QEMU's other way to name an image
            for word in re.findall(r'"(/dev/[^"\\]+)', told[1]) if told else ():
                yield line, self.name(word) or self.whole(word)

    def _scsi(self) -> Iterator[tuple[FactLine, str | None]]:
        """PVSCSI: the backend names a device by its SCSI address, or by what only the kernel's target knows."""
        for line in self.facts.lines("backends"):
            told = re.search(r'/backend/vscsi/.*/p-dev = "(.+)"', line.text)
            if told:
                found = [name for name, block in self.facts.blocks.items() if f"/{told[1]}/" in f"{block.place}/"]
                yield from ((line, name) for name in found)
                if not found:
                    yield line, None

    @property
    def meant(self) -> Iterator[tuple[FactLine, str | None]]:
        """Disks in the configurations of guests, which need not run."""
        for line in self.facts.lines("meant"):
            path = line.text.removeprefix("disk=").rpartition(" ")[0]
            if path.startswith("/dev/"):
                yield from ((line, name) for name in self._devices(path))

    def _by_number_beside(self, line: FactLine) -> str | None:
        """By the number of the same backend, where its path is a node of its own (`/dev/sm/backend/...`)."""
        folder = line.text.partition(" = ")[0].rpartition("/")[0]
        for other in self.facts.lines("backends"):
            match = re.fullmatch(rf'{re.escape(folder)}/physical-device = "(.*)"', other.text)
            if match:
                return self.numbers.get(decimal(match[1]))
        return None

    def _open(self) -> Iterator[tuple[FactLine, str | None]]:
        """Programs that have a disk open, and disks that somebody has for himself."""
        nodes = {line.text.split(" ")[0]: line.text for line in self.facts.lines("chars")}
        for line in self.facts.lines("users"):
            kind, text, *_ = (*line.text.split(" "), "")
            number = decimal(text)
            if kind == "block":
                yield line, self.numbers.get(number)
            elif _STORAGE_NODE.search(nodes.get(number, "")):
                place = nodes[number].split(" ", 2)[-1]
                yield from ((line, name) for name, block in self.facts.blocks.items() if _same_drive(block, place))
        for line in self.facts.lines("exclusive"):
            name, _, state = line.text.partition(" ")
            if state == "busy":
                yield line, name

    def driven(self, bdf: str) -> Iterator[FactLine]:
        """Who stores on what hangs below a function, and is no block device: a tape, its robot, a bare namespace."""
        nodes = {line.text.split(" ")[0]: line.text for line in self.facts.lines("chars")}
        for line in self.facts.lines("users"):
            kind, number, *_ = (*line.text.split(" "), "")
            node = nodes.get(decimal(number), "") if kind == "character" else ""
            if bdf in PCI_PATH.findall(node) and (_NO_DISK.search(node) or self._generic_of_a_tape(node)):
                yield line
        for line in self.facts.lines("exported"):
            if any(bdf in PCI_PATH.findall(place) for place in self._passed(line)):
                yield line

    def _generic_of_a_tape(self, node: str) -> bool:
        """LTFS and the like drive a tape by its generic node."""
        target, generic, _ = node.rpartition(" ")[2].partition("/scsi_generic/")
        return bool(generic) and any(f"{target}/scsi_tape/" in line.text for line in self.facts.lines("chars"))

    def over_fibre_channel(self) -> set[str]:
        """What stands on drives of NVMe over Fibre Channel: no path tells by which adapter they are reached."""
        lines = [line.text for line in self.facts.lines("nvme")]
        controllers = {text.split(" ")[0] for text in lines if text.endswith(" transport fc")}
        subsystems = (re.fullmatch(r"(\S+) subsystem (\S+)", text) for text in lines)
        homes = controllers | {match[2] for match in subsystems if match and match[1] in controllers}
        own = (name for name, block in self.facts.blocks.items() if homes & set(block.place.split("/")))
        return self.stack(frozenset(own))

    def _hiding(self) -> Iterator[tuple[FactLine, str | None]]:
        """Block devices that must stand on others and do not tell on which.

        Whoever stands on a disk has it for himself, so that nothing is open where that could be tried.
        """
        if self.facts.version > 1 and not self.facts.missing("exclusive"):
            return
        controllers = {other for line in self.facts.lines("nvme") for other in line.text.split(" subsystem ")[1:]}
        for name, block in self.facts.blocks.items():
            if block.attributes.get("size") == "0" or block.attributes.get("partition") or _NEAR.match(name):
                continue
            if block.place and not block.place.startswith("/sys/devices/virtual/"):
                continue
            known = bool(block.related("slave")) or any(
                name in one.related("holder") for one in self.facts.blocks.values()
            )
            known = known or any(f"/{one}/" in f"{block.place}/" for one in controllers)
            if not known:
                yield block.lines[0], None


def homeless(block: Thing) -> bool:
    """Made by a module or a program nobody knows: the disk may be of a server, or of a card that does not say so.

    NVMe with multipath is told by its controllers.
    """
    made = bool(_MADE.match(block.name)) or bool(block.related("slave"))
    virtual = block.place.startswith("/sys/devices/virtual/") and "/nvme-subsystem/" not in block.place
    return virtual and not made


def decimal(text: str) -> str:
    """`103:5` in hexadecimal as blkback and stat(1) write it, in decimal as sysfs does; empty when it is none."""
    major, _, minor = text.partition(":")
    try:
        return f"{int(major, 16)}:{int(minor, 16)}"
    except ValueError:
        return ""


def _device_number(text: str) -> str:
    """`259:1`, or as one number (new_encode_dev, linux/kdev_t.h)."""
    if re.fullmatch(r"\d+:\d+", text):
        return text
    try:
        value = int(text, 0)
    except ValueError:
        return ""
    return f"{value >> 8 & 0xFFF}:{value & 0xFF | value >> 12 & 0xFFF00}"


def _same_drive(block: Thing, place: str) -> bool:
    """Whether a generic node and a disk are of one target: same controller of nvme, same SCSI device."""
    drive = re.match(r"(.*?/(?:nvme/nvme\d+|\d+:\d+:\d+:\d+))/", f"{place}/")
    return bool(drive) and f"{block.place}/".startswith(f"{drive[1] if drive else ''}/")


def _unescaped(text: str) -> str:
    r"""mountinfo writes blanks and the like as `\040` (mangle_path, fs/seq_file.c)."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
