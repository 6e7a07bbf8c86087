"""A holder that was paused and taken over changes nothing any more; and nothing is sent twice."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from harness.base.errors import ExitStatus, HostHung, JournalDamaged, LabError, LockHeld, UsageError
from harness.cli import main
from harness.lab.lease import fence
from harness.lab.lease.claim import Claim
from harness.lab.lease.deadman import DeadMan
from harness.lab.lease.fence import Fenced
from harness.lab.lease.holder import Holder
from harness.lab.lease.lease import Lease
from harness.lab.lease.state import HostState
from harness.model.change import Change, ChangeKind
from harness.run.options import RunOptions
from harness.transport.base import Command, Script
from harness.xen.toolstack.xl import XlToolstack
from suites.selftest.fakes.fakehost import board
from suites.selftest.fakes.fakelab import NAME, FakeLab, fake_host
from suites.selftest.fakes.faketransport import FakeTransport, Reply
from suites.selftest.fakes.labrun import FORCED, NIC, arrive, borrow, controller, die, site
from suites.selftest.fakes.localtransport import LocalTransport
from suites.selftest.fakes.patience import soon

__all__ = ["controller", "fake_host"]
pytestmark = pytest.mark.whole
CHANGE = Change(ChangeKind.CONFIG, str(NIC), "write COMMAND=0:2", "write it back")


def paused(visit: Lease) -> Lease:
    """It has asked for the last time whether the host is its own, and hears nothing any more."""
    visit.journal.still_ours = lambda: None
    visit.claim._stop.set()
    return visit


@pytest.fixture
def first(fake_host: FakeLab) -> Lease:
    return arrive(fake_host)


class TestTheHost:
    @pytest.mark.parametrize(
        "command",
        [
            ["setpci", "-s", str(NIC), "COMMAND=0:2"],
            ["xl", "pci-assignable-add", str(NIC)],
            ["tee", f"/sys/bus/pci/devices/{NIC}/reset"],
            ["modprobe", "-r", "e1000e"],
            ["systemctl", "reboot"],
            Script(f"echo 1 > /sys/bus/pci/devices/{NIC}/reset"),
        ],
        ids=str,
    )
    def test_a_change_decided_before_is_refused_after(self, fake_host: FakeLab, first: Lease, command: Command) -> None:
        paused(first)
        second = Lease.begin(first.site, FORCED, lambda _: None)
        fake_host.fake.executed.clear()
        with pytest.raises(LockHeld, match="no longer ours"):
            first.transport.run(command, deadline=soon(), changes=True, stdin=b"1\n").check()
        assert fake_host.fake.executed == [] and fake_host.fake.boots == 1
        second.put_back(whole=True)
        second.close_journal()
        second.end()

    def test_so_is_a_file_a_stream_and_a_timer(self, fake_host: FakeLab, first: Lease) -> None:
        paused(first)
        second = Lease.begin(first.site, FORCED, lambda _: None)
        fake_host.fake.executed.clear()
        with pytest.raises(LockHeld):
            first.transport.put(b"x", "/run/maskall/x", 0o600, soon())
        stream = XlToolstack(first.transport).start_destroy(1, soon())
        with pytest.raises(LabError):
            stream.read_until(b"never", soon())
        with pytest.raises(LockHeld):
            DeadMan(first.site.transport).arm(first.transport, NIC, "e1000e")
        assert fake_host.fake.executed == []
        assert not (fake_host.fake.root / "run/maskall/x").exists()
        second.end()

    def test_and_everything_once_it_has_rebooted(self, fake_host: FakeLab, first: Lease) -> None:
        paused(first)
        fake_host.fake.reboot()
        first.transport.close()
        first.transport.connect(soon())
        with pytest.raises(LabError, match="has rebooted by itself"):
            first.transport.run(["setpci", "-s", str(NIC), "COMMAND=0:2"], deadline=soon(), changes=True)
        assert fake_host.fake.executed == []
        first.put_back()
        first.end()

    def test_a_whole_run_of_the_paused_one_does_nothing(self, fake_host: FakeLab, first: Lease) -> None:
        paused(first)
        second = Lease.begin(first.site, FORCED, lambda _: None)
        fake_host.fake.executed.clear()
        with pytest.raises(LabError):
            borrow(first)
        with pytest.raises(LabError):
            first.put_back(whole=True)
        assert fake_host.fake.executed == []
        second.put_back(whole=True)
        second.close_journal()
        second.end()


class TestTheLink:
    """What goes over it, and what is made of the answers."""

    @staticmethod
    def fenced(answer: Reply) -> tuple[Fenced, FakeTransport]:
        link = FakeTransport("xenbox1", connected=True, commands={".*": answer}, streams={".*": bytes})
        return Fenced(link, Claim(link, Holder("ci", "a test", "now", "t1"), {}), "b1"), link

    def test_only_a_change_is_fenced_and_is_sent_as_one(self) -> None:
        fenced, link = self.fenced(Reply())
        fenced.run(["true"], deadline=soon(), stdin=b"1")
        fenced.open_stream(["true"], deadline=soon())
        fenced.run(["true"], deadline=soon(), changes=True, stdin=b"1")
        fenced.open_stream(Script("true"), deadline=soon(), changes=True)
        assert [one.shown for one in link.executed[:2]] == ["true", "true"]
        assert all("\nmine || refuse lost\n" in one.shown and "\ntrue\n" in one.shown for one in link.executed[2:])
        assert [one.changes for one in link.executed] == [False, False, True, True]
        assert [one.stdin for one in link.executed] == [b"1", b"", b"1", b""]

    @pytest.mark.parametrize(
        ("status", "said", "error"),
        [
            (97, b"maskall-t1: rebooted\n", "^xenbox1 has rebooted by itself: boot_id is no longer b1"),
            (97, b"\xff\nmaskall-t1: lost\n", "^xenbox1 is no longer ours: "),
            (97, b"maskall-t1: busy", "^xenbox1 is no longer ours: "),
            (97, b"maskall-t2: lost\n", ""),
            (97, b"\xff", ""),
            (1, b"maskall-t1: lost\n", ""),
        ],
    )
    def test_the_fences_no_is_told_from_the_programs_own(self, status: int, said: bytes, error: str) -> None:
        fenced, _ = self.fenced(Reply(stderr=said, status=status))
        if error:
            with pytest.raises(LabError, match=error) as raised:
                fenced.run(["true"], deadline=soon(), changes=True)
            assert isinstance(raised.value, LockHeld) is ("rebooted" not in error)
        else:
            assert fenced.run(["true"], deadline=soon(), changes=True).status == status

    @pytest.mark.parametrize(
        ("stdout", "told"), [(b"", "unknown"), (b"xl destroy 7\n", "xl destroy 7"), (b"a\nb\nc\n", "a; b; c")]
    )
    def test_what_still_runs_is_named(self, stdout: bytes, told: str) -> None:
        fenced, _ = self.fenced(Reply(stdout, status=98))
        with pytest.raises(HostHung) as raised:
            fenced.wait_idle()
        assert raised.value.message == f"xenbox1: what was sent earlier still runs there: {told}"
        assert raised.value.hint
        for status in (0, 1, 99):
            self.fenced(Reply(stdout, status=status))[0].wait_idle()

    def test_on_a_host_it_is_what_holds_the_lock_three_at_most(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """And none of what asks."""
        monkeypatch.setattr(fence, "IDLE_SECONDS", 0)
        (tmp_path / "work").touch()
        here = LocalTransport("xenbox1")
        fenced = Fenced(here, Claim(here, Holder("ci", "a test", "now", "t1"), {}, str(tmp_path)), "b1")
        fenced.wait_idle()
        hold = f"exec 8>>{tmp_path}/work; flock -s 8; echo held; exec sleep {{}}"
        held = []
        for count in (1, 2, 5):
            while len(held) < count:
                held.append(here.open_stream(Script(hold.format(3600 + len(held))), deadline=soon()))
                held[-1].read_until(b"held", soon())
            with pytest.raises(HostHung) as raised:
                fenced.wait_idle()
            named = raised.value.message.partition("runs there: ")[2].split("; ")
            assert len(named) == min(count, 3) and all(one.startswith("sleep 36") for one in named)
        for one in held:
            one.close()


class TestThisController:
    def test_the_old_process_cannot_write_into_the_journal_of_the_new(self, fake_host: FakeLab, first: Lease) -> None:
        paused(first)
        second = Lease.begin(first.site, FORCED, lambda _: None)
        second.journal.about_to(CHANGE)
        before = HostState.of(NAME).journal.read_bytes()
        with pytest.raises(LockHeld, match="another process of this controller"):
            first.journal.about_to(CHANGE)
        assert HostState.of(NAME).journal.read_bytes() == before
        second.journal.about_to(CHANGE)
        second.put_back(whole=True)
        second.close_journal()
        second.end()

    def test_nor_where_nothing_could_be_remembered(self, fake_host: FakeLab, first: Lease) -> None:
        """The note of who holds the state found no room: a line of somebody else's is seen all the same."""
        paused(first)
        second = Lease.begin(first.site, FORCED, lambda _: None)
        second.journal.about_to(CHANGE)
        before = HostState.of(NAME).journal.read_bytes()
        first.journal.local_token = ""
        with pytest.raises(LabError, match="somebody else has written"):
            first.journal.about_to(CHANGE)
        assert HostState.of(NAME).journal.read_bytes() == before
        second.put_back(whole=True)
        second.close_journal()
        second.end()


