"""Common Test Report Format: one JSON for the dashboards and chat bots that read it. Pure.

By the specification 0.0.0 of ctrf.io, whose schema allows nothing beyond its own names; what it has no name for stands
in `extra`. One test for each scenario, and red, grey and green where junit.xml has them. UNDECIDED is `other`, for it
is neither passed nor failed. Tests that somebody wrote with the fixtures stand behind the scenarios. Times are whole
milliseconds.
"""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime
from typing import Any

from harness.base.stored import storable_json
from harness.base.text import inert
from harness.judge.judgement import Conclusion
from harness.report import case
from harness.report.failure import explain
from harness.report.formats.base import Format
from harness.report.results import CaseResult, RunResult, ScenarioResult
from harness.report.told import Told

_STATUS = {
    Conclusion.PROVEN: "passed",
    Conclusion.UNPROVEN: "passed",
    Conclusion.KNOWN: "passed",
    Conclusion.REGRESSION: "failed",
    Conclusion.BLIND: "failed",
    Conclusion.CHANGED: "failed",
    Conclusion.UNDECIDED: "other",
    Conclusion.SKIPPED: "skipped",
}
_STATES = ("passed", "failed", "skipped", "pending", "other")
_EXPLAINED = (Conclusion.REGRESSION, Conclusion.BLIND, Conclusion.CHANGED, Conclusion.UNDECIDED, Conclusion.KNOWN)


class Ctrf(Format):
    """Common Test Report Format (ctrf.io), for dashboards."""

    def render(self, told: Told) -> bytes:
        document = storable_json(_document(told.run, told.missing))
        return json.dumps(document, indent=1, ensure_ascii=False).encode() + b"\n"


def _document(run: RunResult, missing: tuple[str, ...]) -> dict[str, Any]:
    tests = [*(_test(one) for one in run.scenarios), *(_case(one) for one in run.cases)]
    counts = Counter(one["status"] for one in tests)
    return {
        "reportFormat": "CTRF",
        "specVersion": "0.0.0",
        "timestamp": run.ended.isoformat(),
        "generatedBy": f"maskall {run.tool_version}",
        "results": {
            "tool": {"name": "maskall", "version": run.tool_version},
            "summary": {
                "tests": len(tests),
                **{state: counts[state] for state in _STATES},
                "start": _milliseconds(run.started),
                "stop": _milliseconds(run.ended),
                "extra": {
                    "conclusions": {str(one): number for one, number in run.counts.items()},
                    "emulator_faults": run.emulator_faults,
                    "exit_status": int(run.exit_status),
                    "missing": list(missing),
                },
            },
            "tests": tests,
            "environment": {
                "testEnvironment": run.host.label or "hardware",
                "extra": {"run": run.run_id, "host": run.host.name, "facts": run.host.facts},
            },
        },
    }


def _test(scenario: ScenarioResult) -> dict[str, Any]:
    conclusion = scenario.conclusion
    told: dict[str, Any] = {}
    if conclusion in _EXPLAINED:
        told = {"message": inert(scenario.reason), "trace": "\n".join(explain(scenario))}
    elif conclusion is Conclusion.SKIPPED:
        told = {"message": inert(scenario.stock.reason)}
    retries = sum(len(side.attempts) for _, side in scenario.sides)
    return {
        "name": scenario.id,
        "status": _STATUS[conclusion],
        "duration": round(scenario.seconds * 1000),
        "suite": ["maskall", scenario.guest, scenario.device_kind],
        **told,
        "rawStatus": conclusion.value,
        "tags": [scenario.ending, scenario.follow_on],
        "retries": retries,
        "extra": {
            "title": scenario.title,
            "expected": scenario.expected.verdict.value,
            "issues": list(scenario.expected.issues),
            "remark": scenario.remark,
            "repeat": scenario.command_to_repeat,
            **{
                name: {
                    "hypervisor": side.hypervisor,
                    "verdict": side.verdict.value,
                    "reason": side.reason,
                    "hazard_taken": side.judgement.hazard.taken,
                    "raw_directory": side.raw_directory,
                    "log": side.log,
                }
                for name, side in scenario.sides
            },
        },
    }


def _case(result: CaseResult) -> dict[str, Any]:
    conclusion = result.conclusion
    told: dict[str, Any] = {}
    if conclusion in _EXPLAINED:
        told = {"message": inert(result.reason), "trace": "\n".join(case.explain(result))}
    elif conclusion is Conclusion.SKIPPED:
        told = {"message": inert(result.reason)}
    return {
        "name": result.id,
        "status": _STATUS[conclusion],
        "duration": round(result.seconds * 1000),
        "suite": ["maskall", result.id.partition("::")[0]],
        **told,
        "rawStatus": conclusion.value,
        "extra": {
            "title": result.title,
            "remark": result.remark,
            "repeat": result.command_to_repeat,
            **{
                name: {
                    "hypervisor": side.hypervisor,
                    "verdict": side.verdict.value,
                    "reason": side.reason,
                    "place": side.place,
                    "hazard_taken": side.record.hazard is not None,
                    "raw_directory": side.raw_directory,
                    "log": side.log,
                }
                for name, side in result.sides
            },
        },
    }


def _milliseconds(when: datetime) -> int:
    return round(when.timestamp() * 1000)
