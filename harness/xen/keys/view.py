"""Joins what three debug keys say about one device. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from harness.model.address import Bdf
from harness.model.observation import RawRef, VectorMask, XenView
from harness.xen.keys.debugkeys import IrqRow, MaskRow, PciRow


def xen_view(
    device: Bdf, masks: Iterable[MaskRow], devices: Iterable[PciRow], irqs: Iterable[IrqRow], raw: RawRef
) -> XenView:
    """Key M names no device, so its rows are joined with key Q on the irq.

    Unbound irqs of other devices are left out: a driver of dom0 allocates vectors it has not requested yet.
    """
    rows = tuple(devices)
    row = next((row for row in rows if row.device == device), None)
    foreign = {irq for other in rows if other.device != device for irq in other.irqs}
    own = row.irqs if row else ()
    irq_rows = tuple(irqs)
    return XenView(
        owner=row.owner if row else None,
        irqs=own,
        masks=tuple(
            VectorMask(mask.irq, mask.host, mask.guest, mask.hardware, mask.line) for mask in masks if mask.irq in own
        ),
        unbound=tuple(irq.irq for irq in irq_rows if irq.unbound and irq.irq not in foreign),
        bound={irq.irq: irq.domains for irq in irq_rows if irq.irq in own},
        raw_keys=raw,
        owner_line=row.line if row else 0,
    )
