"""A host that does not come back by itself: rebooted, power cycled, or in quarantine until somebody restores it."""

from __future__ import annotations

import pytest

from harness.base.errors import HostKeyMismatch, HostQuarantined
from harness.lab.lease.claim import look
from harness.lab.lease.ladder import Climb, Rung
from harness.lab.lease.lease import Lease
from harness.lab.lease.state import HostState
from suites.selftest.fakes.fakelab import NAME, FakeLab, fake_host, impatient
from suites.selftest.fakes.fakepower import FakePower
from suites.selftest.fakes.labrun import FORCED, NIC, WISHES, arrive, baseline, borrow, controller, give_back, site

__all__ = ["controller", "fake_host"]
pytestmark = pytest.mark.whole


class TestLadder:
    def quarantined(self, lab: FakeLab, visit: Lease, climb: Climb | None) -> None:
        assert climb is not None and not climb.restored
        assert climb.tried[-1].rung is Rung.QUARANTINE
        visit.end()
        assert HostState.of(NAME).quarantine
        there = look(lab.transport())
        assert there is not None and there.holder.reason.startswith("in quarantine: "), "it stays claimed, and says why"
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
        impatient(fake_host, monkeypatch)
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
            Lease.begin(visit.site, WISHES, lambda _: None)

    def test_restore_ends_a_quarantine(self, fake_host: FakeLab) -> None:
        before = baseline(fake_host)
        visit = arrive(fake_host)
        visit.site.entry.__dict__["allow_reboot"] = False
        borrow(visit)
        fake_host.fake.zombies = True
        self.quarantined(fake_host, visit, give_back(visit))
        fake_host.fake.zombies = False
        fake_host.fake.reboot()  # somebody went there
        again = Lease.begin(site(fake_host), FORCED, lambda _: None)
        again.put_back(whole=True)
        again.close_journal()
        again.end()
        assert not HostState.of(NAME).quarantine
        assert fake_host.fake.state()["functions"] == before["functions"]
