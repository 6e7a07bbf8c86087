"""The journal: nothing is done that is not on record on both machines, and what is on record can be trusted."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.base.errors import HarnessBug, JournalDamaged, LabError, LockHeld, UsageError
from harness.lab.lease import ledger as ledgers
from harness.lab.lease import state as states
from harness.lab.lease.entry import FIRST, JournalLine, What, merge, parse
from harness.lab.lease.ledger import Found, HostJournal, adopt, boot_id, found
from harness.lab.lease.state import HostState
from harness.model.change import Change, ChangeKind
from harness.nested.cache import cache_root
from suites.selftest.fakes.faketransport import Cut, Executed, FakeTransport, Reply
from suites.selftest.fakes.localtransport import LocalTransport
from suites.selftest.fakes.patience import soon

BIND = Change(ChangeKind.DRIVER, "0000:04:00.0", "bind 0000:04:00.0 to pciback", "bind it to nvme")


def chain(count: int, run: str = "r1") -> tuple[JournalLine, ...]:
    entries: list[JournalLine] = []
    for number in range(1, count + 1):
        prev = entries[-1].hash if entries else FIRST
        words = {"kind": "driver", "subject": f"0000:04:00.{number}", "text": "bind it", "undo": "bind it back"}
        entries.append(JournalLine(number, "2026-01-02T03:04:05Z", "b1", run, What.INTENT, words, prev))
    return tuple(entries)


def lines(entries: tuple[JournalLine, ...]) -> bytes:
    return b"".join(entry.line for entry in entries)


WHOLE = chain(4)


class TestLines:
    def test_what_was_written_is_read(self) -> None:
        assert parse(lines(WHOLE), "j") == WHOLE
        assert parse(b"", "j") == ()

    @given(st.integers(0, len(lines(WHOLE))))
    def test_a_cut_anywhere_leaves_whole_lines(self, cut: int) -> None:
        left = lines(WHOLE)[:cut]
        assert parse(left, "j") == WHOLE[: left.count(b"\n")]

    @given(st.integers(0, len(lines(WHOLE)) - 1), st.binary(max_size=3))
    def test_any_other_damage_stops_and_asks(self, at: int, instead: bytes) -> None:
        data = lines(WHOLE)
        damaged = data[:at] + instead + data[at + 1 :]
        try:
            entries = parse(damaged, "j.jsonl")
        except JournalDamaged as error:
            assert "j.jsonl:" in str(error)
            return
        assert entries == WHOLE[: len(entries)], "a damaged line was believed"

    @pytest.mark.parametrize("gone", [0, 1, 2])
    def test_a_missing_line_shows(self, gone: int) -> None:
        with pytest.raises(JournalDamaged, match=rf"j:{gone + 1}: "):
            parse(lines(WHOLE[:gone] + WHOLE[gone + 1 :]), "j")

    def test_the_controller_may_be_ahead(self) -> None:
        assert merge(WHOLE, WHOLE[:3]) == WHOLE
        assert merge(WHOLE, ()) == WHOLE

    def test_two_stories_are_nobodys(self) -> None:
        with pytest.raises(JournalDamaged, match="different stories"):
            merge(chain(3, "r1"), chain(3, "r2"))


@pytest.fixture
def state(tmp_path: Path) -> HostState:
    return HostState("box", tmp_path / "controller")


def journal(tmp_path: Path, state: HostState) -> HostJournal:
    transport = LocalTransport()
    transport.connect(soon())
    return HostJournal(transport, state, "run1", boot_id(transport), remote=str(tmp_path / "host"))


class TestWriting:
    def test_a_change_is_on_both_machines_before_it_is_made(self, tmp_path: Path, state: HostState) -> None:
        book = journal(tmp_path, state)
        book.about_to(BIND)
        book.about_to(Change(ChangeKind.DOMAIN, "maskall-a", "create", "destroy"))
        ours, theirs = state.journal.read_bytes(), (tmp_path / "host/journal.jsonl").read_bytes()
        assert ours == theirs
        first, second = parse(ours, "j")
        assert first.payload == {"kind": "driver", "subject": "0000:04:00.0", "text": BIND.text, "undo": BIND.undo}
        assert second.payload["subject"] == "maskall-a"

    def test_the_controller_writes_first(self, tmp_path: Path, state: HostState) -> None:
        book = journal(tmp_path, state)

        def stop(point: str) -> None:
            if point.startswith("between"):
                raise KeyboardInterrupt

        book.trace = stop
        with pytest.raises(KeyboardInterrupt):
            book.about_to(BIND)
        assert len(parse(state.journal.read_bytes(), "j")) == 1
        assert not (tmp_path / "host").exists()

    def test_a_claim_that_is_lost_stops_everything(self, tmp_path: Path, state: HostState) -> None:
        book = journal(tmp_path, state)

        def lost() -> None:
            raise LockHeld("taken from us")

        book.still_ours = lost
        with pytest.raises(LockHeld):
            book.about_to(BIND)
        assert not state.journal.exists()

    def test_a_full_disk_here(self, tmp_path: Path, state: HostState, monkeypatch: pytest.MonkeyPatch) -> None:
        book = journal(tmp_path, state)
        book.about_to(BIND)
        before = state.journal.read_bytes()

        def full(handle: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(states.os, "fsync", full)
        with pytest.raises(LabError, match="No space left") as raised:
            book.about_to(BIND)
        assert "was not made" in raised.value.hint
        assert state.journal.read_bytes() == before
        assert (tmp_path / "host/journal.jsonl").read_bytes() == before

    def test_a_full_disk_there(self, tmp_path: Path, state: HostState) -> None:
        book = journal(tmp_path, state)
        (tmp_path / "host").mkdir()
        (tmp_path / "host/journal.new").symlink_to("/dev/full")
        with pytest.raises(LabError, match="No space left") as raised:
            book.about_to(BIND)
        assert "on the host" in raised.value.hint
        assert (tmp_path / "host/journal.jsonl").read_bytes() == b""

    def test_a_host_that_rebooted_meanwhile(self, tmp_path: Path, state: HostState) -> None:
        book = journal(tmp_path, state)
        book.boot_id = "another"
        with pytest.raises(LabError, match="rebooted by itself"):
            book.about_to(BIND)
        assert not (tmp_path / "host/journal.jsonl").exists()

    def test_somebody_else_wrote(self, tmp_path: Path, state: HostState) -> None:
        book = journal(tmp_path, state)
        book.about_to(BIND)
        with (tmp_path / "host/journal.jsonl").open("ab") as file:
            file.write(b'{"hash":"x"}\n')
        with pytest.raises(JournalDamaged, match="somebody else"):
            book.about_to(BIND)

    @pytest.mark.parametrize("cut", list(Cut))
    def test_a_link_cut_at_the_line_writes_it_once(self, tmp_path: Path, state: HostState, cut: Cut) -> None:
        """The fake link breaks; what arrives is run for real."""
        real = journal(tmp_path, state)

        def really(executed: Executed) -> Reply:
            line = ["sh", "-c", executed.shown]
            done = real.transport.run(line, deadline=soon(), stdin=executed.stdin)
            return Reply(done.stdout, done.stderr, done.status)

        link = FakeTransport("box", connected=True, commands={".*": really})
        book = HostJournal(link, state, "run1", real.boot_id, remote=real.remote)
        book.about_to(BIND)
        link.lose_link(cut)
        book.about_to(Change(ChangeKind.DOMAIN, "maskall-a", "create", "destroy"))
        assert (tmp_path / "host/journal.jsonl").read_bytes() == state.journal.read_bytes()
        assert len(book.entries) == 2


class TestFinding:
    def test_nothing_is_there(self, tmp_path: Path, state: HostState) -> None:
        assert found(journal(tmp_path, state).transport, state, str(tmp_path / "host")) == Found()

    def test_another_controller_finds_it_on_the_host(self, tmp_path: Path, state: HostState) -> None:
        book = journal(tmp_path, state)
        book.about_to(BIND)
        other = HostState("box", tmp_path / "other")
        entries = found(book.transport, other, book.remote).entries
        assert list(entries) == book.entries
        adopt(entries, book.transport, other, book.remote)
        again = HostJournal(book.transport, other, "run2", book.boot_id, list(entries), book.remote)
        again.about_to(BIND)
        assert len(parse(other.journal.read_bytes(), "j")) == 2

    def test_a_torn_line_here_does_not_spoil_what_is_written_next(self, tmp_path: Path, state: HostState) -> None:
        book = journal(tmp_path, state)
        book.about_to(BIND)
        with state.journal.open("ab") as file:
            file.write(WHOLE[1].line[:40])
        entries = found(book.transport, state, book.remote).entries
        adopt(entries, book.transport, state, book.remote)
        assert not (state.folder / "journals").exists(), "it is the same story"
        again = HostJournal(book.transport, state, "run2", book.boot_id, list(entries), book.remote)
        again.about_to(BIND)
        assert len(found(book.transport, state, book.remote).entries) == 2

    def test_a_line_that_never_reached_the_host_is_sent_on(self, tmp_path: Path, state: HostState) -> None:
        book = journal(tmp_path, state)
        book.about_to(BIND)
        host = Path(book.remote) / "journal.jsonl"
        before = host.read_bytes()
        book.about_to(BIND)
        host.write_bytes(before)
        entries = found(book.transport, state, book.remote).entries
        assert len(entries) == 2
        adopt(entries, book.transport, state, book.remote)
        assert host.read_bytes() == state.journal.read_bytes()

    def test_our_own_old_story_gives_way_to_this_boots(self, tmp_path: Path, state: HostState) -> None:
        book = journal(tmp_path, state)
        book.about_to(BIND)
        other = HostState("box", tmp_path / "other")
        other.folder.mkdir()
        other.journal.write_bytes(lines(chain(2)))  # of boot b1, long ago
        assert list(found(book.transport, other, book.remote).entries) == book.entries

    def test_closing_leaves_nothing_but_the_archive(self, tmp_path: Path, state: HostState) -> None:
        book = journal(tmp_path, state)
        book.about_to(BIND)
        (tmp_path / "host/claim").write_text("ours")
        (tmp_path / "host/maskall-a.cfg").write_text("name = ...")
        book.close()
        assert sorted(path.name for path in (tmp_path / "host").iterdir()) == ["claim"]
        assert not state.journal.exists()
        assert len(list((state.folder / "journals").iterdir())) == 1
        assert found(book.transport, state, book.remote) == Found()


def test_the_scripts_take_any_path(tmp_path: Path, state: HostState) -> None:
    book = journal(tmp_path / "it's; a $(path)", state)
    (tmp_path / "it's; a $(path)").mkdir()
    book.about_to(BIND)
    assert len(found(book.transport, state, book.remote).entries) == 1
    assert ledgers.REMOTE_RUN == "/run/maskall"


class TestThisController:
    @pytest.mark.parametrize(
        ("given", "where"),
        [("/state", "/state/maskall"), ("", "/home/ada/.local/state/maskall"), ("x", "/home/ada/.local/state/maskall")],
    )
    def test_where_it_remembers(self, given: str, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """A relative path is invalid (XDG base directory specification)."""
        monkeypatch.setenv("HOME", "/home/ada")
        monkeypatch.setenv("XDG_STATE_HOME", given)
        assert HostState.of("box") == HostState("box", Path(where) / "hosts/box")

    @pytest.mark.parametrize("which", [lambda: HostState.of("box"), cache_root])
    def test_a_user_without_a_home_is_told_what_to_set(
        self, which: Callable[[], object], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One of a container, by a number that passwd(5) does not have."""
        for name in ("HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "MASKALL_CACHE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(os, "getuid", lambda: 54321)
        with pytest.raises(UsageError, match="no home directory") as raised:
            which()
        assert "set HOME or XDG_" in raised.value.hint

    @pytest.mark.parametrize(
        ("name", "there"), [("lock", ""), ("journal.jsonl", ""), ("lock", "a file"), ("journal.jsonl", "a file")]
    )
    def test_a_link_in_place_of_its_files_is_not_followed(
        self, tmp_path: Path, state: HostState, name: str, there: str
    ) -> None:
        state.folder.mkdir()
        outside = tmp_path / "outside"
        if there:
            outside.write_text(there)
        (state.folder / name).symlink_to(outside)
        with pytest.raises(LabError, match="Too many levels of symbolic links"):
            journal(tmp_path, state).about_to(BIND)
        assert (outside.read_text() if outside.exists() else "") == there

    def test_nothing_of_it_stays_open(self, tmp_path: Path, state: HostState) -> None:
        journal(tmp_path, state).about_to(BIND)
        opened = [str(one.readlink()) for one in Path("/proc/self/fd").iterdir() if one.is_symlink()]
        assert [path for path in opened if path.startswith(str(state.folder))] == []

    def test_two_processes_write_one_after_the_other(
        self, tmp_path: Path, state: HostState, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(states, "_LOCK_SECONDS", 0.0)
        with state.ours(""), pytest.raises(LockHeld, match="box: another process of this controller") as raised:
            journal(tmp_path, state).about_to(BIND)
        assert str(state.folder / "lock") in raised.value.hint
        journal(tmp_path, state).about_to(BIND)

    @pytest.mark.parametrize(
        ("behind", "refused"),
        [
            (b"", False),
            (b'{"run":"r2"', False),  # torn, whoever wrote it
            (b'{"run":"r1"}\n', False),
            (b'{"run":"r1"}\n{"ru', False),
            (b'{"run":"r2"}\n', True),
            (b'{"run":"r1"}\n{"run":"r2"}\n', True),
            (b'{"run":"r2"}\n{"run":"r1"}\n', True),
        ],
    )
    def test_what_lies_behind_its_end(self, tmp_path: Path, behind: bytes, refused: bool) -> None:
        """Ours was interrupted, and is written anew; a whole line of somebody else's is not written over."""
        path = tmp_path / "journal.jsonl"
        path.write_bytes(b"one\n" + behind)
        if refused:
            with pytest.raises(OSError, match="somebody else has written into it"):
                states.append_durably(path, b"two\n", 4, b'"run":"r1"')
            assert path.read_bytes() == b"one\n" + behind
        else:
            states.append_durably(path, b"two\n", 4, b'"run":"r1"')
            assert path.read_bytes() == b"one\ntwo\n"

    def test_words_that_are_no_text_are_told_nevertheless(self, state: HostState) -> None:
        state.poison("a test")
        for name in ("quarantined", "heard"):
            (state.folder / name).write_bytes(b"\xff\n")
        assert (state.quarantine, state.heard) == ("\ufffd", "\ufffd")

    @pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a..b", "x\n", ".x", "-x", "x" * 122, "a\0b"])
    def test_what_a_host_says_is_never_a_path(self, state: HostState, name: str) -> None:
        with pytest.raises(HarnessBug, match="is no name for a file"):
            state.keep(name, b"x")
        assert not [path for path in state.folder.rglob("*") if path.is_file()]


class TestQuarantine:
    def test_it_lasts_until_it_is_cured(self, state: HostState) -> None:
        state.refuse_quarantined()
        state.poison("the NIC did not come back")
        with pytest.raises(LabError, match="the NIC did not come back") as raised:
            state.refuse_quarantined()
        assert raised.value.hint == "maskall restore box"
        state.cure()
        state.refuse_quarantined()

    def test_a_state_that_cannot_be_written_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(LabError, match="file/box"):
            HostState("box", tmp_path / "file" / "box").poison("x")


def test_that_a_file_is_new_is_on_disk_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """fsync(2): the entry in its folder is another thing than the file."""
    synced: list[Path] = []
    monkeypatch.setattr(states.private, "sync_folder", synced.append)
    path = tmp_path / "journal.jsonl"
    states.append_durably(path, b"one\n", 0, b"")
    assert synced == [tmp_path]
    states.append_durably(path, b"two\n", 4, b"")
    assert synced == [tmp_path]


def test_whose_claim_was_seen_last_is_remembered(state: HostState, monkeypatch: pytest.MonkeyPatch) -> None:
    assert state.heard == ""
    for owner in ("bob@box", "eve@box", ""):
        state.hear(owner)
        assert HostState("box", state.folder).heard == owner
    monkeypatch.setattr(states.private, "write_durably", lambda *_: pytest.fail("what is known is not written again"))
    state.hear("")


def test_state_that_nobody_is_known_to_hold_is_for_anybody(state: HostState) -> None:
    with state.ours("t1"):
        assert not (state.folder / "holder").exists()
    state.hold("t1")
    for token in ("t1", ""):
        with state.ours(token):
            assert (state.folder / "holder").read_text() == "t1"
    with pytest.raises(LockHeld, match="taken over"), state.ours("t2"):
        pytest.fail("it is another's")
