"""PCI Express's extended capabilities (PCIe base spec 7.6.3), which no program but lspci lists. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from harness.model.config import ConfigSpace

_FIRST = 0x100  # where they begin


def capabilities(config: ConfigSpace, wanted: int) -> Iterator[bytes]:
    """Each of this kind, from its header to the end of the config space; a list that runs in a circle ends."""
    offset, seen = _FIRST, set[int]()
    while offset >= _FIRST and offset not in seen:
        seen.add(offset)
        header = int.from_bytes(config.data[offset : offset + 4], "little")
        if header & 0xFFFF == wanted:
            yield config.data[offset:]
        offset = header >> 20 & ~0b11
