"""Does somebody else use it already? Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import takewhile

from harness.lab.safety.checks import named
from harness.lab.safety.checks.disks import decimal
from harness.lab.safety.checks.finding import Finding, Lending, Level
from harness.lab.safety.facts.facts import PCI_PATH, FactLine, Function, HostFacts

_OURS = re.compile(r"maskall-[a-z0-9-]+")
# Device nodes that sysfs does not know, by the driver of the function: which of its functions a node is, is unknown.
_MAJORS = {"nvidia": "195"}
_NEEDED = (
    "drivers",
    "owners",
    "backends",
    "chars",
    "users",
    "majors",
    "engines",
    "mapped",
    "modules",
    "attached",
    "meant",
)
_USB = "0c03"
_ANY = 0xFFFFFFFF  # PCI_ANY_ID
_WORD = 4  # letters of a word that is no kind of device: `fb`, `snd`, `drm`
_TERMINAL = re.compile(r"/(?:tty|wwan/\w+)/\w+$")
_HANDED_OUT = re.compile(r"/(?:uio|vfio-dev)/\w+$")
_NOTES = ("driver_path", "name")  # libxl's, of a device that is assignable: no domain has it by them (libxl_pci.c)
# What hands a function on to a guest or a program; vfio has variants for some kinds (drivers/vfio/pci).
_PASSING = re.compile(r"(?:xen-)?pciback|pci-(?:pf-)?stub|uio_pci_generic|igb_uio|(?:[\w-]+[-_])?vfio[-_]pci")


def check(function: Function, facts: HostFacts, context: Lending) -> Iterator[Finding]:
    """DENY: a domain has it or it waits for one, a program has it open, its virtual functions are there.

    LETHAL: the kernel itself works with it.
    """
    gone = facts.missing(*_NEEDED)
    if gone:
        yield Finding("owner", Level.DENY, "unknown: who owns it cannot be read", (gone,))
    yield from used(function, facts, context)
    if function.bdf in context.ours:
        return
    if passing(function.driver):
        line = FactLine("drivers", 0, f"{function.bdf} {function.driver}")
        yield Finding("owner", Level.DENY, f"somebody else bound it to {function.driver}", (line,))
        return
    if passing(function.override):
        line = FactLine("pci", 0, f"{function.bdf} driver_override {function.override}")
        yield Finding("owner", Level.DENY, f"somebody else means it for {function.override}", (line,))
    meant = tuple(line for key in ("cmdline", "meant") for line in facts.lines(key) if _meant(function, line.text))
    if meant:
        yield Finding("owner", Level.DENY, "somebody else means it for a guest or a program", meant)


def used(function: Function, facts: HostFacts, context: Lending) -> Iterator[Finding]:
    """What of that says that somebody uses it now, and would lose it by a reset."""
    if function.numvfs:
        lines = tuple(line for line in function.lines if " sriov_numvfs " in line.text)
        yield Finding("owner", Level.DENY, "its virtual functions are enabled", lines)
    virtual = tuple(line for one in facts.family(function)[1:] for line in one.where)
    if virtual and not function.numvfs:
        yield Finding("owner", Level.DENY, "virtual functions of it are there", virtual)
    owners = tuple(owners_of(function, facts))
    if function.bdf in context.ours:
        foreign = tuple(line for line in owners if _foreign(line, facts))
        if foreign:
            yield Finding("owner", Level.DENY, "a domain that is none of ours has it by now", foreign)
        return
    if owners:
        yield Finding("owner", Level.DENY, "a domain owns it", owners)
    noted = tuple(line for line in facts.lines("owners") if _note(function, line))
    if noted:
        told = "xl made it assignable and has not given it back: it may be in Xen's quarantine, without MSI and DMA"
        yield Finding("owner", Level.WARN, told, noted)
    for level, reason, signs in (
        (Level.DENY, "a program has its memory mapped", mapped_of(function, facts)),
        (Level.LETHAL, "the kernel itself copies or encrypts with it, or could", _working(function, facts)),
        (Level.DENY, "a domain has a USB device of it", _devices_given(function, facts)),
        (Level.DENY, "the kernel serves what hangs on it, by USB/IP or Bluetooth", _served(function, facts)),
        (Level.DENY, "a program has it open", _users(function, facts)),
    ):
        if found := tuple(signs):
            yield Finding("owner", level, reason, found)


def passing(driver: str | None) -> bool:
    """Whether this is a driver that does nothing with a function but hand it on."""
    return bool(_PASSING.fullmatch(driver or ""))


def owners_of(function: Function, facts: HostFacts) -> list[FactLine]:
    """What says that a domain has it.

    libxl writes /libxl/pci/0000-04-00-0/domid; the backend keeps `dev-0 = "0000:04:00.0"`.
    """
    found = [line for line in facts.lines("owners") if f"/{_key(function)}/" in line.text and not _note(function, line)]
    given = re.compile(rf'/backend/pci/\S+ = "{function.bdf}"')
    found += [line for line in facts.lines("backends") if given.search(line.text)]
    return found


def _key(function: Function) -> str:
    return str(function.bdf).replace(":", "-").replace(".", "-")


def _note(function: Function, line: FactLine) -> bool:
    return line.text.partition(" = ")[0] in {f"/libxl/pci/{_key(function)}/{name}" for name in _NOTES}


def _working(function: Function, facts: HostFacts) -> Iterator[FactLine]:
    """Channels of a DMA engine and peer-to-peer memory (pci/p2pdma.c) that are in use; algorithms of its driver,
    whichever of its functions does the work.
    """
    for line in facts.lines("engines"):
        _, told, *_ = (*line.text.split(" "), "")  # a place, or the name of a driver
        if str(function.bdf) in PCI_PATH.findall(told) or told == function.driver:
            yield line


def _served(function: Function, facts: HostFacts) -> Iterator[FactLine]:
    """USB/IP's host side and links of Bluetooth (hci0:256): no program has a node of theirs open."""
    return (line for line in facts.lines("attached") if str(function.bdf) in PCI_PATH.findall(line.text))


