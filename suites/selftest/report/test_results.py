"""Results: what was seen and judged, to results.json and back, and the schema that is published for it.

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
from harness.base.text import inert
from harness.judge.judge import judge as judge_record
from harness.judge.judgement import Conclusion, Verdict
from harness.report.results import RunResult, Side
from harness.run import store
from harness.run.schema import schema, schema_text
from harness.scenario.spec import ControlRole
from suites.selftest.fakes.goodrecord import good
from suites.selftest.fakes.samplerun import build, judge, scenario, scenarios, side

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
    assert store.load(tmp_path / "deep/er/results.json", RunResult) == run


def test_the_published_schema_is_the_models() -> None:
    assert PUBLISHED.read_text() == schema_text(schema()), "publish it again, as harness/run/schema.py says"


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
        (("schema_version",), "1"),
        (("exit_status",), 4),
        (("scenarios", 0, "stock", "judgement", "verdict"), "GREEN"),
        (("scenarios", 0, "stock", "judgement", "checks", 0, "raw", "page"), 1),
        (("scenarios", 0, "stock", "record", "observations", 0, "hardware", "control", "value"), 32832),
        (("scenarios", 0, "stock", "record", "observations", 0, "device"), "4:0.0"),
        (("scenarios", 1, "stock", "record", "trace", 0, "chain", 0, "address"), 0xFFFF82D0403130C0),
        (("scenarios", 0, "unheard_of"), 1),
        (("controls", 0, "changes", 0, "before"), "f30f1e"),
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


def test_the_very_judgement_and_record_are_kept(tmp_path: Path) -> None:
    """Nothing is told anew: what is read back is equal to what the judge made, and judged again it is the same."""
    record = good("E3", "F7")
    made = Side(hypervisor="stock", judgement=judge_record(record), record=record, raw_directory="raw", log="log")
    assert made.judgement is made.model_copy().judgement and made.record is record
    store.dump(build([scenario("E3-F7", "nvme", made, None, ControlRole.NONE)]), tmp_path / "results.json")
    (result,) = store.load(tmp_path / "results.json", RunResult).scenarios
    assert result.stock == made
    assert judge_record(result.stock.record) == made.judgement


def test_registers_and_addresses_are_text(run: RunResult) -> None:
    """JSON numbers lose the low bits of a 64-bit address."""
    side = json.loads(GOLDEN.read_text())["scenarios"][1]["stock"]
    hardware = side["record"]["observations"][0]["hardware"]
    assert (hardware["command"], hardware["control"]) == ({"value": "0x0406"}, {"value": "0x8040"})
    assert side["record"]["call_chain"][0]["address"] == "0xffff82d0402d77f0"
    assert side["record"]["observations"][0]["device"] == "0000:04:00.0"
    assert run.scenarios[1].stock.record.call_chain[0].address == 0xFFFF82D0402D77F0


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
    stored = store.load(tmp_path / "results.json", RunResult).scenarios[0].stock
    assert stored.reason == "guest said \\udcff\x1b[2J"
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


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema_version": "2"}', b"{}", b"\xff\xfe"])
def test_what_is_not_a_result_is_refused_in_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_bytes(content)
    with pytest.raises(EvidenceError, match="not what maskall writes") as caught:
        store.load(path, RunResult)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_register_that_holds_too_much_is_no_traceback(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(GOLDEN.read_text().replace('"value": "0x0406"', '"value": "0x10406"'))
    with pytest.raises(EvidenceError, match="does not fit its register") as caught:
        store.load(path, RunResult)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("version", ["1", "3", "2.0", "\x1b[2J"])
def test_another_schema_version_is_refused_in_one_line(version: str, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"schema_version": version, "scenarios": []}))
    with pytest.raises(UsageError) as caught:
        store.load(path, RunResult)
    told = f"{path}: schema version {inert(version)}, and this maskall reads version 2 only (read it with the maskall"
    assert str(caught.value).startswith(told)
    assert "\n" not in str(caught.value)


def test_an_absent_file_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        store.load(tmp_path / "none.json", RunResult)
