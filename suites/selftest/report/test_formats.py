"""Formats of a report: a file each, found by its name, and what help and docs say of them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from harness.base import ways
from harness.base.errors import EvidenceError, ExitStatus
from harness.base.stored import to_json
from harness.base.text import inert
from harness.cli.entry import main
from harness.model.observation import RawRef
from harness.report import formats
from harness.report.formats.base import load, written
from harness.report.results import RunResult
from harness.report.told import Told, nothing_at_hand
from harness.run import store
from suites.selftest.fakes.samplerun import build, scenarios

DATA = Path(__file__).parents[1] / "data/report"
DOCS = Path(__file__).parents[3] / "docs/page.md"
NAMES = ways.names(formats)
SHOUT = '''
from harness.report.formats.base import Format
from harness.report.told import Told
class Shout(Format):
    """In capitals."""
    file = "shout.txt"
    def render(self, told: Told) -> bytes:
        return told.run.run_id.upper().encode() + b"!"
'''


@pytest.fixture(scope="module")
def run() -> RunResult:
    return store.load(DATA / "results.json", RunResult)


@pytest.fixture(scope="module")
def ctrf(run: RunResult) -> dict[str, dict[str, object]]:
    document = json.loads(load("ctrf").render(Told(run, ("E1-F1: not played",))))
    assert (document["reportFormat"], document["specVersion"]) == ("CTRF", "0.0.0")
    return document["results"]  # type: ignore[no-any-return]


def test_those_that_there_are() -> None:
    assert {"ctrf", "json", "junit", "table"} <= set(NAMES)


def test_a_new_format_takes_its_file_and_nothing_else(
    run: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shout.py").write_text(SHOUT)
    monkeypatch.setattr(formats, "__path__", [*formats.__path__, str(tmp_path)])
    assert "shout" in ways.names(formats)
    assert dict(written(Told(run)))["shout.txt"] == run.run_id.upper().encode() + b"!"


def test_every_run_leaves_its_results_before_what_tells_them_again(run: RunResult) -> None:
    files = [name for name, _ in written(Told(run))]
    assert files[0] == "results.json"
    assert "junit.xml" in files
    assert len(set(files)) == len(files)


@pytest.mark.parametrize("name", NAMES)
def test_the_docs_know_it(name: str) -> None:
    one = load(name)
    says = (type(one).__doc__ or "").splitlines()[0]
    with_run = f"`{one.file}`" if one.file else ""
    row = f"| `{name}` | {says} | {with_run} |"
    assert row in DOCS.read_text(), f"{DOCS} lacks the row {row}"


def test_help_knows_them(capsys: pytest.CaptureFixture[str]) -> None:
    main(["report", "--help"])
    assert f"One of {', '.join(NAMES)}." in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("name", NAMES)
def test_text_of_any_kind_comes_out_as_a_document(name: str) -> None:
    hostile = "\ud800\x1b[2J\x00\u202e<script>&\"']]>\ufffe"
    document = json.loads(json.dumps(json.loads((DATA / "results.json").read_text())))
    document["host"]["facts"]["kernel"] = hostile
    for scenario in document["scenarios"]:
        scenario["title"] = scenario["remark"] = hostile
        scenario["stock"]["judgement"]["reason"] = hostile
    told = load(name).render(Told(RunResult.model_validate(document)))
    told.decode("utf-8")
    if name not in ("json", "ctrf"):
        assert b"\x1b" not in told and b"\x00" not in told


def test_json_is_what_is_stored(run: RunResult) -> None:
    assert load("json").render(Told(run)) == to_json(run) == (DATA / "results.json").read_bytes()


def test_the_table_ends_with_what_is_missing(run: RunResult) -> None:
    text = load("table").render(Told(run, ("CUT SHORT",))).decode()
    assert text.startswith((DATA / "report-80.txt").read_text())
    assert text.endswith("\nCUT SHORT\n")


def test_ctrf_counts_what_it_lists(ctrf: dict[str, dict[str, object]], run: RunResult) -> None:
    tests = ctrf["tests"]
    assert isinstance(tests, list)
    counts = Counter(test["status"] for test in tests)
    summary = ctrf["summary"]
    assert {state: summary[state] for state in ("passed", "failed", "skipped", "pending", "other")} == {
        "passed": 4,
        "failed": 3,
        "skipped": 1,
        "pending": 0,
        "other": 1,
    }
    assert sum(counts.values()) == summary["tests"] == len(run.scenarios)
    assert summary["stop"] - summary["start"] == 370_000  # type: ignore[operator]


def test_ctrf_says_what_is_wrong_and_what_is_missing(ctrf: dict[str, dict[str, object]], run: RunResult) -> None:
    tests = {test["name"]: test for test in ctrf["tests"]}
    assert tests["E3-F1"]["rawStatus"] == "REGRESSION"
    assert tests["E3-F1"]["message"] == "guest B gets no interrupts"
    assert "raw/c6-b.txt:7" in tests["E3-F1"]["trace"]
    assert "message" not in tests["E14-F1"]
    assert tests["E14-F8"]["message"] == inert("on the control no-maskall-reset: the host \x1b[31mhung\r")
    assert ctrf["summary"]["extra"]["missing"] == ["E1-F1: not played"]  # type: ignore[index]


def test_without_its_raw_files_nothing_is_at_hand() -> None:
    with pytest.raises(EvidenceError, match=r"'raw/x\.txt' is not at hand"):
        nothing_at_hand(RawRef("raw/x.txt", "00"))


def test_the_command_prints_or_writes(
    run: RunResult, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    made = build(scenarios())
    store.dump(made, tmp_path / "results.json")
    target = tmp_path / "out/junit.xml"
    assert main(["report", str(tmp_path), "--format", "junit"]) == ExitStatus.FAILED
    printed = capsysbinary.readouterr().out
    assert printed.startswith(b"<?xml")
    assert main(["report", str(tmp_path / "results.json"), "--format", "junit", "--output", str(target)]) == 1
    assert (capsysbinary.readouterr().out, target.read_bytes()) == (b"", printed)