def _devices_given(function: Function, facts: HostFacts) -> Iterator[FactLine]:
    """PVUSB: the backend writes `port/1 = "3-1.4"`, a bus and the ports on the way; and no program has that open."""
    for line in facts.lines("backends"):
        port = re.search(r'/backend/(?:vusb|qusb)/\S+/port/\d+ = "(\d+-[\d.]+)"', line.text)
        if port and function.kind == _USB:
            homes = [one.text for one in facts.lines("chars") if one.text.endswith(f"/{port[1]}")]
            if not homes or any(str(function.bdf) in PCI_PATH.findall(home) for home in homes):
                yield line


def _foreign(line: FactLine, facts: HostFacts) -> bool:
    """Whether a backend serves a domain of another name than ours have; libxl's own notes bear none."""
    folder = line.text.partition(" = ")[0].rpartition("/")[0]
    names = (re.fullmatch(rf'{re.escape(folder)}/domain = "(.*)"', one.text) for one in facts.lines("backends"))
    return any(match is not None and not _OURS.fullmatch(match[1]) for match in names)


def mapped_of(function: Function, facts: HostFacts) -> list[FactLine]:
    """Its memory in programs: what drives it needs neither a driver nor a device node."""
    return [line for line in facts.lines("mapped") if str(function.bdf) in PCI_PATH.findall(line.text)]


def _meant(function: Function, text: str) -> bool:
    """Whether a guest's configuration names it, or a command line does for pciback (Qubes by words of its own), or its
    kind for vfio-pci or pci-stub.
    """
    if function.bdf in named.addresses(text, "hostdev", r"(?:xen[-_])?pciback\.hide", r"rd\.qubes\.hide_pci"):
        return True
    if function.kind == _USB and re.search(r"\brd\.qubes\.hide_all_usb\b", text):
        return True
    lists = re.findall(r"\b(?:vfio[-_]pci|pci[-_]stub)\.ids=(\S+)", text)
    return any(_of_kind(function, one) for ids in lists for one in ids.split(","))


