"""The parser of exercise.sh's output: as a guest prints it, and as nobody should."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given

from harness.base.errors import ParseError
from harness.guest.exercise import parse_exercise
from harness.model.observation import RawRef
from suites.selftest.fakes.hostile import captured, damaged

RAW = RawRef("07-exercise-d3.txt", "00" * 32)
CONFIG = (
    """\
 36 1b 10 00 06 04 10 00 02 02 08 01 00 00 00 00
 04 00 00 f1 00 00 00 00 00 00 00 00 00 00 00 00
 00 00 00 00 00 00 00 00 00 00 00 00 f4 1a 00 11
 00 00 00 00 40 00 00 00 00 00 00 00 05 01 00 00
 11 00 40 80 00 20 00 00 00 30 00 00 00 00 00 00
"""
    + " 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00\n" * 11
)
BEFORE = captured("guest_nvme_interrupts_arrive.interrupts.txt").removeprefix("cat /proc/interrupts\n")
AFTER = BEFORE.replace(" 56:          3 ", " 56:         12 ")


def text(**changed: str) -> str:
    """What a guest prints; a section given as "-" is left out."""
    sections = {
        "device": "0000:00:03.0\n",
        "ready": "yes\n",
        "interrupts_before": BEFORE,
        "traffic": "16+0 records in\n16+0 records out\nstatus 0\n",
        "interrupts_after": AFTER,
        "msi_irqs": "55  56\n",
        "intx": "30\n",
        "driver": "nvme\n",
        "config": CONFIG,
        "dmesg": "[    6.3] nvme nvme0: 1/0/0 default/read/poll queues\n",
        "end": "",
    } | changed
    return "".join(f"\n== {name}\n{body}" for name, body in sections.items() if body != "-")


def test_a_working_guest() -> None:
    assert BEFORE != AFTER
    view = parse_exercise(text(), "d3", RAW)
    assert view is not None
    assert (view.domain, view.driver, view.traffic_ok) == ("d3", "nvme", True)
    assert (view.vectors, view.before, view.after, view.delta) == (2, 13, 22, 9)
    assert (str(view.command), str(view.control)) == ("Mem+ Bus+ DisINTx+", "Enable+ Masked-")
    shown = text().splitlines()[view.raw.line - 1]
    assert (view.raw.path, shown) == (RAW.path, "== interrupts_after")


def test_a_masked_device() -> None:
    view = parse_exercise(text(config=CONFIG.replace(" 11 00 40 80", " 11 00 40 c0")), "d3", RAW)
    assert view is not None
    assert str(view.control) == "Enable+ Masked+"


def test_a_device_that_is_gone_has_no_registers() -> None:
    view = parse_exercise(text(config=" ff" * 256 + "\n", msi_irqs="", driver="\n"), "d3", RAW)
    assert view is not None
    assert (view.command, view.control, view.vectors, view.delta, view.driver) == (None, None, 0, 0, None)


def test_no_such_device() -> None:
    view = parse_exercise("\n== device\nnone\n\n== end\n", "d3", RAW)
    assert (view.control, view.vectors, view.delta, view.traffic_ok) == (None, 0, 0, False)


@pytest.mark.parametrize(
    "traffic",
    ["status 1\n", "status 125\n", "status 0\nstatus 143\n", "xstatus 0\n", "", "status 0 of 7\nstatus 1\n"],
)
def test_traffic_succeeds_only_by_its_own_last_word(traffic: str) -> None:
    view = parse_exercise(text(traffic=traffic), "d3", RAW)
    assert view is not None
    assert not view.traffic_ok


@pytest.mark.parametrize(
    "name",
    ["ready", "interrupts_before", "traffic", "interrupts_after", "msi_irqs", "intx", "driver", "config", "end"],
)
def test_a_missing_section_is_told(name: str) -> None:
    with pytest.raises(ParseError, match=rf"07-exercise-d3.txt: the section '{name}' is missing"):
        parse_exercise(text(**{name: "-"}), "d3", RAW)


@pytest.mark.parametrize(
    "changed",
    [
        {"config": "zz\n"},
        {"config": ""},
        {"config": " 11" * 63},
        {"config": " 11" * 5000},
        {"msi_irqs": "55 x\n"},
        {"interrupts_after": "nothing\n"},
        {"interrupts_before": ""},
    ],
)
def test_what_is_no_output_of_ours(changed: dict[str, str]) -> None:
    with pytest.raises(ParseError, match=r"07-exercise-d3\.txt"):
        parse_exercise(text(**changed), "d3", RAW)


def test_silence_is_not_a_missing_device() -> None:
    for silence in ("", "\n", "== device\n", "sh: /exercise: not found\n"):
        with pytest.raises(ParseError):
            parse_exercise(silence, "d3", RAW)


@given(damaged([text()]))
def test_damage_raises_parse_errors_only(hostile: str) -> None:
    with contextlib.suppress(ParseError):
        parse_exercise(hostile, "d3", RAW)
