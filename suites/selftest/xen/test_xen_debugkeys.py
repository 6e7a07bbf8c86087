"""Debug keys M, Q, i and x: captured dumps, dumps inside other output, other versions, damage."""

from __future__ import annotations

import pytest
from hypothesis import given

from harness.base.errors import ParseError
from harness.model.address import Bdf
from harness.xen.keys.console import console_lines
from harness.xen.keys.debugkeys import (
    IrqRow,
    MaskRow,
    PatchedFunction,
    PciRow,
    parse_irqs,
    parse_livepatches,
    parse_masks,
    parse_pci_devices,
)
from suites.selftest.fakes.hostile import captured, damaged, every

NVME = Bdf.parse("04:00.0")
E1000E = Bdf.parse("01:00.0")
M_HEADER = "(XEN) MSI information:\n"
Q_HEADER = "(XEN) ==== PCI devices ====\n(XEN) ==== segment 0000 ====\n"
I_HEADER = "(XEN) IRQ information:\n"
I_END = "(XEN) Direct vector information:\n"
M_ROW = "(XEN)  MSI-X   44 vec=b2  fixed  edge   assert phys    cpu dest=00000001 mask=1/HG/?\n"


def owners(text: str) -> dict[Bdf, PciRow]:
    return {row.device: row for row in parse_pci_devices(text)}


def irqs(rows: str) -> dict[int, IrqRow]:
    return {row.irq: row for row in parse_irqs(I_HEADER + rows + I_END)}


@pytest.mark.parametrize("name", every("debugkey_M.txt"))
def test_every_captured_m(name: str) -> None:
    text = captured(name)
    rows = parse_masks(text)
    assert len(rows) == text.count(" vec=")
    for row in rows:
        assert f"{row.kind:6}{row.irq:4} vec={row.vector:02x}" in text.splitlines()[row.line - 1]


@pytest.mark.parametrize("name", every("debugkey_Q.txt"))
def test_every_captured_q(name: str) -> None:
    text = captured(name)
    rows = parse_pci_devices(text)
    assert len(rows) == text.count(" - node ")
    assert {row.owner for row in rows if row.device not in (NVME, E1000E)} == {"d0"}
    for row in rows:
        assert str(row.device) in text.splitlines()[row.line - 1]


@pytest.mark.parametrize("name", every("debugkey_i.txt"))
def test_every_captured_i(name: str) -> None:
    text = captured(name)
    rows = parse_irqs(text)
    assert len(rows) == text.count(" vec:")
    for row in rows:
        assert f"IRQ:{row.irq:4} vec:{row.vector:02x}" in text.splitlines()[row.line - 1]


@pytest.mark.parametrize("name", every("debugkey_x.txt"))
def test_every_captured_x(name: str) -> None:
    text = captured(name)
    rows = parse_livepatches(text)
    assert len(rows) == text.count(" patch ")
    for row in rows:
        assert f"name={row.livepatch} state={row.state}(" in text
        assert f"{row.name} patch {row.old:016x}({row.old_size}) with {row.new:016x} ({row.new_size})" in text


class TestLivepatches:
    CONTROL = captured("control_livepatched.debugkey_x.txt")
    ROW = "(XEN)     pci_reset_msix_state patch ffff82d04030d8a0(96) with ffff82d0405b5000 (3)\n"
    HERE = PatchedFunction(
        "maskall-control", "APPLIED", "pci_reset_msix_state", 0xFFFF82D04030D8A0, 96, 0xFFFF82D0405B5000, 3
    )

    def test_the_last_dump_counts(self) -> None:
        assert parse_livepatches(self.CONTROL) == (self.HERE,)
        none = captured("no_livepatch.debugkey_x.txt")
        assert parse_livepatches(self.CONTROL + none) == ()
        assert parse_livepatches(none + self.CONTROL) == (self.HERE,)

    def test_as_4_14_prints_it(self) -> None:
        assert parse_livepatches(self.CONTROL.replace("5000 (3)", "5000(3)")) == (self.HERE,)

    def test_nops_have_no_new_code(self) -> None:
        (row,) = parse_livepatches(self.CONTROL.replace("(96) with ffff82d0405b5000 (3)", f"(4) with {0:016x} (4)"))
        assert (row.old_size, row.new, row.new_size) == (4, 0, 4)

    def test_each_of_two_has_its_own_functions(self) -> None:
        text = self.CONTROL + self.CONTROL[self.CONTROL.index("(XEN)  name=") :].replace("maskall-control", "another")
        assert [row.livepatch for row in parse_livepatches(text)] == ["maskall-control", "another"]

    def test_another_dump_ends_it(self) -> None:
        assert parse_livepatches(f"{self.CONTROL}(XEN) 'h' pressed -> showing keys\n{self.ROW}") == (self.HERE,)

    def test_a_guest_that_says_the_same_does_not(self) -> None:
        said = self.CONTROL.replace("(XEN) build-id", "(d1) 'h' pressed -> showing keys\n(XEN) build-id")
        assert said != self.CONTROL and parse_livepatches(said) == (self.HERE,)

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("", "no dump of debug key x"),
            (CONTROL.replace("(96)", ""), "FUNCTION patch ADDRESS"),
            (CONTROL.replace(" name=", " mane="), "name=LIVEPATCH above it"),
        ],
    )
    def test_what_cannot_be_read_is_not_absent(self, text: str, words: str) -> None:
        with pytest.raises(ParseError, match=words):
            parse_livepatches(text)


