"""A QEMU's monitor as a power switch: it can be ended and reset, never started."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.base.errors import PowerFailed
from harness.lab.power import base
from harness.lab.power.base import PowerState
from harness.lab.power.qmp import Qmp, QmpPower
from suites.selftest.fakes.patience import soon
from suites.selftest.fakes.qmpserver import QmpServer


@pytest.fixture
def monitor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[QmpServer]:
    monkeypatch.setattr(base, "_EVERY", 0.01)
    server = QmpServer(tmp_path / "qmp.sock")
    yield server
    server.stop()


@pytest.fixture
def power(monitor: QmpServer, tmp_path: Path) -> Qmp:
    return Qmp("box", QmpPower(kind="qmp", socket=Path("qmp.sock")), tmp_path)


@pytest.mark.parametrize(
    ("status", "state"), [("running", "on"), ("paused", "on"), ("guest-panicked", "on"), ("shutdown", "off")]
)
def test_state(monitor: QmpServer, power: Qmp, status: str, state: str) -> None:
    monitor.status = status
    assert power.state(soon()) is PowerState(state)


@pytest.mark.parametrize("answers", [True, False])
def test_off_ends_it_and_a_socket_that_is_gone_is_off(monitor: QmpServer, power: Qmp, answers: bool) -> None:
    monitor.answers_quit = answers
    power.off(soon())
    assert monitor.orders == ["quit"]
    assert power.state(soon()) is PowerState.OFF
    power.off(soon())
    with pytest.raises(PowerFailed, match="cannot be started over its monitor"):
        power.on(soon())


def test_a_socket_where_nobody_listens_any_more_is_off(monitor: QmpServer, power: Qmp) -> None:
    path = monitor.path
    monitor.stop()
    import socket

    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    assert power.state(soon()) is PowerState.OFF


def test_a_cycle_is_refused_before_anything_is_switched_off(monitor: QmpServer, power: Qmp) -> None:
    with pytest.raises(PowerFailed, match="cannot be started"):
        power.cycle(soon())
    assert monitor.orders == []


def test_reset(monitor: QmpServer, power: Qmp) -> None:
    power.reset(soon())
    assert monitor.orders == ["system_reset"]
    monitor.obeys = False
    with pytest.raises(PowerFailed, match=r"system_reset: not \\x1b\[31mnow"):
        power.reset(soon())


def test_one_that_ignores_quit_and_one_that_another_client_holds(monitor: QmpServer, power: Qmp) -> None:
    monitor.obeys = False
    with pytest.raises(PowerFailed, match="told to switch off, did not: it reads on"):
        power.off(soon(0.1))
    monitor.greets = False
    with pytest.raises(PowerFailed, match=r"did not answer in time \(a monitor serves one client"):
        power.state(soon(0.1))
