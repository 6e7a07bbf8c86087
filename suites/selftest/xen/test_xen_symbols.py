"""Symbol table and stack scan. The table is handwritten from the documented format, not captured."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.base.errors import LabError, ParseError
from harness.model.trace import Frame
from harness.xen.trace.symbols import SymbolTable, parse_xensyms, scan_stack
from suites.selftest.fakes.hostile import damaged

TEXT = """\
ffff82d040200000 T _stext
ffff82d040200000 T _start
ffff82d040201000 t arch/x86/msi.c#msi_set_mask_bit
ffff82d040201200 t arch/x86/msi.c#msi_set_mask_bit.cold
ffff82d040201300 T pci_reset_msix_state
ffff82d040201400 t arch/x86/irq.c#show
ffff82d040201500 t drivers/char/ns16550.c#show
ffff82d040202000 T _etext
ffff82d040400000 D opt_debug
ffff82d040500000 t arch/x86/setup.c#init_done
"""


@pytest.fixture(name="table")
def _table() -> SymbolTable:
    return parse_xensyms("\n".join(reversed(TEXT.split("\n"))))


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("pci_reset_msix_state", 0xFFFF82D040201300),
        ("msi_set_mask_bit", 0xFFFF82D040201000),
        ("arch/x86/msi.c#msi_set_mask_bit", 0xFFFF82D040201000),
        ("msi_set_mask_bit.cold", 0xFFFF82D040201200),
        ("opt_debug", 0xFFFF82D040400000),
    ],
)
def test_address_of(table: SymbolTable, name: str, address: int) -> None:
    assert table.address_of(name) == address


def test_unknown_symbol_names_the_nearest(table: SymbolTable) -> None:
    with pytest.raises(LabError, match=r"no symbol pci_reset_msix_states .*nearest is pci_reset_msix_state\b"):
        table.address_of("pci_reset_msix_states")


def test_ambiguous_symbol_asks_which(table: SymbolTable) -> None:
    with pytest.raises(LabError, match=r"arch/x86/irq\.c#show, drivers/char/ns16550\.c#show"):
        table.address_of("show")
    assert table.address_of("arch/x86/irq.c#show") == 0xFFFF82D040201400


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (0xFFFF82D040200000, ("_start", 0)),
        (0xFFFF82D0402011FF, ("msi_set_mask_bit", 0x1FF)),
        (0xFFFF82D040201FFF, ("show", 0xAFF)),
        (0xFFFF82D040202000, None),
        (0xFFFF82D0401FFFFF, None),
        (0xFFFF82D040400000, None),
        (0xFFFF82D040500010, None),
        (0, None),
    ],
)
def test_lookup(table: SymbolTable, address: int, expected: tuple[str, int] | None) -> None:
    assert table.lookup(address) == expected


def test_first_of_two_names_for_one_address() -> None:
    table = parse_xensyms("ffff82d040200000 T memcpy\nffff82d040200000 T memmove\nffff82d040200100 T _etext\n")
    assert table.lookup(0xFFFF82D040200004) == ("memcpy", 4)


def test_text_range_without_its_bounds_leaves_the_last_function_out() -> None:
    table = parse_xensyms("\n".join(line for line in TEXT.split("\n") if "text" not in line))
    assert table.text_range == range(0xFFFF82D040200000, 0xFFFF82D040500000)


def test_scan_stack_keeps_return_addresses_only(table: SymbolTable) -> None:
    words = [0, 0xFFFF82D040201010, 0xFFFF82D040201300, 0xFFFF82D040201342, 0xFFFF82D040400008, 0xFFFF83007FCE8000]
    frames = scan_stack(words, table)
    assert frames == (
        Frame(1, 0xFFFF82D040201010, "msi_set_mask_bit", 0x10),
        Frame(3, 0xFFFF82D040201342, "pci_reset_msix_state", 0x42),
    )
    assert str(frames[1]) == "pci_reset_msix_state+0x42"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no text symbol"),
        ("ffff82d040400000 D opt_debug\n", "no text symbol"),
        (TEXT + "cat: read error\n", ":11: "),
        (TEXT + "82d040400000 D short_address\n", ":11: "),
    ],
)
def test_not_understood(text: str, message: str) -> None:
    with pytest.raises(ParseError, match=message):
        parse_xensyms(text)


@given(damaged([TEXT]), st.lists(st.integers(0, 2**64 - 1) | st.integers(0xFFFF82D0401FFFF0, 0xFFFF82D040202010)))
def test_hostile(text: str, words: list[int]) -> None:
    try:
        table = parse_xensyms(text)
    except ParseError:
        return
    for frame in scan_stack(words, table):
        assert words[frame.index] == frame.address in table.text_range
        assert frame.offset > 0
