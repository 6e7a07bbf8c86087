"""Tests that somebody wrote, in every format of a report."""

from __future__ import annotations

import json
from typing import Any
from xml.etree import ElementTree

import pytest

from harness.judge.judgement import Verdict
from harness.model.observation import Checkpoint
from harness.report.formats.base import load
from harness.report.page.page import page
from harness.report.page.sentence import sentence
from harness.report.results import CaseResult, CaseSide, RunResult
from harness.report.told import Told
from harness.scenario.case import CaseRecord, CaseView
from suites.selftest.fakes.samplerun import build, observe
from suites.selftest.report.test_page import HOSTILE, Document


def side(verdict: Verdict, hypervisor: str = "stock", *, delta: int = 12, **more: Any) -> CaseSide:  # noqa: ANN401
    seen = observe(Checkpoint.C6, 49.9, 0x0406, 0x8040 if delta else 0xC040, delta=delta)
    record = CaseRecord(["nvme at 0000:04:00.0"], seen=[CaseView("end", (seen,))])
    given = {"reason": "" if verdict is Verdict.PASS else "assert 0 > 0\n  where 0 = interrupts()", **more}
    place = "test_mine.py:10" if verdict is Verdict.FAIL else ""
    return CaseSide(
        hypervisor=hypervisor,
        verdict=verdict,
        place=place,
        record=record,
        seconds=50,
        raw_directory=f"raw/mine/{hypervisor}",
        log=f"logs/mine.{hypervisor}.log",
        **given,
    )


def case(name: str, stock: CaseSide, control: CaseSide | None = None) -> CaseResult:
    return CaseResult.of(
        stock,
        control,
        wanted=control is not None,
        id=f"test_mine.py::test_{name}",
        title=f"What {name} is",
        devices=("nvme at 0000:04:00.0",),
        seconds=100.0,
        command_to_repeat=f"pytest test_mine.py::test_{name}",
    )


MUTANT = "no-maskall-reset"
CASES = [
    case("proven", side(Verdict.PASS), side(Verdict.FAIL, MUTANT, delta=0)),
    case("red", side(Verdict.FAIL, delta=0)),
    case("blind", side(Verdict.PASS), side(Verdict.PASS, MUTANT)),
    case("undecided", side(Verdict.PASS), side(Verdict.ERROR, MUTANT, reason="HostHung: no answer")),
    case("changed", side(Verdict.PASS, expected=Verdict.FAIL)),
    case("skipped", side(Verdict.SKIP, reason="only for bullseye")),
]
REASONS = {
    "proven": f"on the control {MUTANT}: assert 0 > 0",
    "red": "assert 0 > 0",
    "blind": f"it passes on the control {MUTANT} too",
    "undecided": f"on the control {MUTANT}: HostHung: no answer",
    "changed": "it passes, and is marked as one that fails",
    "skipped": "only for bullseye",
}


@pytest.fixture(scope="module")
def run() -> RunResult:
    return build([], cases=CASES)


def test_the_reason_is_that_of_the_side_that_made_it_so() -> None:
    assert {one.id.rpartition("_")[2]: one.reason for one in CASES} == REASONS


def test_ctrf_counts_and_tells_them(run: RunResult) -> None:
    results = json.loads(load("ctrf").render(Told(run)))["results"]
    assert results["summary"]["tests"] == len(CASES)
    told = {one["name"].rpartition("_")[2]: one for one in results["tests"]}
    assert {name: one["status"] for name, one in told.items()} == {
        "proven": "passed",
        "red": "failed",
        "blind": "failed",
        "undecided": "other",
        "changed": "failed",
        "skipped": "skipped",
    }
    assert told["red"]["message"] == REASONS["red"]
    assert "raw files: raw/mine/stock" in told["red"]["trace"]
    assert told["proven"]["extra"]["control"]["place"] == "test_mine.py:10"


def test_junit_gives_their_reason(run: RunResult) -> None:
    root = ElementTree.fromstring(load("junit").render(Told(run)))  # noqa: S314 - our own
    told = {one.get("name"): [(child.tag, child.get("message")) for child in one[1:]] for one in root.iter("testcase")}
    assert told["test_blind"] == [("failure", REASONS["blind"])]
    assert told["test_undecided"] == [("error", REASONS["undecided"])]
    assert told["test_proven"] == []


def test_the_page_has_a_section_for_each(run: RunResult) -> None:
    text = page(Told(run)).decode()
    document = Document(text)
    ids = [one["id"] for one in document.all("details")]
    assert ids == [f"t{number}" for number in range(len(CASES))]
    assert [one["id"] for one in document.all("details") if "open" in one] == ["t1", "t2", "t3", "t4"]
    assert [one["class"] for one in document.all("h1")] == ["bad"]
    assert "Endings and what follows" not in text, "there is no scenario"
    assert "pytest test_mine.py::test_red test_mine.py::test_blind" in text.partition("<main>")[0]
    assert 'href="./raw/c6-keys.txt">owner' in text
    assert "stock and control part at the checkpoint &#39;end&#39;" in text


def test_the_page_says_in_a_sentence_what_is_not_as_expected(run: RunResult) -> None:
    assert sentence(run) == (
        "1 regression: test_mine.py::test_red, assert 0 > 0; 1 blind: test_mine.py::test_blind, the control did not "
        "fail; 1 changed: test_mine.py::test_changed, passed where a failure was expected; 1 undecided: "
        "test_mine.py::test_undecided, on the control no-maskall-reset: HostHung: no answer; 1 proven; 1 skipped"
    )


def test_text_of_a_test_is_text_and_nothing_else(run: RunResult) -> None:
    bad = case("proven", side(Verdict.FAIL, reason=HOSTILE, delta=0)).model_copy(
        update={"title": HOSTILE, "id": HOSTILE}
    )
    plain, hostile = (page(Told(run.model_copy(update={"cases": (one,)}))) for one in (CASES[1], bad))
    assert len(Document(hostile.decode()).all("script")) == 1
    assert Document(hostile.decode()).all("img") == []
    assert b"\x1b" not in hostile
    assert [name for name, _ in Document(hostile.decode()).elements] == [
        name for name, _ in Document(plain.decode()).elements
    ]


def test_a_run_with_none_says_nothing_of_them() -> None:
    assert 'id="tests"' not in page(Told(build([]))).decode()
