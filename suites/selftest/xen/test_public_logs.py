"""Logs of machines that are not ours: written after public reports, one for each class of trouble."""

from __future__ import annotations

from pathlib import Path

from harness.model.address import Bdf
from harness.model.identity import find_device
from harness.xen.keys.debugkeys import parse_pci_devices
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
