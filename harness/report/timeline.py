"""The timeline of one device as a text table: what a scenario's log shows first. Pure.

One line per checkpoint, the views side by side, so that a disagreement between them is seen at a glance. A dash
means "not read", which is never the same as "nothing there" (an empty list reads `none`).
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.base.text import inert
from harness.report.seen import GuestSeen, Moment, Register

_UNREAD = "-"
_HEADINGS = ("cp", "seconds", "COMMAND", "control", "table", "owner", "irqs", "guest control", "interrupts", "moment")


def timeline(moments: Sequence[Moment]) -> str:
    """Aligned lines with a heading, without a final line feed; one plain line if nothing was observed."""
    if not moments:
        return "no checkpoint was reached"
    rows = [_HEADINGS, *(_cells(moment) for moment in moments)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _cells(moment: Moment) -> tuple[str, ...]:
    return tuple(
        inert(cell)
        for cell in (
            moment.checkpoint.value,
            f"{moment.seconds:.1f}",
            "gone" if moment.gone else _register(moment.command),
            "gone" if moment.gone else _register(moment.control),
            _table(moment.masked_vectors),
            _UNREAD if "xen_keys" not in moment.sources else moment.owner or "none",
            _irqs(moment),
            _register(moment.guest.control if moment.guest else None),
            _interrupts(moment.guest),
            moment.moment,
        )
    )


def _register(register: Register | None) -> str:
    return f"{register.text} {register.raw}" if register else _UNREAD


def _table(masked: tuple[int, ...] | None) -> str:
    if masked is None:
        return _UNREAD
    return f"masked {_numbers(masked)}" if masked else "unmasked"


def _irqs(moment: Moment) -> str:
    """Xen's irqs of the device, `m` after those it cannot deliver now, `u` after those bound to nobody."""
    if moment.irqs is None:
        return _UNREAD
    masked = {row.irq for row in moment.masks or () if row.host or row.guest or row.hardware}
    unbound = set(moment.unbound_irqs or ())
    every = sorted({*moment.irqs, *unbound})
    marks = (f"{irq}{'m' if irq in masked else ''}{'u' if irq in unbound else ''}" for irq in every)
    return " ".join(marks) or "none"


def _interrupts(guest: GuestSeen | None) -> str:
    if guest is None:
        return _UNREAD
    return f"{guest.delta:+d} on {guest.vectors}" + ("" if guest.traffic_ok else ", traffic failed")


def _numbers(numbers: tuple[int, ...]) -> str:
    """`0-2 5` for 0, 1, 2, 5: a device may have 65 vectors."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return " ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
