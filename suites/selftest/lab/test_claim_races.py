"""The claim in the narrow moments: two takers, a holder that comes back, a file that nobody can read."""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.base.deadline import Deadline, poll
from harness.base.errors import HostUnreachable, LabError, LockHeld, OutcomeUnknown
from harness.lab.lease import claim as claims
from harness.lab.lease.claim import Claim, look
from harness.lab.lease.holder import STALE, Holder
from harness.transport.base import Command, CommandResult
from suites.selftest.fakes.faketransport import Executed, FakeTransport, Reply
from suites.selftest.fakes.localtransport import LocalStream, LocalTransport
from suites.selftest.fakes.patience import FOREVER, soon

HERE = LocalTransport("xenbox1")


def uptime() -> float:
    return float(Path("/proc/uptime").read_text().split()[0])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"


class Broken(LocalTransport):
    """The next so many programs find a link that is broken."""

    connected = True

    def __init__(self, times: int) -> None:
        super().__init__("xenbox1")
        self.times, self.connections = times, 0

    def connect(self, deadline: Deadline) -> None:
        self.connections += 1
        self.connected = True

    def run(self, command: Command, **more: Any) -> CommandResult:  # noqa: ANN401
        self.times -= 1
        if self.times >= 0:
            raise HostUnreachable("xenbox1: gone")
        return super().run(command, **more)


def take(run: Path, owner: str = "ci", take_over: str | None = None) -> Claim:
    return Claim.take(HERE, owner=owner, reason="a test", run=str(run), take_over=take_over)


def fresh(run: Path, token: str, owner: str = "ci") -> Claim:
    """One that is not put yet."""
    return Claim(HERE, Holder(owner, "a test", "now", token), {}, str(run))


def dead(run: Path, owner: str = "ci") -> None:
    """A claim whose holder has not been heard of for long."""
    assert fresh(run, "d" * 16, owner)._put()
    silent(run, STALE + 1)


def silent(run: Path, seconds: float) -> None:
    (run / "heartbeat").write_text(f"{uptime() - seconds:.2f}\n")


@pytest.fixture
def claim(run: Path) -> Iterator[Claim]:
    claim = take(run)
    yield claim
    claim.release()


