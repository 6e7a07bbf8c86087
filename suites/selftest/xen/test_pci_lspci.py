"""lspci: captured devices, the three ways in which lspci cannot see, and damage."""

from __future__ import annotations

import pytest
from hypothesis import given

from harness.base.errors import ParseError
from harness.model.address import Bdf
from harness.model.config import CommandRegister, MsixControl
from harness.xen.keys.lspci import LspciDevice, parse_lspci
from suites.selftest.fakes.hostile import captured, damaged, every

HEADER = "04:00.0 Non-Volatile memory controller: Red Hat, Inc. QEMU NVM Express Controller (rev 02)\n"
CONTROL = "\tControl: I/O- Mem+ BusMaster- SpecCycle- MemWINV- VGASnoop- ParErr- Stepping- SERR- FastB2B- DisINTx-\n"


@pytest.mark.parametrize(
    ("name", "address", "command", "control", "driver"),
    [
        ("nvme_assignable", "04:00.0", 0x0002, 0x0040, "pciback"),
        ("nvme_in_running_guest", "04:00.0", 0x0406, 0x8040, "pciback"),
        ("nvme_masked_by_injection", "04:00.0", 0x0406, 0x4040, "pciback"),
        ("nvme_unmasked_by_reset", "04:00.0", 0x0002, 0x0040, "pciback"),
        ("e1000e_masked_by_injection", "01:00.0", 0x0507, 0x4004, "pciback"),
        ("e1000e_masked_while_idle", "01:00.0", 0x0103, 0x4004, "pciback"),
        ("e1000e_masked_after_refused_assign", "01:00.0", 0x0103, 0x4004, "pciback"),
    ],
)
def test_captured(name: str, address: str, command: int, control: int, driver: str) -> None:
    device = parse_lspci(captured(f"{name}.lspci.txt"))
    assert (device.address, device.driver) == (Bdf.parse(address), driver)
    assert (device.command, device.msix) == (CommandRegister(command), MsixControl(control))
    assert not device.gone
    assert not device.access_denied


def test_access_denied_is_not_a_device_without_msix() -> None:
    device = parse_lspci(HEADER + CONTROL + "\tCapabilities: <access denied>\n")
    assert device.access_denied
    assert device.command.memory
    with pytest.raises(ParseError, match="without privilege"):
        _ = device.msix


def test_device_that_is_gone() -> None:
    device = parse_lspci(HEADER + "\t!!! Unknown header type 7f\n\tKernel driver in use: pciback\n")
    assert device.gone
    assert device.driver == "pciback"
    with pytest.raises(ParseError, match="is gone"):
        _ = device.msix
    with pytest.raises(ParseError, match="is gone"):
        _ = device.command


STATUS = "\tStatus: Cap+ 66MHz- UDF- FastB2B- ParErr- DEVSEL=fast >TAbort- <TAbort- <MAbort- >SERR- <PERR- INTx-\n"
EXPRESS = "\tCapabilities: [80] Express (v2) Endpoint, IntMsgNum 0\n"
MSI = "\tCapabilities: [d0] MSI: Enable- Count=1/1 Maskable- 64bit+\n"


def test_device_without_msix_and_without_driver() -> None:
    device = parse_lspci(HEADER + CONTROL + STATUS + MSI + EXPRESS + "\n")
    assert device.msix is None
    assert device.driver is None
    assert parse_lspci(HEADER + CONTROL + STATUS.replace("Cap+", "Cap-")).msix is None
    idle = parse_lspci(HEADER + CONTROL + STATUS + MSI + "\tKernel modules: nvme\n")
    assert (idle.msix, idle.driver) == (None, None)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (CONTROL + MSI + "\n", "no Status line"),
        (CONTROL + STATUS + "\n", "no capability is listed"),
        (CONTROL + STATUS + MSI, "cut off"),
        (CONTROL + STATUS + MSI + "\tCapabilities: [50] <chain broken>\n\n", r"breaks off at \[50\] <chain broken>"),
        (CONTROL + STATUS + MSI + "\tCapabilities: [d0] <chain looped>\n\n", r"breaks off at \[d0\] <chain looped>"),
    ],
)
def test_not_listed_is_not_absent(text: str, why: str) -> None:
    device = parse_lspci(HEADER + text)
    with pytest.raises(ParseError, match=f"whether 0000:04:00.0 has MSI-X is not known: .*{why}"):
        _ = device.msix


def test_a_broken_list_of_extended_capabilities_hides_no_msix() -> None:
    assert parse_lspci(HEADER + CONTROL + STATUS + MSI + "\tCapabilities: [100 v1] <chain broken>\n\n").msix is None


@pytest.mark.parametrize("count", [1, 2048])
def test_as_many_vectors_as_there_can_be(count: int) -> None:
    msix = parse_lspci(f"{HEADER}{CONTROL}\tCapabilities: [40] MSI-X: Enable- Count={count} Masked-\n").msix
    assert msix == MsixControl(count - 1)


def test_details_of_a_capability_are_not_the_device() -> None:
    assert parse_lspci(HEADER + CONTROL + "\t\tControl: Port+\n").command == CommandRegister(2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no device"),
        ("lspci: -s: Invalid bus number\n", "04:00.0 class: name"),
        (HEADER, "no Control line"),
        (HEADER + CONTROL + HEADER + CONTROL, "a second device"),
        (HEADER + CONTROL.replace("Mem+", "Mem?"), "a sign on each"),
        (HEADER + CONTROL.replace(" FastB2B-", ""), "a sign on each"),
        (HEADER + CONTROL + "\tCapabilities: none\n", "Capabilities: none"),
        (HEADER + CONTROL + "\tCapabilities: [40] MSI-X: Enable- Count=0 Masked-\n", "Count=1"),
        (HEADER + CONTROL + "\tCapabilities: [40] MSI-X: Enable- Count=2049 Masked-\n", "Count=1"),
        (HEADER + CONTROL + "\tCapabilities: [40] MSI-X: Enable- Count=2 Masked?\n", "Masked"),
        (HEADER + CONTROL + "  Status: Cap+\n", "04:00.0 class: name"),
    ],
)
def test_not_understood(text: str, message: str) -> None:
    with pytest.raises(ParseError, match=message):
        parse_lspci(text)


def test_error_names_file_and_line() -> None:
    with pytest.raises(ParseError, match=r"^C4/lspci\.txt:2: ") as caught:
        parse_lspci(HEADER + "\tControl: Mem+\n", file="C4/lspci.txt")
    assert (caught.value.file, caught.value.line) == ("C4/lspci.txt", 2)


def test_lines_are_counted_with_the_complaints_between_them() -> None:
    said = f"pcilib: a warning\n{HEADER}\tControl: I/O- pcilib: another\nlspci: and one more\nMem+\n"
    with pytest.raises(ParseError, match="Control: I/O- Mem") as caught:
        parse_lspci(said)
    assert caught.value.line == 3
    with pytest.raises(ParseError, match="a second device") as caught:
        parse_lspci(f"pcilib: a warning\n{HEADER}pcilib: another\n{HEADER}")
    assert caught.value.line == 4


@given(damaged([captured(name) for name in every("lspci.txt")]))
def test_hostile(text: str) -> None:
    try:
        device = parse_lspci(text)
    except ParseError:
        return
    assert isinstance(device, LspciDevice)
    assert device.gone or isinstance(device.command, CommandRegister)
