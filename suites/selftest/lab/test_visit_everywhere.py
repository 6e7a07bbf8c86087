"""A visit that is killed, cut off or rebooted at every single place leaves the host as it was.

At every one on a host whose shells are played, and at some on one that runs each program.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from harness.base.errors import LabError
from harness.lab.lease.lease import Lease
from harness.lab.lease.ledger import Found, found
from harness.lab.lease.state import HostState
from suites.selftest.fakes.fakehost.traps import Moment
from suites.selftest.fakes.fakelab import NAME, FakeLab, make_lab
from suites.selftest.fakes.labrun import FORCED, NIC, arrive, baseline, borrow, controller, die, give_back, site

__all__ = ["controller"]

from suites.selftest.fakes.schedules import Accident, alone, begun, borrowed, played, restored
from suites.selftest.fakes.schedules import Killed as DeadByAccident

pytestmark = pytest.mark.whole


class Killed(BaseException):
    """Nobody catches it: as SIGKILL, nothing runs after it."""


def points(lab: FakeLab) -> list[str]:
    """The name of every point of a run at which it may be killed."""
    seen: list[str] = []
    visit = arrive(lab, seen.append)
    borrow(visit)
    visit.put_back()
    visit.end()
    return seen


@pytest.mark.parametrize("another", [False, True], ids=["restored there", "restored elsewhere"])
@pytest.mark.parametrize(
    ("first", "says"), [(1, 0.0), (2, 0.0), (2, 0.02)], ids=["killed", "cut before it", "cut after it"]
)
def test_at_every_command(tmp_path: Path, another: bool, first: int, says: float) -> None:
    """On a host whose shells are played."""
    with played():
        for command in range(1000):
            accident = Accident(first + 2 * command, says)
            schedule, here = alone(accident), tmp_path / f"{command}"
            stay = None
            try:
                stay = begun(schedule, "ada", here, dies=0.5)
                borrowed(stay)
                stay.end()
            except DeadByAccident:
                pass
            except LabError as error:
                assert "\n" not in str(error)
                with contextlib.suppress(LabError):
                    if stay is not None:
                        stay.end()
            struck = accident.asked >= accident.nth
            again = begun(schedule, "eve", tmp_path / f"{command}e" if another else here, take_over=True)
            restored(again)
            again.end()
            assert not schedule.host.dirty and not schedule.host.violations, schedule.log
            if not struck:
                break
    assert 20 < command < 999


@pytest.mark.parametrize("another", [False, True], ids=["restored there", "restored elsewhere"])
def test_killed_between_any_two_writes(tmp_path: Path, another: bool) -> None:
    """The same between the lines of the journal, on the controller and on the host."""
    with played():
        for point in range(1000):
            schedule, here, left = alone(Accident()), tmp_path / f"{point}", point

            def kill(name: str) -> None:
                nonlocal left
                left -= 1
                if left < 0:
                    raise Killed(name)

            stay = begun(schedule, "ada", here)
            stay.journal.trace = kill
            with contextlib.suppress(Killed):
                borrowed(stay)
                stay.end()
            again = begun(schedule, "eve", tmp_path / f"{point}e" if another else here, take_over=True)
            restored(again)
            again.end()
            assert not schedule.host.dirty and not schedule.host.violations, schedule.log
            if left >= 0:
                break
    assert 20 < point < 999


def test_killed_and_restored_from_another_controller(
    tmp_path: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with make_lab(tmp_path / "reference", keys) as lab:
        everywhere = points(lab)
    assert len(everywhere) >= 27
    with make_lab(tmp_path / "lab", keys) as lab:
        before = baseline(lab)
        for number in range(0, len(everywhere), 3):
            monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / f"controller{number}"))
            left = number

            def kill(point: str) -> None:
                nonlocal left
                left -= 1
                if left < 0:
                    raise Killed(point)

            visit = None
            try:
                visit = arrive(lab, kill)
                borrow(visit)
                visit.put_back()
                visit.end()
            except Killed:
                if visit is not None:
                    die(visit)
            # every second time from the controller that died, else from one that knows nothing
            if number % 2:
                monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / f"another{number}"))
            again = Lease.begin(site(lab), FORCED, lambda _: None)
            again.put_back(whole=True)
            again.close_journal()
            again.end()
            assert lab.fake.state() == before, f"killed at {everywhere[number]}"
            assert found(lab.transport(), HostState.of(NAME)) == Found()


@pytest.mark.parametrize(("moment", "step"), [(Moment.LOST, 3), (Moment.BEFORE, 5), (Moment.AFTER, 4)])
def test_the_link_breaks(tmp_path: Path, keys: Path, moment: Moment, step: int) -> None:
    """Every changing program is run once at most by us, and the host is given back all the same."""
    with make_lab(tmp_path / "lab", keys) as lab:
        before = baseline(lab)
        for number in range(1, 40, step):
            lab.fake.executed.clear()
            visit = arrive(lab)
            lab.fake.trap(lab.wire.cut, nth=number, moment=moment)
            try:
                borrow(visit)
            except LabError as error:
                assert "Traceback" not in str(error)
            done = lab.fake.ran("^xl create"), lab.fake.ran("^setpci -s 0000:02:00.0 COMMAND=0:2")
            give_back(visit)
            visit.end()
            assert lab.fake.state() == before, f"link cut {moment.value}, change {number}"
            assert max(done) <= 1
            if lab.fake.traps.pending:
                lab.fake.traps.pending.clear()
                break
        else:
            pytest.fail("the run has more changes than were tried")
        assert number > 4


def test_the_host_reboots_by_itself(tmp_path: Path, keys: Path) -> None:
    with make_lab(tmp_path / "lab", keys) as lab:
        for number in range(1, 40, 2):
            visit = arrive(lab)
            lab.fake.trap(lab.fake.reboot, nth=number)
            try:
                borrow(visit)
                struck = not lab.fake.traps.pending
            except LabError:
                struck = True
            lab.fake.traps.pending.clear()
            give_back(visit)
            visit.end()
            after = lab.fake.state()
            assert after["functions"][str(NIC)]["driver"] == "e1000e"
            assert after["files"] == []
            assert after["domains"] == {0: "Domain-0"}
            if not struck:
                break
        assert number > 4
