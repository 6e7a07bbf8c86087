"""Where stock and control part: the first checkpoint at which something of the device differs. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.model.observation import Checkpoint, Observation
from harness.report.results import Side
from harness.scenario.record import Record

NOT_READ = "not read"


@dataclass(frozen=True)
class ShownFact:
    """One thing that was seen, on one side and on the other."""

    lane: str  # hardware, Xen, guest, toolstack
    name: str
    stock: str
    control: str


@dataclass(frozen=True)
class Divergence:
    """What differs at the first checkpoint where anything does."""

    checkpoint: Checkpoint
    facts: tuple[ShownFact, ...]


def seen_of(record: Record) -> dict[Checkpoint, Observation]:
    """The last look at the device at each checkpoint, in order."""
    return {one.checkpoint: one for one in sorted(record.observations, key=lambda one: one.checkpoint)}


def first_divergence(stock: Side, control: Side) -> Divergence | None:
    """None when all that both sides saw is the same."""
    one, other = seen_of(stock.record), seen_of(control.record)
    for checkpoint in sorted({*one, *other}):
        if checkpoint not in one or checkpoint not in other:
            words = ("reached" if checkpoint in side else "not reached" for side in (one, other))
            return Divergence(checkpoint, (ShownFact("scenario", "checkpoint", *words),))
        before, after = _facts(one[checkpoint], stock.record), _facts(other[checkpoint], control.record)
        rows = tuple(
            ShownFact(*key, before[key][0], after[key][0]) for key in before if before[key][1] != after[key][1]
        )
        if rows:
            return Divergence(checkpoint, rows)
    return None


def domain(number: int | None, guests: Mapping[str, int]) -> str:
    """`guest A (d3)`: a domid by the part its domain plays; the last one that had it."""
    if number is None:
        return "nobody"
    part = next((name for name, domid in reversed([*guests.items()]) if domid == number), None)
    return f"guest {part} (d{number})" if part else f"d{number}"


def owner(text: str | None, guests: Mapping[str, int]) -> str:
    """Xen's word for the device's owner, with the part that this domain plays."""
    if text is None:
        return "not listed"
    return domain(int(text[1:]), guests) if text[:1] == "d" and text[1:].isdecimal() else text


def _part(shown: str) -> str:
    """Without the number, which two runs need not share."""
    return shown.partition(" (")[0]


def _facts(seen: Observation, record: Record) -> dict[tuple[str, str], tuple[str, object]]:
    """By lane and name: the words, and what of them is compared. Numbers that a boot deals out are not."""
    hardware, table, xen, guest, domains = seen.hardware, seen.table, seen.xen, seen.guest, seen.domains
    found: dict[tuple[str, str], str] = {}
    compared: dict[tuple[str, str], object] = {}

    def add(lane: str, name: str, shown: str, value: object = None) -> None:
        found[lane, name] = shown
        compared[lane, name] = shown if value is None else value

    gone = hardware is not None and hardware.gone
    for name, register in (
        ("COMMAND", hardware.command if hardware else None),
        ("MSI-X control", hardware.control if hardware else None),
    ):
        add("hardware", name, "gone" if gone else f"{register} {register.value:#06x}" if register else NOT_READ)
    add("hardware", "driver in dom0", (hardware.driver or "none") if hardware else NOT_READ)
    add("hardware", "vector table", masked(table.masked) if table else NOT_READ)
    shown = owner(xen.owner, record.guests) if xen else NOT_READ
    add("Xen", "owner", shown, _part(shown))
    rows = " ".join(mask(row.host, row.guest, row.hardware) for row in xen.masks) if xen else NOT_READ
    add("Xen", "masks of its irqs", rows or "none mapped")
    add("Xen", "irqs bound to nobody", str(len(xen.unbound)) if xen else NOT_READ)
    add(
        "guest", "MSI-X control", f"{guest.control} {guest.control.value:#06x}" if guest and guest.control else NOT_READ
    )
    add(
        "guest",
        "interrupts",
        f"{guest.delta:+d} on {guest.vectors} vectors" if guest else NOT_READ,
        (guest.delta > 0, guest.vectors) if guest else NOT_READ,
    )
    add("guest", "traffic", ("passed" if guest.traffic_ok else "failed") if guest else NOT_READ)
    told = domains is not None and not domains.owner_unread
    shown = domain(domains.device_owner, record.guests) if domains and told else NOT_READ
    add("toolstack", "device belongs to", shown, _part(shown))
    return {key: (found[key], compared[key]) for key in found}


def mask(host: bool, guest: bool, hardware: bool | None) -> str:
    """`HG1`, `--0`: as key M prints it."""
    return f"{'H' if host else '-'}{'G' if guest else '-'}{'?' if hardware is None else int(hardware)}"


def masked(entries: tuple[bool, ...]) -> str:
    """`1 of 4 masked: 0`, of all entries those that are."""
    numbers = [str(number) for number, one in enumerate(entries) if one]
    if not numbers:
        return f"none of {len(entries)} masked"
    more = ["..."] if len(numbers) > 12 else []
    return f"{len(numbers)} of {len(entries)} masked: {' '.join([*numbers[:12], *more])}"
