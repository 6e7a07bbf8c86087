"""Whatever changes the host is sent as a change: when the link breaks in it, its outcome is unknown and never read as
"it was not done"."""

from __future__ import annotations

from typing import Any

import pytest

from harness.lab.lease.deadman import DeadMan
from harness.lab.lease.lease import Lease
from harness.transport.ssh import SshTransport
from suites.selftest.fakes.fakelab import FakeLab, fake_host
from suites.selftest.fakes.labrun import FORCED, NIC, arrive, borrow, controller, die, give_back, site

__all__ = ["controller", "fake_host"]


@pytest.fixture
def untold(fake_host: FakeLab, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Programs that changed the host, in commands that did not say so."""
    run, found, executed = SshTransport.run, list[str](), fake_host.fake.executed

    def watched(link: SshTransport, command: Any, *, changes: bool = False, **more: Any) -> Any:  # noqa: ANN401
        before = len(executed)
        try:
            return run(link, command, changes=changes, **more)
        finally:
            found.extend(" ".join(argv) for argv in executed[before:] if not changes)

    monkeypatch.setattr(SshTransport, "run", watched)
    return found


def test_in_a_whole_stay(fake_host: FakeLab, untold: list[str]) -> None:
    visit = arrive(fake_host)
    borrow(visit)
    give_back(visit)
    assert fake_host.fake.executed
    assert untold == []


def test_where_a_run_that_died_is_taken_back(fake_host: FakeLab, untold: list[str]) -> None:
    visit = arrive(fake_host)
    borrow(visit)
    DeadMan(visit.site.transport, may_reboot=True).arm(visit.transport, NIC, "e1000e")
    die(visit)
    other = Lease.begin(site(fake_host), FORCED, lambda _: None)
    other.put_back(whole=True)
    other.close_journal()
    other.end()
    assert fake_host.fake.ran("systemctl stop .*deadman")
    assert untold == []
