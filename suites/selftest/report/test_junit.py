"""junit.xml: what a CI system makes of a run."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from harness.report.formats.junit import junit
from harness.report.results import RunResult
from harness.run import store

GOLDEN = Path(__file__).parents[1] / "data/report/results.json"


@pytest.fixture(scope="module")
def run() -> RunResult:
    return store.load(GOLDEN, RunResult)


def parse(run: RunResult) -> ET.Element:
    return ET.fromstring(junit(run))  # noqa: S314 - our own document


def case(root: ET.Element, name: str) -> ET.Element:
    (found,) = root.findall(f".//testcase[@name='{name}']")
    return found


def properties(element: ET.Element) -> dict[str, str]:
    return {one.attrib["name"]: one.attrib["value"] for one in element.findall("properties/property")}


def test_totals_count_scenarios_not_sides(run: RunResult) -> None:
    root = parse(run)
    suite = root.find("testsuite")
    assert suite is not None
    for element in (root, suite):
        assert {key: element.attrib[key] for key in ("tests", "failures", "errors", "skipped", "time")} == {
            "tests": "9",
            "failures": "3",
            "errors": "1",
            "skipped": "1",
            "time": "370.000",
        }
    assert len(root.findall(".//testcase")) == 9


@pytest.mark.parametrize(
    ("name", "tag"),
    [
        ("E14-F1", None),  # PROVEN although the control failed
        ("E1-F2", None),  # UNPROVEN
        ("E14-F2", "failure"),  # BLIND
        ("E3-F1", "failure"),  # REGRESSION
        ("E14-F8", "error"),  # UNDECIDED
        ("E21-F1", "skipped"),
        ("E5-F1", None),  # KNOWN
        ("E17-F1", "failure"),  # CHANGED
    ],
)
def test_the_outcome_of_a_case(run: RunResult, name: str, tag: str | None) -> None:
    found = case(parse(run), name)
    outcomes = [child.tag for child in found if child.tag in ("failure", "error", "skipped")]
    assert outcomes == ([tag] if tag else [])


def test_the_message_comes_from_the_side_that_decided(run: RunResult) -> None:
    root = parse(run)
    messages = {
        one.attrib["name"]: child.attrib["message"]
        for one in root.findall(".//testcase")
        for child in one
        if "message" in child.attrib
    }
    assert messages == {
        "E14-F2": "on the control no-maskall-reset: every expectation was met",
        "E3-F1": "guest B gets no interrupts",
        "E14-F8": "on the control no-maskall-reset: the host \\x1b[31mhung\\x0d",
        "E21-F1": "QEMU 7.2 has no igb",
        "E17-F1": "expected maskall-at-boot and did not see it: was the fix backported? Then say so in first_fixed of "
        "harness/xen/keys/fixes.yaml",
    }


def test_a_known_issue_is_no_failure_and_not_hidden_either(run: RunResult) -> None:
    found = case(parse(run), "E5-F1")
    told = properties(found)
    assert (told["conclusion"], told["expected.verdict"], told["stock.verdict"]) == ("KNOWN", "FAIL", "FAIL")
    assert told["expected.issues"] == "zombie-keeps-irqs"
    assert told["expected.documents"] == "docs/findings/zombie-keeps-irqs.md"
    text = found.findtext("system-out") or ""
    assert text.startswith("KNOWN E5-F1")
    assert "raw/c6-b.txt:7" in text


def test_a_failure_says_where_to_look_and_how_to_repeat(run: RunResult) -> None:
    text = case(parse(run), "E3-F1").findtext("failure") or ""
    assert "raw/c6-b.txt:7" in text
    assert "repeat just this: ./tools/maskall run E3-F1 --device e1000e" in text


def test_properties_of_a_case_hold_both_sides(run: RunResult) -> None:
    found = properties(case(parse(run), "E14-F1"))
    assert found["conclusion"] == "PROVEN"
    assert (found["stock.verdict"], found["control.verdict"]) == ("PASS", "FAIL")
    assert found["control.hypervisor"] == "no-maskall-reset"
    assert found["stock.hazard"].startswith("taken: (XEN) cannot mask IRQ 45")
    assert found["control.raw_directory"] == "raw/e14-f1/control"
    assert "control.verdict" not in properties(case(parse(run), "E1-F2"))


def test_the_run_says_that_it_was_nested_and_names_the_control(run: RunResult) -> None:
    suite = parse(run).find("testsuite")
    assert suite is not None
    found = properties(suite)
    assert found["host.label"] == "nested host: says nothing about hardware"
    assert found["control.no-maskall-reset"].endswith("f3 0f 1e -> 31 c0 c3")
    assert found["emulator_faults"] == "1"
    assert suite.attrib["timestamp"] == "2026-01-02T03:04:05+00:00"


def test_every_character_gives_a_document_that_parses() -> None:
    hostile = "".join(map(chr, range(0x100))) + "\u2028\u202e\ufffe\uffff<>&\"']]>\U0001f600"
    document = json.loads(GOLDEN.read_text())
    victim = document["scenarios"][4]
    judgement, record = victim["stock"]["judgement"], victim["stock"]["record"]
    judgement["reason"] = judgement["checks"][1]["seen"] = judgement["hazard"]["how"] = hostile
    victim["title"] = document["host"]["facts"]["kernel"] = hostile
    record["observations"][0]["xen"]["owner"] = record["messages"][0]["text"] = hostile
    failure = case(parse(RunResult.model_validate(document)), "E3-F1").find("failure")
    assert failure is not None
    message = failure.attrib["message"]
    assert "\\x00\\x01" in message and "\\x1b" in message and "\\uffff<>&\"']]>\U0001f600" in message
    assert not set(message) & set(map(chr, range(0x20)))


def test_a_run_without_scenarios_is_a_document_too(run: RunResult) -> None:
    empty = run.model_copy(update={"scenarios": (), "counts": {}})
    root = parse(empty)
    assert root.attrib["tests"] == "0"
    assert root.findall(".//testcase") == []
