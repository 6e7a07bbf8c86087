"""Which functions the words of a command line name. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from harness.model.address import Bdf

_ADDRESS = re.compile(r"(?:^|[,=(]|pci)((?:[0-9a-fA-F]+:)?[0-9a-fA-F]+:[0-9a-fA-F]+)\.([0-7*])(?![0-9a-fA-F.])")


def addresses(text: str, *options: str) -> Iterator[Bdf]:
    """Functions in the values of these options (each a regular expression).

    Xen and Linux take addresses without a segment and without leading zeros; pciback takes `*` for all functions.
    """
    for value in re.findall(rf"(?<![\w.-])(?:{'|'.join(options)})=(\S+)", text):
        for told in _ADDRESS.finditer(value):
            *segment, bus, device = (int(word, 16) for word in told[1].split(":"))
            for number in range(8) if told[2] == "*" else [int(told[2])]:
                yield Bdf(segment[0] if segment else 0, bus, device, number)
