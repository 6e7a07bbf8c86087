"""The MSI-X table of a device, read from outside where the host lets us."""

from __future__ import annotations

from harness.model.config import ConfigSpace
from harness.transport.debugger import PhysicalMemory

ENTRY_WORDS = 4
"""An entry: address low, high, data, vector control, whose bit 0 is its mask (PCI 3.0, 6.8.2.2)."""


def read_table(memory: PhysicalMemory | None, space: ConfigSpace) -> tuple[int, ...] | None:
    """Its words, `ENTRY_WORDS` to an entry; None where it cannot be read.

    The table is in the device's memory, so it takes memory decoding, and a host whose memory is read from outside.
    """
    capability, address = None if space.gone else space.msix, table_address(space)
    if memory is None or capability is None or address is None:
        return None
    return memory.read_words(address, capability.control.table_size * ENTRY_WORDS)


def table_address(space: ConfigSpace) -> int | None:
    """Where it is in the host's memory; None where the device shows it nowhere."""
    capability = None if space.gone else space.msix
    if capability is None or not space.command.memory:
        return None
    base = space.bar_address(capability.table_bar)
    return None if base is None else base + capability.table_offset


def mask_bits(words: tuple[int, ...]) -> tuple[bool, ...]:
    """Of every entry, whether it is masked."""
    return tuple(bool(word & 1) for word in words[ENTRY_WORDS - 1 :: ENTRY_WORDS])
