"""Config space: every captured device, and every way in which the bytes can be wrong."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.base.errors import ParseError
from harness.model.config import CommandRegister, ConfigSpace, MsixCapability, MsixControl
from harness.xen.keys.lspci import parse_lspci
from suites.selftest.fakes.hostile import CAPTURED, captured, every


def config(name: str) -> ConfigSpace:
    return ConfigSpace((CAPTURED / f"{name}.config.bin").read_bytes(), file=name)


def crafted(size: int = 256, /, **values: bytes) -> ConfigSpace:
    """A type 0 device with a capability list; `at_40=b"..."` puts bytes at an offset."""
    data = bytearray(size)
    data[0x06] = 0x10
    for key, value in values.items():
        offset = int(key.removeprefix("at_"), 16)
        data[offset : offset + len(value)] = value
    return ConfigSpace(bytes(data))


@pytest.mark.parametrize(
    ("name", "command", "control"),
    [
        ("nvme_assignable", "Mem+ Bus- DisINTx-", "Enable- Masked-"),
        ("nvme_in_running_guest", "Mem+ Bus+ DisINTx+", "Enable+ Masked-"),
        ("nvme_masked_by_injection", "Mem+ Bus+ DisINTx+", "Enable- Masked+"),
        ("nvme_unmasked_by_reset", "Mem+ Bus- DisINTx-", "Enable- Masked-"),
        ("e1000e_masked_by_injection", "Mem+ Bus+ DisINTx+", "Enable- Masked+"),
        ("e1000e_masked_while_idle", "Mem+ Bus- DisINTx-", "Enable- Masked+"),
        ("e1000e_masked_after_refused_assign", "Mem+ Bus- DisINTx-", "Enable- Masked+"),
    ],
)
def test_captured_state(name: str, command: str, control: str) -> None:
    space = config(name)
    assert space.msix is not None
    assert (str(space.command), str(space.msix.control)) == (command, control)
    assert not space.gone


def test_every_captured_config_agrees_with_lspci() -> None:
    for name in every("config.bin"):
        space = ConfigSpace((CAPTURED / name).read_bytes())
        device = parse_lspci(captured(name.replace("config.bin", "lspci.txt")))
        assert space.command == device.command, name
        assert space.msix is not None
        assert space.msix.control == device.msix, name


def test_nvme_identity_and_layout() -> None:
    space = config("nvme_assignable")
    assert (space.vendor, space.device, space.class_code, space.header_type) == (0x1B36, 0x0010, 0x010802, 0)
    assert space.subsystem == (0x1AF4, 0x1100)
    assert list(space.capabilities()) == [(0x11, 0x40), (0x10, 0x80), (0x01, 0x60)]
    assert space.msix == MsixCapability(0x40, MsixControl(64), 0, 0x2000, 0, 0x3000)
    assert [space.bar_address(index) for index in range(6)] == [0xFD800000, None, None, None, None, None]


def test_e1000e_has_an_io_bar_and_its_table_in_bar_3() -> None:
    space = config("e1000e_masked_while_idle")
    assert space.msix == MsixCapability(0xA0, MsixControl(0x4004), 3, 0, 3, 0x2000)
    assert [space.bar_address(index) for index in range(4)] == [0xFDE40000, 0xFDE60000, None, 0xFDE80000]


def test_bar_above_4_gib() -> None:
    space = crafted(at_14=bytes.fromhex("0c000080 02000000"))
    assert space.bar_address(1) == 0x2_8000_0000
    assert space.bar_address(2) is None


@pytest.mark.parametrize("index", [-1, 6])
def test_no_such_bar(index: int) -> None:
    with pytest.raises(ParseError, match="BAR"):
        crafted().bar_address(index)


@pytest.mark.parametrize("data", [{"at_24": b"\x04\0\0\0"}, {"at_10": b"\x06\0\0\0"}, {"at_0e": b"\x05"}])
def test_malformed_bars(data: dict[str, bytes]) -> None:
    with pytest.raises(ParseError):
        crafted(256, **data).bar_address(5)


def test_all_ones_is_gone_and_never_masked() -> None:
    space = ConfigSpace(b"\xff" * 256)
    assert space.gone
    for read in (lambda: space.command, lambda: space.msix, lambda: space.vendor, lambda: space.bar_address(0)):
        with pytest.raises(ParseError, match="every byte is 0xff"):
            read()
    assert not ConfigSpace(b"\xff" * 255 + b"\xfe").gone


def test_unprivileged_read_says_so_instead_of_no_msix() -> None:
    space = ConfigSpace(config("nvme_in_running_guest").data[:64])
    assert space.command.memory
    with pytest.raises(ParseError, match="read as root") as caught:
        _ = space.msix
    assert "256 bytes" in caught.value.expected


def test_no_capability_list_is_no_msix_even_in_64_bytes() -> None:
    assert crafted(64, at_06=b"\0").msix is None
    assert crafted(at_34=b"\x40", at_40=b"\x01\0").msix is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"at_34": b"\x40", "at_40": b"\x01\x50", "at_50": b"\x05\x40"}, "loops at 0x40"),
        ({"at_34": b"\x40", "at_40": b"\x01\x40"}, "loops at 0x40"),
        ({"at_34": b"\x10"}, "into the header"),
        ({"at_34": b"\x40", "at_40": b"\xff"}, "0xff"),
        ({"at_34": b"\x40", "at_40": b"\x01\x50"}, "capability 0x50 reads as 0x00"),
        ({}, "leads nowhere"),
        ({"at_34": b"\x40", "at_40": b"\x11\0\xff\xff"}, "offset 0x42 reads as 0xffff"),
        ({"at_34": b"\xfc", "at_fc": b"\x11\0\0\x80"}, "only 256 bytes"),
        ({"at_34": b"\x40", "at_40": b"\x11\0\0\x80\x06"}, "reserved BAR"),
        ({"at_34": b"\x40", "at_40": b"\x11\0\0\x80\0\0\0\0\x07"}, "reserved BAR"),
    ],
)
def test_malformed_capabilities(data: dict[str, bytes], message: str) -> None:
    with pytest.raises(ParseError, match=message):
        _ = crafted(256, **data).msix


def test_a_device_of_which_half_is_gone() -> None:
    with pytest.raises(ParseError, match="offset 0x4 reads as 0xffff"):
        _ = crafted(at_04=b"\xff\xff").command


@pytest.mark.parametrize("size", [0, 63, 4097])
def test_impossible_size(size: int) -> None:
    with pytest.raises(ParseError, match="64 to 4096"):
        ConfigSpace(bytes(size))


def test_bridge_has_no_subsystem_and_two_bars() -> None:
    space = crafted(at_0e=b"\x81", at_2c=b"\x01\x02\x03\x04")
    assert (space.header_type, space.subsystem) == (1, None)
    with pytest.raises(ParseError, match="BAR 2"):
        space.bar_address(2)


@pytest.mark.parametrize("value", [-1, 0x10000])
def test_registers_have_16_bits(value: int) -> None:
    for register in (CommandRegister, MsixControl):
        with pytest.raises(ParseError, match="16-bit"):
            register(value)


@given(st.integers(0, 0xFFFF))
def test_bits_of_the_registers(value: int) -> None:
    control, command = MsixControl(value), CommandRegister(value)
    assert (control.enabled, control.masked) == (value >= 0x8000, value % 0x8000 >= 0x4000)
    assert control.table_size == value % 0x800 + 1
    assert (command.memory, command.bus_master) == (value // 2 % 2 == 1, value // 4 % 2 == 1)
    assert command.intx_disabled == (value // 1024 % 2 == 1)


def everything(space: ConfigSpace) -> None:
    """Read every property; only ParseError may come of it."""
    for name in ("vendor", "device", "command", "class_code", "header_type", "subsystem", "msix"):
        try:
            value = getattr(space, name)
        except ParseError:
            continue
        assert value is not None or name in ("subsystem", "msix")
    for index in range(-1, 8):
        try:
            address = space.bar_address(index)
        except ParseError:
            continue
        assert address is None or address > 0


@given(st.binary(max_size=300))
def test_arbitrary_bytes(data: bytes) -> None:
    try:
        space = ConfigSpace(data)
    except ParseError:
        assert not 64 <= len(data) <= 4096
        return
    everything(space)


@given(st.sampled_from(every("config.bin")), st.lists(st.tuples(st.integers(0, 255), st.integers(0, 255)), max_size=6))
def test_damaged_config(name: str, changes: list[tuple[int, int]]) -> None:
    data = bytearray((CAPTURED / name).read_bytes()[:256])
    for offset, value in changes:
        data[offset] = value
    everything(dataclasses.replace(config(name.removesuffix(".config.bin")), data=bytes(data)))


def test_msi_alone_is_told_from_neither() -> None:
    alone = crafted(at_34=b"\x40", at_40=b"\x05\x00")
    neither = crafted(at_34=b"\x40", at_40=b"\x01\x00")
    assert (alone.msi, alone.msix, neither.msi, neither.msix) == (True, None, False, None)
    assert config("nvme_assignable").msix is not None
    with pytest.raises(ParseError):
        _ = crafted(at_34=b"\x40", at_40=b"\x01\x04").msi
