"""junit.xml of a run, for CI systems: one test case per scenario. Pure.

One per scenario and not per side, because the side on the known-bad hypervisor is *meant* to fail: as a test case of
its own it would be red on every good day. Its verdict is a property of the case instead.
REGRESSION, BLIND and CHANGED are failures, UNDECIDED is an error, SKIPPED is skipped, PROVEN and UNPROVEN pass. So does
KNOWN, for it was expected; what failed is in the properties and at the head of system-out.
"""

from __future__ import annotations

from collections import Counter
from xml.etree import ElementTree as ET

from harness.base.text import inert
from harness.judge.judgement import Conclusion
from harness.report import messages
from harness.report.case import explain as explain_case
from harness.report.failure import explain
from harness.report.formats.base import Format
from harness.report.results import CaseResult, RunResult, ScenarioResult, Side
from harness.report.timeline import timeline
from harness.report.told import Told

_TAGS = {
    Conclusion.REGRESSION: "failure",
    Conclusion.BLIND: "failure",
    Conclusion.CHANGED: "failure",
    Conclusion.UNDECIDED: "error",
    Conclusion.SKIPPED: "skipped",
}


class Junit(Format):
    """junit.xml for CI systems, one test case for each scenario."""

    file = "junit.xml"

    def render(self, told: Told) -> bytes:
        return junit(told.run)


def junit(run: RunResult) -> bytes:
    """The document in UTF-8, with its XML declaration."""
    conclusions = [*(one.conclusion for one in run.scenarios), *(one.conclusion for one in run.cases)]
    tags = Counter(_TAGS.get(conclusion, "passed") for conclusion in conclusions)
    totals = {
        "tests": str(len(conclusions)),
        "failures": str(tags["failure"]),
        "errors": str(tags["error"]),
        "skipped": str(tags["skipped"]),
        "time": f"{run.seconds:.3f}",
    }
    root = ET.Element("testsuites", totals)
    suite = ET.SubElement(
        root,
        "testsuite",
        {"name": "maskall", **totals, "timestamp": run.started.isoformat(), "hostname": inert(run.host.name)},
    )
    _properties(suite, _run_properties(run))
    for scenario in run.scenarios:
        _case(suite, scenario)
    for case in run.cases:
        _written(suite, case)
    ET.indent(root)
    document: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return document + b"\n"


def _case(suite: ET.Element, scenario: ScenarioResult) -> None:
    case = ET.SubElement(
        suite,
        "testcase",
        {
            "classname": f"maskall.{inert(scenario.guest)}.{inert(scenario.device_kind)}",
            "name": inert(scenario.id),
            "time": f"{scenario.seconds:.3f}",
        },
    )
    _properties(case, _scenario_properties(scenario))
    tag = _TAGS.get(scenario.conclusion)
    if tag is not None:
        reason = scenario.reason
        outcome = ET.SubElement(case, tag, {"message": inert(reason), "type": scenario.conclusion.value})
        if tag != "skipped":
            outcome.text = "\n".join(explain(scenario))
    told = ["\n".join(explain(scenario))] if scenario.conclusion is Conclusion.KNOWN else []
    told += [
        f"on {inert(side.hypervisor)}:\n{timeline(side.record.observations)}"
        for _, side in scenario.sides
        if side.record.observations
    ]
    if told:
        ET.SubElement(case, "system-out").text = "\n\n".join(told)


def _written(suite: ET.Element, case: CaseResult) -> None:
    """A test that somebody wrote; one case for both of its sides, as for a scenario."""
    file, _, name = case.id.partition("::")
    element = ET.SubElement(
        suite, "testcase", {"classname": inert(file), "name": inert(name or file), "time": f"{case.seconds:.3f}"}
    )
    properties = {
        "title": case.title,
        "device": ", ".join(case.devices),
        "conclusion": case.conclusion.value,
        "remark": case.remark,
        "control_role": case.control_role.value,
        "repeat": case.command_to_repeat,
    }
    for side_name, side in case.sides:
        hazard = side.record.hazard
        properties |= {
            f"{side_name}.hypervisor": side.hypervisor,
            f"{side_name}.verdict": side.verdict.value,
            f"{side_name}.hazard": f"taken: {hazard[0].text}" if hazard else "not taken",
            f"{side_name}.raw_directory": side.raw_directory,
            f"{side_name}.log": side.log,
        }
    _properties(element, properties)
    tag = _TAGS.get(case.conclusion)
    if tag is not None:
        outcome = ET.SubElement(element, tag, {"message": inert(case.reason), "type": case.conclusion.value})
        if tag != "skipped":
            outcome.text = "\n".join(explain_case(case))
    elif case.conclusion is Conclusion.KNOWN:
        ET.SubElement(element, "system-out").text = "\n".join(explain_case(case))


def _reason(scenario: ScenarioResult) -> str:
    """Why the scenario is not green, from the side that made it so."""
    stock, control = scenario.stock, scenario.control
    if scenario.conclusion is Conclusion.CHANGED:
        return scenario.remark
    decisive = stock.verdict.blames_product or stock.verdict.unsettled or scenario.conclusion is Conclusion.SKIPPED
    if control is None or decisive:
        return stock.reason
    return f"on the control {control.hypervisor}: {control.reason}"


def _run_properties(run: RunResult) -> dict[str, str]:
    controls = {
        f"control.{control.name}": "; ".join(
            f"{one.place} at {one.place.address:#x}: {one.before.hex(' ')} -> {one.after.hex(' ')}"
            for one in control.changes
        )
        for control in run.controls
    }
    return {
        "run": run.run_id,
        "tool_version": run.tool_version,
        "host.label": run.host.label,
        **{f"host.{name}": value for name, value in run.host.facts.items()},
        **controls,
        "emulator_faults": str(run.emulator_faults),
        "exit_status": str(int(run.exit_status)),
    }


def _scenario_properties(scenario: ScenarioResult) -> dict[str, str]:
    properties = {
        "title": scenario.title,
        "device": f"{scenario.device_kind} {scenario.device}",
        "conclusion": scenario.conclusion.value,
        "expected.verdict": scenario.expected.verdict.value,
        "expected.because": scenario.expected.because,
        "expected.issues": " ".join(scenario.expected.issues),
        "expected.documents": " ".join(scenario.expected.documents),
        "remark": scenario.remark,
        "control_role": scenario.control_role.value,
        "repeat": scenario.command_to_repeat,
    }
    for name, side in scenario.sides:
        properties |= {f"{name}.{key}": value for key, value in _side_properties(side).items()}
    return properties


def _side_properties(side: Side) -> dict[str, str]:
    hazard = side.judgement.hazard
    taken = "taken" if hazard.taken else "not taken"
    return {
        "hypervisor": side.hypervisor,
        "verdict": side.verdict.value,
        "hazard": f"{taken}: {hazard.how}" if hazard.how else taken,
        "raw_directory": side.raw_directory,
        "log": side.log,
        **messages.properties(side.record.messages),
    }


def _properties(parent: ET.Element, values: dict[str, str]) -> None:
    element = ET.SubElement(parent, "properties")
    for name, value in values.items():
        ET.SubElement(element, "property", {"name": inert(name), "value": inert(value)})