class TestTaking:
    @pytest.mark.parametrize("even_alive", [False, True])
    def test_of_two_who_find_a_dead_claim_one_gets_it(self, run: Path, even_alive: bool) -> None:
        for number in range(10):
            dead(run)
            there = look(HERE, str(run))
            start = threading.Barrier(2)
            got: list[bool] = []

            def race(token: str, start: threading.Barrier = start, got: list[bool] = got, there=there) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001
                start.wait()
                got.append(fresh(run, token)._put(there, even_alive=even_alive))

            racers = [threading.Thread(target=race, args=(f"{number:015x}{who}",)) for who in "ab"]
            for racer in racers:
                racer.start()
            for racer in racers:
                racer.join()
            assert sorted(got) == [False, True]
            (run / "claim").unlink()

    def test_a_new_claim_is_never_seen_with_the_old_heartbeat(self, run: Path) -> None:
        """The script waits for the claim's text here: it must have the heartbeat by then."""
        run.mkdir()
        silent(run, 1000)
        take = claims.script(claims._TAKE, str(run), "t" * 16, old="''", dead="true", short="''")
        stream = HERE.open_stream(take, deadline=soon())
        assert poll((run / "claim.new").exists, soon())
        assert uptime() - float((run / "heartbeat").read_text()) < STALE
        assert not (run / "claim").exists()
        stream.close()

    def test_a_holder_who_comes_back_in_time_keeps_it(self, run: Path) -> None:
        dead(run)
        seen = look(HERE, str(run))
        assert seen is not None and not seen.live
        silent(run, 0)
        mine = fresh(run, "e" * 16)
        assert not mine._put(seen)
        assert mine._put(seen, even_alive=True), "--take-over asks for no such thing"

    @pytest.mark.parametrize("heartbeat", ["", "\n", "nan\n", "soon\n1\n2\n", "$(reboot)\n", "\\c\n"])
    def test_any_heartbeat_that_says_nothing_is_dead(self, run: Path, heartbeat: str) -> None:
        dead(run)
        (run / "heartbeat").write_text(heartbeat)
        claim = take(run)
        claim.release()

    def test_a_heartbeat_of_an_earlier_boot_is_dead(self, run: Path) -> None:
        dead(run)
        silent(run, -100_000)
        seen = look(HERE, str(run))
        assert seen is not None and not seen.live and "never heard of" in seen.told

    @pytest.mark.parametrize("text", [b"\xff\xfe{", b"\n\nx", b"\x1b[2J\x85\x0c", b"{}\n{}\n", b"a\0b", b"'$(reboot)"])
    def test_what_nobody_can_read_is_taken_only_for_a_reason(self, run: Path, text: bytes) -> None:
        run.mkdir()
        (run / "claim").write_bytes(text)
        with pytest.raises(LockHeld):
            take(run)
        assert (run / "claim").read_bytes() == text
        take(run, take_over="it is garbage").release()

    def test_one_that_is_at_work_there_is_waited_for(self, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Who holds the lock and does not let go is one who has the host, and no fault of the host's."""
        monkeypatch.setattr(claims, "_TAKE", claims._TAKE.replace("-w 10", "-n"))
        run.mkdir()
        folder = os.open(run, os.O_RDONLY)
        fcntl.flock(folder, fcntl.LOCK_EX)
        with pytest.raises(LockHeld, match="somebody who came a moment earlier"):
            take(run)
        os.close(folder)

    def test_without_a_token_nothing_is_anybodys(self, run: Path) -> None:
        for token, status in (("", 1), ("e" * 16, 1), ("d" * 16, 0)):
            dead(run)
            assert HERE.run(claims.script("cd {run} && mine", str(run), token), deadline=soon()).status == status

    def test_a_claim_that_cannot_beat_is_given_back(self, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def lost(self: Claim) -> None:
            raise HostUnreachable("gone")

        monkeypatch.setattr(Claim, "_beat", lost)
        with pytest.raises(HostUnreachable):
            take(run)
        assert look(HERE, str(run)) is None


class TestHolding:
    def test_a_heartbeat_is_replaced_in_one_step(self, run: Path, claim: Claim) -> None:
        """Written over, it would be empty for a moment, and the holder dead to whoever looks then."""
        assert poll(lambda: look(HERE, str(run)), soon())
        with (run / "heartbeat").open() as old:
            assert claim._stream is not None
            claim._stream.write(b"\n")
            inode = os.fstat(old.fileno()).st_ino
            assert poll(lambda: (run / "heartbeat").stat().st_ino != inode, soon())
            assert float(old.read()) > 0

    def test_one_whose_stream_was_cut_beats_again_at_its_next_change(self, run: Path, claim: Claim) -> None:
        assert claim.beating
        claim._stream.close()  # type: ignore[union-attr]
        assert poll(lambda: not claim.beating, soon())
        assert claim._thread is not None and claim._thread.is_alive(), "it was not asked to write since"
        claim.check()
        assert claim.beating

    def test_one_without_a_stream_or_a_writer_does_not_beat(self, run: Path, claim: Claim) -> None:
        other = fresh(run, "e" * 16)
        assert not other.beating
        other._thread = threading.current_thread()
        assert not other.beating
        other._stream, other._thread = claim._stream, None
        assert not other.beating

    def test_who_cannot_write_any_more_gives_up(self, run: Path, claim: Claim, monkeypatch: pytest.MonkeyPatch) -> None:
        """The link is gone: nobody beats into nothing, and whoever asks makes it anew."""
        monkeypatch.setattr(claims, "BEAT_SECONDS", 0.01)
        claim.renew()
        stream, thread = claim._stream, claim._thread
        assert isinstance(stream, LocalStream) and thread is not None
        stream._process.kill()
        thread.join(FOREVER)
        assert not thread.is_alive()

    def test_renewed_it_beats_at_once_and_says_what_it_said(
        self, run: Path, claim: Claim, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(claims, "BEAT_SECONDS", FOREVER)
        claim._quiet()
        silent(run, STALE + 1)
        before = (run / "claim").stat()
        claim.renew()
        assert poll(lambda: (there := look(HERE, str(run))) and there.live, soon())
        assert (run / "claim").stat().st_ino == before.st_ino, "it was not written again"

    def test_over_a_link_that_was_lost_it_connects_first(self, claim: Claim) -> None:
        claim._stream.close()  # type: ignore[union-attr]
        assert poll(lambda: not claim.beating, soon())
        for connected, times in ((True, 0), (False, 1)):
            claim.transport = link = Broken(0)
            link.connected = connected
            claim._stop.set()
            claim._thread.join(FOREVER)  # type: ignore[union-attr]
            claim.check()
            assert link.connections == times and claim.beating

    def test_on_a_machine_without_a_claim_none_is_put(self, run: Path, claim: Claim) -> None:
        """It has booted anew, or is another one: whose claim it is is asked before the next change."""
        claim._stream.close()  # type: ignore[union-attr]
        assert poll(lambda: not claim.beating, soon())
        for file in run.iterdir():
            file.unlink()
        with pytest.raises(LabError, match="xenbox1 has no claim of ours any more"):
            claim.check()
        assert list(run.iterdir()) == []

    def test_somebody_who_came_while_it_was_looked_for(self, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The host has booted anew, and between the look and the new claim another one is there."""
        assert fresh(run, "e" * 16, "bob")._put()
        before = (run / "claim").read_bytes()
        monkeypatch.setattr(claims, "look", lambda *_: None)
        mine = fresh(run, "f" * 16)
        with pytest.raises(LockHeld, match="taken by somebody else meanwhile"):
            mine.renew()
        assert not mine.beating and (run / "claim").read_bytes() == before

    @pytest.mark.parametrize("connected", [True, False])
    @pytest.mark.parametrize("there", [True, False])
    def test_taken_over_it_hears_by_whom(self, run: Path, claim: Claim, connected: bool, there: bool) -> None:
        """Where that can be asked; None would say that the host is ours."""
        heard = list[object]()
        claim.heard = lambda there: heard.append(there and there.holder.owner)
        assert fresh(run, "e" * 16, "bob")._put(look(HERE, str(run)), even_alive=True)
        claim._stream.write(b"\n")  # type: ignore[union-attr]
        assert poll(lambda: claim._stream.ended, soon())  # type: ignore[union-attr]
        if not there:
            (run / "claim").unlink()
        claim.transport = link = Broken(0 if connected else 9)
        link.connected = connected
        with pytest.raises(LockHeld, match="taken from us"):
            claim.check()
        assert heard == (["bob"] if connected and there else [])
        claim.transport = HERE

    def test_nor_does_a_stream_count_that_nobody_writes_to(self, claim: Claim) -> None:
        """A half-open link: the writer has given up, the stream never heard of an end."""
        claim._stop.set()
        assert claim._thread is not None
        claim._thread.join(FOREVER)
        assert not claim.beating
        claim.check()
        assert claim.beating

    def test_cut_off_and_taken_over_it_hears_so(self, run: Path, claim: Claim) -> None:
        claim._stream.close()  # type: ignore[union-attr]
        other = take(run, "bob", take_over="it hangs")
        assert poll(lambda: not claim.beating, soon())
        heard = list[object]()
        claim.heard = lambda there: heard.append(there and there.holder.owner)
        with pytest.raises(LockHeld, match="taken by bob"):
            claim.check()
        assert heard == ["bob"]
        other.release()


class TestReleasing:
    def test_it_never_removes_the_claim_of_who_came_in_between(self, run: Path) -> None:
        mine = take(run)
        mine._quiet()
        folder = os.open(run, os.O_RDONLY)
        fcntl.flock(folder, fcntl.LOCK_EX)
        releasing = threading.Thread(target=mine.release)
        releasing.start()
        releasing.join(0.2)
        assert releasing.is_alive(), "it asks and removes in one"
        (run / "claim").write_text("another's")
        os.close(folder)
        releasing.join(FOREVER)
        assert (run / "claim").read_text() == "another's"

    def test_it_leaves_nothing_and_needs_no_word(self, run: Path) -> None:
        claim, told = take(run), list[str]()
        claim.notice = told.append
        claim.let_go("a test")
        claim.release()
        assert poll(lambda: not run.exists(), soon())
        assert told == []

    def test_a_host_that_is_gone_keeps_it_until_it_is_stale(self, run: Path, claim: Claim) -> None:
        claim.transport, told = Broken(9), list[str]()
        claim.notice = told.append
        claim.release()
        claim.let_go("in quarantine")
        assert (run / "claim").exists()
        assert told == [
            "our claim on xenbox1 could not be taken away, and grows stale there: xenbox1: gone",
            "our claim on xenbox1 stays, and cannot say why: xenbox1: gone",
        ]
        claim.transport = HERE

    def test_broken_off_it_is_told_and_stays(self, run: Path, claim: Claim, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupted(*_: object, **__: object) -> CommandResult:
            raise KeyboardInterrupt

        claim.notice = (told := list[str]()).append
        claim.transport = link = Broken(0)
        monkeypatch.setattr(link, "run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            claim.release()
        assert told == [
            "our claim on xenbox1 could not be taken away, and grows stale there: it was broken off",
        ]
        assert (run / "claim").exists()
        claim.transport = HERE

    def test_over_a_link_that_breaks_once_it_is_taken_away(self, run: Path, claim: Claim) -> None:
        claim.transport = Broken(1)
        claim.release()
        assert not run.exists()
        assert claim.transport.connections == 1

    def test_what_holds_its_lock_is_told(self, run: Path, claim: Claim, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(claims, "_RELEASE", claims._RELEASE.replace("-w 10", "-n"))
        claim.notice = (told := list[str]()).append
        claim._quiet()
        folder = os.open(run, os.O_RDONLY)
        fcntl.flock(folder, fcntl.LOCK_EX)
        claim.release()
        os.close(folder)
        assert (run / "claim").exists()
        assert len(told) == 1 and "could not be taken away" in told[0]

    def test_one_that_stays_says_why(self, run: Path, claim: Claim) -> None:
        claim.let_go("in quarantine: a domain did not\nend")
        silent(run, STALE + 1)
        (run / "journal.jsonl").touch()
        with pytest.raises(
            LockHeld, match=r"used by ci since .* \(in quarantine: a domain did not\\x0aend; last"
        ) as raised:
            take(run, "bob")
        assert raised.value.hint == (
            "it looks dead, and left changes there: maskall restore xenbox1 --take-over REASON"
        )
        (run / "journal.jsonl").unlink()

    def test_it_does_so_where_there_is_no_room_for_more(self, run: Path, claim: Claim) -> None:
        """tmpfs keeps a link of up to 127 bytes in its inode."""
        claim._quiet()
        (run / "claim").unlink()
        claim.holder = replace(claim.holder, owner="é" + "o" * 200, reason="in quarantine: a domain did not end")
        assert len(claim.holder.short.encode()) < 128
        (run / "claim").symlink_to(claim.holder.short)
        there = look(HERE, str(run))
        assert there is not None and "(in quarantine: a;" in there.told
        assert there.holder.token == claim.holder.token

    def test_nothing_is_said_in_anothers_claim_or_in_another_boot(self, run: Path, claim: Claim) -> None:
        before = (run / "claim").read_bytes()
        (run / "claim").write_bytes(before.replace(claim.holder.token.encode(), b"e" * 16))
        another = (run / "claim").read_bytes()
        claim.let_go("in quarantine")
        assert (run / "claim").read_bytes() == another
        (run / "claim").unlink()
        claim.let_go("in quarantine")
        assert not (run / "claim").exists()

    def test_one_that_was_perhaps_taken_is_not_left_behind(self, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The host took it, and no answer came, twice."""
        put = Claim._put

        def lost(self: Claim, *given: object, **more: object) -> bool:
            put(self, *given, **more)  # type: ignore[arg-type]
            raise OutcomeUnknown("lost")

        monkeypatch.setattr(Claim, "_put", lost)
        with pytest.raises(OutcomeUnknown):
            take(run)
        assert look(HERE, str(run)) is None


def test_what_changes_the_host_says_so(run: Path) -> None:
    """Else a link that breaks in it would be read as "it was not done"."""
    there, changed = list[list[str]](), list[bool]()

    def really(executed: Executed) -> Reply:
        done = HERE.run(["sh", "-c", executed.shown], deadline=soon(), stdin=executed.stdin)
        there.append([(run / "claim").read_text() if run.exists() else ""])
        changed.append(len(there) > 1 and there[-1] != there[-2])
        return Reply(done.stdout, done.stderr, done.status)

    link = FakeTransport("xenbox1", connected=True, commands={".*": really})
    claim = replace(fresh(run, "e" * 16), transport=link)
    look(link, str(run))
    assert claim._put()
    claim.let_go("in quarantine")
    claim.release()
    assert changed == [one.changes for one in link.executed] == [False, True, False, True, True]


def test_a_release_waits_for_a_heartbeat_that_is_being_written(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over ssh nobody ends the beating program on the host: it may be at work when the claim is given up."""
    claim = fresh(run, "t" * 16)
    assert claim._put()
    folder, moving, go, removed, end = (tmp_path / name for name in ("bin", "moving", "go", "removed", "end"))
    folder.mkdir()
    for name, text in (
        ("mv", f'mkdir {moving}\nuntil [ -e {go} ]; do :; done\nexec {{}} "$@"\n'),
        ("rm", f'{{}} "$@"\nmkdir {removed}\nuntil [ -e {end} ]; do :; done\n'),
    ):
        (folder / name).write_text("#!/bin/sh\n" + text.replace("{}", str(shutil.which(name))))
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    beat = claims.script(claims._BEAT, str(run), claim.holder.token)
    beating = threading.Thread(target=lambda: HERE.run(beat, deadline=soon(), stdin=b"\n"))
    beating.start()
    assert poll(moving.exists, soon(), every=0.01)
    releasing = threading.Thread(target=claim.release)
    releasing.start()
    poll(removed.exists, Deadline.after(0.2), every=0.01)
    go.touch()
    beating.join()
    end.touch()
    releasing.join()
    assert not run.exists()
