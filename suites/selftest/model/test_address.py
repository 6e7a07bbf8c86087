"""PCI addresses: what Linux, lspci and Xen write, domains beyond ffff among them."""

from __future__ import annotations

import re

import pytest

from harness.base.errors import ParseError
from harness.model.address import FUNCTION, Bdf


@pytest.mark.parametrize(
    ("text", "whole", "segment", "in_xen"),
    [
        ("0000:04:00.0", "0000:04:00.0", 0, True),
        ("04:00.0", "0000:04:00.0", 0, True),
        ("FFFF:FF:1F.7", "ffff:ff:1f.7", 0xFFFF, True),
        ("10000:e1:00.0", "10000:e1:00.0", 0x10000, False),
        ("1a2b3c4d:e1:00.0", "1a2b3c4d:e1:00.0", 0x1A2B3C4D, False),
    ],
)
def test_addresses(text: str, whole: str, segment: int, in_xen: bool) -> None:
    device = Bdf.parse(text)
    assert (str(device), device.segment, device.known_to_xen) == (whole, segment, in_xen)
    assert Bdf.parse(whole) == device
    assert re.fullmatch(FUNCTION, whole)


@pytest.mark.parametrize(
    "text",
    ["", "000:04:00.0", "00001:04:00.0", "123456789:04:00.0", "0000:04:20.0", "0000:04:00.8", "4:00.0", "٣4:00.0"],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ParseError, match="is not a PCI address"):
        Bdf.parse(text)
    assert not re.fullmatch(FUNCTION, text)
