"""Guests' views are collected, and every raw file is stored once and whole."""

from __future__ import annotations

import dataclasses
import errno
from pathlib import Path
from typing import IO

import pytest

from harness.base.deadline import Deadline
from harness.base.errors import EvidenceError, ParseError
from harness.evidence.store import EvidenceStore
from harness.guest.agent import Agent
from harness.guest.drivers import drivers
from harness.model.checkpoint import Checkpoint
from suites.selftest.fakes.faketransport import FakeStream, Reply
from suites.selftest.fakes.snapshots import Dom0
from suites.selftest.guest.test_guest_exercise import text as exercised


class TestExercises:
    def test_in_a_guest(self, tmp_path: Path) -> None:
        commands: list[str] = []

        def console(data: bytes) -> bytes:
            if not data:
                return b""
            token, _, command = data.decode().strip().partition(" ")
            commands.append(command)
            return f"{exercised()}\n@{token} 0\n".encode()

        collector = Dom0().collector(tmp_path)
        view = collector.exercise_guest(
            Agent(FakeStream("g", console)), "d3", "nvme", "1b36:0010", 6, Deadline.after(5)
        )
        assert commands == ["sh /exercise/nvme 1b36:0010 6"]
        assert view is not None and (view.domain, view.delta) == ("d3", 9)
        assert exercised().encode() in (tmp_path / "raw/01-exercise-d3.txt").read_bytes()

    def test_a_line_that_the_console_lost_is_asked_for_again(self, tmp_path: Path) -> None:
        lost = exercised().replace("== interrupts_after\n", "")
        answers = [lost, exercised()]

        def console(data: bytes) -> bytes:
            token = data.decode().partition(" ")[0]
            return f"{answers.pop(0)}\n@{token} 0\n".encode()

        collector = Dom0().collector(tmp_path)
        agent = Agent(FakeStream("g", console))
        view = collector.exercise_guest(agent, "d3", "nvme", "1b36:0010", 6, Deadline.after(5))
        assert view.delta == 9
        assert lost.encode() in (tmp_path / "raw/01-exercise-d3.txt").read_bytes()
        answers += [lost, lost]
        with pytest.raises(ParseError):
            collector.exercise_guest(agent, "d3", "nvme", "1b36:0010", 6, Deadline.after(5))

    def test_in_dom0(self, tmp_path: Path) -> None:
        host = Dom0()
        host.transport.commands["sh -c 'set -- 1b36:0010 6\nready.*"] = Reply(exercised().encode())
        view = host.collector(tmp_path).exercise_dom0(drivers()["nvme"], "1b36:0010", 6, Deadline.after(5))
        assert view is not None and (view.domain, view.traffic_ok) == ("d0", True)
        assert host.transport.executed[-1].changes

    def test_what_cannot_be_parsed_is_kept(self, tmp_path: Path) -> None:
        host = Dom0()
        host.transport.commands["sh -c 'set -- 1b36:0010 6\nready.*"] = Reply(b"Segmentation fault\n")
        with pytest.raises(ParseError):
            host.collector(tmp_path).exercise_dom0(drivers()["nvme"], "1b36:0010", 6, Deadline.after(5))
        assert (tmp_path / "raw/01-exercise-d0.txt").read_bytes() == b"Segmentation fault\n"


class TestStore:
    def test_a_name_is_never_written_twice(self, tmp_path: Path) -> None:
        store = EvidenceStore(tmp_path)
        store.put("a", b"first")
        with pytest.raises(EvidenceError, match="File exists"):
            store.put("a", b"second")
        assert (tmp_path / "raw/a").read_bytes() == b"first"

    def test_the_same_observation_twice_makes_two_folders(self, tmp_path: Path) -> None:
        collector = Dom0().collector(tmp_path)
        collector.observe(Checkpoint.C2)
        collector.observe(Checkpoint.C2)
        assert sorted(path.name for path in (tmp_path / "raw").iterdir()) == ["01-C2", "02-C2"]

    def test_a_full_disk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(self: Path, *mode: str) -> IO[bytes]:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(Path, "open", refuse)
        with pytest.raises(EvidenceError, match=r"No space left on device.*free some space"):
            EvidenceStore(tmp_path).put("a", b"x")

    @pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="no /dev/full here")
    def test_a_disk_that_fills_while_writing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        opened = Path.open
        monkeypatch.setattr(Path, "open", lambda self, mode: opened(Path("/dev/full"), "wb"))
        with pytest.raises(EvidenceError, match="No space left on device"):
            EvidenceStore(tmp_path).put("a", b"x" * 100)

    def test_references_are_relative_to_the_run(self, tmp_path: Path) -> None:
        reference = EvidenceStore(tmp_path).below("E14", "stock").put("a.txt", b"x")
        assert reference.path == "raw/E14/stock/a.txt"
        assert str(dataclasses.replace(reference, line=3)) == "raw/E14/stock/a.txt:3"