class TestOneCopyIsDamaged:
    @pytest.mark.parametrize("copy", ["host", "controller"])
    def test_the_other_is_chosen_by_hand(
        self, fake_host: FakeLab, copy: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = fake_host.fake.state()
        visit = arrive(fake_host)
        borrow(visit)
        die(visit)
        there, here = fake_host.fake.root / "run/maskall/journal.jsonl", HostState.of(NAME).journal
        bad = there if copy == "controller" else here
        bad.write_bytes(bad.read_bytes().replace(b"pciback", b"PCIBACK", 1))
        damaged = bad.read_bytes()
        words = ["restore", NAME, "--inventory", str(fake_host.inventory), "--take-over", "a test"]
        assert main(words) != 0
        assert fake_host.fake.state()["functions"] != before["functions"], "nothing was touched"
        assert main([*words, "--journal", copy]) == 0
        assert fake_host.fake.state() == before
        kept = [path.read_bytes() for path in HostState.of(NAME).folder.rglob("*.jsonl")]
        assert damaged in kept, "it is evidence"
        told = capsys.readouterr().out
        assert f"/journal-of-{'the-host' if copy == 'controller' else 'this-controller'}.jsonl" in told

    @pytest.mark.parametrize("copy", ["host", "controller"])
    def test_where_there_is_none_none_is_kept(
        self, fake_host: FakeLab, copy: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = fake_host.fake.state()
        assert main(["restore", NAME, "--inventory", str(fake_host.inventory), "--journal", copy]) == 0
        assert "is kept in" not in capsys.readouterr().out
        assert fake_host.fake.state() == before
        assert not list(HostState.of(NAME).folder.rglob("journal*"))

    def test_a_copy_of_another_machine_is_put_aside_by_hand(self, fake_host: FakeLab) -> None:
        visit = arrive(fake_host)
        borrow(visit)
        die(visit)
        fake_host.fake.reboot()
        (fake_host.fake.root / "etc/machine-id").write_text(f"{'5' * 32}\n")
        words = ["restore", NAME, "--inventory", str(fake_host.inventory)]
        assert main(words) != 0
        assert not (fake_host.fake.root / "run/maskall/claim").exists(), "this machine is clean, and free again"
        fake_host.fake.executed.clear()
        assert main([*words, "--journal", "host"]) == 0
        assert not fake_host.fake.ran("xl|tee|setpci|modprobe")
        arrive(fake_host).end()


class TestRebooted:
    def test_how_its_devices_are_now_is_told(self, fake_host: FakeLab, capsys: pytest.CaptureFixture[str]) -> None:
        words = ["restore", NAME, "--inventory", str(fake_host.inventory), "--take-over", "a test"]
        for driver, told in (("e1000e", f"{board.NIC} is as it was"), (None, f"{board.NIC}: driver is ")):
            visit = arrive(fake_host)
            borrow(visit)
            die(visit)
            next(one for one in fake_host.fake.boot_functions if one.bdf == board.NIC).driver = driver
            fake_host.fake.reboot()
            assert main(words) == 0
            out = capsys.readouterr().out
            assert told in out and "has rebooted since: that has undone what was done" in out
            assert (HostState.of(NAME).folder / "journals" / f"{visit.journal.run}-rebooted.jsonl").exists()


class TestSentOnce:
    def test_what_still_runs_is_waited_for_and_not_sent_again(
        self, fake_host: FakeLab, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(fence, "IDLE_SECONDS", 1)
        monkeypatch.setattr("harness.lab.lease.undo._SECONDS", 1.0)
        visit = arrive(fake_host)
        borrow(visit)
        fake_host.fake.hang(program="pci-assignable-remove")
        with pytest.raises(HostHung):
            visit.put_back()
        with pytest.raises(HostHung, match="still runs there"):
            visit.put_back()
        die(visit)
        other = Lease.begin(site(fake_host), FORCED, lambda _: None)
        with pytest.raises(HostHung, match="still runs there"):
            other.put_back(whole=True)
        assert fake_host.fake.ran("pci-assignable-remove") <= 1
        fake_host.fake.release()
        monkeypatch.setattr(fence, "IDLE_SECONDS", 20)
        monkeypatch.setattr("harness.lab.lease.undo._SECONDS", 20.0)
        other.put_back(whole=True)
        other.close_journal()
        other.end()
        assert fake_host.fake.ran("pci-assignable-remove") == 1


class TestNobodyElse:
    @pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
    def test_modes_do_not_depend_on_umask(self, fake_host: FakeLab, umask: int) -> None:
        before = os.umask(umask)
        try:
            visit = arrive(fake_host)
            visit.state.keep("facts.txt", b"x")
            visit.state.poison("a test")
            state = HostState.of(NAME)
            seen = [*state.folder.rglob("*"), state.folder, state.folder.parent, state.folder.parent.parent]
            assert len(seen) > 6
            assert {path for path in seen if path.stat().st_mode & 0o077} == set()
            run = fake_host.fake.root / "run/maskall"
            assert run.stat().st_mode & 0o777 == 0o700, "nobody else can open it, read the token or lock it"
            visit.state.cure()
            visit.end()
            assert {path for path in state.folder.rglob("*") if path.stat().st_mode & 0o077} == set()
        finally:
            os.umask(before)

    def test_an_umask_that_takes_our_own_rights_is_not_obeyed(self, fake_host: FakeLab, tmp_path: Path) -> None:
        """What was written could not be read again, and the host not be given back."""
        visit = arrive(fake_host)
        borrow(visit)
        die(visit)
        shutil.rmtree(tmp_path / "controller")
        before = os.umask(0o777)
        try:
            command = ["restore", NAME, "--inventory", str(fake_host.inventory), "--take-over", "a test"]
            assert main(command) == 0
        finally:
            os.umask(before)
        state = [path for path in (tmp_path / "controller").rglob("*") if path.is_file()]
        assert state and {path.stat().st_mode & 0o777 for path in state} == {0o600}

    def test_a_folder_that_others_could_write_into_is_closed(self, fake_host: FakeLab, tmp_path: Path) -> None:
        """Made by an older version under another umask, or by hand."""
        above = [tmp_path / "controller/maskall", tmp_path / "controller/maskall/hosts"]
        for folder in above:
            folder.mkdir(parents=True)
            folder.chmod(0o777)
        Lease.begin(site(fake_host), FORCED, lambda _: None).end()
        assert {folder.stat().st_mode & 0o022 for folder in above} == {0}

    def test_a_journal_that_somebody_else_has_put_there_is_not_read(
        self, fake_host: FakeLab, capsys: pytest.CaptureFixture[str]
    ) -> None:
        if os.geteuid() != 0:
            pytest.skip("only root gives files away")
        before = fake_host.fake.state()
        visit = arrive(fake_host)
        borrow(visit)
        die(visit)
        os.chown(HostState.of(NAME).journal, 12345, -1)
        command = ["restore", NAME, "--inventory", str(fake_host.inventory), "--take-over", "a test"]
        assert main(command) == ExitStatus.UNDECIDED
        assert "--journal host" in capsys.readouterr().err
        assert main([*command, "--journal", "host"]) == ExitStatus.OK
        assert fake_host.fake.state() == before

    def test_a_folder_of_somebody_else_is_not_used(self, fake_host: FakeLab, tmp_path: Path) -> None:
        if os.geteuid() != 0:
            pytest.skip("only root gives files away")
        theirs = tmp_path / "controller/maskall/hosts" / NAME
        theirs.mkdir(parents=True)
        os.chown(theirs, 12345, 12345)
        with pytest.raises(LabError, match=r"belongs to user 12345|Operation not permitted"):
            arrive(fake_host)

    def test_evidence_is_never_written_over(self, tmp_path: Path) -> None:
        state = HostState("box", tmp_path / "box")
        kept = [state.keep("facts.txt", b"%d" % number) for number in range(5)]
        assert [path.read_bytes() for path in kept] == [b"0", b"1", b"2", b"3", b"4"]
        assert [path.name for path in kept] == ["facts.txt", *(f"facts-{number}.txt" for number in range(2, 6))]
        for number in range(3):
            state.journal.write_bytes(b"%d" % number)
            state.archive("run1")
        aside = {path.name: path.read_bytes() for path in (state.folder / "journals").iterdir()}
        assert aside == {"run1.jsonl": b"0", "run1-2.jsonl": b"1", "run1-3.jsonl": b"2"}


def test_a_damaged_journal_on_the_host_names_the_way_out(fake_host: FakeLab) -> None:
    visit = arrive(fake_host)
    borrow(visit)
    die(visit)
    journal = fake_host.fake.root / "run/maskall/journal.jsonl"
    journal.write_bytes(b"garbage\n")
    with pytest.raises(JournalDamaged) as raised:
        Lease.begin(site(fake_host), FORCED, lambda _: None)
    assert "--journal host|controller" in raised.value.hint


def test_results_go_into_a_new_or_empty_folder(tmp_path: Path) -> None:
    """Evidence of another run is never written over."""
    options = RunOptions(results=tmp_path / "results")
    assert options.results_directory() == tmp_path / "results"
    assert options.results_directory() == tmp_path / "results", "nothing was stored yet"
    (tmp_path / "results" / "results.json").write_text("{}")
    with pytest.raises(UsageError, match="holds something already"):
        options.results_directory()
    with pytest.raises(UsageError, match="is no directory"):
        RunOptions(results=tmp_path / "results" / "results.json").results_directory()
