"""The journal when writing it goes wrong half-way: what comes after must still be believed, and believed rightly."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.base.deadline import Deadline
from harness.base.errors import HostUnreachable, JournalDamaged, LabError, LockHeld, NotRecorded
from harness.lab.lease import state as states
from harness.lab.lease.entry import FIRST, JournalLine, What, parse
from harness.lab.lease.ledger import HostJournal, adopt, boot_id, close_remote, found, is_dirty
from harness.lab.lease.state import HostState
from harness.model.change import Change, ChangeKind
from suites.selftest.fakes.faketransport import Cut, Executed, FakeTransport, Reply
from suites.selftest.fakes.localtransport import LocalTransport
from suites.selftest.fakes.patience import soon

HERE = LocalTransport("xenbox1")


def change(number: int) -> Change:
    return Change(ChangeKind.DRIVER, "0000:04:00.0", f"change {number}", "undo it")


@pytest.fixture
def state(tmp_path: Path) -> HostState:
    return HostState("xenbox1", tmp_path / "controller")


@pytest.fixture
def link(tmp_path: Path) -> Iterator[FakeTransport]:
    """A link that breaks on request; what arrives is run for real on this machine. What changes it says so: else a link
    that breaks in it would be read as "it was not done"."""
    untold = list[str]()

    def there() -> dict[Path, float]:
        found = [path for folder in tmp_path.glob("host*") for path in (folder, *folder.rglob("*"))]
        return {path: path.lstat().st_mtime_ns for path in found}

    def really(executed: Executed) -> Reply:
        before = there()
        done = HERE.run(["sh", "-c", executed.shown], deadline=soon(), stdin=executed.stdin)
        if there() != before and not executed.changes:
            untold.append(executed.shown)
        return Reply(done.stdout, done.stderr, done.status)

    yield FakeTransport("xenbox1", connected=True, commands={".*": really})
    assert untold == []


@pytest.fixture
def book(tmp_path: Path, state: HostState, link: FakeTransport) -> HostJournal:
    return HostJournal(link, state, "run1", boot_id(HERE), remote=str(tmp_path / "host"))


def texts(path: Path) -> list[object]:
    """What a journal announces, read as strictly as ever."""
    return [entry.payload["text"] for entry in parse(path.read_bytes(), str(path))]


def same(book: HostJournal, *numbers: int) -> None:
    """Both copies say exactly this."""
    wanted = [f"change {number}" for number in numbers]
    assert texts(book.state.journal) == texts(Path(book.remote) / "journal.jsonl") == wanted


class TestTheLink:
    def test_an_answer_lost_for_good_is_not_somebody_elses_writing(
        self, book: HostJournal, link: FakeTransport
    ) -> None:
        """The line is on the host, and we were told that nobody knows."""
        book.about_to(change(1))
        link.lose_link(Cut.AFTER)
        link.listening = False
        with pytest.raises(HostUnreachable):
            book.about_to(change(2))
        link.listening = True
        link.connect(Deadline.after(1))
        book.about_to(change(3))
        same(book, 1, 2, 3)

    @pytest.mark.parametrize("cut", [Cut.BEFORE, Cut.DURING])
    def test_a_line_that_never_arrived_is_sent_with_the_next(
        self, book: HostJournal, link: FakeTransport, cut: Cut
    ) -> None:
        link.lose_link(cut)
        link.listening = False
        with pytest.raises(HostUnreachable):
            book.about_to(change(1))
        link.listening = True
        link.connect(Deadline.after(1))
        book.about_to(change(2))
        same(book, 1, 2)

    def test_another_story_there_is_still_another_story(self, book: HostJournal, link: FakeTransport) -> None:
        book.about_to(change(1))
        host = Path(book.remote) / "journal.jsonl"
        stranger = JournalLine(2, "", book.boot_id, "theirs", What.RESTORED, {}, book.entries[-1].hash)
        host.write_bytes(host.read_bytes() + stranger.line)
        with pytest.raises(JournalDamaged, match="somebody else"):
            book.about_to(change(2))
        assert stranger.line in host.read_bytes()

    @pytest.mark.parametrize("cut", list(Cut))
    def test_closing_survives_a_cut(self, book: HostJournal, link: FakeTransport, cut: Cut) -> None:
        book.about_to(change(1))
        link.lose_link(cut)
        close_remote(link, "run1", book.remote)
        assert list(Path(book.remote).iterdir()) == []

    def test_a_line_takes_one_program(self, book: HostJournal, link: FakeTransport) -> None:
        for number in range(1, 4):
            book.about_to(change(number))
        assert len(link.executed) == 3
        same(book, 1, 2, 3)

    def test_what_the_host_lost_is_sent_again(self, book: HostJournal) -> None:
        """Its copy says where it ends: there it goes on."""
        host = Path(book.remote) / "journal.jsonl"
        for number in range(1, 4):
            book.about_to(change(number))
        whole = host.read_bytes().splitlines(keepends=True)
        for kept, number in ((whole[:0], 4), (whole[:1], 5), (whole[:2], 6)):
            host.write_bytes(b"".join(kept))
            book.about_to(change(number))
            same(book, *range(1, number + 1))

    def test_one_that_was_closed_begins_anew(self, book: HostJournal) -> None:
        for number in (1, 2):
            book.about_to(change(number))
        book.run = "run2"
        assert book.close() == []
        assert [path.name for path in Path(f"{book.remote}-closed").iterdir()] == ["run1"], "as its first line says"
        assert [path.name for path in (book.state.folder / "journals").iterdir()] == ["run1.jsonl"]
        book.about_to(change(3))
        same(book, 3)

    @pytest.mark.parametrize(
        ("stderr", "told"),
        [
            (b"", "status 1"),
            (b"sh: one\ncat: No space left on device\n", "cat: No space left on device"),
            (b"\xff\n", "\ufffd"),
        ],
    )
    def test_why_the_host_took_no_line_is_told(self, state: HostState, stderr: bytes, told: str) -> None:
        full = FakeTransport("xenbox1", connected=True, commands={".*": Reply(stderr=stderr, status=1)})
        with pytest.raises(NotRecorded) as raised:
            HostJournal(full, state, "run1", boot_id(HERE)).about_to(change(1))
        assert raised.value.message == f"xenbox1: the journal /run/maskall/journal.jsonl cannot be written: {told}"
        assert "was not made" in raised.value.hint

    def test_what_no_journal_can_hold_is_not_recorded(self, book: HostJournal) -> None:
        with pytest.raises(NotRecorded, match="subject of kind driver") as raised:
            book.about_to(Change(ChangeKind.DRIVER, "the NIC", "bind it", "undo it"))
        assert "was not made" in raised.value.hint
        with pytest.raises(NotRecorded, match="cannot hold this: what for"):
            book.record(What.QUARANTINED, {"what for": "a test"})
        assert not book.state.journal.exists()

    def test_its_points_are_told_by_name(self, book: HostJournal) -> None:
        """Who stops a run between two writes asks for them."""
        points = list[str]()
        book.trace = points.append
        book.about_to(change(1))
        book.close()
        assert points == [
            *["before controller intent 1", "between controller and host intent 1", "after host intent 1"],
            *["before closing", "between closing host and controller"],
        ]

    def test_a_host_that_booted_anew_and_no_line_to_tell_it(self, book: HostJournal, link: FakeTransport) -> None:
        """An empty journal would be one that nobody has closed."""
        book.settle()
        assert not Path(book.remote).exists() and link.files == {}

    def test_one_that_booted_anew_gets_all_lines(self, book: HostJournal, link: FakeTransport) -> None:
        for number in (1, 2):
            book.about_to(change(number))
        (Path(book.remote) / "journal.jsonl").unlink()
        book.settle()
        assert link.files[f"{book.remote}/journal.jsonl"] == (book.state.journal.read_bytes(), 0o600)


class TestTheClaim:
    def test_it_is_looked_at_in_the_same_breath(self, book: HostJournal) -> None:
        """Our heartbeat may be seconds away from hearing of it."""
        claim = Path(book.remote) / "claim"
        claim.parent.mkdir()
        claim.write_text('{"token":"ours"}')
        book.token = "ours"  # noqa: S105 (a claim's, no password)
        book.about_to(change(1))
        same(book, 1)
        for lost in (lambda: claim.write_text('{"token":"theirs"}'), claim.unlink):
            lost()
            with pytest.raises(LockHeld, match="no longer ours"):
                book.about_to(change(2))
            assert texts(Path(book.remote) / "journal.jsonl") == ["change 1"]


class TestTheControllersDisk:
    @pytest.fixture
    def small_files(self) -> Iterator[None]:
        """A write beyond the limit is done in part and then fails (setrlimit(2), RLIMIT_FSIZE), as on a full disk."""
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        yield
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    def test_half_a_line_never_stays(self, book: HostJournal, small_files: None) -> None:
        book.about_to(change(1))
        size = book.state.journal.stat().st_size
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 40, limits[1]))
        try:
            with pytest.raises(LabError, match="cannot be written") as raised:
                book.about_to(change(2))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert "was not made" in raised.value.hint
        assert book.state.journal.stat().st_size == size
        book.about_to(change(3))
        same(book, 1, 3)

    @pytest.mark.parametrize("call", ["write", "fsync", "close"])
    def test_ctrl_c_at_any_moment_leaves_a_journal_that_goes_on(
        self, book: HostJournal, call: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        book.about_to(change(1))
        real = getattr(os, call)

        def interrupted(*arguments: object) -> None:
            real(*arguments)
            monkeypatch.undo()
            raise KeyboardInterrupt

        monkeypatch.setattr(states.os, call, interrupted)
        with pytest.raises(KeyboardInterrupt):
            book.about_to(change(2))
        book.about_to(change(3))
        same(book, 1, 3)

    def test_a_copy_that_became_shorter_is_not_continued(self, book: HostJournal) -> None:
        book.about_to(change(1))
        book.state.journal.write_bytes(b"")
        with pytest.raises(LabError, match="shorter now"):
            book.about_to(change(2))
        assert texts(Path(book.remote) / "journal.jsonl") == ["change 1"]


class TestFinding:
    def test_a_torn_line_is_told(self, book: HostJournal, caplog: pytest.LogCaptureFixture) -> None:
        book.about_to(change(1))
        with book.state.journal.open("ab") as file:
            file.write(b'{"seq":2,')
        assert len(found(HERE, book.state, book.remote).entries) == 1
        assert "being written when its writer died" in caplog.text

    def test_a_whole_one_is_not_told_of(self, book: HostJournal, caplog: pytest.LogCaptureFixture) -> None:
        book.about_to(change(1))
        assert len(found(HERE, book.state, book.remote).entries) == 1
        book.state.journal.write_bytes(b"")
        assert len(found(HERE, book.state, book.remote).entries) == 1
        assert "its last line" not in caplog.text

    def test_what_is_the_same_already_is_not_written(self, book: HostJournal, link: FakeTransport) -> None:
        book.about_to(change(1))
        copies = book.state.journal, Path(book.remote) / "journal.jsonl"
        before = [path.stat().st_ino for path in copies]
        assert adopt(tuple(book.entries), link, book.state, book.remote) == []
        assert [path.stat().st_ino for path in copies] == before
        assert not link.executed[-1].changes

    def test_a_host_without_a_folder_gets_one(self, book: HostJournal, link: FakeTransport) -> None:
        book.about_to(change(1))
        assert adopt(tuple(book.entries), link, book.state, f"{book.remote}2/run") == []
        assert link.files[f"{book.remote}2/run/journal.jsonl"] == (book.state.journal.read_bytes(), 0o600)
        assert Path(f"{book.remote}2/run").is_dir()

    def test_a_host_that_takes_no_copy_is_told(self, book: HostJournal, tmp_path: Path) -> None:
        """Going back goes by the one that is here."""
        book.about_to(change(1))
        (tmp_path / "host2").touch()
        told = adopt(tuple(book.entries), HERE, book.state, str(tmp_path / "host2"))
        assert len(told) == 1 and "File exists" in told[0]

    def test_a_controller_that_takes_no_copy_is_told(self, book: HostJournal) -> None:
        """Going back goes by the one that is on the host."""
        book.about_to(change(1))
        book.state.journal.unlink()
        book.state.journal.mkdir()
        (told,) = adopt(tuple(book.entries), HERE, book.state, book.remote)
        assert str(book.state.journal) in told and "Is a directory" in told

    def test_a_host_that_does_not_say_is_not_clean(self, book: HostJournal, link: FakeTransport) -> None:
        assert not is_dirty(link, book.remote)
        book.about_to(change(1))
        assert is_dirty(link, book.remote)
        (Path(book.remote) / "journal.jsonl").write_bytes(b"")
        assert is_dirty(link, book.remote), "a line may be on its way"
        close_remote(link, "run1", book.remote)
        link.close()
        assert is_dirty(link, book.remote)

    @pytest.mark.parametrize("which", ["host", "controller"])
    def test_one_that_is_there_and_cannot_be_read_is_not_none(self, book: HostJournal, which: str) -> None:
        book.about_to(change(1))
        path = book.state.journal if which == "controller" else Path(book.remote) / "journal.jsonl"
        path.unlink()
        path.mkdir()
        with pytest.raises(LabError, match="Is a directory"):
            found(HERE, book.state, book.remote)

    @pytest.mark.parametrize(("size", "refused"), [(32 << 20, False), ((32 << 20) + 1, True)])
    def test_one_is_read_up_to_a_size(self, state: HostState, tmp_path: Path, size: int, refused: bool) -> None:
        state.folder.mkdir()
        state.journal.write_bytes(b"x" * size)
        if refused:
            with pytest.raises(JournalDamaged, match=f"journal.jsonl: {size} bytes, more than any journal has"):
                found(HERE, state, str(tmp_path / "host"))
        else:
            assert found(HERE, state, str(tmp_path / "host")).entries == ()

    def test_an_older_story_of_ours_is_put_aside_not_lost(self, book: HostJournal, tmp_path: Path) -> None:
        book.about_to(change(1))
        other = HostState("xenbox1", tmp_path / "other")
        other.folder.mkdir()
        old = JournalLine(1, "", "an earlier boot", "old-run", What.OPENED, {}, FIRST).line
        other.journal.write_bytes(old)
        adopt(found(HERE, other, book.remote).entries, HERE, other, book.remote)
        assert texts(other.journal) == ["change 1"]
        assert (other.folder / "journals" / "old-run-superseded.jsonl").read_bytes() == old


@pytest.mark.parametrize("seq", ["Infinity", "NaN", "-1", "1.0", "true", '"1"', "1e999", "[" * 2000, "9" * 5000])
def test_numbers_that_json_allows_and_nobody_wrote(seq: str) -> None:
    line = JournalLine(1, "", "", "", What.OPENED, {}, FIRST).line.replace(b'"seq":1', f'"seq":{seq}'.encode())
    with pytest.raises(JournalDamaged, match="j:1"):
        parse(line, "j")
