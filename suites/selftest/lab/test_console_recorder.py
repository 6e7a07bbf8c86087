"""What a host says on its console is kept byte for byte, with its times and its gaps, by one reader."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.base import process
from harness.base.deadline import Deadline, poll
from harness.base.errors import LabError, LockHeld, UsageError
from harness.lab import recorder as module
from harness.lab.console.command import CommandSource
from harness.lab.recorder import Recorder
from suites.selftest.fakes.patience import FOREVER, soon

PANIC = b"(XEN) Panic on CPU 0:\r\n"


class ScriptedSource:
    """Each attachment takes the next list: bytes are said, an error is raised, the end of the list ends the source."""

    name = "scripted"

    def __init__(self, *attachments: list[bytes | Exception], then_silent: bool = True) -> None:
        self.left = list(attachments)
        self.then_silent = then_silent
        self.readers = self.most_readers = self.attached = 0

    @contextlib.contextmanager
    def attach(self) -> Iterator[ScriptedSource]:
        self.attached += 1
        if not self.left:
            raise LabError("nobody there \x1b[31m")
        if self.left[0] and isinstance(self.left[0][0], Exception):
            raise self.left.pop(0)[0]  # type: ignore[misc]
        self.readers += 1
        self.most_readers = max(self.readers, self.most_readers)
        self._now = self.left.pop(0)
        try:
            yield self
        finally:
            self.readers -= 1

    def read(self) -> bytes | None:
        if self._now:
            said = self._now.pop(0)
            if isinstance(said, Exception):
                raise said
            return said
        if self.left or not self.then_silent:
            return None
        time.sleep(0.01)
        return b""


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BACKOFF", (0.0, 0.01))


@pytest.fixture
def recorders(tmp_path: Path) -> Iterator[list[Recorder]]:
    made: list[Recorder] = []
    yield made
    for one in made:
        one.stop()


def record(recorders: list[Recorder], folder: Path, source: object, notice: list[str] | None = None) -> Recorder:
    told = notice if notice is not None else []
    one = Recorder("box", source, folder / "console.log", folder / "lock", told.append)  # type: ignore[arg-type]
    recorders.append(one)
    return one.start()


def times(one: Recorder) -> list[list[str]]:
    return [line.split(" ", 2) for line in one.path.with_suffix(".times").read_text().splitlines()]


def test_bytes_are_kept_as_they_came(recorders: list[Recorder], tmp_path: Path) -> None:
    said = [b"\x00\xff\x1b[2J", os.urandom(1000), b"\r\n\r", b"no newline"]
    one = record(recorders, tmp_path, ScriptedSource(list(said)))
    assert poll(lambda: one.text() == b"".join(said), soon())
    assert one.attached
    one.stop()
    assert not one.attached and one.path.stat().st_mode & 0o777 == 0o600


def test_a_burst_loses_nothing_and_does_not_starve_a_waiter(recorders: list[Recorder], tmp_path: Path) -> None:
    """8 MiB without a newline from a real program, then a word."""
    program = "import sys; w = sys.stdout.buffer.write\nfor i in range(8192): w(i.to_bytes(4, 'big') * 256)\nw(b'END!')"
    argv = [sys.executable, "-c", program + f"; sys.stdout.flush(); import time; time.sleep({FOREVER})"]
    one = record(recorders, tmp_path, CommandSource(argv))
    found = one.await_bytes(re.compile(rb"END!"), soon())
    assert found and found.start() == 8 << 20
    assert one.text() == b"".join(number.to_bytes(4, "big") * 256 for number in range(8192)) + b"END!"
    one.stop()
    assert one._thread and not one._thread.is_alive()


def test_a_gap_is_marked_where_it_is(recorders: list[Recorder], tmp_path: Path) -> None:
    source = ScriptedSource([b"before"], [b"after"])
    one = record(recorders, tmp_path, source)
    assert poll(lambda: one.text() == b"beforeafter", soon())
    one.stop()
    marks = [(offset, what[0] if what else "") for offset, _, *what in times(one)]
    assert marks == [
        ("0", "attached to scripted"),
        ("0", ""),
        ("6", "the source ended"),
        ("6", "attached to scripted"),
        ("6", ""),
        ("11", "stopped"),
    ]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", at) for _, at, *_ in times(one))
    assert source.most_readers == 1


def test_a_source_that_breaks_is_attached_again(recorders: list[Recorder], tmp_path: Path) -> None:
    broken: list[bytes | Exception] = [b"a", OSError("cut")]
    told: list[str] = []
    one = record(
        recorders, tmp_path, ScriptedSource(broken, [LabError("no")], [UsageError("no program")], [b"b"]), told
    )
    assert poll(lambda: one.text() == b"ab", soon())
    assert [text.rpartition(": ")[2] for text in told] == ["cut", "no", "no program"]


def test_the_same_complaint_is_told_once_until_it_spoke_again(recorders: list[Recorder], tmp_path: Path) -> None:
    told: list[str] = []
    source = ScriptedSource([LabError("x")], [LabError("x")], [b"spoke"], [LabError("x")])
    one = record(recorders, tmp_path, source, told)
    assert poll(lambda: source.attached > 8, soon())
    assert [text.rpartition(": ")[2] for text in told] == ["x", "x", r"nobody there \x1b[31m"]
    assert "\x1b" not in one.path.with_suffix(".times").read_text()


def test_one_that_always_ends_without_a_byte_is_told(recorders: list[Recorder], tmp_path: Path) -> None:
    told: list[str] = []
    record(recorders, tmp_path, CommandSource(["true"]), told)
    assert poll(lambda: bool(told), soon())
    assert told == ["the console of box ended without a byte: command true"]


@pytest.mark.parametrize("argv", [["sleep", str(FOREVER)], ["sh", "-c", "while :; do echo flood; done"]])
def test_stop_ends_the_program(
    recorders: list[Recorder], tmp_path: Path, argv: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not wait for the end of the program, nor for a grace after which it is killed."""
    monkeypatch.setattr(module, "_STOP_SECONDS", FOREVER)
    monkeypatch.setattr(process, "KILL_GRACE", FOREVER)
    one = record(recorders, tmp_path, CommandSource(argv))
    assert poll(lambda: one.attached, soon(), every=0.005)
    one.stop()
    one.stop()
    assert one._thread and not one._thread.is_alive()


