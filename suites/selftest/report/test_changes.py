"""What `maskall report --compare` makes of two nights."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.cli.entry import main
from harness.judge.judgement import Conclusion, Verdict
from harness.report.changes import changes
from harness.report.results import RunResult, ScenarioResult
from harness.run import store
from suites.selftest.fakes.samplerun import build, scenarios


@pytest.fixture
def run() -> RunResult:
    return build(scenarios())


def with_rows(run: RunResult, change: Callable[[list[ScenarioResult]], object]) -> RunResult:
    rows = list(run.scenarios)
    change(rows)
    return again(run, rows)


def again(run: RunResult, rows: list[ScenarioResult], **facts: str) -> RunResult:
    host = run.host.model_copy(update={"facts": run.host.facts | facts})
    return RunResult.of(
        rows,
        tool_version=run.tool_version,
        run_id="later",
        started=run.started,
        ended=run.ended,
        host=host,
        controls=run.controls,
        overhead_seconds=0,
    )


def test_a_quiet_night_is_one_line(run: RunResult) -> None:
    found = changes(run, again(run, list(run.scenarios)))
    (line,) = found.lines
    assert line.startswith("nothing changed from ") and line.endswith(f"{len(run.scenarios)} rows")
    assert found.status == 0


def test_all_that_makes_somebody_act_in_its_order(run: RunResult) -> None:
    first, second, *rest = run.scenarios
    worse = first.model_copy(
        update={
            "conclusion": Conclusion.REGRESSION,
            "stock": first.stock.model_copy(
                update={"judgement": replace(first.stock.judgement, verdict=Verdict.FAIL, reason="no interrupts at C6")}
            ),
        }
    )
    slow = second.model_copy(update={"seconds": second.seconds * 2 + 10})
    new = first.model_copy(update={"id": "E99-F1-hvm-nvme"})
    found = changes(run, again(run, [worse, slow, *rest[1:], new], xen_version="4.99.0"))
    lines = list(found.lines)
    titles = [line for line in lines if not line.startswith("  ")][1:]
    assert titles == [
        "components that moved:",
        "verdicts that flipped:",
        "rows lost:",
        "rows gained:",
        "times beyond 10 %:",
    ]
    text = "\n".join(lines)
    assert "xen_version: was " in text and ", is 4.99.0" in text
    assert f"  {first.id}: was " in text and "is REGRESSION (stock FAIL" in text and "no interrupts at C6" in text
    assert f"  {rest[0].id}: was " in text and "  E99-F1-hvm-nvme: " in text
    assert found.status == 1


def test_packages_that_moved_are_told_up_to_a_number(run: RunResult) -> None:
    def with_packages(number: int, version: str) -> RunResult:
        packages = {f"p{one}": version for one in range(number)}
        return run.model_copy(update={"host": run.host.model_copy(update={"packages": packages})})

    moved = changes(with_packages(30, "1"), with_packages(30, "2")).moved
    assert moved[0] == "package p0: was 1, is 2" and moved[-1] == "and 10 more packages" and len(moved) == 21
    assert changes(with_packages(0, "1"), with_packages(30, "2")).moved == (f"packages: not told by {run.run_id}",)


def test_a_little_slower_is_nothing(run: RunResult) -> None:
    first, *rest = run.scenarios
    slow = first.model_copy(update={"seconds": first.seconds * 1.09})
    assert not changes(run, again(run, [slow, *rest])).times


def test_the_command(run: RunResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    store.dump(run, old)
    store.dump(again(run, list(run.scenarios[1:])), new)
    assert main(["report", "--compare", str(old), str(new)]) == 1
    assert "rows lost:" in capsys.readouterr().out
    assert main(["report", "--compare", str(old), str(old), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["exit_status"] == 0
    for words, told in (
        (["--compare", str(old)], "1 runs were given"),
        ([str(old), str(new)], "2 runs were given"),
        (["--compare", str(old), str(new), "--html"], "--compare has no format html"),
        ([str(old), "--html", "--format", "junit"], "--html is --format html"),
    ):
        assert main(["report", *words]) == 2
        assert told in capsys.readouterr().err
