"""Going back needs no new line of a journal: it works with full and read-only disks, on both machines."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from harness.base.errors import ExitStatus, LabError, MaskallError, NotRecorded
from harness.cli import main
from harness.lab.lease.claim import look
from harness.lab.lease.lease import Lease
from harness.lab.lease.state import HostState
from suites.selftest.fakes.failingdisk import FailingDisk
from suites.selftest.fakes.fakelab import NAME, FakeLab, fake_host
from suites.selftest.fakes.labrun import FORCED, arrive, borrow, controller, die, site
from suites.selftest.fakes.schedules import Accident, alone, begun, borrowed, played, restored

__all__ = ["controller", "fake_host"]
pytestmark = pytest.mark.whole


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[FailingDisk]:
    with FailingDisk(tmp_path / "controller") as made:
        yield made


def restore(lab: FakeLab, *words: str) -> int:
    return main(["restore", NAME, "--inventory", str(lab.inventory), "--take-over", "a test", *words])


def killed(lab: FakeLab) -> None:
    visit = arrive(lab)
    borrow(visit)
    die(visit)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO])
def test_the_controllers_disk_takes_nothing(
    fake_host: FakeLab, disk: FailingDisk, number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    before = fake_host.fake.state()
    killed(fake_host)
    disk.fails(lambda _: number)
    assert restore(fake_host) == 0
    disk.fails(None)
    assert "its copy stays" in capsys.readouterr().out
    assert fake_host.fake.state() == before
    visit = Lease.begin(site(fake_host), FORCED, lambda _: None)
    assert not visit.left_behind, "its copy is told from one that counts"
    visit.end()


def _a_file(state: Path) -> None:
    shutil.rmtree(state)
    state.touch()


def _a_link_to_what_is_not_mounted(state: Path) -> None:
    shutil.rmtree(state / "maskall")
    (state / "maskall").symlink_to("/nonexistent/maskall")


def _a_link_to_itself(state: Path) -> None:
    shutil.rmtree(state)
    state.symlink_to(state)


def _of_somebody_else(state: Path) -> None:
    (state / "maskall/hosts" / NAME / "journal.jsonl").unlink()
    os.chown(state / "maskall/hosts" / NAME, 12345, -1)


@pytest.mark.parametrize("broken", [_a_file, _a_link_to_what_is_not_mounted, _a_link_to_itself, _of_somebody_else])
def test_its_state_is_not_where_it_should_be(
    fake_host: FakeLab, tmp_path: Path, broken: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Going back remembers nothing here. A copy that cannot be read is told from one that is not there."""
    if broken is _of_somebody_else and os.geteuid() != 0:
        pytest.skip("only root gives files away")
    before = fake_host.fake.state()
    killed(fake_host)
    broken(tmp_path / "controller")
    if restore(fake_host) != 0:
        assert "--journal host" in capsys.readouterr().err and broken is _a_link_to_itself
        assert restore(fake_host, "--journal", "host") == 0
    assert "nothing can be remembered" in capsys.readouterr().out
    assert fake_host.fake.state() == before


@pytest.mark.parametrize("number", [errno.EACCES, errno.ESTALE])
def test_its_state_can_no_longer_be_opened(
    fake_host: FakeLab, tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = fake_host.fake.state()
    killed(fake_host)
    plain = os.open

    def opened(file: Any, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401  (passed through)
        if str(file).startswith(str(tmp_path / "controller")):
            raise OSError(number, os.strerror(number))
        return plain(file, *arguments, **named)

    monkeypatch.setattr(os, "open", opened)
    assert restore(fake_host) == ExitStatus.UNDECIDED
    assert "--journal host goes by the host's copy alone" in capsys.readouterr().err
    assert restore(fake_host, "--journal", "host") == 0
    assert fake_host.fake.state() == before


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EIO])
def test_its_file_system_has_no_locks(
    fake_host: FakeLab, number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """NFS without its lock manager: nothing is begun, and everything is taken back."""
    before = fake_host.fake.state()
    killed(fake_host)
    monkeypatch.setattr(fcntl, "flock", Mock(side_effect=OSError(number, os.strerror(number))))
    assert restore(fake_host) == 0
    assert "cannot be locked" in capsys.readouterr().out
    assert fake_host.fake.state() == before
    visit = Lease.begin(site(fake_host), FORCED, lambda _: None)
    with pytest.raises(NotRecorded, match="cannot be locked"):
        visit.open_journal("a test")
    visit.end()


def test_a_journal_without_a_line_is_cleared_away(fake_host: FakeLab) -> None:
    """Its writer died before the first line was whole: nothing was announced, so nothing was changed."""
    visit = Lease.begin(site(fake_host), FORCED, lambda _: None)
    die(visit)
    (fake_host.fake.root / "run/maskall/journal.jsonl").touch()
    assert restore(fake_host) == 0
    assert look(fake_host.transport()) is None, "the host is free"


def test_what_is_not_written_down_is_told(fake_host: FakeLab, disk: FailingDisk) -> None:
    killed(fake_host)
    run = HostState.of(NAME).journal.read_bytes().partition(b'"run":"')[2].partition(b'"')[0].decode()
    HostState.of(NAME).poison("a test")
    disk.fails(lambda _: errno.ENOSPC)
    told = list[str]()
    visit = Lease.begin(site(fake_host), FORCED, told.append)
    visit.put_back(whole=True)
    visit.close_journal()
    visit.end()
    for part in (
        "nothing can be remembered",
        "is not written down: ",
        "its copy stays",
        "still counts as in quarantine",
    ):
        assert [line for line in told if part in line and "No space left" in line], part
    told.clear()
    Lease.begin(site(fake_host), FORCED, told.append).end()
    assert any(line == f"{HostState.of(NAME).journal}: No space left on device" for line in told), "it is still there"
    disk.fails(None)
    Lease.begin(site(fake_host), FORCED, told.append).end()
    assert [path.name for path in (HostState.of(NAME).folder / "journals").iterdir()] == [f"{run}-closed.jsonl"]


def test_so_is_a_copy_that_another_controller_cannot_keep(
    fake_host: FakeLab, disk: FailingDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(fake_host)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "controller/another"))
    disk.fails(lambda _: errno.ENOSPC)
    told = list[str]()
    visit = Lease.begin(site(fake_host), FORCED, told.append)
    with pytest.raises(NotRecorded, match="No space left"):
        visit.journal.about_to(_change())
    alike = [line for line in told if line.endswith(f"hosts/{NAME}: No space left on device")]
    assert len(alike) == 2, "neither who holds it, nor the journal"
    visit.end()
    assert look(fake_host.transport()) is None