def test_stop_does_not_wait_for_a_source_that_does_not_open(
    recorders: list[Recorder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ATTACH_SECONDS", 0.1)
    opens, entered = threading.Event(), threading.Event()

    class Slow(ScriptedSource):
        @contextlib.contextmanager
        def attach(self) -> Iterator[ScriptedSource]:
            entered.set()
            opens.wait(FOREVER)
            with super().attach() as attached:
                yield attached

    one = record(recorders, tmp_path, Slow([b""]))
    assert entered.wait(FOREVER)
    one.stop()  # or the test would never end: nothing opens before
    with pytest.raises(LockHeld):  # it may still become a reader
        record([], tmp_path, ScriptedSource([b""]))
    opens.set()
    assert poll(lambda: not one._thread.is_alive(), soon())  # type: ignore[union-attr]
    record(recorders, tmp_path, ScriptedSource([b""]))


def test_never_two_readers(recorders: list[Recorder], tmp_path: Path) -> None:
    first = record(recorders, tmp_path, ScriptedSource([b"mine"]))
    with pytest.raises(LockHeld, match="being read already"):
        record([], tmp_path, ScriptedSource([b"theirs"]))
    flock = ["flock", "--nonblock", str(tmp_path / "lock"), "true"]
    assert subprocess.run(flock, check=False).returncode == 1  # noqa: S603 - another process sees it too
    first.stop()
    second = record(recorders, tmp_path, ScriptedSource([b" yours"]))
    assert poll(lambda: second.text() == b"mine yours", soon())  # behind what is there, with its place
    assert ("4", "attached to scripted") in [(offset, *what) for offset, _, *what in times(second)]


def test_a_panic_is_found_wherever_the_chunks_end(recorders: list[Recorder], tmp_path: Path) -> None:
    for cut in range(1, len(PANIC)):
        folder = tmp_path / str(cut)
        one = record(recorders, folder, ScriptedSource([b"(d1) harmless\n" + PANIC[:cut], PANIC[cut:]]))
        assert one.await_bytes(re.compile(re.escape(PANIC)), soon()), cut
        assert [marker.kind.is_host_crash for marker in one.panics()] == [True]
        one.stop()


def test_a_guest_or_garbage_is_no_panic(recorders: list[Recorder], tmp_path: Path) -> None:
    one = record(recorders, tmp_path, ScriptedSource([b"(d1) " + PANIC, b"\xff\x00" + os.urandom(4096), b"\nok"]))
    assert one.await_bytes(re.compile(rb"ok"), soon())
    assert one.panics() == ()


def test_waiting_begins_behind_a_place_and_ends_at_the_deadline(recorders: list[Recorder], tmp_path: Path) -> None:
    said: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    class Asked(ScriptedSource):
        def read(self) -> bytes | None:
            with contextlib.suppress(queue.Empty):
                return said.get(timeout=0.01)
            return b""

    one = record(recorders, tmp_path, Asked([b""]))
    said.put(b"login: ")
    login = re.compile(rb"login: ")
    first = one.await_bytes(login, soon())
    assert first
    assert one.await_bytes(login, Deadline.after(0.05), since=first.end()) is None
    threading.Timer(0.1, said.put, [b"boot\nlogin: "]).start()
    second = one.await_bytes(login, soon(), since=first.end())
    assert second and second.start() == 12


def test_a_disk_that_is_full_is_told_and_stops_nothing(
    recorders: list[Recorder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    store = Recorder._store
    full = iter([True, True])

    def limited(self: Recorder, raw: object, data: bytes) -> None:
        if next(full, False):
            raise OSError(28, "No space left on device")
        store(self, raw, data)  # type: ignore[arg-type]

    monkeypatch.setattr(Recorder, "_store", limited)
    one = record(recorders, tmp_path, ScriptedSource([b"a"], [b"b"], [b"c"]), told)
    assert poll(lambda: one.text() == b"c", soon())
    assert "No space left" in told[0]


def test_a_folder_that_cannot_be_made_is_a_lab_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LabError, match="cannot be recorded"):
        record([], tmp_path / "file" / "below", ScriptedSource())