@pytest.mark.parametrize("name", [name.removesuffix(".debugkey_Q.txt") for name in every("debugkey_Q.txt")])
def test_irqs_of_the_three_keys_belong_together(name: str) -> None:
    listed = {irq for row in parse_pci_devices(captured(f"{name}.debugkey_Q.txt")) for irq in row.irqs}
    assert listed == {row.irq for row in parse_masks(captured(f"{name}.debugkey_M.txt")) if row.kind != "IOMMU"}
    assert listed == {row.irq for row in parse_irqs(captured(f"{name}.debugkey_i.txt")) if row.is_msi}


@pytest.mark.parametrize(
    ("name", "device", "owner", "vectors"),
    [
        ("nvme_assignable", NVME, "DomIO", ()),
        ("nvme_in_running_guest", NVME, "d2", (44, 45)),
        ("nvme_masked_by_injection", NVME, "d2", ()),
        ("nvme_unmasked_by_reset", NVME, "DomIO", ()),
        ("e1000e_masked_by_injection", E1000E, "d5", ()),
        ("e1000e_masked_while_idle", E1000E, "DomIO", ()),
        ("e1000e_masked_after_refused_assign", E1000E, "DomIO", ()),
    ],
)
def test_captured_owner(name: str, device: Bdf, owner: str, vectors: tuple[int, ...]) -> None:
    row = owners(captured(f"{name}.debugkey_Q.txt"))[device]
    assert (row.owner, row.irqs) == (owner, vectors)


def test_captured_masks() -> None:
    rows = {row.irq: row for row in parse_masks(captured("nvme_in_running_guest.debugkey_M.txt"))}
    assert rows[24] == MaskRow("IOMMU", 24, 0x38, 0, True, False, False, None, 2)
    assert rows[31] == MaskRow("MSI-X", 31, 0xC2, 1, True, False, False, False, 9)
    assert rows[40] == MaskRow("MSI-X", 40, 0xA9, 0, True, True, True, True, 18)
    assert rows[43] == MaskRow("MSI", 43, 0xC9, 0, False, False, False, None, 21)


VPCI = """\
(XEN) vPCI MSI/MSI-X d0
(XEN) 0000:00:1f.2 MSI
(XEN)   enabled: 1 64-bit: 1 mask=00000000 vectors max: 1 enabled: 1
(XEN) vec=0x31  fixed  edge   assert phys  fixed dest_id=0 pirq: 120
(XEN) 0000:03:00.0 MSI-X
(XEN)   entries: 32 maskall: 1 enabled: 1
(XEN)      0 vec=41  fixed  edge   assert phys  fixed dest_id=0 mask=0 pirq: 121
(XEN)      1 vec=42 lowest level deassert  log lowest dest_id=511 mask=1 pirq: -1
"""


def test_a_vector_of_a_processor_far_up() -> None:
    [row] = parse_masks(M_HEADER + M_ROW.replace("dest=00000001", "dest=000001fe"))
    assert row.destination == 0x1FE


def test_what_a_pvh_dom0_wants_is_no_row_of_the_hardware() -> None:
    rows = captured("nvme_in_running_guest.debugkey_M.txt")
    assert parse_masks(rows + VPCI) == parse_masks(rows)
    for line in VPCI.splitlines():
        if "dest_id" in line:
            with pytest.raises(ParseError):
                parse_masks(rows + line[: line.index("dest_id")])


def test_captured_irqs_and_who_has_them() -> None:
    rows = {row.irq: row for row in parse_irqs(captured("nvme_in_running_guest.debugkey_i.txt"))}
    assert rows[44].domains == ("d2",)
    assert rows[44].status == 0x030
    assert not rows[44].unbound
    assert rows[24].text == "drivers/passthrough/vtd/iommu.c#iommu_page_fault()"
    assert rows[24].domains == ()
    assert rows[3].text == "mapped, unbound"
    assert not rows[3].unbound, "an unused GSI is no leaked vector"


