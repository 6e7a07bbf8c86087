"""Every raw file is stored once and whole."""

from __future__ import annotations

import dataclasses
import errno
from pathlib import Path
from typing import IO

import pytest

from harness.base.errors import EvidenceError
from harness.evidence.store import EvidenceStore
from harness.model.observation import Checkpoint
from suites.selftest.fakes.snapshots import Dom0


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
