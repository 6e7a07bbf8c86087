"""The files of a run that programs and people go by, and that say nothing but what its results say. Pure."""

from __future__ import annotations

from harness.report.case import case_log
from harness.report.formats.junit import junit
from harness.report.results import RunResult
from harness.report.sidelog import side_log

JUNIT = "junit.xml"


def for_people(results: RunResult) -> dict[str, bytes]:
    """junit.xml and the log of each side, by name, byte for byte."""
    logs = {side.log: side_log(side) for one in results.scenarios for _, side in one.sides}
    logs |= {side.log: case_log(one.id, side) for one in results.cases for _, side in one.sides if side.log}
    return {JUNIT: junit(results), **{name: text.encode() for name, text in logs.items()}}
