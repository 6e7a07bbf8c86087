"""What `xl debug-keys M`, `Q`, `i` and `x` print into the Xen console. Pure.

All take the text of `xl dmesg`, or its tail, with any prefix, timestamp and interleaved message that
`harness.xen.keys.console.console_lines` understands, use the *last* dump in it, and raise ParseError when there is none
(the ring may have wrapped) or when one of its rows cannot be read. A row that was torn, its rest without prefix on a
line behind it, is put together; a piece of a row that fits nowhere is a ParseError too, for the row it belongs to would
otherwise be read as absent. `line` counts from 1 in the given text.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.base.errors import ParseError
from harness.model.address import FUNCTION, Bdf
from harness.model.message import Origin
from harness.xen.keys.console import ConsoleLine, console_lines, domain_name

HEADER = re.compile(r"(?:MSI information:|==== PCI devices ====|(?:Guest interrupt|IRQ) information:|'.' pressed -> )")
"""What begins the dump of a debug key."""

_TORN_WITHIN = 4  # lines, with a torn row the first of them, in which its rest may stand


def last_dump(text: str, header: str, key: str, file: str) -> Iterator[ConsoleLine]:
    """Xen's own lines behind the last line that begins with `header`. ParseError when there is none."""
    return (line for line in _last_dump(text, header, key, file) if line.origin is Origin.XEN)


def _last_dump(text: str, header: str, key: str, file: str) -> Sequence[ConsoleLine]:
    """All lines behind that header, up to the header of another dump."""
    lines = console_lines(text)
    starts = [
        place for place, line in enumerate(lines) if line.origin is Origin.XEN and line.text.strip().startswith(header)
    ]
    if not starts:
        raise ParseError(f"no dump of debug key {key}", file=file, expected=f"a line '(XEN) {header}'")
    rest = lines[starts[-1] + 1 :]
    ends = (place for place, line in enumerate(rest) if line.origin is Origin.XEN and HEADER.match(line.text.strip()))
    return rest[: next(ends, len(rest))]


@dataclass(frozen=True)
class Form:
    """How the rows of a dump look: the whole of a row, and what only a row or a piece of one has in it."""

    row: re.Pattern[str]
    piece: re.Pattern[str]
    expected: str

    def rows(self, lines: Sequence[ConsoleLine], file: str) -> Iterator[tuple[re.Match[str], ConsoleLine]]:
        """Each row with its first line. ParseError for a piece that belongs to no row."""
        used: set[ConsoleLine] = set()
        for place, line in enumerate(lines):
            if line.origin is not Origin.XEN or line.is_rest or not self.piece.search(line.text):
                continue
            match = self.row.fullmatch(line.text.rstrip())
            behind = lines[place : place + _TORN_WITHIN]
            rest = next((other for other in behind if other.origin is Origin.DOM0 and other.text.strip()), None)
            if rest is not None and (whole := self.row.fullmatch(line.text + rest.text.rstrip())):
                used.add(rest)
                match = whole
            if match is None:
                raise ParseError(f"{line.text!r}", file=file, line=line.number, expected=self.expected)
            yield match, line
        for line in lines:
            lost = line.origin is Origin.DOM0 and not line.is_rest and line not in used
            if lost and self.piece.search(line.text):
                raise ParseError(
                    f"a piece of a row: {line.text!r}", file=file, line=line.number, expected=self.expected
                )


@dataclass(frozen=True)
class MaskRow:
    """One vector of key M: `host` and `guest` are what Xen wants, `hardware` what the vector control reads."""

    kind: str  # "MSI-X", "MSI", "HPET", "IOMMU", or "???" where Xen itself does not know
    irq: int
    vector: int
    destination: int  # APIC ID
    maskbit: bool  # the entry can be masked at all
    host: bool
    guest: bool
    hardware: bool | None  # None: "?", Xen cannot read it (memory decoding is off, or it is not a PCI vector)
    line: int


MASKS = Form(
    row=re.compile(
        r" (MSI-X|MSI|HPET|IOMMU|\?\?\?) *([0-9]{1,9}) vec=([0-9a-f]{2}) *(?:lowest|fixed) *(?:level|edge)"
        r" *(?:de)?assert *(?:log|phys) *(?:lowest|cpu) dest=([0-9a-f]{8}) mask=([01])/([H ])([G ])/([01?])"
    ),
    piece=re.compile(
        r"\bvec=[0-9a-f](?!.*dest_id=[0-9]+ (?:mask=[01] )?pirq: )"  # not those of vPCI (vpci_msix_arch_print)
        r"|\bdest=[0-9a-f]{2}|\bmask=[01](?:/|$)|^ *(?:MSI-X|MSI|HPET|IOMMU|\?\?\?) +[0-9]+ "
    ),
    expected="a row ending in mask=1/HG/1",
)


