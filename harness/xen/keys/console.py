"""Lines of the Xen console (`xl dmesg` or the serial log), and the few that matter: markers. Pure."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from harness.model.address import FUNCTION, Bdf
from harness.model.message import Marker, MarkerKind, Origin


@dataclass(frozen=True)
class ConsoleLine:
    """A message without prefix and timestamp; `number` counts from 1 in the given text."""

    number: int
    text: str
    origin: Origin
    is_rest: bool = False  # also put together again with the message it was torn from


# printk_start_of_line() with console_timestamps=none, date, datems, boot or raw; a serial logger may add its own time
_XEN = re.compile(
    r"(?:\[[0-9 .:-]{5,30}\] )?\(XEN\)(?: |$)"
    r"(?:\[(?:[0-9]{4}-[0-9. :-]{10,24}| *[0-9]+\.[0-9]+|[0-9a-f]{16})\] )?"
)
_GUEST = re.compile(r"(?:\[[0-9 .:-]{5,30}\] )?\(d[0-9]{1,5}\) ")


# the level of a message (XENLOG_ERR); Xen takes it away where a message begins a line, and only there
_LEVEL = re.compile(r"(?<=.)<[0-7]>(?=\S)")


@functools.lru_cache(maxsize=32)  # markers, messages and counters of one checkpoint are sought in the same texts
def console_lines(text: str) -> tuple[ConsoleLine, ...]:
    """Accepted format: any text; each line is sorted by its prefix (Xen `printk_start_of_line`, `hvm_print_line`).

    A message printed in the middle of another one is taken apart, and the other put together again under its own
    number. Xen's serial driver does that [seen, 4.20], in two ways; what it tore apart goes on in the next line:

        (XEN)    IRQ:  41 ... aff:{0-1}/{0} (XEN) uart interrupt taking more than 4ms, switched to polling
        mapped, unbound
        (XEN) 0000:00:13.0 - d0 - node -1  - MSIs < <1>uart interrupt taking more than 4ms, switched to polling
        (XEN) 27 >
    """
    lines: list[ConsoleLine] = []
    # where the Xen message stands whose rest is still to come, and what that looks like: like dom0's, without a prefix
    broken: tuple[int, Origin] | None = None
    for number, raw in enumerate(text.split("\n"), 1):
        for origin, piece, torn in _pieces(raw.rstrip("\r")):
            is_rest = False
            if broken is not None and origin is broken[1] and piece:
                begun = lines[broken[0]]
                lines[broken[0]] = replace(begun, text=begun.text + piece)
                broken, is_rest = None, True
            lines.append(ConsoleLine(number, piece, origin, is_rest))
            if torn is not None:
                broken = len(lines) - 1, torn
    return tuple(lines)


def _pieces(raw: str) -> Iterator[tuple[Origin, str, Origin | None]]:
    """The messages in one line, and for one that was torn apart what its rest will look like."""
    guest = _GUEST.match(raw)
    if guest:
        yield Origin.GUEST, raw[guest.end() :], None
        return
    starts = list(_XEN.finditer(raw))
    before = raw[: starts[0].start()] if starts else raw
    if before or not starts:
        yield Origin.DOM0, before, None
    for place, start in enumerate(starts):
        last = place + 1 == len(starts)
        text = raw[start.end() : len(raw) if last else starts[place + 1].start()]
        level = _LEVEL.search(text)
        if level and last:
            yield Origin.XEN, text[level.end() :], None
            yield Origin.XEN, text[: level.start()], Origin.XEN  # last, for the next piece is its rest
        else:
            yield Origin.XEN, text, None if last else Origin.DOM0


_DOMAIN = re.compile(r"(?:d|Dom|dom ?)(?:(-?[0-9]{1,5})|\[([A-Z]+)\]|(IO)(?::[0-9a-fA-F]+)?)")
_SPECIAL = {"32753": "DomIO", "IO": "DomIO", "32754": "DomXEN", "XEN": "DomXEN"}  # DOMID_IO, DOMID_XEN: public/xen.h


def domain_name(text: str) -> str | None:
    """One spelling for a domain: `d3`, `DomIO`, `DomXEN`; None when `text` is not a domain.

    Accepted format: `d3`, `Dom3`, `dom3`, `dom 3`, `Dom32753`, `d[IO]`, `DomIO`, `DomIO:8008` (Xen `print_domain` and
    `_dump_pci_devices`: the quarantine owner and the device's pseudo domid).
    """
    match = _DOMAIN.fullmatch(text)
    if match is None:
        return None
    name = next(group for group in match.groups() if group is not None)
    return _SPECIAL.get(name, f"d{name}" if match.group(1) else f"d[{name}]")


_WHO = r"d[0-9]{1,5}|d\[[A-Z]+\]|Dom(?:IO|[0-9]{1,5})"

MASKING = re.compile(rf"cannot (?:mask|disable) IRQ ([0-9]{{1,9}}): masking MSI-X on (?:({_WHO})'s )?({FUNCTION})")


def _maskall_set(line: ConsoleLine) -> Marker | None:
    """The two places where Xen sets host_maskall (msi_set_mask_bit, __pci_disable_msix):

    `cannot mask IRQ 45: masking MSI-X on Dom32753's 0000:04:00.0` and `cannot disable IRQ 45: masking MSI-X on
    0000:04:00.0`, which names no domain.
    """
    match = MASKING.search(line.text)
    if match is None:
        return None
    irq, domain, device = match.groups()
    owner = domain_name(domain) if domain else None
    return Marker(MarkerKind.MASKALL_SET, line.number, line.text, Bdf.parse(device), owner, int(irq))


ASSIGN = re.compile(
    rf"\b(?P<who>{_WHO}): assign (?:phantom function )?(?:\((?P<device>{FUNCTION})\)|(?P<bare>{FUNCTION})) failed"
    rf" \((?P<error>-[0-9]{{1,5}})\)"
    rf"|\bassign (?P<given>{FUNCTION}) to (?P<to>[Dd]om[0-9]{{1,5}}|d[0-9]{{1,5}}) failed \((?P<why>-[0-9]{{1,5}})\)"
)


def _assign_failed(line: ConsoleLine) -> Marker | None:
    """`d6: assign (0000:01:00.0) failed (-16)`, or `d[IO]: ...` while going to quarantine (Xen assign_device).

    Up to 4.13 without the brackets, and again as `assign 0000:01:00.0 to dom6 failed (-16)` (iommu_do_pci_domctl).
    """
    match = ASSIGN.search(line.text)
    if match is None:
        return None
    device = Bdf.parse(match["device"] or match["bare"] or match["given"])
    who = domain_name(match["who"] or match["to"])
    error = int(match["error"] or match["why"])
    return Marker(MarkerKind.ASSIGN_FAILED, line.number, line.text, device, who, error=error)


INITIAL = re.compile(rf"({FUNCTION}): unexpected initial MSI-X state \(MASKALL=[01], ENABLE=[01]\), fixing")


def _initial_state_fixed(line: ConsoleLine) -> Marker | None:
    """`0000:04:00.0: unexpected initial MSI-X state (MASKALL=1, ENABLE=0), fixing` (Xen pdev_msi_init, 913751d7af)."""
    match = INITIAL.search(line.text)
    kind = MarkerKind.INITIAL_STATE_FIXED
    return Marker(kind, line.number, line.text, Bdf.parse(match.group(1))) if match else None


_TRIPLE_FAULT = re.compile(r"(d[0-9]{1,5})(v[0-9]{1,5}) Triple fault\b")


def _triple_fault(line: ConsoleLine) -> Marker | None:
    """`d8v0 Triple fault - invoking HVM shutdown action 1` (Xen hvm_triple_fault)."""
    match = _TRIPLE_FAULT.search(line.text)
    kind = MarkerKind.TRIPLE_FAULT
    return Marker(kind, line.number, line.text, domain=match.group(1)) if match else None


_XEN_DEATH = re.compile(r"Panic on CPU [0-9]+|Xen BUG at |FATAL TRAP: |FATAL PAGE FAULT|Assertion '.*' failed at ")


def _xen_panic(line: ConsoleLine) -> Marker | None:
    """`Panic on CPU 1:`, `Xen BUG at msi.c:123`, `FATAL TRAP: vec 14, #PF[0000]` (Xen panic, fatal_trap)."""
    return Marker(MarkerKind.XEN_PANIC, line.number, line.text) if _XEN_DEATH.match(line.text) else None


LINUX_STAMP = r"(?:<[0-9]>)?(?:\[ *[0-9]+\.[0-9]+\] ?)?(?:\[ *[CT][0-9]+\] ?)?"
"""What printk may put before a message: level, seconds since boot, caller (Linux print_prefix)."""

_LINUX = re.compile(
    rf"{LINUX_STAMP}"
    r"(?:(Kernel panic - not syncing)|(?:watchdog: )?BUG: |Oops\b|kernel BUG at |general protection fault\b)"
)


def _linux_death(line: ConsoleLine) -> Marker | None:
    """`[   12.3] Kernel panic - not syncing: ...`, `BUG: ...`, `Oops: 0002 [#1]` in dom0 (Linux panic, die)."""
    match = _LINUX.match(line.text)
    if match is None:
        return None
    kind = MarkerKind.LINUX_PANIC if match.group(1) else MarkerKind.LINUX_OOPS
    return Marker(kind, line.number, line.text)


_READERS: dict[Origin, tuple[Callable[[ConsoleLine], Marker | None], ...]] = {
    Origin.XEN: (_maskall_set, _assign_failed, _initial_state_fixed, _triple_fault, _xen_panic),
    Origin.DOM0: (_linux_death,),
    Origin.GUEST: (),
}


@functools.lru_cache(maxsize=32)
def find_markers(text: str) -> tuple[Marker, ...]:
    """Accepted format: `console_lines`. All markers in the order of the text; none is an empty tuple.

    Xen's markers count only behind Xen's prefix and Linux's only without any: a guest cannot forge them on its
    console. dom0's `dmesg` may be given as well.
    """
    lines = console_lines(text)
    return tuple(marker for line in lines for read in _READERS[line.origin] if (marker := read(line)) is not None)


@dataclass(frozen=True)
class EmulatorTripleFault:
    """Proof that the emulator, not Xen or the guest, broke: guest state with an instruction pointer inside Xen."""

    domain: str
    rip: int
    line: int  # of the triple fault


XEN_VIRTUAL = range(0xFFFF82D000000000, 0xFFFF82D100000000)  # Xen asm/config.h: text and data, 4.14 to 4.20
_DUMP_LINES = 16  # from the triple fault to the CONTEXT line of its dump; other messages may come between
_RIP = re.compile(r"RIP: +[0-9a-f]{4}:\[<([0-9a-f]{16})>\]")
_CONTEXT = re.compile(r"RFLAGS: [0-9a-f]{16} .*CONTEXT: ([a-z ]+?)(?: \((d[0-9]{1,5})v[0-9]{1,5}\))?")


def emulator_triple_fault(text: str, xen_text: range = XEN_VIRTUAL) -> EmulatorTripleFault | None:
    """The first triple fault whose dump shows an HVM guest executing at an address of the hypervisor.

    Accepted format: `console_lines`, with the dump of Xen hvm_triple_fault and _show_registers: a line
    `RIP:    e008:[<ffff82d04020abcd>]` and one `RFLAGS: 0000000000010002   CONTEXT: hvm guest (d8v0)`. None: no such
    fault in the text; a guest's own has a guest's address. `SymbolTable.text_range` is a narrower `xen_text`.
    """
    lines = [line for line in console_lines(text) if line.origin is Origin.XEN]
    for place, line in enumerate(lines):
        if fault := _TRIPLE_FAULT.search(line.text):
            for rip in _guests_rip(lines[place : place + _DUMP_LINES], fault[1]):
                if rip in xen_text:
                    return EmulatorTripleFault(fault[1], rip, line.number)
    return None


def _guests_rip(dump: Sequence[ConsoleLine], domain: str) -> list[int]:
    """Where the guest executed; nowhere if the first dump in these lines is not whole or not of its state."""
    rip: list[int] = []
    for line in dump:
        if match := _RIP.match(line.text):
            rip = [int(match.group(1), 16)]
        elif match := _CONTEXT.fullmatch(line.text.rstrip()):
            return rip if match.groups() == ("hvm guest", domain) else []
    return []
