"""Every way to switch a machine keeps the same promises."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.base import ways
from harness.base.deadline import poll
from harness.base.errors import PowerFailed
from harness.lab import power
from harness.lab.power import base
from harness.lab.power.base import PowerState
from suites.selftest.fakes.patience import soon
from suites.selftest.fakes.powerways import HOST, OFF, ON, PASSWORD, WAYS, Way


@pytest.fixture(params=list(WAYS))
def way(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Way]:
    monkeypatch.setattr(base, "_EVERY", 0.01)
    made = WAYS[request.param](tmp_path / "way", monkeypatch)
    yield made
    made.stop()


def test_no_way_is_left_out() -> None:
    """But QMP, over which nothing can be switched on: see test_power_qmp.py."""
    assert {"fake", *ways.names(power)} - {"qmp"} == set(WAYS)


def test_the_state_is_what_the_controller_reports(way: Way) -> None:
    assert way.power.state(soon()) is ON
    way.set_state(OFF)
    assert way.power.state(soon()) is OFF
    assert way.orders() == []


@pytest.mark.parametrize(("verb", "before", "after"), [("on", OFF, ON), ("off", ON, OFF)])
def test_a_switch_is_seen_to_have_happened_and_not_thrown_twice(
    way: Way, verb: str, before: PowerState, after: PowerState
) -> None:
    way.set_state(before)
    for _ in range(2):
        getattr(way.power, verb)(soon())
        assert way.power.state(soon()) is after
    assert way.orders() == [verb]


def test_a_cycle_is_off_then_on_and_leaves_it_on(way: Way) -> None:
    way.power.cycle(soon())
    assert way.orders() == ["off", "on"]
    assert way.power.state(soon()) is ON


def test_a_cycle_of_a_machine_that_is_off_switches_it_on(way: Way) -> None:
    way.set_state(OFF)
    way.power.cycle(soon())
    assert way.orders() == ["on"]


def test_a_reset_is_one_order_and_the_power_stays(way: Way) -> None:
    way.power.reset(soon())
    assert way.orders() == ["reset"]
    assert poll(lambda: way.power.state(soon()) is ON, soon(), every=0.01)


def test_a_controller_that_accepts_and_does_nothing_is_found_out(way: Way) -> None:
    way.lie()
    with pytest.raises(PowerFailed, match="told to switch off, did not: it reads on") as caught:
        way.power.cycle(soon(1.0))
    assert way.power.name in caught.value.message
    assert way.orders() == ["off"]  # once: an order is not repeated; and what never went off is not switched on


@pytest.mark.parametrize("verb", ["state", "cycle", "reset"])
def test_a_controller_that_does_not_answer_is_told_at_the_deadline(way: Way, verb: str) -> None:
    way.fall_silent()
    with pytest.raises(PowerFailed) as caught:
        getattr(way.power, verb)(soon(0.05))
    assert caught.value.message.startswith(HOST)
    assert "\n" not in caught.value.message


def test_the_password_is_nowhere(way: Way, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    way.power.cycle(soon())
    assert PASSWORD.encode() not in way.seen()
    way.lie()
    told = []
    for make_it_fail in (lambda: None, way.fall_silent):
        make_it_fail()
        with pytest.raises(PowerFailed) as caught:
            way.power.off(soon(0.1))
        told += traceback.format_exception(caught.value)
        told += [repr(error) + repr(vars(error)) for error in _chain(caught.value)]
    told += [caplog.text, *(repr(vars(record)) for record in caplog.records)]
    told += [way.power.name, repr(way.power), str(vars(way.power))]
    assert not [text for text in told if PASSWORD in text]


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
