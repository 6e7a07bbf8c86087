"""The timeline of one device as a text table: what a scenario's log shows first. Pure.

One line per checkpoint, the views side by side, so that a disagreement between them is seen at a glance. A dash
means "not read", which is never the same as "nothing there" (an empty list reads `none`).
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.base.text import inert
from harness.model.config import CommandRegister, MsixControl
from harness.model.observation import GuestView, Observation, TableView, XenView

_UNREAD = "-"
_HEADINGS = ("cp", "seconds", "COMMAND", "control", "table", "owner", "irqs", "guest control", "interrupts", "moment")


def timeline(observations: Sequence[Observation]) -> str:
    """Aligned lines with a heading, without a final line feed; one plain line if nothing was observed."""
    if not observations:
        return "no checkpoint was reached"
    rows = [_HEADINGS, *map(_cells, observations)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _cells(seen: Observation) -> tuple[str, ...]:
    hardware, xen, guest = seen.hardware, seen.xen, seen.guest
    gone = hardware is not None and hardware.gone
    return tuple(
        inert(cell)
        for cell in (
            seen.checkpoint.value,
            f"{seen.seconds:.1f}",
            "gone" if gone else _register(hardware.command if hardware else None),
            "gone" if gone else _register(hardware.control if hardware else None),
            _table(seen.table),
            xen.owner or "none" if xen else _UNREAD,
            _irqs(xen),
            _register(guest.control if guest else None),
            _interrupts(guest),
            seen.checkpoint.moment,
        )
    )


def _register(register: CommandRegister | MsixControl | None) -> str:
    """In lspci's words and as the number it held."""
    return f"{register} {register.value:#06x}" if register else _UNREAD


def _table(table: TableView | None) -> str:
    """The entries that are masked in the device's own vector table."""
    if table is None:
        return _UNREAD
    masked = [index for index, masked in enumerate(table.masked) if masked]
    return f"masked {_numbers(masked)}" if masked else "unmasked"


def _irqs(xen: XenView | None) -> str:
    """Xen's irqs of the device, `m` after those it cannot deliver now, `u` after those bound to nobody."""
    if xen is None:
        return _UNREAD
    masked = {row.irq for row in xen.masks if row.host or row.guest or row.hardware}
    every = sorted({*xen.irqs, *xen.unbound})
    marks = (f"{irq}{'m' if irq in masked else ''}{'u' if irq in xen.unbound else ''}" for irq in every)
    return " ".join(marks) or "none"


def _interrupts(guest: GuestView | None) -> str:
    if guest is None:
        return _UNREAD
    return f"{guest.delta:+d} on {guest.vectors}" + ("" if guest.traffic_ok else ", traffic failed")


def _numbers(numbers: Sequence[int]) -> str:
    """`0-2 5` for 0, 1, 2, 5: a device may have 65 vectors."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return " ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
