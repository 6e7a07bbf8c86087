"""From both sides of a scenario, and all scenarios of a run, to the models of `results.json`. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime

from harness.base.errors import ExitStatus
from harness.judge.forecast import Forecast
from harness.model.verdict import ControlRole, conclude, exit_status
from harness.report.results import Control, EmulatorFaultSeen, Expected, Host, RunResult, ScenarioResult
from harness.report.seen import (
    Side,
)


def expected(forecast: Forecast) -> Expected:
    return Expected(
        verdict=forecast.verdict,
        because=forecast.because,
        issues=tuple(name for name, _ in forecast.due),
        documents=tuple(issue.document for _, issue in forecast.due if issue.document),
    )


def scenario_result(
    *,
    id: str,
    title: str,
    ending: str,
    follow_on: str,
    guest: str,
    device: str,
    device_kind: str,
    forecast: Forecast,
    stock: Side,
    control: Side | None,
    control_role: ControlRole,
    seconds: float,
    command_to_repeat: str,
) -> ScenarioResult:
    """Both sides of a scenario; the conclusion is drawn here and nowhere else."""
    return ScenarioResult(
        id=id,
        title=title,
        ending=ending,
        follow_on=follow_on,
        guest=guest,
        device=device,
        device_kind=device_kind,
        expected=expected(forecast),
        stock=stock,
        control=control,
        control_role=control_role,
        conclusion=conclude(
            stock.verdict,
            control.verdict if control else None,
            control_role,
            due=bool(forecast.certain),
            known=bool(forecast.explains(stock.checks)),
        ),
        remark=forecast.remark(stock.verdict, stock.checks),
        seconds=round(seconds, 3),
        command_to_repeat=command_to_repeat,
    )


def run_result(
    *,
    tool_version: str,
    run_id: str,
    started: datetime,
    ended: datetime,
    host: Host,
    controls: Iterable[Control],
    scenarios: Sequence[ScenarioResult],
    overhead_seconds: float,
    status: ExitStatus | None = None,
) -> RunResult:
    """A whole run, counted. `status` only where the run ended for a reason no scenario shows (a lost host).

    `started` and `ended` carry their zone; without one pydantic refuses them.
    """
    faults = tuple(
        EmulatorFaultSeen(scenario=scenario.id, hypervisor=one.hypervisor, reason=lost.reason, raw=lost.raw)
        for scenario in scenarios
        for _, one in scenario.sides
        for lost in one.attempts
    )
    conclusions = [scenario.conclusion for scenario in scenarios]
    return RunResult(
        tool_version=tool_version,
        run_id=run_id,
        started=started,
        ended=ended,
        host=host,
        controls=tuple(controls),
        scenarios=tuple(scenarios),
        counts=dict(Counter(conclusions)),
        emulator_faults=len(faults),
        emulator_fault_list=faults,
        overhead_seconds=round(overhead_seconds, 3),
        exit_status=exit_status(conclusions) if status is None else status,
    )
