"""`maskall mutants`: the power of the scenarios to see defects, as a number."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.base.errors import ExitStatus
from harness.cli.options import takes
from harness.run.options import RunOptions

if TYPE_CHECKING:
    from harness.mutants.catalogue import Mutant

app = typer.Typer()


@app.command(
    epilog="""Examples:

\b
  maskall mutants                             all mutants, each until a scenario sees it
  maskall mutants --all                       the whole matrix
  maskall mutants sticky-host-maskall --scenario 'E14-*'
  maskall mutants --check --stack bookworm    only whether they fit: planted and taken back on a live host
  maskall mutants --resume results/20260102-030405

Exit status: 0 every mutant was seen; 1 one survived that is not declared equivalent; 2 wrong options
or files; 3 a mutant is undecided; 5 nothing ran."""
)
@takes("mutants", profile="mutants", no_control=True, repeat=1)
def mutants(
    options: RunOptions,
    name: Annotated[list[str] | None, typer.Argument(help="Mutants; none: all. See 'maskall list --mutants'.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Go on with a mutant that was seen.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Only see whether the mutants fit this stack.")] = False,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with the campaign in this directory.", metavar="DIR")
    ] = None,
) -> int:
    """See which known-bad products the scenarios notice.

    The kill matrix, mutant by scenario, with the score and the survivors. Stock is played first: what fails there
    kills no mutant. mutants.json is written after every cell.
    """
    return fit(options, name or ()) if check else hunt(options, name or (), every=every, resumed=resume)


def hunt(options: RunOptions, names: Sequence[str], *, every: bool, resumed: Path | None) -> int:
    """Play the campaign and print the matrix."""
    from rich.console import Console

    from harness.base.progress import progress_for
    from harness.report.matrix import FILE, KillMatrix
    from harness.report.matrix_table import lines
    from harness.run.campaign import Campaign
    from harness.run.plan import Plan
    from harness.run.prepare import lab_for
    from harness.run.selection import chosen
    from harness.run.session import Session
    from harness.run.store import load

    before = load(resumed / FILE, KillMatrix, hint="--resume wants the results of a campaign") if resumed else None
    scenarios = chosen(options)
    mutants = _chosen(options, names)
    with progress_for(Console()) as progress:
        lab = lab_for(options, [name for row in scenarios for name in row.devices], progress)
        plan = Plan.of(options, scenarios, results=resumed and resumed.absolute())
        progress.note(f"results: {plan.results}")
        session = Session(lab, plan, progress)
        matrix = Campaign(session, list(mutants), progress, every=every, before=before).run()
    for line in lines(matrix, width=shutil.get_terminal_size().columns):
        typer.echo(line)
    return matrix.exit_status


def fit(options: RunOptions, names: Sequence[str]) -> int:
    """Plant and take back every mutant on one host; exit status 1 when one does not fit as it says."""
    from rich.console import Console

    from harness.base.progress import progress_for
    from harness.mutants.fitting import misfits
    from harness.run.prepare import lab_for
    from harness.run.selection import chosen

    mutants = _chosen(options, names)
    scenarios = chosen(options)
    with progress_for(Console()) as progress:
        lab = lab_for(options, [name for row in scenarios for name in row.devices], progress)
        with lab.host(scenarios[0].devices, progress) as host:  # the lab has the devices of its scenarios, no others
            wrong = dict(misfits(host, mutants, progress))
    made = sum(bool(mutant.changes(options.stack_name)) for mutant in mutants.values())
    others = len(mutants) - made
    typer.echo(f"{options.stack_name}: {made - len(wrong)} of {made} mutants fit, {others} are not made for it")
    return ExitStatus.FAILED if wrong else ExitStatus.OK


def _chosen(options: RunOptions, names: Sequence[str]) -> dict[str, Mutant]:
    from harness.mutants.catalogue import pick

    known = options.known_mutants()
    return {name: pick(name, known) for name in names} if names else known
