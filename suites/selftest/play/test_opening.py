"""Openings: what was seen until C2 comes back as it was, or not at all."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.base.errors import EvidenceError, HostHung, LabError, ParseError
from harness.base.progress import PlainProgress
from harness.evidence.observe import observe
from harness.evidence.store import EvidenceStore
from harness.guest.initramfs import GuestFiles
from harness.host.host import Host, TargetDevice
from harness.model.address import Bdf
from harness.model.guestspec import GuestType, GuestWishes
from harness.model.observation import Checkpoint, Exercised, Position, RawRef, Reading
from harness.play.run import play, set_up
from harness.play.stage.stage import Stage
from harness.play.stage.warm_files import code_digest, evidence_of, resume, store_opening
from harness.play.stage.warm_start import WarmDevice, WarmStart, opening_key, works_at_c2
from harness.play.trial import Trial
from harness.scenario.record import Record
from harness.scenario.spec import Fate, Scenario
from suites.selftest.fakes.faketransport import Executed, FakeTransport, Reply
from suites.selftest.fakes.goodrecord import C2, A, C, good_run, rows, scenario
from suites.selftest.fakes.snapshots import Dom0
from suites.selftest.guest.test_guest_exercise import text as exercised

OPENABLE = [row for row in rows() if row.end.fate is not Fate.REFUSED]
POSITION = Position(files=7, msix_offset=0xB0)


def until_c2(record: Record) -> Record:
    """What stands in a record when guest A has just been seen working."""
    early = (Checkpoint.C0, Checkpoint.C1, Checkpoint.C2)
    return replace(
        record,
        observations=[seen for seen in record.observations if seen.checkpoint in early],
        readings=[Reading(at, 1.0, str(at), ("config.hex", "xl_dmesg.txt")) for at in early],
        actions=[done for done in record.actions if done.checkpoint is C2],
        guests={label: domid for label, domid in record.guests.items() if label != "B"},
        markers=[],
    )


def opening(row: Scenario) -> WarmStart:
    record = until_c2(good_run(row))
    records = [record, *([until_c2(record.second)] if record.second else [])]
    parts = tuple(
        WarmDevice(one.observations[0].device, one.dom0_driver, tuple(one.readings), POSITION) for one in records
    )
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    return WarmStart(
        moment, 21.5, parts, tuple(record.actions), record.guests, (RawRef("raw/C0/config.hex", "ab" * 32),)
    )


@pytest.mark.parametrize("row", OPENABLE, ids=lambda row: row.id)
def test_stored_and_read_again(row: Scenario) -> None:
    assert WarmStart.from_json(opening(row).to_json()) == opening(row)


def test_every_reference_leads_to_where_the_evidence_is_now() -> None:
    moved = WarmStart.from_json(opening(scenario("E14", "F1")).to_json(), "raw/E14/stock")
    assert '"raw/C' not in moved.to_json().decode()
    assert moved.evidence[0].path == "raw/E14/stock/C0/config.hex"
    assert moved.actions[0].raw is not None and moved.actions[0].raw.path == "raw/E14/stock/create.txt"
    back = json.loads(moved.to_json().replace(b"raw/E14/stock/", b"raw/"))
    assert back == json.loads(opening(scenario("E14", "F1")).to_json()), "nothing else has changed"


WHOLE = opening(scenario("E14", "F1")).to_json()


@settings(suppress_health_check=[HealthCheck.too_slow])  # which a busy machine is
@given(st.data())
def test_a_damaged_file_is_refused_in_one_line(data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(WHOLE) - 1))
    with pytest.raises(ParseError):
        WarmStart.from_json(WHOLE[:cut])
    other = data.draw(
        st.recursive(st.none() | st.integers() | st.text(), st.lists) | st.dictionaries(st.text(), st.none())
    )
    with pytest.raises(ParseError, match="expected a stored opening"):
        WarmStart.from_json(json.dumps(other).encode())


def test_a_guest_works_when_interrupts_reached_it() -> None:
    fine = until_c2(good_run(scenario("E14", "F1")))
    assert works_at_c2(fine)
    *early, last = fine.observations
    assert last.guest is not None
    silent = replace(last, guest=replace(last.guest, after=last.guest.before))
    failing = replace(last, guest=replace(last.guest, traffic_ok=False))
    for wrong in (silent, failing, replace(last, guest=None), replace(last, checkpoint=Checkpoint.C1)):
        assert not works_at_c2(replace(fine, observations=[*early, wrong]))
    assert not works_at_c2(replace(fine, observations=[]))


class TestKey:
    def test_endings_that_open_alike_share_it(self) -> None:
        keys = {opening_key(scenario(ending, "F1")) for ending in ("E3", "E5", "E9", "E14")}
        assert len(keys) == 1
        assert opening_key(scenario("E14", "F2")) in keys

    @pytest.mark.parametrize(
        "other",
        [
            scenario("E14", "F1", device="e1000e"),
            scenario("E3", "F1", guest=GuestType.PV),
            scenario("E7", "F1"),  # on_reboot
            scenario("E8", "F1"),  # on_crash, command line
            scenario("E22", "F1"),  # two vCPUs
            scenario("E14", "F3"),  # dom0's driver is made to work at C0
            scenario("E14", "F1", device="nvme+e1000e"),
            scenario("E23", "F1", device="nvme+e1000e"),  # and a bystander
        ],
        ids=lambda row: row.id,
    )
    def test_what_is_another_opening(self, other: Scenario) -> None:
        assert opening_key(other) not in (None, opening_key(scenario("E14", "F1")))

    def test_bystander_or_not(self) -> None:
        pair = "nvme+e1000e"
        assert opening_key(scenario("E23", "F1", device=pair)) != opening_key(scenario("E14", "F1", device=pair))

    def test_a_create_that_is_refused_opens_nothing(self) -> None:
        assert opening_key(scenario("E13", "F1")) is None

    def test_the_code_that_plays_it_counts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        before = code_digest()
        real = Path.read_bytes
        monkeypatch.setattr(Path, "read_bytes", lambda path: real(path) + b"\n" * (path.name == "exercise.sh"))
        code_digest.cache_clear()
        try:
            assert code_digest() != before
        finally:
            code_digest.cache_clear()


LSPCI = "0000:04:00.0 0108: 1b36:0010 (rev 02)\n0000:05:00.0 0200: 8086:10d3\n"
BYSTANDER = scenario("E23", "F1", device="nvme+e1000e")


def stage(row: Scenario, store: EvidenceStore) -> Stage:
    """A stage on a fake host whose devices are bound to pciback, as they are after the opening."""
    transport = FakeTransport(
        connected=True,
        commands={"lspci .*": Reply(LSPCI.encode()), "readlink .*": Reply(b"../bus/pci/drivers/pciback\n")},
        streams={".*console/tty.*": lambda data: b""},
    )
    known = {
        "nvme": TargetDevice("nvme", "1b36:0010", "nvme", reset_effective=True),
        "e1000e": TargetDevice("e1000e", "8086:10d3", "e1000e", reset_effective=True),
    }
    host = Host("fake", transport, known, GuestFiles("/k", "/i"))
    return set_up(row, host, store, PlainProgress(io.StringIO()))


def played(row: Scenario, folder: Path) -> Stage:
    """A stage that came to C2, with what was seen on the way."""
    there = stage(row, evidence_of(folder))
    record = until_c2(good_run(row))
    seen = Dom0()
    for part in there.parts:
        store, prefix = part.collector.store, part.collector.prefix
        part.device.original_driver = part.record.dom0_driver = "e1000e" if part is not there.part else "nvme"
        part.record.guests = dict(record.guests)
        store.put(f"{prefix}07-exercise-d2.txt", exercised().encode())
        readings = [
            seen.stored(store, at, f"{prefix}{number:02d}-{at}")
            for number, at in enumerate((Checkpoint.C0, Checkpoint.C1, C2), 1)
        ]
        readings[-1] = replace(readings[-1], guest=Exercised("d2", f"{prefix}07-exercise-d2.txt"))
        part.collector.resume(readings, POSITION, 21.5)
        part.record.observations = [observe(part.device.address, one, store) for one in readings]
    there.record.actions += record.actions
    return there


class TestResume:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        made = tmp_path / "opening"
        made.mkdir()
        store_opening(played(BYSTANDER, made), made)
        return made

    def test_goes_on_where_it_stood(self, folder: Path, tmp_path: Path) -> None:
        store = EvidenceStore(tmp_path / "run", "raw/x/stock")
        fresh = stage(BYSTANDER, store)
        assert fresh.device.original_driver == "pciback", "what the host shows now"
        resume(fresh, folder, store)
        before = played(BYSTANDER, tmp_path / "again")
        for part, was in zip(fresh.parts, before.parts, strict=True):
            assert (part.device.original_driver, part.record.dom0_driver) == (was.device.original_driver,) * 2
            assert [seen.checkpoint for seen in part.record.observations] == [
                seen.checkpoint for seen in was.record.observations
            ]
            assert part.collector.position == POSITION
            assert part.record.readings is part.collector.readings
            assert part.record.readings == was.record.readings
            assert part.record.markers is part.collector.markers
            assert part.collector.seconds >= 21.5
            assert part.record.actions is fresh.record.actions
            assert [done.verb for done in part.record.actions] == [done.verb for done in was.record.actions]
        assert fresh.record.opened is not None
        assert (fresh.guest.label, fresh.guest.domid, fresh.guest.spec.name) == ("A", A, "maskall-a")
        assert fresh.bystander is not None
        assert (fresh.bystander.domid, fresh.bystander.spec.name) == (C, "maskall-c")
        assert fresh.bystander.spec.devices == (Bdf.parse("05:00.0"),)

    def test_a_scenario_that_ends_at_once_still_reads_the_logs(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fresh = stage(BYSTANDER, EvidenceStore(tmp_path / "run", "raw/x/stock"))
        resume(fresh, folder, fresh.collector.store)
        read: list[Checkpoint] = []
        monkeypatch.setattr(fresh.collector, "close_logs", read.append)
        fresh.read_logs()
        assert read == [Checkpoint.C2]

    def test_the_evidence_is_copied_under_its_names(self, folder: Path, tmp_path: Path) -> None:
        store = EvidenceStore(tmp_path / "run", "raw/x/stock")
        resume(stage(BYSTANDER, store), folder, store)
        assert (tmp_path / "run/raw/x/stock/01-C0/config.hex").read_text().startswith(" 36 1b")
        assert (tmp_path / "run/raw/x/stock/second/01-C0/config.hex").exists()

    def test_evidence_that_was_changed_is_refused(self, folder: Path, tmp_path: Path) -> None:
        (folder / "raw/01-C0/config.hex").write_text("0000:04:00.1")
        store = EvidenceStore(tmp_path / "run")
        with pytest.raises(EvidenceError, match=r"changed after it was stored: .*opening/raw/01-C0/config\.hex"):
            resume(stage(BYSTANDER, store), folder, store)

    def test_evidence_that_is_gone_is_missed(self, folder: Path, tmp_path: Path) -> None:
        (folder / "raw/01-C0/config.hex").unlink()
        store = EvidenceStore(tmp_path / "run")
        with pytest.raises(EvidenceError, match="evidence is gone: No such file"):
            resume(stage(BYSTANDER, store), folder, store)

    def test_a_device_that_moved_is_not_the_same(self, folder: Path, tmp_path: Path) -> None:
        path = folder / "opening.json"
        path.write_bytes(path.read_bytes().replace(b'"address": "0000:04:00.0"', b'"address": "0000:06:00.0"'))
        store = EvidenceStore(tmp_path / "run")
        with pytest.raises(LabError, match=r"nvme is at 0000:04:00\.0, and was at 0000:06:00\.0"):
            resume(stage(BYSTANDER, store), folder, store)

    def test_a_guest_that_does_not_work_is_no_opening(self, tmp_path: Path) -> None:
        there = played(BYSTANDER, tmp_path)
        last = there.record.observations[-1]
        assert last.guest is not None
        there.record.observations[-1] = replace(last, guest=replace(last.guest, after=last.guest.before))
        with pytest.raises(LabError, match="guest A does not work at C2"):
            store_opening(there, tmp_path)
        assert not (tmp_path / "opening.json").exists()


class Repeats:
    """A console server: whoever comes is told first what was said before."""

    breaks = ()

    def __init__(self) -> None:
        self.said = b"(XEN) Panic on CPU 0:\r\n(XEN) of the day before\r\n"

    def text(self) -> bytes:
        return self.said


def test_a_crash_of_the_day_before_is_not_of_this_scenario(tmp_path: Path) -> None:
    there = stage(scenario("E14", "F1"), EvidenceStore(tmp_path, "raw/unused"))
    console = there.host.console = Repeats()

    def goes_on(executed: Executed) -> Reply:
        console.said += b"(XEN) said while it was played\r\n"
        raise HostHung("no dom0 any more")

    there.host.transport = FakeTransport(
        connected=True,
        commands={
            "lspci .*": Reply(LSPCI.encode()),
            "readlink .*": Reply(b"../bus/pci/drivers/nvme\n"),
            "sh -c .*": goes_on,
        },
    )
    store = EvidenceStore(tmp_path, "raw/side")
    side = play(scenario("E14", "F1"), there.host, store, PlainProgress(io.StringIO()))
    assert side.record.host_console is not None
    assert store.read(store.name_of(side.record.host_console))[1] == b"(XEN) said while it was played\r\n"
    assert not any(marker.kind.is_host_crash for marker, _ in side.record.markers)
    assert isinstance(side.error, HostHung)


def test_nor_is_it_of_a_test_that_somebody_wrote(tmp_path: Path) -> None:
    host = stage(scenario("E14", "F1"), EvidenceStore(tmp_path, "raw/unused")).host
    host.transport = FakeTransport(connected=True, commands={".*": Reply(b"")})
    console = host.console = Repeats()
    store = EvidenceStore(tmp_path, "raw/test")
    trial = Trial.begin(host, store, PlainProgress(io.StringIO()), GuestWishes())
    console.said += b"(XEN) said while it was played\r\n"
    trial.end()
    assert trial.record.console is not None
    assert store.read(store.name_of(trial.record.console))[1] == b"(XEN) said while it was played\r\n"
    assert trial.crash is None
