"""What a person reads at the end of a run: table, call chain, failures, timeline. data/report/*.txt are golden."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from harness.base.errors import ExitStatus
from harness.base.text import inert, storable
from harness.judge.forecast import Forecast
from harness.model.observation import Checkpoint, Observation, RawRef, TableView
from harness.report.announce import announced
from harness.report.failure import explain, failures, remarks, skipped
from harness.report.results import RunResult, ScenarioResult, Side
from harness.report.sidelog import side_log
from harness.report.table import duration, plain, report
from harness.report.timeline import timeline
from harness.run import store
from suites.selftest.fakes.samplerun import NVME, known

DATA = Path(__file__).parents[1] / "data/report"


@pytest.fixture(scope="module")
def run() -> RunResult:
    return store.load(DATA / "results.json", RunResult)


def observation(run: RunResult) -> Observation:
    """The last of the scenario that is a regression: all views were read."""
    return run.scenarios[4].stock.record.observations[2]


def rows(seen: Observation) -> dict[str, str]:
    """The timeline of one observation, by heading."""
    heading, row = timeline([seen]).splitlines()
    starts = [match.start() for match in re.finditer(r"(?:^|(?<=  ))\S", heading)]
    ends = [*starts[1:], None]
    return {heading[a:b].strip(): row[a:b].strip() for a, b in zip(starts, ends, strict=True)}


def judged_anew(scenario: ScenarioResult, **judgement: object) -> ScenarioResult:
    """The same with another judgement of stock, and with a record of its own."""
    stock = scenario.stock
    judged, record = replace(stock.judgement, **judgement), replace(stock.record)  # type: ignore[arg-type]
    altered: Side = stock.model_copy(update={"judgement": judged, "record": record})
    return scenario.model_copy(update={"stock": altered})


def test_the_report_at_80_columns(run: RunResult) -> None:
    assert plain(run) == (DATA / "report-80.txt").read_text()


def test_the_failures(run: RunResult) -> None:
    assert "\n".join(failures(run)) + "\n" == (DATA / "failures.txt").read_text()


def test_the_timeline(run: RunResult) -> None:
    assert timeline(run.scenarios[4].stock.record.observations) + "\n" == (DATA / "timeline.txt").read_text()


@pytest.mark.parametrize("width", [70, 80, 99, 100, 120, 200])
def test_no_line_is_too_long_and_no_word_is_cut(run: RunResult, width: int) -> None:
    text = plain(run, width=width)
    assert max(map(len, text.splitlines())) <= width
    for word in ("virtio-rng", "REGRESSION", "UNDECIDED", "yes/yes", "conclusion"):
        assert word in text


def test_without_colour_there_is_not_one_escape(run: RunResult) -> None:
    stream = io.StringIO()
    Console(file=stream, width=80, _environ={}).print(report(run))
    assert "\x1b" not in stream.getvalue()


def test_with_colour_the_words_are_the_same(run: RunResult) -> None:
    stream = io.StringIO()
    Console(file=stream, width=80, force_terminal=True, color_system="standard", _environ={}).print(report(run))
    assert "\x1b[" in stream.getvalue()
    bare = re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue())
    assert [line.rstrip() for line in bare.splitlines()] == plain(run).splitlines()


def test_a_terminal_that_only_knows_ascii(run: RunResult) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    Console(file=stream, width=80, _environ={}).print(report(run))
    stream.seek(0)
    assert "REGRESSION" in stream.read()


def test_a_mutant_under_test_is_not_called_stock(run: RunResult) -> None:
    mutated = run.scenarios[4].stock.model_copy(update={"hypervisor": "no-maskall-reset"})
    scenario = run.scenarios[4].model_copy(update={"stock": mutated})
    text = plain(run.model_copy(update={"scenarios": (scenario,)}))
    assert "under test   no-maskall-reset" in text
    assert "stock" not in text
    assert any("on no-maskall-reset: expected PASS" in line for line in explain(scenario))


def test_a_run_of_nothing(run: RunResult) -> None:
    text = plain(run.model_copy(update={"scenarios": (), "counts": {}, "exit_status": ExitStatus.NOTHING_RAN}))
    assert "nothing ran" in text and "exit status 5" in text
    assert "conclusion" not in text


def test_different_call_chains_are_all_shown(run: RunResult) -> None:
    traced = run.scenarios[1]
    assert traced.control is not None
    record = replace(traced.control.record, call_chain=traced.control.record.call_chain[:-1])
    other = traced.control.model_copy(update={"record": record})
    text = plain(run.model_copy(update={"scenarios": (traced.model_copy(update={"control": other}),)}))
    assert text.count("call chain of") == 2
    assert "on no-maskall-reset" in text and "other run" not in text


def test_only_what_is_not_as_expected_is_explained(run: RunResult) -> None:
    text = "\n".join(failures(run))
    assert [line.split()[0] for line in text.splitlines() if line[:1].isupper()] == [
        "BLIND", "REGRESSION", "UNDECIDED", "CHANGED"
    ]  # fmt: skip
    assert skipped(run) == ["SKIPPED E21-F1 igb: QEMU 7.2 has no igb"]


def test_a_known_issue_has_a_line_and_no_paragraph(run: RunResult) -> None:
    (line,) = remarks(run)
    assert line.startswith(
        "KNOWN E5-F1: fails as zombie-keeps-irqs says: known issue zombie-keeps-irqs, docs/findings/"
    )
    assert not any("E5-F1" in line for line in failures(run))


def test_a_run_says_beforehand_what_it_expects() -> None:
    zombie = known("zombie", document="docs/findings/zombie.md", xen=["4.20"])
    forecasts = {"E14-F1": Forecast("fix a is in Xen 4.20"), "E5-F1": zombie, "E1-F1": Forecast()}
    assert list(announced(forecasts)) == [
        "expected: PASS of 2 scenarios",
        "expected: FAIL of E5-F1: known issue zombie, docs/findings/zombie.md",
    ]
    many = {f"E5-F{number}": zombie for number in range(1, 8)}
    assert list(announced(many)) == [
        "expected: FAIL of E5-F1, E5-F2, E5-F3, E5-F4 and 3 more: known issue zombie, docs/findings/zombie.md"
    ]


def test_many_violations_are_cut_and_said_to_be(run: RunResult) -> None:
    one = run.scenarios[4].stock.judgement.violations[0]
    lines = explain(judged_anew(run.scenarios[4], checks=(one,) * 9))
    assert sum("C6 guest B" in line for line in lines) == 4
    assert any("and 5 more, see the log" in line for line in lines)


def test_a_product_failure_on_stock_is_not_drowned_by_the_control(run: RunResult) -> None:
    regression = run.scenarios[4].model_copy(update={"control": run.scenarios[0].control})
    assert not any("the control" in line for line in explain(regression))


def test_the_timeline_tells_unread_from_empty(run: RunResult) -> None:
    unread = rows(Observation(Checkpoint.C6, NVME, 1.0))
    assert {
        unread[name] for name in ("COMMAND", "control", "table", "owner", "irqs", "guest control", "interrupts")
    } == {"-"}
    seen = observation(run)
    assert seen.xen is not None and seen.table is not None
    nothing = replace(seen.xen, owner=None, irqs=(), masks=(), unbound=())
    empty = rows(replace(seen, xen=nothing, table=replace(seen.table, masked=(False,))))
    assert (empty["table"], empty["owner"], empty["irqs"]) == ("unmasked", "none", "none")


def test_the_timeline_of_a_device_that_is_gone(run: RunResult) -> None:
    seen = observation(run)
    assert seen.hardware is not None
    gone = rows(replace(seen, hardware=replace(seen.hardware, gone=True)))
    assert (gone["COMMAND"], gone["control"]) == ("gone", "gone"), "all ones are never read as masked"


def test_many_masked_vectors_stay_short(run: RunResult) -> None:
    def table(masked: list[bool]) -> str:
        return rows(replace(observation(run), table=TableView(tuple(masked), RawRef("raw/table", ""))))["table"]

    assert table([True] * 65) == "masked 0-64"
    assert table([place in (0, 2, 3, 9) for place in range(12)]) == "masked 0 2-3 9"


def test_a_timeline_of_nothing() -> None:
    assert timeline([]) == "no checkpoint was reached"


def test_what_a_guest_says_cannot_act_on_the_terminal(run: RunResult) -> None:
    evil = "\x1b[2J\x1b]0;t\x07\r\nPASS \u202e\x9b31m"
    first = replace(run.scenarios[4].stock.judgement.violations[0], seen=evil)
    seen = observation(run)
    assert seen.xen is not None
    observations = [replace(seen, xen=replace(seen.xen, owner=evil))]
    scenario = judged_anew(run.scenarios[4], reason=evil, checks=(first,)).model_copy(update={"device_kind": evil})
    side = scenario.stock
    side.record.observations = observations
    host = run.host.model_copy(update={"name": evil})
    altered = run.model_copy(update={"scenarios": (scenario,), "host": host})
    texts = (
        plain(altered, width=200),
        "\n".join(explain(scenario)),
        timeline(observations),
        side_log(side),
        *skipped(altered),
    )
    for text in texts:
        assert "\\x1b[2J" in text
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)
    assert "[bold]" in inert("[bold]"), "rich markup is text like any other"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("plain", "plain"), ("a\tb\nc", "a\\x09b\\x0ac"), ("é €", "é €"), ("\u2028\udcff", "\\u2028\\udcff"),
     ("\U000e0001", "\\U000e0001")],
)  # fmt: skip
def test_inert(text: str, expected: str) -> None:
    assert inert(text) == expected


def test_storable_keeps_all_but_surrogates() -> None:
    assert storable("\x1b\udcff é") == "\x1b\\udcff é"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.4, "59s"), (59.6, "1m00s"), (252, "4m12s"), (3599.6, "1h00m"), (3720, "1h02m")],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text
