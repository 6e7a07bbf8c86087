"""`maskall mutants`: the power of the scenarios to see defects, as a number."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import typer
from pydantic import ValidationError
from rich.console import Console

from harness.base.errors import EvidenceError, ExitStatus, UsageError
from harness.base.progress import progress_for
from harness.mutants.catalogue import Mutant, pick
from harness.mutants.fitting import misfits
from harness.report.matrix import FILE, KillMatrix
from harness.report.matrix_table import lines
from harness.run.campaign import Campaign
from harness.run.options import RunOptions
from harness.run.plan import Plan
from harness.run.session import Session
from harness.scenario.spec import Scenario


def hunt(options: RunOptions, names: Sequence[str], *, every: bool, resumed: Path | None) -> int:
    """Play the campaign and print the matrix."""
    before = _load(resumed) if resumed else None
    scenarios = options.scenarios()
    mutants = _chosen(options, names)
    with progress_for(Console()) as progress:
        lab = options.prepared_lab(scenarios, progress)
        plan = _plan(options, scenarios, resumed)
        progress.note(f"results: {plan.results}")
        workers = options.hosts_at_a_time
        session = Session(lab, plan, progress)
        matrix = Campaign(session, list(mutants), progress, every=every, workers=workers, before=before).run()
    for line in lines(matrix, width=shutil.get_terminal_size().columns):
        typer.echo(line)
    return matrix.exit_status


def check(options: RunOptions, names: Sequence[str]) -> int:
    """Plant and take back every mutant on one host; exit status 1 when one does not fit as it says."""
    mutants = _chosen(options, names)
    scenarios = options.scenarios()
    with progress_for(Console()) as progress:
        lab = options.prepared_lab(scenarios, progress)
        with lab.host(scenarios[0].devices, progress) as host:  # the lab has the devices of its scenarios, no others
            wrong = dict(misfits(host, mutants, progress))
    made = sum(bool(mutant.changes(options.stack_name)) for mutant in mutants.values())
    others = len(mutants) - made
    typer.echo(f"{options.stack_name}: {made - len(wrong)} of {made} mutants fit, {others} are not made for it")
    return ExitStatus.FAILED if wrong else ExitStatus.OK


def _plan(options: RunOptions, scenarios: Sequence[Scenario], resumed: Path | None) -> Plan:
    if resumed is None:
        return options.plan(scenarios)
    return Plan(tuple(scenarios), options.known_mutants(), None, None, resumed.absolute())


def _chosen(options: RunOptions, names: Sequence[str]) -> dict[str, Mutant]:
    known = options.known_mutants()
    return {name: pick(name, known) for name in names} if names else known


def _load(directory: Path) -> KillMatrix:
    path = directory / FILE
    try:
        return KillMatrix.model_validate_json(path.read_bytes())
    except OSError as error:
        hint = "--resume wants the results of a campaign"
        raise UsageError(f"{path} cannot be read: {error.strerror}", hint=hint) from error
    except ValidationError as error:
        raise EvidenceError(f"{path} is not what this version writes", hint=str(error.errors()[0]["msg"])) from error
