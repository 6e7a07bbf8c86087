"""A visit that is killed, cut off or rebooted at every single place leaves the host as it was."""

from __future__ import annotations

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


def test_killed_at_every_write_and_restored_from_another_controller(
    tmp_path: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with make_lab(tmp_path / "reference", keys) as lab:
        everywhere = points(lab)
    assert len(everywhere) >= 27
    with make_lab(tmp_path / "lab", keys) as lab:
        before = baseline(lab)
        for number in range(len(everywhere)):
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


@pytest.mark.parametrize(("moment", "step"), [(Moment.LOST, 1), (Moment.BEFORE, 3), (Moment.AFTER, 2)])
def test_the_link_breaks_at_every_change(tmp_path: Path, keys: Path, moment: Moment, step: int) -> None:
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


def test_the_host_reboots_by_itself_at_every_change(tmp_path: Path, keys: Path) -> None:
    with make_lab(tmp_path / "lab", keys) as lab:
        for number in range(1, 40):
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
