"""How a device was: read from what the host prints, kept in a journal, and compared."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from harness.base.errors import JournalDamaged, ParseError
from harness.lab.lease.baseline import Baseline, parse
from suites.selftest.fakes.plainbox import NIC

CONFIG = bytes.fromhex("8680d310 0600 1000") + bytes(44) + b"\x40" + bytes(11) + bytes.fromhex("1100 0480") + bytes(12)
SAID = {
    "path": f"/sys/devices/pci0000:00/0000:00:1c.1/0000:01:00.0/{NIC}",
    "ids": "0x8086\n0x10d3\n0x8086\n0xa01f",
    "slots": f"0000:05:00.0\n{NIC}",
    "driver": "/sys/bus/pci/drivers/e1000e",
    "driver_override": "e1000e",
    "power_control": "auto",
    "reset_method": "device_specific acpi flr af_flr pm bus cxl_bus",  # Linux pci_reset_fn_methods: all that there are
    "sriov_numvfs": "7",
    "config": "\n".join(CONFIG[at : at + 16].hex(" ") for at in range(0, len(CONFIG), 16)),  # as od prints it
    "interfaces": "eth1 0x1003\neth2 0x1002\neth3 0x1043",
    "settings": "net0 name eth1\nblock0 scheduler none [mq-deadline] kyber\nnet0 x; y\nblock0 nr_requests 256",
}
FOUND = Baseline(
    device="0000:02:00.0",
    who="8086 10d3 8086 a01f 0000:00:1c.1/00.0/00.0",
    driver="e1000e",
    driver_override="e1000e",
    power_control="auto",
    reset_method="device_specific acpi flr af_flr pm bus cxl_bus",
    numvfs="7",
    command=0x0006,
    msix_control=0x8004,
    interfaces_up=2,
    pciback_slot=True,
    settings=(("net0 name", "eth1"), ("block0 scheduler", "mq-deadline"), ("block0 nr_requests", "256")),
)
NOTHING = dict.fromkeys(SAID, "")


def read(**changed: str) -> Baseline:
    return parse(NIC, {name: value.encode() for name, value in {**SAID, **changed}.items()})


def test_all_that_is_printed_is_read() -> None:
    assert read() == FOUND


@pytest.mark.parametrize(
    ("changed", "field", "value"),
    [
        ({"driver": ""}, "driver", None),
        ({"driver_override": ""}, "driver_override", None),
        ({"driver_override": "(null)"}, "driver_override", None),
        ({"power_control": ""}, "power_control", ""),
        ({"power_control": "on"}, "power_control", "on"),
        ({"reset_method": ""}, "reset_method", ""),
        ({"sriov_numvfs": ""}, "numvfs", ""),
        ({"slots": "0000:05:00.0"}, "pciback_slot", False),
        ({"interfaces": ""}, "interfaces_up", 0),
        ({"settings": ""}, "settings", ()),
    ],
)
def test_what_is_not_there_is_none(changed: dict[str, str], field: str, value: object) -> None:
    assert read(**changed) == replace(FOUND, **{field: value})  # type: ignore[arg-type]


def test_a_function_without_msix_has_no_control() -> None:
    assert read(config=(bytes(64)).hex()).msix_control is None


def test_one_that_has_fallen_silent_is_still_who_it_was() -> None:
    assert read(config=(b"\xff" * 64).hex(" ")) == replace(FOUND, command=None, msix_control=None)


def test_where_nothing_is_nothing_is_read() -> None:
    assert parse(NIC, {name: b"" for name in SAID}) == Baseline(
        str(NIC), "", None, None, "", "", "", command=None, msix_control=None, interfaces_up=0, pciback_slot=False
    )


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"config": "8g"}, "^config: .*hexadecimal"),
        ({"config": "86 80"}, "^config: 2 bytes"),
        ({"power_control": "off"}, f"^baseline: power_control of {NIC}"),
        ({"driver": "/sys/bus/pci/drivers/.."}, f"^baseline: driver of {NIC}"),
        ({"reset_method": "flr magic"}, f"^baseline: reset_method of {NIC}"),
        ({"ids": "0x8086"}, f"^baseline: who of {NIC}"),
    ],
)
def test_what_no_kernel_shows_is_refused(changed: dict[str, str], told: str) -> None:
    with pytest.raises(ParseError, match=told):
        read(**changed)


def test_bytes_that_are_no_text_are_refused_as_anything_else() -> None:
    with pytest.raises(ParseError, match=r"^baseline: driver_override of"):
        parse(NIC, {name: value.encode() for name, value in SAID.items()} | {"driver_override": b"e1000e\xff"})


@pytest.mark.parametrize(
    "found",
    [
        FOUND,
        Baseline(str(NIC), "", None, None, "", "", "", None, None, 0, False),
        replace(FOUND, power_control="on", command=0xFFFF, msix_control=0xFFFF, interfaces_up=255, pciback_slot=False),
        replace(FOUND, reset_method="pm", numvfs="65535", command=0, msix_control=0, interfaces_up=0, driver=None),
        replace(FOUND, settings=(("net0 ring RX", "512"), ("net63 feature tx-gso", "on"))),
    ],
)
def test_a_journal_gives_back_what_was_written_there(found: Baseline) -> None:
    assert Baseline.from_payload(json.loads(json.dumps(found.as_payload()))) == found


ODD: dict[str, list[Any]] = {
    "device": ["", None, "02:00.0", 2],
    "who": [None, "8086", "8086 10d3 8086 a01f ../x", "8086 10d3 8086 a01f x\n"],
    "driver": ["", "..", 1],
    "driver_override": ["", "a b", 1],
    "power_control": [None, "off", "on|auto", "ON"],
    "reset_method": [None, "magic", "flr  pm", "flr ", " flr"],
    "numvfs": [None, 2, "123456", "-1"],
    "command": ["6", 0x10000, -1, True],
    "msix_control": ["4", 0x10000, -1, True],
    "interfaces_up": [None, 256, -1, True, "1"],
    "pciback_slot": [None, 0, "yes"],
    "settings": [
        *(None, "", {}, "x", 5, [5], [None], ["net0 mtu 9"], [{"net0 mtu": 1, "9000": 2}]),
        *([["net0 mtu 9000"]], [["net0 mtu", "9000", "1"]], [["net0", "mtu 9000"]], [["net0 mtu", 9000]]),
        *([["net0 mtu", "9; reboot"]], [["net0 mtu", "9000"], ["vga0 mtu", "9000"]], [["net0 feature", "tx on"]]),
    ],
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in ODD.items() for value in values])
def test_a_field_that_we_cannot_have_written_is_refused(field: str, value: object) -> None:
    with pytest.raises(JournalDamaged, match=f": {field} is not one"):
        Baseline.from_payload({**FOUND.as_payload(), field: value})


@pytest.mark.parametrize("field", sorted(ODD))
def test_so_is_one_that_is_missing(field: str) -> None:
    with pytest.raises(JournalDamaged, match=f": {field} is not one"):
        Baseline.from_payload({name: value for name, value in FOUND.as_payload().items() if name != field})


def test_and_one_more() -> None:
    with pytest.raises(JournalDamaged, match=": mode is not one"):
        Baseline.from_payload({**FOUND.as_payload(), "mode": 1})


@pytest.mark.parametrize("bit", range(16))
def test_of_command_a_driver_leaves_the_same_what_it_needs(bit: int) -> None:
    """I/O space, memory, bus master and INTx disable (PCI 3.0, 6.2.2); the rest is nobody's to set back."""
    for before in (0x0000, 0xFFFE):
        was, now = (replace(FOUND, command=value) for value in (before, before ^ 1 << bit))
        assert bool(was.differences(now)) is (bit in (0, 1, 2, 10))


@pytest.mark.parametrize(("before", "now"), [(None, 6), (6, None)])
def test_an_answer_differs_from_none(before: int | None, now: int | None) -> None:
    assert len(replace(FOUND, command=before).differences(replace(FOUND, command=now))) == 1


class TestSettings:
    def test_they_are_no_difference_and_told_apart(self) -> None:
        now = replace(FOUND, settings=(("net0 name", "eth7"), ("block0 scheduler", "none"), ("net0 mtu", "9000")))
        assert FOUND.differences(now) == []
        assert list(FOUND.drift(now)) == [("block0 scheduler", "mq-deadline", "none")]
        assert list(FOUND.drift(FOUND)) == []


def test_who_it_is_does_not_change_with_the_numbers_of_buses() -> None:
    moved = SAID["path"].replace("0000:01:", "0000:08:").replace(str(NIC), "0000:09:00.0")
    assert read(path=moved).who == FOUND.who
    assert read(path=SAID["path"].replace("0000:00:1c.1", "0000:00:1c.2")).who != FOUND.who
