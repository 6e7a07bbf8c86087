"""OpenMetrics text, for node_exporter's textfile collector and its like. Pure.

https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from harness.base.text import inert
from harness.judge.judgement import Conclusion
from harness.report.formats.base import Format
from harness.report.results import CaseResult, RunResult, ScenarioResult
from harness.report.told import Told


class OpenMetrics(Format):
    """OpenMetrics text, for a textfile collector."""

    def render(self, told: Told) -> bytes:
        return "".join(f"{line}\n" for line in _lines(told.run)).encode("utf-8", "backslashreplace")


def _lines(run: RunResult) -> Iterator[str]:
    host = {"host": run.host.name, "stack": run.host.facts.get("stack", "")}
    facts = {name: run.host.facts.get(name, "") for name in ("xen_version", "kernel", "qemu")}
    yield from _family("maskall_run", "info", "What was tested.", [("_info", {**host, **facts, "run": run.run_id}, 1)])
    one = [
        ("maskall_run_start_timestamp_seconds", "When the run began.", run.started.timestamp()),
        ("maskall_run_duration_seconds", "How long it took.", run.seconds),
        ("maskall_run_exit_status", "0: all as expected.", int(run.exit_status)),
        ("maskall_run_emulator_faults", "Tries that the emulator spoiled.", run.emulator_faults),
    ]
    for name, said, value in one:
        yield from _family(name, "gauge", said, [("", host, value)])
    counts = [("", {**host, "conclusion": word.value}, run.counts.get(word, 0)) for word in Conclusion]
    yield from _family("maskall_run_scenarios", "gauge", "Scenarios and tests by conclusion.", counts)
    rows: list[ScenarioResult | CaseResult] = [*run.scenarios, *run.cases]
    good = [("", {**host, "id": row.id}, int(row.conclusion.as_expected)) for row in rows]
    yield from _family("maskall_scenario_as_expected", "gauge", "1: nobody has to look.", good)
    times = [("", {**host, "id": row.id}, row.seconds) for row in rows]
    yield from _family("maskall_scenario_duration_seconds", "gauge", "How long it took, both sides.", times)
    yield "# EOF"


def _family(name: str, kind: str, said: str, samples: Sequence[tuple[str, Mapping[str, str], float]]) -> Iterator[str]:
    yield f"# TYPE {name} {kind}"
    if name.endswith("_seconds"):
        yield f"# UNIT {name} seconds"
    yield f"# HELP {name} {said}"
    for suffix, labels, value in samples:
        told = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
        yield f"{name}{suffix}{{{told}}} {value:.10g}"


def _escaped(text: str) -> str:
    return inert(text).replace("\\", "\\\\").replace('"', '\\"')
