"""Logs of machines that are not ours: written after public reports, one for each class of trouble."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.base.errors import ParseError
from harness.model.address import Bdf
from harness.model.identity import find_device
from harness.model.message import MarkerKind, Meaning, Origin
from harness.xen.keys.console import find_markers
from harness.xen.keys.debugkeys import parse_irqs, parse_masks, parse_pci_devices
from harness.xen.keys.lspci import parse_lspci
from harness.xen.keys.messages import Classified, Log, catalogue, classify
from suites.selftest.fakes.hostile import CAPTURED

LOGS = CAPTURED.parent / "logs"


def log(name: str) -> str:
    return Path(LOGS / name).read_text(encoding="utf-8")


def test_domains_of_a_vmd_beside_ordinary_ones() -> None:
    text = log("vmd.lspci_dn.txt")
    assert find_device(text, "8086:125c") == Bdf.parse("2b:00.0")
    behind = find_device(text, "1987:5021")
    assert (str(behind), behind.known_to_xen) == ("10000:e1:00.0", False)


def test_key_q_of_a_host_with_a_vmd() -> None:
    """Xen has 16 bits for the domain and shows the functions behind the VMD at an address that nobody else uses."""
    rows = {str(row.device): row for row in parse_pci_devices(log("vmd.console.txt"))}
    assert (rows["0000:2b:00.0"].owner, rows["0000:2b:00.0"].irqs) == ("d0", (161,))
    assert {row.owner for address, row in rows.items() if ":e" in address} == {"NULL"}


def test_a_row_whose_rest_stands_on_the_next_line_is_put_together() -> None:
    rows = {row.irq: row for row in parse_irqs(log("torn_rest_on_next_line.console.txt"))}
    assert {irq: row.domains for irq, row in rows.items()} == {129: ("d0",), 130: ("d3",), 131: ("d0",)}
    assert rows[130].line == 3


@pytest.mark.parametrize("cut", ["d3:1125(-M-)\n", "in-flight=0 \nd3:1125(-M-)", "\nd3:1125(-M-)"])
def test_a_row_that_cannot_be_put_together_is_refused(cut: str) -> None:
    text = log("torn_rest_on_next_line.console.txt")
    assert cut in text
    with pytest.raises(ParseError, match="<text>:3: "):
        parse_irqs(text.replace(cut, ""))


def test_the_rest_stands_at_most_three_lines_behind() -> None:
    text = log("torn_rest_on_next_line.console.txt")
    other = "(XEN)    IRQ: 140 vec:40 PCI-MSI/-X      status=030 aff:{0}/{0-7} in-flight=0 d0:1100(-M-)\n"
    assert len(parse_irqs(text.replace("\nd3:", f"\n{other * 2}d3:"))) == 5
    with pytest.raises(ParseError, match="<text>:3: "):
        parse_irqs(text.replace("\nd3:", f"\n{other * 3}d3:"))


def test_a_piece_of_a_row_that_fits_nowhere_is_refused() -> None:
    text = log("torn_rest_on_next_line.console.txt").replace("(XEN)    IRQ: 131", "IRQ: 131")
    with pytest.raises(ParseError, match="<text>:5: a piece of a row"):
        parse_irqs(text)


def test_a_dump_mixed_with_the_console_of_dom0_is_refused() -> None:
    with pytest.raises(ParseError, match="<text>:5: "):
        parse_irqs(log("torn_by_dom0_console.console.txt"))


def test_one_dump_of_eight_cores() -> None:
    text = log("one_dump_of_eight_cores.console.txt")
    assert (len(parse_masks(text)), len(parse_pci_devices(text)), len(parse_irqs(text))) == (100, 45, 124)


@pytest.mark.parametrize("lost", ["- MSIs < 44 45 >", " 45 >", ">"])
def test_a_device_row_that_is_cut_is_no_device_without_vectors(lost: str) -> None:
    text = "(XEN) ==== PCI devices ====\n(XEN) 0000:04:00.0 - d2 - node -1  - MSIs < 44 45 >"
    with pytest.raises(ParseError, match="<text>:2: "):
        parse_pci_devices(text.removesuffix(lost))
    (row,) = parse_pci_devices(f"{text.removesuffix(lost)}\n{lost}\n")
    assert row.irqs == (44, 45)


def test_lspci_with_a_complaint_in_its_middle() -> None:
    text = log("vpd_unreadable.lspci.txt")
    device = parse_lspci(text)
    assert (str(device.address), device.driver, str(device.msix)) == ("0000:05:00.0", "pciback", "Enable+ Masked-")
    complaint = "pcilib: sysfs_read_vpd: read failed: Input/output error\n"
    for place in range(text.index("\tControl"), len(text)):
        moved = text.replace(complaint, "")
        assert parse_lspci(moved[:place] + complaint + moved[place:]) == device


def test_lspci_of_a_device_whose_list_is_broken() -> None:
    device = parse_lspci(log("capability_chain_broken.lspci.txt"))
    with pytest.raises(ParseError, match="has MSI-X is not known"):
        _ = device.msix


def said(name: str) -> list[Classified]:
    return list(classify(log(name), Log.DOM0 if ".dom0." in name else Log.XEN, catalogue()))


def symptoms(name: str) -> list[tuple[str | None, str | None]]:
    return [(one.name, one.rule.cause) for one in said(name) if one.rule and one.meaning is Meaning.SYMPTOM]


def unknown(name: str) -> list[str]:
    return [one.line.text for one in said(name) if one.meaning is Meaning.UNKNOWN]


def test_the_second_place_where_xen_sets_maskall_is_the_hazard_too() -> None:
    hazard, refused = find_markers(log("cannot_disable_irq.console.txt"))
    assert (hazard.kind, hazard.device, hazard.irq) == (MarkerKind.MASKALL_SET, Bdf.parse("00:14.3"), 141)
    assert hazard.kind.is_hazard
    assert (refused.kind, refused.domain, refused.error) == (MarkerKind.ASSIGN_FAILED, "DomIO", -16)
    assert symptoms("cannot_disable_irq.console.txt") == [("cannot-disable", None), ("assign-refused", None)]


def test_a_dead_link_is_one_cause_of_many_symptoms() -> None:
    found = symptoms("dead_link.dom0.txt")
    assert {cause for _, cause in found} == {"dead-link"}
    assert [name for name, _ in found] == [
        "dpc", "dpc", "aer-error", "pciback-aer-unassigned", "recovery-done", "reset-slow", "reset-failed",
        "recovery-failed", "reset-pending", "msix-not-readable", "power-stuck", "header-gone",
    ]  # fmt: skip
    assert unknown("dead_link.dom0.txt") == []


def test_bars_that_clash() -> None:
    names = [name for name, _ in symptoms("bars_clash.console.txt")]
    assert names == ["gfn-not-permitted", "guest-fault", "guest-crash-reported", "bar-refused"]
    assert unknown("bars_clash.console.txt") == []
    assert said("bars_clash.console.txt")[-1].name == "irq-lines"


def test_msix_that_xen_refuses_a_guest() -> None:
    found = said("msix_refused.dom0.txt")
    assert [one.name for one in found] == [
        *["msix-refused"] * 2, "map-failed", "msix-refused", "linux-cut-here", "evtchn-not-enabled", "linux-warning",
        "callbacks-suppressed",
    ]  # fmt: skip
    assert [one.more for one in found if one.more] == [25], "the trace is one message"
    assert {one.rule.cause for one in found[:4] if one.rule} == {"no-vectors"}
    assert found[-1].rule is not None
    assert found[-1].rule.loses


def test_lines_that_the_rate_limit_ate() -> None:
    first, *_ = said("suppressed.console.txt")
    assert first.rule is not None
    assert (first.name, first.rule.loses) == ("xen-suppressed", True)
    (hazard,) = find_markers(log("suppressed.console.txt"))
    assert hazard.domain == "d2"


HARMLESS = {
    "device-enabled", "dom0-goes-on", "driver-speaks", "gsi-registered", "link-back", "linux-slow", "nvme-up",
    "pci-found", "pciback-noted", "pciback-slot", "pcifront-noted", "port-services", "reset-told",
    "pci-speaks", "xen-drivers-up",
}  # fmt: skip


def test_what_dom0_says_of_anybody_s_device_is_known() -> None:
    """`certify` fails a line that nobody can explain: a driver that is content says nothing of that kind."""
    seen = classify(log("drivers_and_devices.dom0.txt"), Log.DOM0, catalogue())
    assert [one.line.text for one in seen if one.name is None] == []
    assert {one.name for one in seen if one.meaning is Meaning.HARMLESS} == HARMLESS
    hurt = {one.line.text for one in seen if one.meaning is Meaning.SYMPTOM}
    assert {
        "igb 0000:41:00.0: Detected Tx Unit Hang", "ixgbe 0000:41:00.0: Adapter removed", "mpt3sas_cm0: Command Timeout"
    } <= hurt  # fmt: skip
    assert not any("Link is Up" in one or "timeout set to" in one for one in hurt)


def test_where_a_debug_build_says_that_a_message_comes_from() -> None:
    seen = classify(log("debug_build.console.txt"), Log.XEN, catalogue())
    assert [one.name for one in seen] == [
        "pirq-already-mapped", "forced-unbind", "evtchn-failed", "evtchn-failed", "vpci-msi", "vpci-msi",
        "msix-table-unmapped", "iommu-missing", "iommu-table-failed", "iommu-mapped", "iommu-mapped",
        "iommu-context-taken", "iommu-wait-failed", "access-not-emulated", "pirq-invalid",
    ]  # fmt: skip


def test_every_line_of_the_suppressed_log_is_known() -> None:
    seen = classify(log("suppressed.console.txt"), Log.XEN, catalogue())
    assert [one.line.text for one in seen if one.name is None and one.line.origin is Origin.XEN] == []


def test_key_i_before_4_13() -> None:
    text = """\
(XEN) IRQ information:
(XEN)    IRQ:   0 affinity:00000000,00000001 vec:f0 type=IO-APIC-edge    status=00000000 time.c#timer_interrupt()
(XEN)    IRQ:  44 affinity:01 vec:b2 type=PCI-MSI/-X      status=00000030 in-flight=0 domain-list=2: 55(-M-),3: 54(---),
(XEN)    IRQ:  45 affinity:ff vec:ac type=PCI-MSI/-X      status=00000002 mapped, unbound
(XEN) Direct vector information:
"""
    rows = {row.irq: row for row in parse_irqs(text)}
    assert (rows[44].domains, rows[45].unbound, rows[0].domains) == (("d2", "d3"), True, ())
