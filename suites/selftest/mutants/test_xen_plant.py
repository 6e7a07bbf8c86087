"""MASKALL planted between a reset and Xen's first look at the device."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import pytest

from harness.base.deadline import Deadline
from harness.base.errors import LabError
from harness.transport.debugger import Registers
from harness.xen.trace.plant import Planted, plant_maskall
from harness.xen.trace.symbols import parse_xensyms
from suites.selftest.fakes.fakemachine import FakeMachine

PLACE = 0xFFFF82D040300000
SYMBOLS = parse_xensyms(f"{PLACE:016x} t drivers/passthrough/pci.c#pdev_msi_init\n{PLACE + 4096:016x} T _etext\n")
FUNCTION = 0xB0400000
CONTROL = FUNCTION + 0x40 + 2


def machine(*, device: str = "361b1000", control: bytes = b"\x40\x00", reached: bool = True) -> FakeMachine:
    made = FakeMachine(stops=[Registers(rip=PLACE, rsp=0)] if reached else [])
    made.physical = dict(enumerate(bytes.fromhex(device), FUNCTION)) | dict(enumerate(control, CONTROL))
    return made


Text = Mapping[int, tuple[bytes, bytes]]


def plant(on: FakeMachine, resets: list[str], text: Text = MappingProxyType({})) -> Planted:
    return plant_maskall(
        on, SYMBOLS, FUNCTION, identity="1b36:0010", msix_offset=0x40, reset=lambda: resets.append("reset"),
        text=text, deadline=Deadline.after(1),
    )  # fmt: skip


def test_a_control_is_made_anew_before_xen_looks() -> None:
    on = machine()
    on.put(PLACE, b"\x31\xc0\xc3")
    plant(on, [], {PLACE + 1: (b"\xc0", b"\xdb")})
    assert [on.memory[PLACE + at] for at in range(3)] == [0x31, 0xDB, 0xC3]


def test_a_control_of_another_xen_is_not_written() -> None:
    on = machine()
    on.put(PLACE, b"\x31\xc0\xc3")
    with pytest.raises(LabError, match="has other text at 0xffff82d040300000"):
        plant(on, [], {PLACE: (b"\x90", b"\xdb")})
    assert not [line for line in on.log if line.startswith("write")]


def test_it_is_set_before_xen_looks() -> None:
    on, resets = machine(), []
    planted = plant(on, resets)
    assert (planted.before, planted.after, planted.took) == (0x0040, 0x4040, True)
    assert resets == ["reset"]
    assert on.physical[CONTROL + 1] == 0x40
    assert on.physical[FUNCTION] == 0x36


def test_a_bit_that_does_not_stick_was_not_planted() -> None:
    assert not Planted(before=0x0040, after=0x0040).took


def test_another_device_is_not_touched() -> None:
    on = machine(device="86803412")
    with pytest.raises(LabError, match="shows 8086:1234, not 1b36:0010"):
        plant(on, [])
    assert on.physical[CONTROL + 1] == 0


def test_a_xen_that_does_not_come_by() -> None:
    with pytest.raises(LabError, match="did not come by pdev_msi_init"):
        plant(machine(reached=False), [])


@pytest.mark.parametrize(
    ("functions", "place"),
    [(["alloc_pdev", "pdev_msi_init"], "pdev_msi_init"), (["alloc_pdev"], "alloc_pdev")],  # Xen 4.20, Xen 4.14
)
def test_older_xen_finds_devices_in_another_function(functions: list[str], place: str) -> None:
    text = "".join(f"{PLACE + 64 * at:016x} t pci.c#{name}\n" for at, name in enumerate([*functions, "_etext"]))
    assert parse_xensyms(text).first_of(("pdev_msi_init", "alloc_pdev")) == PLACE + 64 * functions.index(place)
    with pytest.raises(LabError, match="no symbol pdev_msi_init"):
        parse_xensyms(text.replace("pdev", "pdom").replace("alloc", "pick")).first_of(("pdev_msi_init", "alloc_pdev"))
