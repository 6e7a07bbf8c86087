"""A control for what is not in the reach of the run's: named by the catalogue, one for each ending."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.base.progress import PlainProgress
from harness.evidence.store import EvidenceStore
from harness.host.host import Host
from harness.judge.judge import judge
from harness.judge.judgement import Conclusion, Verdict
from harness.judge.known import known_issues
from harness.mutants.catalogue import catalogue
from harness.play.catalogue import catalogue as scenarios
from harness.play.run import PlayedSide
from harness.report.begun import NAME, Begun
from harness.report.results import ScenarioResult
from harness.run.options import DEFAULT_CONTROL, RunOptions
from harness.run.plan import Plan
from harness.run.session import Session
from harness.scenario.spec import ControlRole, Scenario
from suites.selftest.fakes.goodrecord import good, scenario
from suites.selftest.fakes.recordfaults import both_masked
from suites.selftest.fakes.sessionrun import E1, F1, MUTANTS, FakeLab, Player, mutated, played_by

__all__ = ["played_by"]
pytestmark = pytest.mark.usefixtures("played_by")
OWN = "unmap-does-nothing"
SAME = MUTANTS[DEFAULT_CONTROL].model_copy(update={"notices": ("E28",)})  # the only function that the fake Xen has
E10 = scenario("E10", "F2", "virtio-rng")


def ran(root: Path, *rows: Scenario, **options: object) -> tuple[Session, list[ScenarioResult]]:
    issues = known_issues()
    plan = Plan(rows, RunOptions(workers=1, **options), MUTANTS | {OWN: SAME}, issues, root)  # type: ignore[arg-type]
    session = Session(FakeLab(), plan, PlainProgress(io.StringIO()))
    return session, [session.run(row) for row in rows]


def noticed(row: Scenario, host: Host, evidence: EvidenceStore) -> PlayedSide:
    evidence.put("01-note.txt", b"x")
    record = good(row.ending, row.follow_on)
    if mutated(host):
        both_masked(record)
    return PlayedSide(record, judge(record))


def test_every_ending_has_one() -> None:
    known, mutants = scenarios(), catalogue()
    held = [*mutants[DEFAULT_CONTROL].notices, *(ending for endings in known.controls.values() for ending in endings)]
    assert sorted(held) == sorted(known.endings)
    assert set(known.controls) <= set(mutants)
    assert not any(mutants[name].equivalent for name in known.controls)


def test_it_proves_its_scenario(tmp_path: Path, played_by: Callable[[Player], None]) -> None:
    played_by(noticed)
    _, (first, own) = ran(tmp_path, F1, E1)
    assert (first.conclusion, own.conclusion, own.control_role) == (
        Conclusion.PROVEN,
        Conclusion.PROVEN,
        ControlRole.NOTICES,
    )
    assert first.control is not None and own.control is not None
    assert (first.control.hypervisor, own.control.hypervisor) == (DEFAULT_CONTROL, OWN)
    begun = Begun.model_validate_json((tmp_path / NAME).read_bytes())
    assert (begun.control, begun.own_controls) == (DEFAULT_CONTROL, {E1.id: OWN})
    assert begun.hypervisors(E1) == ("stock", OWN)


def test_one_that_passes_makes_it_blind(tmp_path: Path) -> None:
    _, (own,) = ran(tmp_path, E1)
    assert own.control is not None
    assert (own.conclusion, own.control.verdict) == (Conclusion.BLIND, Verdict.PASS)


def test_a_mutant_that_was_asked_for_is_the_only_one(tmp_path: Path) -> None:
    _, (own,) = ran(tmp_path, E1, mutant=DEFAULT_CONTROL)
    assert (own.conclusion, own.control) == (Conclusion.UNPROVEN, None)


def test_none_where_the_scenario_must_fail(tmp_path: Path) -> None:
    """A known issue is no PASS that would have to be proven."""
    issue = next(name for name, one in known_issues().items() if one.concerns(E10))
    session, _ = ran(tmp_path)
    session._facts = {**session._facts, "xen_version": "4.20.5-pre", "stack": "trixie", "kernel": "6.12.1"}
    assert issue in session.forecast(E10).certain
    assert session.hypervisors(E10) == ["stock"]
    assert session.hypervisors(E1) == ["stock", OWN]


def test_none_where_it_does_not_fit(tmp_path: Path) -> None:
    session, _ = ran(tmp_path)
    session._facts = {**session._facts, "stack": "bullseye"}
    assert session.hypervisors(scenario("E17", "F1", "virtio-rng")) == ["stock"]