def test_one_that_is_no_longer_full_holds_the_journal_of_who_came_while_it_was(
    fake_host: FakeLab, disk: FailingDisk
) -> None:
    """Who holds the state there could not be noted: that an earlier process did counts no more."""
    killed(fake_host)
    disk.fails(lambda _: errno.ENOSPC)
    visit = Lease.begin(site(fake_host), FORCED, lambda _: None)
    disk.fails(None)
    visit.journal.about_to(_change())
    visit.end()
    assert not HostState.of(NAME).journal.exists()


def test_a_run_goes_back_when_the_disk_fills_up_under_it(fake_host: FakeLab, disk: FailingDisk) -> None:
    before = fake_host.fake.state()
    visit = arrive(fake_host)
    borrow(visit)
    disk.fails(lambda _: errno.ENOSPC)
    with pytest.raises(LabError):
        visit.journal.about_to(_change())
    visit.end()
    assert fake_host.fake.state() == before


def test_the_hosts_memory_disk_is_full(fake_host: FakeLab) -> None:
    """Not even for the claim of who wants to restore it there is room, as a file."""
    before = fake_host.fake.state()
    killed(fake_host)
    fake_host.fake.full = True
    told: list[str] = []
    visit = Lease.begin(site(fake_host), FORCED, told.append)
    there = look(fake_host.transport())
    assert there is not None and there.holder.token == visit.claim.holder.token and there.live
    visit.put_back(whole=True)
    assert any("without writing it down" in line for line in told)
    visit.close_journal()
    assert any("that it is restored is not written down" in line for line in told)
    visit.end()
    fake_host.fake.full = False
    assert fake_host.fake.state() == before
    assert look(fake_host.transport()) is None


def test_so_does_the_command(fake_host: FakeLab) -> None:
    before = fake_host.fake.state()
    killed(fake_host)
    fake_host.fake.full = True
    assert restore(fake_host) == 0
    fake_host.fake.full = False
    assert fake_host.fake.state() == before


def test_both_at_once(fake_host: FakeLab, disk: FailingDisk) -> None:
    before = fake_host.fake.state()
    killed(fake_host)
    fake_host.fake.full = True
    disk.fails(lambda _: errno.ENOSPC)
    assert restore(fake_host) == 0
    fake_host.fake.full = False
    assert fake_host.fake.state() == before


def test_a_reboot_too_is_ordered_without_a_line(fake_host: FakeLab) -> None:
    visit = arrive(fake_host)
    borrow(visit)
    die(visit)
    fake_host.fake.zombies = True
    fake_host.fake.full = True
    assert restore(fake_host) == 0
    assert fake_host.fake.boots == 2


def test_a_claim_in_a_link_is_a_claim(fake_host: FakeLab) -> None:
    (fake_host.fake.root / "run/maskall").mkdir(mode=0o700)
    fake_host.fake.full = True
    visit = Lease.begin(site(fake_host), FORCED, lambda _: None)
    assert (fake_host.fake.root / "run/maskall/claim").is_symlink()
    with pytest.raises(LabError, match="used by"):
        Lease.begin(site(fake_host), type(FORCED)(reason="another"), lambda _: None)
    visit.claim.check()
    visit.claim.renew()
    visit.end()
    assert look(fake_host.transport()) is None


