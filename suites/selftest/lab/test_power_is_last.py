"""Power is the last thing, and only for a host that is proven silent: whatever answers has somebody at work on it."""

from __future__ import annotations

from pathlib import Path

import paramiko
import pytest

from harness.base.deadline import Deadline
from harness.base.errors import (
    CommandFailed,
    EvidenceError,
    ExitStatus,
    HostHung,
    HostKeyMismatch,
    HostUnreachable,
    JournalDamaged,
    LockHeld,
    MaskallError,
    OutcomeUnknown,
    Unreachable,
)
from harness.cli import main
from harness.lab.lease.holder import STALE
from harness.lab.lease.lease import Lease
from harness.lab.lease.site import Site
from harness.transport.ssh import SshTransport
from suites.selftest.fakes.fakelab import NAME, FakeLab, fake_host, impatient
from suites.selftest.fakes.fakepower import FakePower
from suites.selftest.fakes.labrun import FORCED, NIC, arrive, borrow, controller, die, site

__all__ = ["controller", "fake_host"]
pytestmark = pytest.mark.whole


@pytest.fixture
def power(fake_host: FakeLab, monkeypatch: pytest.MonkeyPatch) -> FakePower:
    """The host's switch. A host that is silent is given up at once here."""
    switch = FakePower(changed=lambda what: fake_host.power_cycle() if what == "on" else None)
    monkeypatch.setattr(Site, "power", lambda self: switch)
    impatient(fake_host, monkeypatch)
    return switch


@pytest.fixture
def dirty(fake_host: FakeLab, power: FakePower) -> FakeLab:
    """A run of ours was killed there."""
    visit = arrive(fake_host)
    borrow(visit)
    die(visit)
    return fake_host


def restore(lab: FakeLab, *words: str, inventory: Path | None = None) -> int:
    return main(["restore", NAME, "--inventory", str(inventory or lab.inventory), *words])


def taken_by_bob(lab: FakeLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lease:
    """From another controller; back on ours afterwards."""
    monkeypatch.setenv("USER", "bob")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "bob"))
    theirs = Lease.begin(site(lab), FORCED, lambda _: None)
    theirs.put_back(whole=True)
    theirs.close_journal()
    monkeypatch.setenv("USER", "ada")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "controller"))
    return theirs


