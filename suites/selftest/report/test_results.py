"""Results: from the dataclasses of a run to results.json and back, and the schema that is published for it.

data/report/results.json is the run of samplerun.py, one scenario per conclusion.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import jsonschema
import pytest
from pydantic import ValidationError

from harness.base.errors import EvidenceError, ExitStatus, UsageError
from harness.model.checkpoint import Checkpoint
from harness.model.observation import Observation
from harness.model.verdict import Conclusion, ControlRole, Verdict
from harness.report import convert_side
from harness.report.results import RunResult
from harness.report.schema import schema, schema_text
from harness.report.seen import Moment
from harness.run import store
from suites.selftest.fakes.samplerun import NVME, build, judge, observe, scenario, scenarios, side

ROOT = Path(__file__).resolve().parents[3]
GOLDEN = Path(__file__).parents[1] / "data/report/results.json"
PUBLISHED = ROOT / "docs/results.schema.json"


@pytest.fixture(scope="module")
def run() -> RunResult:
    return build(scenarios())


def test_the_golden_file_is_this_run(run: RunResult, tmp_path: Path) -> None:
    store.dump(run, tmp_path / "results.json")
    assert (tmp_path / "results.json").read_text() == GOLDEN.read_text()


def test_every_conclusion_is_in_the_example(run: RunResult) -> None:
    assert run.counts == {one: 2 if one is Conclusion.PROVEN else 1 for one in Conclusion}


def test_a_stored_run_reads_back_equal(run: RunResult, tmp_path: Path) -> None:
    store.dump(run, tmp_path / "deep/er/results.json")
    assert store.load(tmp_path / "deep/er/results.json") == run


def test_the_published_schema_is_the_models() -> None:
    assert PUBLISHED.read_text() == schema_text(schema()), "publish it again, as harness/report/schema.py says"


def test_the_example_obeys_the_published_schema() -> None:
    published = json.loads(PUBLISHED.read_text())
    jsonschema.Draft202012Validator.check_schema(published)
    validator = jsonschema.Draft202012Validator(
        published, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )
    validator.validate(json.loads(GOLDEN.read_text()))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("schema_version",), "2"),
        (("exit_status",), 4),
        (("scenarios", 0, "stock", "verdict"), "GREEN"),
        (("scenarios", 0, "stock", "timeline", 0, "control", "raw"), 32832),
        (("scenarios", 0, "unheard_of"), 1),
        (("controls", 0, "changes", 0, "original"), "f30f1e"),
        (("emulator_faults",), -1),
    ],
)
def test_schema_and_models_refuse_the_same(place: tuple[str | int, ...], value: object) -> None:
    document = json.loads(GOLDEN.read_text())
    target = document
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = value
    assert not jsonschema.Draft202012Validator(schema()).is_valid(document)
    with pytest.raises(ValidationError):
        RunResult.model_validate_json(json.dumps(document))


def test_the_views_stay_apart_in_a_moment() -> None:
    made = convert_side.moment(observe(Checkpoint.C6, 49.9, 0x0406, 0xC040, delta=0))
    assert made.command is not None and (made.command.text, made.command.raw) == ("Mem+ Bus+ DisINTx+", "0x0406")
    assert made.control is not None and (made.control.text, made.control.raw) == ("Enable+ Masked+", "0xc040")
    assert (made.enabled, made.masked, made.owner, made.irqs, made.unbound_irqs) == (True, True, "d3", (44, 45), (41,))
    assert made.masked_vectors == (0, 1, 2)
    assert made.masks is not None and made.masks[0].hardware is None
    assert made.guest is not None and (made.guest.delta, made.guest.masked, made.guest.traffic_ok) == (0, True, False)
    assert {view: str(source) for view, source in made.sources.items()} == {
        "hardware": "raw/c6-lspci.txt:1",
        "table": "raw/c6-table.txt",
        "xen_keys": "raw/c6-keys.txt:17",
        "guest": "raw/c6-b.txt",
    }


def test_what_was_not_read_is_none_and_not_empty() -> None:
    blank: Moment = convert_side.moment(Observation(Checkpoint.C4, NVME, 1.0))
    unread = (blank.command, blank.control, blank.masked, blank.owner, blank.irqs, blank.masks, blank.masked_vectors)
    assert unread == (None,) * 7
    assert blank.sources == {}
    assert not blank.gone


def test_emulator_faults_are_collected_with_their_evidence(run: RunResult) -> None:
    assert run.emulator_faults == 1
    fault = run.emulator_fault_list[0]
    assert (fault.scenario, fault.hypervisor, str(fault.raw)) == ("E14-F1", "stock", "raw/e14-f1-attempt-1.txt:88")


def test_the_exit_status_follows_the_conclusions() -> None:
    every = scenarios()
    assert build(every).exit_status is ExitStatus.FAILED
    assert build(every[:3]).exit_status is ExitStatus.OK
    assert build([every[5]]).exit_status is ExitStatus.UNDECIDED
    assert build([]).exit_status is ExitStatus.NOTHING_RAN
    assert build([], status=ExitStatus.UNDECIDED).exit_status is ExitStatus.UNDECIDED


@pytest.mark.parametrize("lie", [{"counts": {"PROVEN": 9}}, {"emulator_faults": 0}])
def test_totals_that_lie_are_refused(lie: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="agree"):
        RunResult.model_validate(json.loads(GOLDEN.read_text()) | lie)


def test_times_without_a_zone_are_refused() -> None:
    with pytest.raises(ValidationError, match="timezone"):
        RunResult.model_validate(json.loads(GOLDEN.read_text()) | {"started": "2026-01-02T03:04:05"})


def test_undecodable_bytes_of_a_guest_can_be_stored(tmp_path: Path) -> None:
    reason = b"guest said \xff\x1b[2J".decode(errors="surrogateescape")
    odd = scenario("E1-F1", "nvme", side("x", judge(Verdict.FAIL, reason, taken=True)), None, ControlRole.NONE)
    store.dump(build([odd]), tmp_path / "results.json")
    assert store.load(tmp_path / "results.json").scenarios[0].stock.reason == "guest said \\udcff\x1b[2J"
    assert b"\x1b" not in (tmp_path / "results.json").read_bytes()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    run: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    target = tmp_path / "results.json"
    target.write_text("old")
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(EvidenceError, match="No space left"):
        store.dump(run, target)
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]
    assert target.read_text() == "old"


def test_file_and_directory_reach_the_disk(run: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[bool] = []
    monkeypatch.setattr("os.fsync", lambda handle: synced.append(stat.S_ISDIR(os.fstat(handle).st_mode)))
    store.dump(run, tmp_path / "results.json")
    assert synced == [False, True]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema_version": "2"}', b"\xff\xfe"])
def test_what_is_not_a_result_is_refused_in_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_bytes(content)
    with pytest.raises(EvidenceError, match="schema version 1") as caught:
        store.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_an_absent_file_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        store.load(tmp_path / "none.json")