class Nth:
    """What a disk says that fails at the `nth` change, and `lasting` at all after it."""

    def __init__(self, nth: int, lasting: bool) -> None:
        self.nth, self.lasting, self.seen = nth, lasting, 0

    def __call__(self, _: str) -> int:
        self.seen += 1
        return errno.ENOSPC if self.seen == self.nth or (self.lasting and self.seen > self.nth) else 0


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from then on"])
class TestTheNth:
    """Every write, fsync, rename, mkdir on the controller fails once, each in its turn, and after it all others."""

    def test_of_all(self, disk: FailingDisk, tmp_path: Path, lasting: bool) -> None:
        """On a host whose shells are played; every change of the disk is the real one."""
        place = tmp_path / "controller/box"
        place.mkdir(parents=True)
        with played():
            for nth in range(1, 1000):
                schedule, fails, stay = alone(Accident()), Nth(nth, lasting), None
                disk.fails(fails)
                try:
                    stay = begun(schedule, "ada", place)
                    borrowed(stay)
                except LabError as error:
                    assert "\n" not in str(error)
                finally:
                    if stay is not None:
                        stay.end()
                disk.fails(None)
                if schedule.host.dirty:
                    assert schedule.host.text("claim") or HostState.of("box").quarantine, nth
                    again = begun(schedule, "ada", place, take_over=True)
                    restored(again)
                    again.end()
                assert not schedule.host.dirty and not schedule.host.violations, nth
                HostState.of("box").cure()
                if fails.seen < nth:
                    break
        assert 20 < nth < 999

    def test_fails(self, fake_host: FakeLab, disk: FailingDisk, lasting: bool) -> None:
        """On one that runs every program; some of them."""
        before = fake_host.fake.state()
        for nth in range(1, 400, 7 if not lasting else 13):
            fails, visit = Nth(nth, lasting), None
            disk.fails(fails)
            try:
                visit = arrive(fake_host)
                borrow(visit)
            except LabError as error:
                assert "\n" not in str(error)
            finally:
                if visit is not None:
                    visit.end()
            disk.fails(None)
            _clean_or_claimed(fake_host, before)
            if fails.seen < nth:
                break
        assert nth > 20


_FAILING = """\
#!/bin/sh
printf x >>"{root}/calls"  # one byte each: the heartbeat calls at the same time
calls=$(wc -c <"{root}/calls")
read -r nth <"{root}/nth"
if [ "$calls" -eq "$nth" ] || {{ [ "$calls" -gt "$nth" ] && [ -e "{root}/lasting" ]; }}; then
  echo "{name}: No space left on device" >&2
  exit 1
fi
exec {real} "$@"
"""


class TestTheHostsNth:
    """The same for the programs that write there: mkdir, mv, cat, ln, rm."""

    @pytest.fixture
    def programs(self, fake_host: FakeLab) -> FakeLab:
        for name in ("mkdir", "mv", "cat", "ln"):
            path = fake_host.fake.root / "bin" / name
            path.write_text(_FAILING.format(root=fake_host.fake.root, name=name, real=shutil.which(name)))
            path.chmod(0o755)
        return fake_host

    @pytest.mark.parametrize("nth", range(8, 74, 12))
    @pytest.mark.parametrize("lasting", [False, True], ids=["once", "from then on"])
    def test_fails(self, programs: FakeLab, nth: int, lasting: bool) -> None:
        chosen, calls, until = (programs.fake.root / name for name in ("nth", "calls", "lasting"))
        chosen.write_text("100000\n")
        before = programs.fake.state()
        chosen.write_text(f"{nth}\n")
        calls.unlink(missing_ok=True)
        if lasting:
            until.touch()
        visit = None
        try:
            visit = arrive(programs)
            borrow(visit)
            visit.end()
        except MaskallError as error:
            assert "\n" not in str(error)
            if visit is not None:
                with contextlib.suppress(MaskallError):
                    visit.end()
        until.unlink(missing_ok=True)
        chosen.write_text("100000\n")
        _clean_or_claimed(programs, before)


def _clean_or_claimed(lab: FakeLab, before: dict[str, object]) -> None:
    """Every dirty host is claimed or quarantined, and can be restored."""
    now = lab.fake.state()
    if now != before:
        claimed = (lab.fake.root / "run/maskall/claim").exists() or (lab.fake.root / "run/maskall/claim").is_symlink()
        assert claimed or HostState.of(NAME).quarantine
        assert restore(lab) == 0
        assert lab.fake.state() == before
    HostState.of(NAME).cure()


def _change():  # type: ignore[no-untyped-def]  # noqa: ANN202
    from harness.model.change import Change, ChangeKind

    return Change(ChangeKind.CONFIG, "0000:02:00.0", "write COMMAND=0:2", "write it back")
