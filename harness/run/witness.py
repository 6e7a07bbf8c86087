"""Each look reads a device twice, as dom0's sysfs has it and by lspci: the two have to tell the same.

lspci runs right behind the other, and a device is looked at when it has settled.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from harness.base.errors import ParseError
from harness.evidence.observe import config_space, driver_of
from harness.evidence.sealed import Sealed
from harness.model.observation import Reading
from harness.report.bundle.fidelity import device_ids
from harness.xen.keys.lspci import parse_lspci

_LSPCI = "lspci.txt"
_FIRST = re.compile(r"^\S+ [0-9a-f]{4}: ([0-9a-f]{4}:[0-9a-f]{4})(?: \(rev ([0-9a-f]{2})\))?", re.MULTILINE)


def disagreeing(readings: Sequence[Reading], files: Sealed) -> Iterator[str]:
    """A line for each register that lspci shows otherwise. EvidenceError for a file that is not there."""
    for one in readings:
        if not one.shows_device or f"{one.folder}/{_LSPCI}" not in files.digests:
            continue
        below = files.below(one.folder)
        try:
            space = config_space(below)
            text = below.read(_LSPCI)[1].decode("utf-8", "replace")
            shown = parse_lspci(text, file=_LSPCI)
            if space.gone or shown.gone:
                continue
            capability = space.msix
            pairs = [
                ("memory decoding", _sign(shown.command.memory), _sign(space.command.memory)),
                ("MSI-X", shown.msix, capability.control if capability else None),
                ("its driver", shown.driver, driver_of(below)),
                *_ids(text, device_ids(space.data.hex(" "))),
            ]
        except ParseError:  # of config space, it is told where it is judged; of a device that left, lspci says little
            continue
        for what, theirs, ours in pairs:
            if str(theirs) != str(ours):  # what is shown: lspci knows nothing of reserved bits
                yield f"{one.folder}: {what} is {ours} in sysfs, and {theirs} in {_LSPCI}"


def _ids(text: str, ours: str) -> Iterator[tuple[str, str, str]]:
    """Vendor, device and revision. A virtual function has none of its own in config space (PCIe 6.0, 9.3.4.1)."""
    found = _FIRST.search(text)
    if found is not None and ours:
        yield "the device", f"{found[1]} rev {found[2] or '00'}", ours.partition(",")[0]


def _sign(on: bool) -> str:
    return "+" if on else "-"
