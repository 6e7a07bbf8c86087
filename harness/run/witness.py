"""Each look reads a device twice, as config space and by lspci: the two have to tell the same.

lspci runs right behind the other, and a device is looked at when it has settled.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.base.errors import ParseError
from harness.evidence.observe import config_space
from harness.evidence.sealed import Sealed
from harness.model.observation import Reading
from harness.xen.keys.lspci import parse_lspci

_LSPCI = "lspci.txt"


def disagreeing(readings: Sequence[Reading], files: Sealed) -> Iterator[str]:
    """A line for each register that lspci shows otherwise. EvidenceError for a file that is not there."""
    for one in readings:
        if not one.shows_device or f"{one.folder}/{_LSPCI}" not in files.digests:
            continue
        below = files.below(one.folder)
        try:
            space = config_space(below)
            shown = parse_lspci(below.read(_LSPCI)[1].decode("utf-8", "replace"), file=_LSPCI)
            if space.gone or shown.gone:
                continue
            capability = space.msix
            pairs = [
                ("memory decoding", _sign(shown.command.memory), _sign(space.command.memory)),
                ("MSI-X", shown.msix, capability.control if capability else None),
            ]
        except ParseError:  # of config space, it is told where it is judged; of a device that left, lspci says little
            continue
        for what, theirs, ours in pairs:
            if str(theirs) != str(ours):  # what is shown: lspci knows nothing of reserved bits
                yield f"{one.folder}: {what} is {ours} in config space, and {theirs} in {_LSPCI}"


def _sign(on: bool) -> str:
    return "+" if on else "-"