def test_row_interrupted_by_another_message_is_put_together() -> None:
    text = captured("nvme_in_running_guest.debugkey_i.txt")
    assert "{0} (XEN) uart interrupt taking more" in text
    row = next(row for row in parse_irqs(text) if row.irq == 41)
    assert row.unbound
    assert "IRQ:  41" in text.splitlines()[row.line - 1]


def test_zombie_leaks_unbound_vectors_it_cannot_read() -> None:
    rows = captured("stopped_qemu_leaks_vectors.rows.txt")
    assert owners(Q_HEADER + rows)[NVME].irqs == (44, 45)
    assert [irq for irq, row in irqs(rows).items() if row.unbound] == [44, 45]
    assert [(row.host, row.guest, row.hardware) for row in parse_masks(M_HEADER + rows)] == [(True, True, None)] * 2


def test_next_guest_beside_the_zombie_has_a_dead_vector() -> None:
    rows = captured("stopped_qemu_blocks_next_guest.rows.txt")
    masks = {row.irq: (row.host, row.guest, row.hardware) for row in parse_masks(M_HEADER + rows)}
    assert masks == {44: (True, False, True), 45: (True, True, True), 46: (False, True, True)}
    assert owners(Q_HEADER + rows)[NVME] == PciRow(NVME, "d4", (44, 45, 46), 4)
    assert irqs(rows)[46].domains == ("d4",)


def test_late_teardown_leaves_hardware_masked_where_xen_wants_it_open() -> None:
    rows = captured("late_teardown_masks_new_owner.rows.txt")
    masks = {row.irq: (row.host, row.guest, row.hardware) for row in parse_masks(M_HEADER + rows)}
    assert masks[46] == masks[47] == (False, False, True)


def test_forced_detach_keeps_vectors_bound_to_the_old_domain() -> None:
    rows = captured("forced_detach_keeps_bindings.rows.txt")
    assert owners(Q_HEADER + rows)[NVME].owner == "DomIO"
    assert {row.domains for row in irqs(rows).values()} == {("d3",)}


@pytest.mark.parametrize("name", every("xl_dmesg.txt"))
def test_dumps_inside_the_whole_ring(name: str) -> None:
    text = captured(name)
    assert len(parse_masks(text)) == text.count("dest=") - text.count("dest=P")
    assert len(parse_pci_devices(text)) == text.count(" - node ")
    assert len(parse_irqs(text)) == text.count(" vec:")


def test_the_last_dump_counts() -> None:
    first, last = captured("nvme_in_running_guest.xl_dmesg.txt"), captured("nvme_masked_by_injection.xl_dmesg.txt")
    text = first + last
    offset = first.count("\n")
    assert owners(text)[NVME].irqs == ()
    assert [row.line for row in parse_masks(text)] == [row.line + offset for row in parse_masks(last)]
    assert [row.line for row in parse_irqs(text)] == [row.line + offset for row in parse_irqs(last)]


@pytest.mark.parametrize(
    "prefix",
    [
        "(XEN) [2026-11-23 07:00:00] ",
        "(XEN) [2026-11-23 07:00:00.123] ",
        "(XEN) [   12.345678] ",
        "(XEN) [00000012a3b4c5d6] ",
    ],
)
def test_console_timestamps(prefix: str) -> None:
    for kind, parse in (("M", parse_masks), ("Q", parse_pci_devices), ("i", parse_irqs)):
        plain = captured(f"nvme_masked_by_injection.debugkey_{kind}.txt")
        assert parse(plain.replace("(XEN) ", prefix)) == parse(plain)


def test_interleaved_lines_and_carriage_returns() -> None:
    noisy = M_HEADER + "(XEN) d4v0: upcall vector f3\n(d2)  MSI-X   45 forged\nlogin: root\n" + M_ROW
    rows = parse_masks(noisy.replace("\n", "\r\n"))
    assert [(row.irq, row.line) for row in rows] == [(44, 5)]


def test_the_rest_of_a_row_stands_within_three_lines() -> None:
    begun, rest = M_ROW[:40], M_ROW[40:]
    between = "\n(XEN) d4v0: upcall vector f3\n\n"
    assert parse_masks(M_HEADER + begun + between + rest) == parse_masks(M_HEADER + M_ROW)
    for text in (begun + between + "(d2) word\n" + rest, rest + begun + "\n"):
        with pytest.raises(ParseError):
            parse_masks(M_HEADER + text)


def test_guest_cannot_add_rows_or_start_a_dump() -> None:
    text = M_HEADER + M_ROW + "(d3) MSI information:\n(d3) (XEN) MSI information:\n" + M_ROW.replace("(XEN)", "(d3)")
    assert [row.line for row in parse_masks(text)] == [2]


