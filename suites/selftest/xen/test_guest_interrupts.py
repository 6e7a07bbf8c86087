"""/proc/interrupts: captured dom0s and guest, counting, and damage."""

from __future__ import annotations

import pytest
from hypothesis import given

from harness.base.errors import ParseError
from harness.xen.keys.interrupts import InterruptCounts, InterruptRow, parse_interrupts
from suites.selftest.fakes.hostile import captured, damaged, every

SMALL = "            CPU0       CPU1\n  9:          1          2  xen-pirq    -msi-x     eth0\nERR:          0\n"


def test_guest_whose_interrupts_arrive() -> None:
    table = parse_interrupts(captured("guest_nvme_interrupts_arrive.interrupts.txt"))
    assert table.sum_of([55, 56]) == 13
    assert table.by_irq[55] == InterruptRow("55", 10, "PCI-MSIX-0000:00:03.0 0-edge nvme0q0", 15)


def test_dom0_sums_over_its_cpus() -> None:
    table = parse_interrupts(captured("nvme_assignable.interrupts.txt"))
    assert table.by_irq[56].count == 91
    assert table.by_irq[56].description == "xen-dyn-lateeoi -event evtchn:oxenstored"
    assert [row.count for row in table.rows if row.label == "RES"] == [1205 + 1091]
    assert [row.irq for row in table.rows if row.label == "ERR"] == [None]


@pytest.mark.parametrize("name", every("interrupts.txt"))
def test_every_captured_table(name: str) -> None:
    text = captured(name)
    table = parse_interrupts(text)
    assert len(table.rows) == sum(":" in line for line in text.splitlines())
    for row in table.rows:
        assert text.splitlines()[row.line - 1].strip().startswith(f"{row.label}:")


def test_a_hundred_and_twenty_eight_cpus() -> None:
    header = "".join(f" {f'CPU{cpu}':>10}" for cpu in range(128))
    row = "".join(f" {cpu:10}" for cpu in range(128))
    table = parse_interrupts(f"    {header}\n  9:{row}  xen-pirq    -msi-x     eth0\nERR: 0\n")
    assert table.by_irq[9] == InterruptRow("9", sum(range(128)), "xen-pirq -msi-x eth0", 2)
    with pytest.raises(ParseError, match="9 has 127 counters"):
        parse_interrupts(f"    {header}\n  9:{row.replace(f'{77:11}', '')}  xen-pirq    -msi-x     eth0\nERR: 0\n")


def test_sum_counts_each_irq_once_and_an_unlisted_one_as_zero() -> None:
    assert parse_interrupts(SMALL).sum_of([9, 9, 10]) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no header"),
        ("cat: /proc/interrupts: No such file or directory\n", "no header"),
        ("  CPU0\n", "no rows"),
        (SMALL[: SMALL.index("ERR")], "cut off"),
        (SMALL.replace("  xen-pirq    -msi-x     eth0", ""), "9 has no chip"),
        (SMALL + "RC=0\n", "RC=0"),
        (SMALL + "  9:   1   2  again\n", "9 appears twice"),
        (SMALL + " 09:   1   2  again\n", "9 appears twice"),
        (SMALL.replace("          1          2", "          1"), "9 has 1 counters"),
        (SMALL.replace("          1          2", "   1   2   3"), "9 has 3 counters"),
        (SMALL.replace("ERR:          0", "ERR:   0   0"), "ERR has 2 counters"),
        (SMALL.replace("          1 ", "         -1 "), "9 has 0 counters"),
        (SMALL.replace("          1 ", " " + "9" * 5000 + " "), "9 has 0 counters"),
    ],
)
def test_not_understood(text: str, message: str) -> None:
    with pytest.raises(ParseError, match=message):
        parse_interrupts(text)


@given(damaged([captured(name) for name in every("interrupts.txt")]))
def test_hostile(text: str) -> None:
    try:
        table = parse_interrupts(text)
    except ParseError:
        return
    assert isinstance(table, InterruptCounts)
    assert table.sum_of(range(100)) >= 0