@functools.lru_cache(maxsize=64)  # of a side, which is read while it is played and once more when it is judged
def parse_masks(text: str, *, file: str = "<text>") -> tuple[MaskRow, ...]:
    """Key M: the mask state of every MSI and MSI-X vector, in irq order. Empty when Xen has none.

    Accepted format (Xen `dump_msi`, the same from 4.14 to 4.20):

        (XEN) MSI information:
        (XEN)  MSI-X   44 vec=b2  fixed  edge   assert phys    cpu dest=00000000 mask=1/HG/?
    """
    lines = _last_dump(text, "MSI information:", "M", file)
    return tuple(mask_row(match, line.number) for match, line in MASKS.rows(lines, file))


def mask_row(match: re.Match[str], line: int) -> MaskRow:
    """A row that `MASKS` took."""
    kind, irq, vector, destination, maskbit, host, guest, hardware = match.groups()
    return MaskRow(
        kind=kind,
        irq=int(irq),
        vector=int(vector, 16),
        destination=int(destination, 16),
        maskbit=maskbit == "1",
        host=host == "H",
        guest=guest == "G",
        hardware=None if hardware == "?" else hardware == "1",
        line=line,
    )


@dataclass(frozen=True)
class PciRow:
    """One device of key Q: its owner as `console.domain_name` spells it ("NULL": Xen has none) and its MSI irqs."""

    device: Bdf
    owner: str
    irqs: tuple[int, ...]
    line: int


DEVICES = Form(
    row=re.compile(
        rf"({FUNCTION}) - (\S+|dom -?[0-9]+ *) - node +-?[0-9]+(?: *- MSIs <((?: [0-9]{{1,9}})*) >)? *", re.IGNORECASE
    ),
    piece=re.compile(r"[0-9a-f]:[0-9a-f]{2}\.[0-9a-f] - |- node |\bMSIs <|^[SIs <]*(?:[0-9]+ )+>"),
    expected="BDF - owner - node N - MSIs",
)


@functools.lru_cache(maxsize=64)
def parse_pci_devices(text: str, *, file: str = "<text>") -> tuple[PciRow, ...]:
    """Key Q: every PCI device Xen knows, its owner and the irqs of its MSI and MSI-X vectors.

    Accepted format (Xen `_dump_pci_devices`, `pdev_dump_msi`); 4.14 prints the MSIs part even when empty, later
    versions only when not; the quarantine owner is `DomIO:8008`, `DomIO` or `d[IO]` by version:

        (XEN) ==== PCI devices ====
        (XEN) ==== segment 0000 ====
        (XEN) 0000:04:00.0 - d2 - node -1  - MSIs < 44 45 >
    """
    rows: list[PciRow] = []
    lines = _last_dump(text, "==== PCI devices ====", "Q", file)
    for match, line in DEVICES.rows(lines, file):
        row = pci_row(match, line.number)
        if row is None:
            raise ParseError(f"{line.text!r}", file=file, line=line.number, expected=DEVICES.expected)
        if match.group(3) is None and line.number > text.count("\n"):
            raise ParseError(f"the dump of debug key Q is cut off in {line.text!r}", file=file, line=line.number)
        rows.append(row)
    if not rows:
        raise ParseError("the dump of debug key Q has no device", file=file, expected="at least one PCI device")
    return tuple(rows)


def pci_row(match: re.Match[str], line: int) -> PciRow | None:
    """A row that `DEVICES` took; None when what stands in the owner's place is no domain."""
    owner = "NULL" if match.group(2) == "NULL" else domain_name(match.group(2).strip())
    if owner is None:
        return None
    return PciRow(Bdf.parse(match.group(1)), owner, tuple(map(int, (match.group(3) or "").split())), line)


@dataclass(frozen=True)
class IrqRow:
    """One interrupt of key i. `text` is what follows the affinity: who handles it."""

    irq: int
    vector: int
    type: str  # of the controller: "PCI-MSI/-X", "PCI-MSI", "IO-APIC-level", ...
    status: int  # IRQ_* bits of Xen's asm/irq.h
    text: str
    line: int

    @property
    def is_msi(self) -> bool:
        """A PCI MSI or MSI-X vector; those that can be masked are "PCI-MSI/-X" (Xen pci_msi_maskable)."""
        return self.type in ("PCI-MSI", "PCI-MSI/-X")

    @property
    def unbound(self) -> bool:
        """A PCI vector that is mapped but bound to nobody: waiting for its driver, or leaked by a dead domain."""
        return self.is_msi and self.text == "mapped, unbound"

    @functools.cached_property
    def domains(self) -> tuple[str, ...]:
        """The domains it is bound to, as "d3"; empty when unbound or handled by Xen itself."""
        return tuple(_BOUND.findall(self.text)) if self.text.startswith("in-flight=") else ()


