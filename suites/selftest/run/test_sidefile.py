"""record.json: what is written comes back, but for what raw files show; what is not what was written is refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from harness.base.errors import EvidenceError
from harness.evidence.store import EvidenceStore
from harness.model.observation import Checkpoint, Exercised, RawRef, Reading, RoundReading
from harness.model.trace import Frame
from harness.run.sidefile import load_side, store_side
from harness.scenario.record import Broken, Record
from harness.scenario.spec import Scenario
from suites.selftest.fakes.goodrecord import NVME, good_run, rows, scenario

BEGAN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def stored(root: Path, record: Record, folder: str = "raw/x/stock") -> RawRef:
    store = EvidenceStore(root, folder)
    store.put("01-C0/config.hex", b"00 ff\n")
    ended = BEGAN + timedelta(seconds=30)
    return store_side(store, record, hypervisor="stock", began=BEGAN, ended=ended, phases={"restore": 1.5})


def whole(row: Scenario) -> Record:
    """With every field set, its evidence where `stored` puts it."""
    record = good_run(row)
    own = RawRef("raw/x/stock/01-C0/config.hex", "ab" * 32)
    for one in filter(None, (record, record.second)):
        one.device = NVME
        one.readings = [Reading(Checkpoint.C2, 1.5, "01-C0", ("config.hex",), Exercised("d1", "04-x.txt"), boot=True)]
    record.actions = [replace(done, raw=own if done.raw else None) for done in record.actions]
    record.rounds_read = [RoundReading(1, 3, None, "round-01", ("a", "b"))]
    record.call_chain, record.call_chain_raw = (Frame(0, 0xFFFF82D040205A41, "domain_kill", 0xA1),), own
    record.host_console = record.silence = record.trace_raw = own
    record.planted = own if record.planted else None
    record.broken = Broken("EmulatorFault", "it was the emulator", "try again")
    record.opened = BEGAN
    if record.second is not None:
        record.second.actions = record.actions
    return record


def without_what_files_show(record: Record) -> Record:
    bare = replace(record, observations=[], markers=[], messages=None, rounds=[])
    bare.actions = [replace(done, said="") for done in record.actions]
    if record.second is not None:
        bare.second = replace(record.second, observations=[], markers=[], messages=None, rounds=[])
        bare.second.actions = bare.actions
    return bare


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.id)
def test_what_is_written_comes_back(row: Scenario, tmp_path: Path) -> None:
    record = whole(row)
    raw = stored(tmp_path, record)
    side, sealed, found = load_side(tmp_path, "raw/x/stock", raw.sha256)
    assert (side.record, found) == (without_what_files_show(record), raw)
    assert side.ended - side.began == timedelta(seconds=30) and side.phases == {"restore": 1.5}
    assert sealed.damaged() == [] and sealed.read("01-C0/config.hex")[1] == b"00 ff\n"
    assert side.record.second is None or side.record.second.actions is side.record.actions


def test_its_folder_may_move(tmp_path: Path) -> None:
    stored(tmp_path, whole(scenario("E14", "F1")))
    text = (tmp_path / "raw/x/stock/record.json").read_text()
    assert "raw/x" not in text and '"path": "01-C0/config.hex"' in text
    (tmp_path / "raw/x").rename(tmp_path / "raw/elsewhere")
    side, sealed, _ = load_side(tmp_path, "raw/elsewhere/stock")
    assert side.record.host_console is not None
    assert side.record.host_console.path == "raw/elsewhere/stock/01-C0/config.hex"
    assert sealed.read(sealed.name_of(side.record.host_console))[1] == b"00 ff\n"


def test_it_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(EvidenceError, match="No space left on device"):
        stored(tmp_path, whole(scenario("E14", "F1")))
    assert [path.name for path in (tmp_path / "raw/x/stock").iterdir()] == ["01-C0"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'"x"', b"[" * 100000, b'{"version": "1"}', b"\xff"])
def test_what_it_is_not(tmp_path: Path, content: bytes) -> None:
    stored(tmp_path, whole(scenario("E14", "F1")))
    (tmp_path / "raw/x/stock/record.json").write_bytes(content)
    with pytest.raises(EvidenceError, match=r"'raw/x/stock/record\.json'") as caught:
        load_side(tmp_path, "raw/x/stock")
    assert "\n" not in str(caught.value)


def test_a_known_digest_is_held_against_it(tmp_path: Path) -> None:
    stored(tmp_path, whole(scenario("E14", "F1")))
    with pytest.raises(EvidenceError, match="was changed after it was stored"):
        load_side(tmp_path, "raw/x/stock", "ab" * 32)
