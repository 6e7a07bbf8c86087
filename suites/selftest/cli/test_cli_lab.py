"""`maskall doctor`, `plan` and `restore` on the fake host, over real ssh."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.base.errors import ExitStatus
from harness.cli import main
from harness.lab.lease.state import HostState
from suites.selftest.fakes.fakehost import board
from suites.selftest.fakes.fakelab import NAME, FakeLab, fake_host
from suites.selftest.fakes.labrun import arrive, borrow, die

__all__ = ["fake_host"]
pytestmark = pytest.mark.whole


@pytest.fixture(autouse=True)
def controller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "controller"))


def call(lab: FakeLab, *words: str) -> int:
    verb, *more = words
    return main([verb, NAME, "--inventory", str(lab.inventory), *more])


def test_doctor_of_a_good_host(fake_host: FakeLab, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    before, commands = fake_host.fake.state(), list(fake_host.fake.executed)
    assert call(fake_host, "doctor", "--raw", str(tmp_path / "facts.txt")) == ExitStatus.OK
    told = capsys.readouterr().out
    assert "NOT OK" not in told
    assert f"nic0 at {board.NIC} may be borrowed" in told
    assert told.rstrip().endswith(f"{NAME} is ready; 2 of 2 devices may be borrowed")
    assert b"@@ pci" in (tmp_path / "facts.txt").read_bytes()
    assert fake_host.fake.state() == before
    assert fake_host.fake.executed == commands, "reading changes nothing"


def test_doctor_says_what_is_missing_and_how_to_mend_it(fake_host: FakeLab, capsys: pytest.CaptureFixture[str]) -> None:
    (fake_host.fake.root / "bin/xenstore-read").unlink()
    assert call(fake_host, "doctor") == ExitStatus.FAILED
    told = capsys.readouterr().out
    assert "xenstore-read is missing" in told
    assert "-> apt-get install xenstore-utils" in told


def test_doctor_tells_of_a_run_at_work(fake_host: FakeLab, capsys: pytest.CaptureFixture[str]) -> None:
    visit = arrive(fake_host)
    assert call(fake_host, "doctor") == ExitStatus.FAILED
    assert "used by" in capsys.readouterr().out
    visit.put_back()
    visit.end()


def test_plan_shows_each_change_with_its_undo(fake_host: FakeLab, capsys: pytest.CaptureFixture[str]) -> None:
    commands = list(fake_host.fake.executed)
    assert call(fake_host, "plan", "--device", "nic0") == ExitStatus.OK
    told = capsys.readouterr().out
    assert f"bind {board.NIC} to pciback" in told
    assert f"undo: bind {board.NIC} to e1000e" in told
    assert "send SIGKILL to the device model of maskall-a" in told, "E3 is granted"
    assert "memory decoding" not in told, "E14 is not"
    assert "create domain maskall-b" in told, "follow-ons are told too"
    assert f"unbind {board.NIC} from pciback" in told
    assert f"give {board.NIC} back to e1000e" in told
    assert "maskall-c" not in told, "there is one device, so nobody stands by"
    assert "reset by bus" in told
    assert fake_host.fake.executed == commands


def test_plan_of_two_devices_tells_of_the_guest_that_stands_by(
    fake_host: FakeLab, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(fake_host, "plan") == ExitStatus.OK
    told = capsys.readouterr().out
    assert told.count("create domain maskall-c") == 2, "F4, with the one or the other"
    assert told.count(f"  bind {board.DISK} to pciback") == 2


def test_restore_of_a_host_that_is_as_it_was(fake_host: FakeLab, capsys: pytest.CaptureFixture[str]) -> None:
    before = fake_host.fake.state()
    assert call(fake_host, "restore") == ExitStatus.OK
    assert "nothing to do" in capsys.readouterr().out
    assert fake_host.fake.state() == before


def test_restore_tells_what_was_done_and_undoes_it(fake_host: FakeLab, capsys: pytest.CaptureFixture[str]) -> None:
    before = fake_host.fake.state()
    visit = arrive(fake_host)
    borrow(visit)
    die(visit)
    assert call(fake_host, "restore") == ExitStatus.UNDECIDED
    assert "--take-over" in capsys.readouterr().err
    assert call(fake_host, "restore", "--take-over", "it is dead") == ExitStatus.OK
    told = capsys.readouterr().out
    assert f"bind {board.NIC} to pciback" in told
    assert "is as it was before" in told
    assert fake_host.fake.state() == before
    assert not HostState.of(NAME).journal.exists()


@pytest.mark.parametrize("verb", ["doctor", "plan", "restore", "provision", "unprovision"])
def test_a_host_that_is_none_of_a_lab(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "nested"]) == ExitStatus.USAGE
    told = capsys.readouterr().err
    assert "nested is no machine of a lab" in told
    assert "Traceback" not in told


def test_a_host_that_does_not_answer(
    fake_host: FakeLab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.lab.lease.site.CONNECT_SECONDS", 0.3)
    monkeypatch.setattr("harness.lab.lease.site.Site.patience", 0.3)
    inventory = fake_host.inventory
    inventory.write_text(fake_host.text.replace(f"port: {fake_host.wire.port}", "port: 1"))
    assert main(["doctor", NAME, "--inventory", str(inventory)]) == ExitStatus.UNDECIDED
    assert "no ssh at 127.0.0.1" in capsys.readouterr().err


class TestASecretThatIsNotHere:
    """Another user's shell, or another controller: neither a console nor a power switch is needed to go back."""

    def dirty(self, lab: FakeLab, tmp_path: Path, console: str) -> Path:
        visit = arrive(lab)
        borrow(visit)
        die(visit)
        controller = f"power: {{kind: ipmi, address: 192.0.2.9, user: lab, password: 'env:NO_SUCH'}}\n    {console}"
        inventory = tmp_path / "with_power.yaml"
        inventory.write_text(lab.text.replace("    devices:", f"    {controller}\n    devices:"))
        return inventory

    def restore(self, inventory: Path) -> int:
        return main(["restore", NAME, "--inventory", str(inventory), "--take-over", "it is dead"])

    def test_that_of_its_console(self, fake_host: FakeLab, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        before = fake_host.fake.state()
        assert self.restore(self.dirty(fake_host, tmp_path, "console: {kind: ipmi}")) == ExitStatus.OK
        assert "its console is not recorded: the secret env:NO_SUCH is not set" in capsys.readouterr().out
        assert fake_host.fake.state() == before

    def test_that_of_its_power(self, fake_host: FakeLab, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        inventory = self.dirty(fake_host, tmp_path, "")
        fake_host.fake.zombies = True  # only a reboot ends it
        assert self.restore(inventory) == ExitStatus.OK
        assert "cannot be switched off and on: the secret env:NO_SUCH is not set" in capsys.readouterr().out
        assert fake_host.fake.boots == 2
        assert fake_host.fake.functions[board.NIC].bound == "e1000e"
