"""`maskall soak`: how often does a stock hypervisor look guilty?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.base.errors import UsageError
from harness.cli.options import takes
from harness.run.options import DEFAULT_PROFILE, TABLE, RunOptions

if TYPE_CHECKING:
    from harness.report.soak import Soak
    from harness.scenario.spec import Scenario

app = typer.Typer()

DEFAULT_RUNS = 100
_FREE = ("for_", "workers", "mirror", "yes")
"""What --resume may be given: it changes nothing of what is counted."""
_SAME = ("xen_version", "kernel", "qemu")  # facts that make runs comparable


@app.command(
    epilog="""Examples:

\b
  maskall soak                             100 runs of the hazard scenarios of profile ci: an hour or more
  maskall soak --runs 20 --stack bookworm
  maskall soak --for 2h                    as many as two hours allow, at most 100
  maskall soak --resume results/SOAK       go on after Ctrl-C or a crash

Exit status: 0 no false alarm; 1 a false alarm; 2 wrong options; 3 a run was UNDECIDED; 5 nothing ran."""
)
@takes("soak", no_control=True, repeat=1)
def soak(
    context: typer.Context,
    options: RunOptions,
    runs: Annotated[
        int | None, typer.Option(help=f"How many (default: {DEFAULT_RUNS}).", min=1, max=9999, metavar="N")
    ] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with the soak in this directory.", metavar="DIR")] = None,
) -> int:
    """Count false alarms over many runs.

    Plays the scenarios that take the hazard on the stock hypervisor, each on a freshly restored host, without a
    control. Product failures must be 0; undecided runs and the emulator's own faults are counted apart.
    """
    if resume is None:
        return begin(options, runs=runs)
    for row in (row for row in TABLE if "soak" in row.on):
        source = context.get_parameter_source(row.name)
        if source is not None and source.name == "COMMANDLINE" and row.name not in _FREE:
            raise UsageError(f"{row.flag} cannot be changed by --resume", hint="leave it out, or begin a new soak")
    return go_on(resume, options, runs=runs)


def begin(options: RunOptions, *, runs: int | None) -> int:
    """A new soak of the scenarios of the profile that take the hazard."""
    import importlib.metadata

    from harness.report.soak import Soak
    from harness.run.selection import chosen

    rows = [row for row in chosen(options) if row.end.hazard]
    if not rows:
        raise UsageError(
            f"no scenario of profile {options.profile} takes the hazard", hint=f"take --profile {DEFAULT_PROFILE}"
        )
    begun = Soak(
        tool_version=importlib.metadata.version("maskall"),
        started=datetime.now(UTC),
        stack=options.stack_name,
        profile=options.profile,
        devices=tuple(options.device_names),
        scenarios=tuple(row.id for row in rows),
        wanted=runs or DEFAULT_RUNS,
        facts={},
    )
    return _soaked(begun, options, rows)


def go_on(folder: Path, options: RunOptions, *, runs: int | None) -> int:
    """Go on with a soak that was broken off, or add runs to one that was not."""
    from harness.report.soak import Soak
    from harness.run.many import SOAK
    from harness.run.selection import chosen
    from harness.run.store import load

    begun = load(folder / SOAK, Soak, hint="--resume wants a soak's directory")
    if runs is not None and runs < len(begun.runs):
        raise UsageError(f"--runs {runs}: {len(begun.runs)} are done already", hint="leave it out, or give more")
    begun = begun.model_copy(update={"wanted": runs or begun.wanted})
    options = replace(options, scenario=begun.scenarios, stack=begun.stack, device=begun.devices)
    return _soaked(begun, options, chosen(options), folder)


def _soaked(begun: Soak, options: RunOptions, rows: Sequence[Scenario], folder: Path | None = None) -> int:
    from rich.console import Console

    from harness.base.progress import progress_for
    from harness.report.soak import summary
    from harness.run.plan import Plan
    from harness.run.prepare import lab_for
    from harness.run.soak import Soaking

    with progress_for(Console()) as progress:
        lab = lab_for(options, [name for row in rows for name in row.devices], progress)
        try:
            facts = lab.facts()
            other = [name for name in _SAME if begun.facts and begun.facts.get(name) != facts.get(name)]
            if other:
                was, now = begun.facts.get(other[0]), facts.get(other[0])
                raise UsageError(f"the soak was begun with {other[0]} {was}, here is {now}", hint="begin a new one")
            plan = Plan.of(replace(options, cold=True), rows, results=folder)  # no run may hang on another's guest A
            progress.note(f"results: {plan.results}")
            soaking = Soaking(
                lab,
                begun.model_copy(update={"facts": facts}),
                plan,
                {row.id: row for row in rows},
                progress,
                options.last_begin,
            )
            try:
                soaking.run()
            except KeyboardInterrupt:
                progress.note(f"go on with: maskall soak --resume {plan.results}")
                raise
        finally:
            lab.close()
    typer.echo("\n".join(["", *summary(soaking.soak), f"results: {plan.results}"]))
    return soaking.soak.exit_status