class TestSomebodyAnswers:
    def test_another_ones_live_claim(
        self, dirty: FakeLab, power: FakePower, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        theirs = taken_by_bob(dirty, tmp_path, monkeypatch)
        assert restore(dirty) == ExitStatus.UNDECIDED
        assert power.orders == [] and dirty.fake.boots == 1
        theirs.end()

    def test_another_host_key(self, dirty: FakeLab, power: FakePower) -> None:
        dirty.change_host_key()
        assert restore(dirty) == ExitStatus.UNDECIDED
        assert power.orders == []

    def test_a_damaged_journal(self, dirty: FakeLab, power: FakePower) -> None:
        journal = dirty.fake.root / "run/maskall/journal.jsonl"
        journal.write_bytes(journal.read_bytes().replace(b"pciback", b"PCIBACK", 1))
        assert restore(dirty, "--take-over", "a test") == ExitStatus.UNDECIDED
        assert power.orders == []
        assert (dirty.fake.root / "run/maskall/claim").exists(), "a dirty host stays claimed"

    def test_a_login_that_is_refused(self, dirty: FakeLab, power: FakePower) -> None:
        dirty.server.user_key = paramiko.PKey.from_path(dirty.keys / "other")
        assert restore(dirty) == ExitStatus.UNDECIDED
        assert power.orders == []

    def test_a_name_that_does_not_resolve(self, dirty: FakeLab, power: FakePower, tmp_path: Path) -> None:
        inventory = tmp_path / "elsewhere.yaml"
        inventory.write_text(dirty.text.replace("127.0.0.1", "no-such-host.invalid"))
        assert restore(dirty, inventory=inventory) == ExitStatus.UNDECIDED
        assert power.orders == []

    def test_a_server_that_hangs_up(self, dirty: FakeLab, power: FakePower) -> None:
        """Too many logins, or an address that is not allowed: sshd accepts and closes."""
        dirty.server.refuses = True
        dirty.server.drop()
        assert restore(dirty) == ExitStatus.UNDECIDED
        assert power.orders == []

    @pytest.mark.parametrize("how", ["silent", "refuses"])
    def test_a_host_that_is_still_booting(
        self, dirty: FakeLab, power: FakePower, how: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        connect, asked = SshTransport.connect, list[None]()

        def connected(link: SshTransport, deadline: Deadline) -> None:
            """It has come up once it was asked in vain."""
            asked.append(None)
            if len(asked) == 2:
                dirty.server.refuses = False
                dirty.power_cycle()
            connect(link, deadline)

        monkeypatch.setattr(SshTransport, "connect", connected)
        if how == "silent":
            dirty.hang()
        else:
            dirty.server.refuses = True
            dirty.server.drop()
        assert restore(dirty, "--take-over", "a test") == ExitStatus.OK
        assert power.orders == []

    @pytest.mark.parametrize(
        "error",
        [
            OutcomeUnknown("x"), HostHung("x"), CommandFailed("x"), LockHeld("x"), JournalDamaged("x"),
            HostKeyMismatch("x"), EvidenceError("x"),
            *(HostUnreachable("x", why=why) for why in Unreachable if why is not Unreachable.SILENT),
        ],
        ids=lambda error: f"{type(error).__name__} {getattr(error, 'why', '')}",
    )  # fmt: skip
    def test_no_error_but_silence(
        self, dirty: FakeLab, power: FakePower, error: MaskallError, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def begin(*_: object) -> None:
            raise error

        monkeypatch.setattr(Lease, "begin", begin)
        assert restore(dirty) == ExitStatus.UNDECIDED
        assert power.orders == []


class TestNobodyAnswers:
    def test_ours_is_power_cycled_and_put_back(self, dirty: FakeLab, power: FakePower) -> None:
        dirty.hang()
        assert restore(dirty, "--take-over", "a test") == ExitStatus.OK
        assert power.orders == ["off", "on"]
        assert dirty.fake.state()["functions"][str(NIC)]["driver"] == "e1000e"

    def test_not_where_nothing_of_ours_is_open(self, fake_host: FakeLab, power: FakePower) -> None:
        fake_host.hang()
        assert restore(fake_host) == ExitStatus.UNDECIDED
        assert power.orders == []

    def test_not_where_the_journal_says_that_it_is_closed(self, dirty: FakeLab, power: FakePower) -> None:
        visit = Lease.begin(site(dirty), FORCED, lambda _: None)
        visit.put_back(whole=True)
        visit.journal.close = list  # type: ignore[method-assign]  # it dies right after saying so
        visit.close_journal()
        die(visit)
        dirty.hang()
        assert restore(dirty) == ExitStatus.UNDECIDED
        assert power.orders == []

    def test_not_when_somebody_else_had_it_last(
        self,
        dirty: FakeLab,
        power: FakePower,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        theirs = taken_by_bob(dirty, tmp_path, monkeypatch)
        assert restore(dirty) == ExitStatus.UNDECIDED
        dirty.hang()
        assert restore(dirty) == ExitStatus.UNDECIDED
        assert power.orders == []
        assert "used by bob" in capsys.readouterr().out
        assert restore(dirty, "--take-over", "bob has gone home") == ExitStatus.OK
        assert power.orders == ["off", "on"]
        die(theirs)

    def test_nor_when_it_was_heard_of_by_another_name(
        self, dirty: FakeLab, power: FakePower, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One machine that the inventory knows by two addresses."""
        entry = dirty.text.partition("hosts:\n")[2].replace(NAME, "by_name").replace("127.0.0.1", "localhost")
        inventory = tmp_path / "two.yaml"
        inventory.write_text(dirty.text + entry)
        theirs = taken_by_bob(dirty, tmp_path, monkeypatch)
        assert main(["restore", "by_name", "--inventory", str(inventory)]) == ExitStatus.UNDECIDED
        die(theirs)
        dirty.hang()
        assert restore(dirty, inventory=inventory) == ExitStatus.UNDECIDED
        assert power.orders == []

    def test_nor_when_they_are_dead_by_now(
        self, dirty: FakeLab, power: FakePower, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        die(taken_by_bob(dirty, tmp_path, monkeypatch))
        dirty.fake.advance(STALE + 1)
        assert restore(dirty) == ExitStatus.UNDECIDED
        dirty.hang()
        assert restore(dirty) == ExitStatus.UNDECIDED
        assert power.orders == []

    def test_nor_when_doctor_was_told_so(
        self, dirty: FakeLab, power: FakePower, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        theirs = taken_by_bob(dirty, tmp_path, monkeypatch)
        main(["doctor", NAME, "--inventory", str(dirty.inventory)])
        dirty.hang()
        assert restore(dirty) == ExitStatus.UNDECIDED
        assert power.orders == []
        die(theirs)
