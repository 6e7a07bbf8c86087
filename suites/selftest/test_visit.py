"""Whatever goes wrong on a lab host, afterwards it is as it was, or it is in quarantine and says so.

A real journal, a real claim, a real ssh link; the host is the honest fake one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.errors import HostKeyMismatch, HostQuarantined, JournalDamaged, LabError, LockHeld, MaskallError
from harness.journal.ledger import found
from harness.lab.holder import STALE
from harness.lab.ladder import Climb, Rung
from harness.lab.power.fake import FakePower
from harness.lab.state import HostState
from harness.lab.visit import Visit
from suites.selftest.fakehost.machine import Moment
from suites.selftest.fakelab import NAME, FakeLab, fake_host, make_lab
from suites.selftest.labrun import FORCED, NIC, WISHES, arrive, borrow, die, give_back, site

__all__ = ["fake_host"]


@pytest.fixture(autouse=True)
def controller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "controller"))
    monkeypatch.setattr("harness.journal.undo.GONE_SECONDS", 0.1)


def another_controller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another"))


class Killed(BaseException):
    """Nobody catches it: as SIGKILL, nothing runs after it."""


def baseline(lab: FakeLab) -> dict[str, Any]:
    return lab.fake.state()


def test_a_visit_leaves_nothing(fake_host: FakeLab) -> None:
    before = baseline(fake_host)
    visit = arrive(fake_host)
    borrow(visit)
    assert fake_host.fake.state()["functions"][str(NIC)]["owner"] == "d1"
    assert give_back(visit) is None
    visit.end()
    assert fake_host.fake.state() == before
    state = HostState.of(NAME)
    assert not state.journal.exists()
    assert not state.quarantine


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
            again = Visit.begin(site(lab), FORCED, lambda _: None)
            again.put_back(whole=True)
            again.close_journal()
            again.end()
            assert lab.fake.state() == before, f"killed at {everywhere[number]}"
            assert found(lab.transport(), HostState.of(NAME)) == ()


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
            if lab.fake._traps:
                lab.fake._traps.clear()
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
                struck = not lab.fake._traps
            except LabError:
                struck = True
            lab.fake._traps.clear()
            give_back(visit)
            visit.end()
            after = lab.fake.state()
            assert after["functions"][str(NIC)]["driver"] == "e1000e"
            assert after["files"] == []
            assert after["domains"] == {0: "Domain-0"}
            if not struck:
                break
        assert number > 4


class TestLadder:
    def quarantined(self, lab: FakeLab, visit: Visit, climb: Climb | None) -> None:
        assert climb is not None and not climb.restored
        assert climb.tried[-1].rung is Rung.QUARANTINE
        visit.end()
        assert HostState.of(NAME).quarantine
        assert (lab.fake.root / "run/maskall/claim").exists(), "it stays claimed"
        with pytest.raises(HostQuarantined, match="maskall restore"):
            HostState.of(NAME).refuse_quarantined()

    def test_a_zombie_needs_a_reboot(self, fake_host: FakeLab) -> None:
        before = baseline(fake_host)
        visit = arrive(fake_host)
        borrow(visit)
        fake_host.fake.zombies = True
        climb = give_back(visit)
        assert climb is not None and climb.restored
        assert [one.rung for one in climb.tried if one.ok] == [Rung.REBOOT]
        visit.end()
        after = fake_host.fake.state()
        assert after["functions"] == before["functions"]
        assert fake_host.fake.boots == 2

    def test_without_leave_to_reboot_it_ends_in_quarantine(self, fake_host: FakeLab) -> None:
        visit = arrive(fake_host)
        visit.site.entry.__dict__["allow_reboot"] = False  # a frozen model: only this visit's copy
        borrow(visit)
        fake_host.fake.zombies = True
        self.quarantined(fake_host, visit, give_back(visit))
        assert fake_host.fake.boots == 1

    def test_a_hung_host_is_power_cycled(self, fake_host: FakeLab, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("harness.lab.visit.CONNECT_SECONDS", 1.0)
        monkeypatch.setattr("harness.lab.rescue.BOOT_PATIENCE", 0.1)
        visit = arrive(fake_host)
        borrow(visit)
        fake_host.hang()
        visit.transport.close()
        power = FakePower(changed=lambda what: fake_host.power_cycle() if what == "on" else None)
        climb = give_back(visit, power=power)
        assert climb is not None and climb.restored
        assert climb.tried[-1].rung is Rung.POWER_CYCLE
        assert power.orders == ["off", "on"]
        visit.end()
        assert fake_host.fake.state()["functions"][str(NIC)]["driver"] == "e1000e"

    def test_another_host_key_ends_everything(self, fake_host: FakeLab) -> None:
        visit = arrive(fake_host)
        borrow(visit)
        commands = len(fake_host.fake.lines)
        fake_host.change_host_key()
        climb = give_back(visit)
        assert climb is not None and not climb.restored
        assert "another host key" in climb.told
        visit.end()
        assert HostState.of(NAME).quarantine
        assert len(fake_host.fake.lines) == commands, "nothing may be sent to another machine"
        with pytest.raises(HostKeyMismatch):
            Visit.begin(visit.site, WISHES, lambda _: None)

    def test_restore_ends_a_quarantine(self, fake_host: FakeLab) -> None:
        before = baseline(fake_host)
        visit = arrive(fake_host)
        visit.site.entry.__dict__["allow_reboot"] = False
        borrow(visit)
        fake_host.fake.zombies = True
        self.quarantined(fake_host, visit, give_back(visit))
        fake_host.fake.zombies = False
        fake_host.fake.reboot()  # somebody went there
        again = Visit.begin(site(fake_host), FORCED, lambda _: None)
        again.put_back(whole=True)
        again.close_journal()
        again.end()
        assert not HostState.of(NAME).quarantine
        assert fake_host.fake.state()["functions"] == before["functions"]


def test_a_bind_that_fails_half_way(fake_host: FakeLab) -> None:
    before = baseline(fake_host)
    fake_host.fake.half_way.add(str(NIC))
    visit = arrive(fake_host)
    with pytest.raises(LabError, match="could not be bound to pciback"):
        borrow(visit)
    assert fake_host.fake.state()["functions"][str(NIC)]["driver"] is None, "it really is in between"
    assert give_back(visit) is None
    visit.end()
    assert fake_host.fake.state() == before


def test_a_full_disk_on_the_host_prevents_the_change(fake_host: FakeLab) -> None:
    before = baseline(fake_host)
    visit = arrive(fake_host)
    fake_host.fake.full = True
    with pytest.raises(LabError, match="No space left"):
        borrow(visit)
    assert fake_host.fake.ran("pci-assignable-add") == 0
    fake_host.fake.full = False
    assert give_back(visit) is None
    visit.end()
    assert fake_host.fake.state() == before


def test_two_controllers_at_once(fake_host: FakeLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    visit = arrive(fake_host)
    borrow(visit)
    another_controller(tmp_path, monkeypatch)
    with pytest.raises(LockHeld, match="a self-test"):
        Visit.begin(visit.site, WISHES, lambda _: None)
    assert fake_host.fake.state()["domains"] == {0: "Domain-0", 1: "maskall-a"}, "the first one's guest lives"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "controller"))
    visit.put_back()
    visit.end()
    visit = Visit.begin(visit.site, WISHES, lambda _: None)
    visit.end()


def test_who_was_taken_over_stops_at_the_next_change(fake_host: FakeLab) -> None:
    first = arrive(fake_host)
    second = Visit.begin(first.site, FORCED, lambda _: None)
    first.claim._stream.write(b"\n")  # type: ignore[union-attr]  # its next heartbeat
    while not first.claim._stream.ended:  # type: ignore[union-attr]
        pass
    with pytest.raises(LockHeld):
        borrow(first)
    assert fake_host.fake.ran("pci-assignable-add") == 0
    second.put_back(whole=True)
    second.close_journal()
    second.end()


def test_a_clock_that_jumps_a_day_does_not_matter(fake_host: FakeLab) -> None:
    visit = arrive(fake_host)
    fake_host.fake.clock_offset += 86400
    with pytest.raises(LockHeld):
        Visit.begin(visit.site, WISHES, lambda _: None)
    visit.put_back()
    visit.end()


def test_a_dead_run_of_the_same_owner_is_undone_by_the_next(fake_host: FakeLab) -> None:
    before = baseline(fake_host)
    visit = arrive(fake_host)
    borrow(visit)
    die(visit)
    with pytest.raises(LockHeld):
        Visit.begin(visit.site, WISHES, lambda _: None)
    fake_host.fake.advance(STALE + 1)
    again = Visit.begin(visit.site, WISHES, lambda _: None)
    assert again.left_behind
    again.put_back(whole=True)
    again.close_journal()
    again.end()
    assert fake_host.fake.state() == {**before, "timers": fake_host.fake.state()["timers"]}


def test_a_damaged_journal_stops_and_asks(fake_host: FakeLab) -> None:
    visit = arrive(fake_host)
    borrow(visit)
    die(visit)
    journal = fake_host.fake.root / "run/maskall/journal.jsonl"
    journal.write_bytes(journal.read_bytes().replace(b"pciback", b"PCIBACK", 1))
    state = fake_host.fake.state()
    with pytest.raises(JournalDamaged, match=r"journal\.jsonl:\d+"):
        Visit.begin(visit.site, FORCED, lambda _: None)
    assert fake_host.fake.state()["functions"] == state["functions"], "nothing was touched"


@pytest.mark.parametrize("moved_by", [1, 3])
def test_a_device_that_moved_is_told_and_not_taken_for_another(fake_host: FakeLab, moved_by: int) -> None:
    """The BDF of the journal names nothing, or another device, after a reboot, which has undone all that was done."""
    visit = arrive(fake_host)
    borrow(visit)
    fake_host.fake.moves_at_reboot = moved_by
    fake_host.fake.reboot()
    fake_host.fake.executed.clear()
    give_back(visit)
    visit.end()
    assert not HostState.of(NAME).quarantine
    assert [argv for argv in fake_host.fake.executed if argv[0] in ("tee", "xl", "setpci")] == []


def test_errors_are_one_line(fake_host: FakeLab) -> None:
    visit = arrive(fake_host)
    fake_host.fake.half_way.add(str(NIC))
    with pytest.raises(MaskallError) as raised:
        borrow(visit)
    assert "\n" not in str(raised.value)
    give_back(visit)
    visit.end()