# From the documented format, not captured: Xen 4.14 prints "MSIs < >" always, and d[IO] for the quarantine owner;
# 4.13 and older print "dom N"; a device without owner is NULL.
@pytest.mark.parametrize(
    ("row", "owner", "vectors"),
    [
        ("0000:04:00.0 - d0 - node -1  - MSIs < 41 42 >", "d0", (41, 42)),
        ("0000:04:00.0 - d0 - node -1  - MSIs < >", "d0", ()),
        ("0000:04:00.0 - d[IO] - node 0   - MSIs < >", "DomIO", ()),
        ("0000:04:00.0 - DomIO - node -1  - MSIs < >", "DomIO", ()),
        ("0000:04:00.0 - DomIO:800a - node -1 ", "DomIO", ()),
        ("0000:04:00.0 - DomIO:0 - node -1", "DomIO", ()),
        ("0000:04:00.0 - dom 3   - node -1  - MSIs < 7 >", "d3", (7,)),
        ("0000:04:00.0 - NULL - node -1 ", "NULL", ()),
    ],
)
def test_owner_in_other_versions(row: str, owner: str, vectors: tuple[int, ...]) -> None:
    assert owners(f"{Q_HEADER}(XEN) {row}\n")[NVME] == PciRow(NVME, owner, vectors, 3)


# From the documented format, not captured: a shared line, and the label that XSM builds print (Z=).
def test_irq_bound_to_two_domains_and_xsm_label() -> None:
    row = (
        "(XEN)    IRQ:  22 vec:7b IO-APIC-level   status=030 aff:{0}/{0} Z=system_u:object_r:irq_t "
        "in-flight=0 d0: 22(---),d6: 22(PM-)\n"
    )
    assert irqs(row)[22].domains == ("d0", "d6")


@pytest.mark.parametrize("parse", [parse_masks, parse_pci_devices, parse_irqs])
@pytest.mark.parametrize("text", ["", "(XEN) Xen version 4.20\n", "MSI information:\nIRQ information:\n"])
def test_no_dump(parse: object, text: str) -> None:
    assert callable(parse)
    with pytest.raises(ParseError, match="no dump of debug key"):
        parse(text)


def test_dump_that_is_cut_off() -> None:
    text = captured("nvme_assignable.debugkey_i.txt")
    with pytest.raises(ParseError, match="cut off"):
        parse_irqs(text[: text.index("(XEN) Direct")])
    with pytest.raises(ParseError, match="no device"):
        parse_pci_devices(Q_HEADER)
    assert parse_masks(M_HEADER) == (), "a host without MSI is possible"


def test_a_device_whose_vectors_may_be_cut_off() -> None:
    """Xen prints them only where there are some: a row without them that nothing follows may not be whole."""
    whole = "(XEN) 0000:04:00.0 - d0 - node -1"
    assert owners(f"{Q_HEADER}{whole}  - MSIs < 41 42 >")[NVME].irqs == (41, 42)
    assert owners(f"{Q_HEADER}{whole}\n")[NVME].irqs == ()
    with pytest.raises(ParseError, match="cut off") as caught:
        parse_pci_devices(Q_HEADER + whole)
    assert caught.value.line == 3


def test_row_that_is_broken_names_its_line() -> None:
    with pytest.raises(ParseError, match=r"^run/M\.txt:2: "):
        parse_masks(M_HEADER + M_ROW.replace("/?", "/7"), file="run/M.txt")
    with pytest.raises(ParseError, match=":3: "):
        parse_pci_devices(f"{Q_HEADER}(XEN) 0000:04:00.0 - somebody - node -1\n")
    with pytest.raises(ParseError, match=":2: "):
        irqs("(XEN)    IRQ:  41 vec:b1 PCI-MSI/-X      status=002 aff:{0-1}/{0} \n")


SAMPLES = [captured(name) for kind in "MQix" for name in every(f"debugkey_{kind}.txt")]


@given(damaged(SAMPLES))
def test_hostile(text: str) -> None:
    for parse in (parse_masks, parse_pci_devices, parse_irqs, parse_livepatches):
        try:
            rows = parse(text)
        except ParseError:
            continue
        assert isinstance(rows, tuple)


def test_a_row_that_a_message_tore_apart() -> None:
    """Xen's serial driver complained in the middle of it, with its level in sight."""
    text = captured("device_row_torn_by_message.rows.txt")
    rows = {str(row.device): row for row in parse_pci_devices(text)}
    assert (rows["0000:00:13.0"].irqs, rows["0000:00:12.0"].irqs) == ((27,), (26,))
    assert rows["0000:00:13.0"].line == text[: text.index("0000:00:13.0")].count("\n") + 1
    message, row, rest = console_lines(text[text.index("(XEN) 0000:00:13.0") :])[:3]
    assert message.text == "uart interrupt taking more than 4ms, switched to polling"
    assert row.text.endswith("MSIs < 27 >")
    assert rest.is_rest