def _of_kind(function: Function, kind: str) -> bool:
    """`VENDOR:DEVICE[:SUBVENDOR:SUBDEVICE[:CLASS[:MASK]]]` as vfio_pci_fill_ids and pci_match_one_device read it."""
    try:
        fields = [int(field, 16) for field in kind.split(":")]
        own = [int(field, 16) for field in f"{function.id}:{function.subsystem}".split(":")]
        code = int(function.code, 16)
    except ValueError:
        return ":".join(kind.lower().split(":")[:2]) == function.id
    *wanted, cls, mask = [*fields, *[_ANY, _ANY, _ANY, _ANY, 0, 0][len(fields) :]][:6]
    return all(one in (_ANY, mine) for one, mine in zip(wanted, own, strict=True)) and not (cls ^ code) & mask


def terminals_of(function: Function, facts: HostFacts) -> list[FactLine]:
    """Programs that have a serial port or a port of a modem at it open."""
    return _programs(function, facts, _TERMINAL)


def drivers_of(function: Function, facts: HostFacts) -> list[FactLine]:
    """Programs that drive it themselves: by a node of uio or vfio, or by its memory.

    Of a group of vfio no path tells which function is in it; where there is none (no-IOMMU), nothing does.
    """
    groups = _majors(function, facts) if function.driver == "vfio-pci" else set[str]()
    opened = [line for line, number in _open(facts) if number.partition(":")[0] in groups]
    return [*_programs(function, facts, _HANDED_OUT), *opened, *mapped_of(function, facts)]


def _programs(function: Function, facts: HostFacts, kind: re.Pattern[str]) -> list[FactLine]:
    """Programs that have a node of this kind at it open."""
    mine = {number for number, place in _nodes(function, facts) if kind.search(place)}
    return [line for line, number in _open(facts) if number in mine]


def _users(function: Function, facts: HostFacts) -> Iterator[FactLine]:
    """Programs with a character device of it open: an accelerator, a display, a keyboard, a drive's admin queue."""
    mine = {number for number, _ in _nodes(function, facts)}
    majors = _majors(function, facts)
    for line, number in _open(facts):
        if number in mine or number.partition(":")[0] in majors:
            yield line


def _nodes(function: Function, facts: HostFacts) -> Iterator[tuple[str, str]]:
    """Number and place of each character device at it."""
    for line in facts.lines("chars"):
        if str(function.bdf) in PCI_PATH.findall(line.text):
            yield line.text.split(" ")[0], line.text


def _open(facts: HostFacts) -> Iterator[tuple[FactLine, str]]:
    """Each program that has a character device open, and its number."""
    for line in facts.lines("users"):
        words = line.text.split(" ")
        if len(words) > 1 and words[0] == "character":
            yield line, decimal(words[1])


def _majors(function: Function, facts: HostFacts) -> set[str]:
    """Numbers of the nodes that its driver, or a module next to it, has made without saying of which function they are.

    DAHDI's are made by a module below the driver of a card, those of ef_vi and CUDA by one above.
    """
    placed = {line.text.partition(":")[0] for line in facts.lines("chars")}
    characters = takewhile(lambda line: not line.text.startswith("Block"), facts.lines("majors"))
    makers = {_maker(name) for name in (function.driver or "", *_modules(function, facts))} - {""}
    told = (line.text.split() for line in characters)
    own = {words[0] for words in told if _maker(words[-1]) in makers}
    return {*(own - placed), *([_MAJORS[function.driver]] if function.driver in _MAJORS else [])}


def _maker(name: str) -> str:
    """What names of a module and of its nodes begin with: gpib_common's are called gpib, cambricon_drv's cambricon_dev.

    The whole of a name whose first word is too short to tell it.
    """
    first, *_ = re.split("[-_]", name)
    return first if len(first) >= _WORD else name.replace("-", "_")


def _modules(function: Function, facts: HostFacts) -> Iterator[str]:
    """What its driver is made of, stands on, and carries."""
    pairs = (line.text.partition(" ") for line in facts.lines("modules"))
    return (module for driver, _, module in pairs if driver == function.driver)