_OWNER = r"d[0-9]{1,5}: *-?[0-9]{1,9}\([P?-][M?-][M-]\)"
_OLD_OWNER = r"[0-9]{1,5}: *-?[0-9]{1,9}\([P?-][M?-][M-]\),"
_BOUND = re.compile(r"(d[0-9]{1,5}): *-?[0-9]+\([^()]*\)")
IRQS = Form(
    row=re.compile(
        r" +IRQ: *([0-9]{1,9}) vec:([0-9a-f]{2,8}) (\S+) +status=([0-9a-f]{3,8}) aff:\{[0-9,-]*\}/\{[0-9,-]*\}"
        rf"(?: Z=\S+)? +(mapped, unbound|in-flight=[0-9]+ {_OWNER}(?:,{_OWNER})*|[\w./#]+\(\))"
        # before 4.13
        r"| +IRQ: *([0-9]{1,9}) affinity:[0-9a-f,]+ vec:([0-9a-f]{2,8}) type=(\S+) +status=([0-9a-f]{8})"
        rf"(?: Z=\S+)? +(mapped, unbound|in-flight=[0-9]+ domain-list=(?:{_OLD_OWNER})*|[\w./#]+\(\))"
    ),
    piece=re.compile(
        r"IRQ: *[0-9]+ |\baffinity:[0-9a-f,]+ |\bdomain-list=|\bvec:[0-9a-f]|\bstatus=[0-9a-f]{3} |\baff:\{|in-flight="
        r"|mapped, unbound|\bd[0-9]+: *-?[0-9]+\(|\([P?-][M?-][M-]\)"
    ),
    expected="IRQ, vec, status, aff, owner",
)


@functools.lru_cache(maxsize=64)
def parse_irqs(text: str, *, file: str = "<text>") -> tuple[IrqRow, ...]:
    """Key i: every interrupt Xen has set up, and who handles it.

    Accepted format (Xen `dump_irqs`); the line "Direct vector information:" must follow, else the dump is cut off:

        (XEN) IRQ information:
        (XEN)    IRQ:  44 vec:b2 PCI-MSI/-X      status=030 aff:{0}/{0} in-flight=0 d2: 55(-M-)
        (XEN)    IRQ:  45 vec:ac PCI-MSI/-X      status=022 aff:{1}/{1} mapped, unbound
        (XEN) Direct vector information:

    Before 4.13 `IRQ:  44 affinity:01 vec:b2 type=PCI-MSI/-X status=00000030 in-flight=0 domain-list=2: 55(-M-),`.
    """
    lines = _last_dump(text, "IRQ information:", "i", file)
    ends = (place for place, line in enumerate(lines) if line.text.strip() == "Direct vector information:")
    end = next(ends, None)
    rows: list[IrqRow] = []
    for match, line in IRQS.rows(lines[:end], file):
        rows.append(irq_row(match, line.number))
    if end is None:
        raise ParseError(
            "the dump of debug key i is cut off", file=file, expected="a line '(XEN) Direct vector information:'"
        )
    return tuple(rows)


def irq_row(match: re.Match[str], line: int) -> IrqRow:
    """A row that `IRQS` took."""
    irq, vector, kind, status, rest = (group for group in match.groups() if group is not None)
    rest = re.sub(r"domain-list=(.*)", lambda old: re.sub(r"([0-9]+:)", r"d\1", old[1]).rstrip(","), rest).rstrip()
    return IrqRow(int(irq), int(vector, 16), kind, int(status, 16), rest, line)


@dataclass(frozen=True)
class PatchedFunction:
    """A function, or some bytes of it, that a livepatch names. `new` of 0: NOPs, or no change at all where `new_size`
    is 0 too. Whether the livepatch is applied, its `state` says."""

    livepatch: str
    state: str
    name: str
    old: int
    old_size: int
    new: int
    new_size: int


_PATCHES = "'x' pressed - Dumping all livepatch patches"
_PATCH = re.compile(r"\s*name=(?P<name>\S+) state=(?P<state>\w+)\(\d+\) ")
_PATCHED = Form(
    re.compile(
        r"\s*(?P<name>\S+) patch (?P<old>[0-9a-f]{16})\((?P<size>\d+)\) with (?P<new>[0-9a-f]{16}) ?\((?P<length>\d+)\)"
    ),
    re.compile(r" patch [0-9a-f]{8,}"),
    "FUNCTION patch ADDRESS(SIZE) with ADDRESS (SIZE)",
)


def parse_livepatches(text: str, *, file: str = "<text>") -> tuple[PatchedFunction, ...]:
    """`xl debug-keys x` (livepatch_printall): the functions of each livepatch that is loaded."""
    lines = _last_dump(text, _PATCHES, "x", file)
    names = {line.number: match for line in lines if (match := _PATCH.match(line.text))}
    found = []
    for match, line in _PATCHED.rows(lines, file):
        above = max(names.keys() & range(line.number), default=None)
        if above is None:
            raise ParseError(f"{line.text!r}", file=file, line=line.number, expected="name=LIVEPATCH above it")
        of = names[above]
        old, new = int(match["old"], 16), int(match["new"], 16)
        found.append(
            PatchedFunction(of["name"], of["state"], match["name"], old, int(match["size"]), new, int(match["length"]))
        )
    return tuple(found)
