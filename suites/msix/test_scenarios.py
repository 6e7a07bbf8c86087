"""Every scenario as one test; `maskall run` runs exactly these."""

from __future__ import annotations

import pytest

from harness.judge.judgement import Conclusion
from harness.plugin.running import Runner
from harness.report.failure import explain
from harness.scenario.spec import Scenario


def test_scenario(maskall_scenario: Scenario, maskall_run: Runner) -> None:
    result = maskall_run(maskall_scenario)
    if result.conclusion is Conclusion.SKIPPED:
        pytest.skip(result.stock.reason)
    if result.conclusion is Conclusion.KNOWN:
        pytest.xfail(result.remark)
    if result.conclusion not in (Conclusion.PROVEN, Conclusion.UNPROVEN):
        pytest.fail("\n".join(explain(result)), pytrace=False)
