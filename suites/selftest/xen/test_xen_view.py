"""Joining the debug keys; and the judge on what Xen 4.20 really printed when it lost interrupts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.judge.judge import judge
from harness.judge.judgement import Verdict
from harness.model.address import Bdf
from harness.model.observation import XenView
from harness.xen.keys.debugkeys import parse_irqs, parse_masks, parse_pci_devices
from harness.xen.keys.view import xen_view
from suites.selftest.fakes.goodrecord import C4, C5, C6, good, raw, reseen
from suites.selftest.fakes.hostile import captured

NVME = Bdf.parse("04:00.0")
RNG = Bdf.parse("02:00.0")


def view(device: Bdf, text: str) -> XenView:
    return xen_view(device, parse_masks(text), parse_pci_devices(text), parse_irqs(text), raw("keys"))


def dumps(rows: str) -> str:
    """Rows about one device under the headers of the three keys."""
    return (
        f"(XEN) MSI information:\n{rows}(XEN) ==== PCI devices ====\n{rows}(XEN) IRQ information:\n{rows}"
        "(XEN) Direct vector information:\n"
    )


def state(name: str) -> str:
    return "".join(captured(f"{name}.debugkey_{key}.txt") for key in "MQi")


def test_rows_of_other_devices_are_left_out() -> None:
    seen = view(NVME, state("nvme_in_running_guest"))
    assert (seen.owner, seen.irqs, [mask.irq for mask in seen.masks]) == ("d2", (44, 45), [44, 45])
    assert seen.bound == {44: ("d2",), 45: ("d2",)}
    assert seen.unbound == (), "those of dom0's unused network card are not ours"


def test_an_idle_device() -> None:
    seen = view(NVME, state("nvme_assignable"))
    assert (seen.owner, seen.irqs, seen.masks, seen.bound) == ("DomIO", (), (), {})


def test_a_device_that_xen_does_not_know() -> None:
    seen = view(Bdf.parse("0a:00.0"), state("nvme_assignable"))
    assert (seen.owner, seen.irqs, seen.owner_line) == (None, (), 0)


@pytest.mark.parametrize(
    ("name", "device", "domain", "reason"),
    [
        ("stopped_qemu_blocks_next_guest", NVME, 4, "C6 xen: number of vectors: expected 2, seen 3"),
        ("late_teardown_masks_new_owner", RNG, 3,
         "C6 xen: irq 46: expected not masked by Xen, seen host=0 guest=0 hardware=1"),
    ],
)  # fmt: skip
def test_defects_that_only_key_m_shows_are_failures(name: str, device: Bdf, domain: int, reason: str) -> None:
    record = good()
    record.guests["B"] = domain
    seen = view(device, dumps(captured(f"{name}.rows.txt")))
    for place, one in enumerate(record.observations):
        if one.checkpoint in (C5, C6) and one.xen is not None:
            record.observations[place] = replace(one, xen=replace(one.xen, owner=f"d{domain}"))
    reseen(record, C6, lambda one: replace(one, xen=seen))
    judgement = judge(record)
    assert (judgement.verdict, judgement.reason) == (Verdict.FAIL, reason)


@pytest.mark.parametrize("name", ["stopped_qemu_leaks_vectors", "forced_detach_keeps_bindings"])
def test_vectors_left_after_the_domain_are_a_failure(name: str) -> None:
    rows = captured(f"{name}.rows.txt")
    record = good()
    reseen(record, C4, lambda one: replace(one, xen=view(NVME, dumps(rows))))
    judgement = judge(record)
    assert judgement.verdict is Verdict.FAIL
    assert judgement.reason.startswith("C4 xen: irqs of the device: expected none, seen 4")
