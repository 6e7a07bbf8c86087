"""The figures of a run for a textfile collector: every line is one that its parsers take."""

from __future__ import annotations

import re

from harness.report.formats.base import load
from harness.report.results import RunResult
from harness.report.told import Told
from suites.selftest.fakes.samplerun import build, scenarios

SAMPLE = re.compile(r'([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\[\\"n])*",?)*)\})? (-?[0-9.e+]+)')


def told(run: RunResult) -> list[str]:
    return load("openmetrics").render(Told(run)).decode().splitlines()


def test_every_line_is_of_a_family_that_was_announced() -> None:
    lines = told(build(scenarios()))
    assert lines[-1] == "# EOF" and lines.count("# EOF") == 1
    family = ""
    for line in lines[:-1]:
        if line.startswith("# TYPE "):
            family = line.split()[2]
        elif not line.startswith("# "):
            match = SAMPLE.fullmatch(line)
            assert match and match[1].removesuffix("_info") in (family, family.removesuffix("_info")), line


def test_what_it_says() -> None:
    run = build(scenarios())
    lines = told(run)
    good = [line for line in lines if line.startswith("maskall_scenario_as_expected{")]
    assert len(good) == len(run.scenarios)
    assert sum(line.endswith(" 0") for line in good) == sum(not one.conclusion.as_expected for one in run.scenarios)
    (status,) = (line for line in lines if line.startswith("maskall_run_exit_status{"))
    assert status.endswith(f" {int(run.exit_status)}")


def test_hostile_text_stays_in_its_label() -> None:
    run = build(scenarios())
    evil = 'a"} 1\nowned 1\\'
    host = run.host.model_copy(update={"name": evil, "facts": {"stack": evil, "xen_version": evil}})
    lines = told(run.model_copy(update={"host": host}))
    assert not any(line.startswith("owned") for line in lines)
    assert all(SAMPLE.fullmatch(line) for line in lines if not line.startswith("#"))
