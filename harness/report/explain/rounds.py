"""The dumps of debug keys M, Q and i that were made at one moment, and what they say together of a device. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from harness.model.address import Bdf
from harness.report.explain.lines import PastedPlace
from harness.xen.keys.debugkeys import IrqRow, MaskRow, PciRow

_GUEST = re.compile(r"d[1-9][0-9]*")
_QUARANTINE = "DomIO"


@dataclass
class Vectors:
    """The vectors of one device: in words, and the signatures they show with their lines."""

    told: str = ""
    bound: frozenset[int] = frozenset()  # to the owner
    unbound: frozenset[int] = frozenset()
    found: dict[str, list[PastedPlace]] = field(default_factory=dict)


@dataclass
class PastedRound:
    """Rows by device and by irq, whole dumps or pieces of them."""

    masks: dict[int, tuple[MaskRow, PastedPlace]] = field(default_factory=dict)
    devices: dict[Bdf, tuple[PciRow, PastedPlace]] = field(default_factory=dict)
    irqs: dict[int, tuple[IrqRow, PastedPlace]] = field(default_factory=dict)
    keys: set[str] = field(default_factory=set)  # whose header was seen
    broken: set[str] = field(default_factory=set)  # that have rows which cannot be read

    def __bool__(self) -> bool:
        return bool(self.masks or self.devices or self.irqs)

    def within(self, whole: PastedRound) -> bool:
        """Whether it says what `whole` says: of each key nothing, or the same rows."""
        dumps = (("M", self.masks, whole.masks), ("Q", self.devices, whole.devices), ("i", self.irqs, whole.irqs))
        return not self.broken and all(
            [row for row, _ in part.values()] == [row for row, _ in all_.values()]
            for key, part, all_ in dumps
            if part or key in self.keys
        )

    def contradicts(self) -> bool:
        """Key Q lists an irq for a guest's device that a whole dump of key i does not have as an MSI."""
        if not {"Q", "i"} <= self.keys or self.broken:
            return False
        listed = {irq for row, _ in self.devices.values() for irq in row.irqs}
        known = {irq for irq, (row, _) in self.irqs.items() if row.is_msi}
        return not listed <= known

    def vectors(self, address: Bdf) -> Vectors:
        """What a device's vectors show. Only rows that are there count: a row that is missing shows nothing."""
        row, _ = self.devices[address]
        told: list[str] = []
        foreign: list[PastedPlace] = []
        unbound: list[PastedPlace] = []
        bound: list[PastedPlace] = []
        masked: list[PastedPlace] = []
        stale: list[PastedPlace] = []
        unexplained: list[PastedPlace] = []
        for irq in row.irqs:
            mask, mask_place = self.masks.get(irq, (None, None))
            use, use_place = self.irqs.get(irq, (None, None))
            state = "" if mask is None else f" {_state(mask)}"
            if use is None or use_place is None or not use.is_msi:
                told.append(f"{irq}{state}")
                if use is None and mask is not None and mask_place is not None and _against_will(mask):
                    unexplained.append(mask_place)
                continue
            told.append(f"{irq} {'bound to ' + ','.join(use.domains) if use.domains else 'unbound'}{state}")
            if use.unbound:
                unbound.append(use_place)
                if mask is not None and mask_place is not None and mask.host and not mask.guest:
                    stale += [use_place, mask_place]
            elif row.owner in use.domains:
                bound.append(use_place)
                if mask is not None and mask_place is not None and _against_will(mask):
                    masked += [use_place, mask_place]
            if any(_GUEST.fullmatch(name) and name != row.owner for name in use.domains) and row.owner != "NULL":
                foreign.append(use_place)
        found: dict[str, list[PastedPlace]] = {}
        if foreign or (row.irqs and row.owner == _QUARANTINE):  # nobody who has it could have mapped one
            found["leftover-pirqs"] = foreign + (unbound if row.owner == _QUARANTINE else [])
        if masked:
            found["masked-by-xen"] = masked
        if _GUEST.fullmatch(row.owner) and unexplained:
            found["masked-by-whom"] = unexplained
        if _GUEST.fullmatch(row.owner) and unbound:
            if bound and stale:
                found.setdefault("leftover-pirqs", []).extend(stale)
            elif bound:
                found["stale-or-spare"] = unbound
            elif len(unbound) == len(row.irqs):
                found["unbound-under-owner"] = unbound
        rows = {irq: self.irqs[irq][0] for irq in row.irqs if irq in self.irqs}
        own = frozenset(irq for irq, use in rows.items() if row.owner in use.domains)
        free = frozenset(irq for irq, use in rows.items() if use.unbound)
        return Vectors("; ".join(told) or "none", own, free, found)

    def unlisted(self) -> Iterator[tuple[int, str, list[PastedPlace]]]:
        """What vectors show that no row of key Q lists, so that their device is not known: irq, signature, lines."""
        if "Q" in self.broken:
            return  # one of the rows that cannot be read may list them
        listed = {irq for row, _ in self.devices.values() for irq in row.irqs}
        for irq in sorted((self.masks.keys() | self.irqs.keys()) - listed):
            mask, mask_place = self.masks.get(irq, (None, None))
            use, use_place = self.irqs.get(irq, (None, None))
            against = mask is not None and mask.kind in ("MSI", "MSI-X") and _against_will(mask)
            places = [place for place in (use_place, mask_place) if place is not None]
            if use is None and against:
                yield irq, "masked-by-whom", places
            elif use is not None and use.is_msi and use.domains and against:
                yield irq, "masked-by-xen", places
            elif use is not None and use.unbound and not (mask is not None and mask.guest):
                yield irq, "stale-or-spare", places


def merged(pieces: Sequence[PastedRound]) -> PastedRound:
    """The dumps of one moment that came in another order than M, Q, i."""
    whole = PastedRound()
    for piece in pieces:
        whole.masks |= piece.masks
        whole.devices |= piece.devices
        whole.irqs |= piece.irqs
        whole.keys |= piece.keys
        whole.broken |= piece.broken
    return whole


def _against_will(mask: MaskRow) -> bool:
    """Masked by Xen or by the hardware, though the owner does not mask it itself."""
    return mask.maskbit and not mask.guest and (mask.host or mask.hardware is True)


def _state(mask: MaskRow) -> str:
    hardware = "?" if mask.hardware is None else int(mask.hardware)
    return f"host={mask.host:d} guest={mask.guest:d} hardware={hardware}"
