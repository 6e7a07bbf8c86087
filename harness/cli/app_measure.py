"""Verbs that measure and test the harness itself. Registered with the others in app.py."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.words import Device, Devices, Results, Stack, UsualStack, Workers, Yes
from harness.run.options import DEFAULT_STACK

measure = typer.Typer()


@measure.command(
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
def mutants(
    name: Annotated[list[str] | None, typer.Argument(help="Mutants; none: all. See 'maskall list --mutants'.")] = None,
    scenario: Annotated[
        list[str] | None, typer.Option(help="Id or glob, may be repeated (default: the profile's).", metavar="SCENARIO")
    ] = None,
    profile: Annotated[str, typer.Option(help="Which scenarios.", metavar="PROFILE")] = "mutants",
    stack: Stack = DEFAULT_STACK,
    device: Devices = None,
    every: Annotated[bool, typer.Option("--all", help="Go on with a mutant that was seen.")] = False,
    workers: Workers = None,
    check: Annotated[bool, typer.Option("--check", help="Only see whether the mutants fit this stack.")] = False,
    file: Annotated[
        Path | None, typer.Option("--mutants", help="YAML file with mutants of your own.", metavar="FILE")
    ] = None,
    results: Results = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with the campaign in this directory.", metavar="DIR")
    ] = None,
    yes: Yes = False,
) -> int:
    """See which known-bad products the scenarios notice.

    The kill matrix, mutant by scenario, with the score and the survivors. Stock is played first: what fails there
    kills no mutant. mutants.json is written after every cell.
    """
    from harness.cli import mutants as verb
    from harness.run.options import RunOptions

    options = RunOptions(
        scenario=tuple(scenario or ()),
        profile=profile,
        stack=stack,
        device=tuple(device or ()),
        no_control=True,
        mutants=file,
        results=results,
        workers=workers or 0,
        yes=yes,
    )
    if check:
        return verb.check(options, name or ())
    return verb.hunt(options, name or (), every=every, resumed=resume)


@measure.command(
    epilog="""Examples:

\b
  maskall soak                             100 runs of the hazard scenarios of profile ci: an hour or more
  maskall soak --runs 20 --stack bookworm
  maskall soak --for 2h                    as many as two hours allow, at most 100
  maskall soak --resume results/SOAK       go on after Ctrl-C or a crash

Exit status: 0 no false alarm; 1 a false alarm; 2 wrong options; 3 a run was UNDECIDED; 5 nothing ran."""
)
def soak(
    runs: Annotated[int | None, typer.Option(help="How many (default: 100).", min=1, max=9999, metavar="N")] = None,
    profile: Annotated[
        str | None, typer.Option(help="Whose hazard scenarios (default: ci).", metavar="PROFILE")
    ] = None,
    stack: UsualStack = None,
    device: Devices = None,
    duration: Annotated[
        str | None, typer.Option("--for", help="Begin no run after this time: 2h, 90m.", metavar="TIME")
    ] = None,
    workers: Workers = None,
    results: Results = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with the soak in this directory.", metavar="DIR")] = None,
) -> int:
    """Count false alarms over many runs.

    Plays the scenarios that take the hazard on the stock hypervisor, each on a freshly restored host, without a
    control. Product failures must be 0; undecided runs and the emulator's own faults are counted apart.
    """
    from harness.base.errors import UsageError
    from harness.cli.soak import DEFAULT_PROFILE as SOAK_PROFILE
    from harness.cli.soak import begin
    from harness.cli.soak import resume as go_on
    from harness.run.options import RunOptions

    if resume is None:
        options = RunOptions(
            profile=profile or SOAK_PROFILE,
            stack=stack,
            device=tuple(device or ()),
            no_control=True,
            results=results,
            workers=workers or 0,
        )
        return begin(options, runs=runs, duration=duration)
    fixed = (("profile", profile), ("stack", stack), ("device", device), ("results", results))
    for option, given in fixed:
        if given:
            raise UsageError(f"--{option} cannot be changed by --resume", hint="leave it out, or begin a new soak")
    return go_on(resume, runs=runs, duration=duration, workers=workers or 0)


@measure.command(
    epilog="""Examples:

\b
  maskall bench                    the table
  maskall bench --json bench.json  the figures also as JSON ('-': on standard output, without the table)"""
)
def bench(
    json: Annotated[Path | None, typer.Option(help="Also write the figures here.", metavar="FILE")] = None,
    stack: Stack = DEFAULT_STACK,
    device: Device = "nvme",
) -> None:
    """Measure how long every phase takes.

    Cold boot, restore, hot-add, guest, and one scenario with its control in both ways: about five minutes.
    """
    from harness.cli.bench import benchmark

    benchmark(stack, device, json)


@measure.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    epilog="""Examples:

\b
  maskall test                    lint, types, import rules, self-tests, the nested lane and the lab lane
  maskall test -e self            the self-tests: no root, no QEMU, no network
  maskall test -e nested -- -k E14    one lane, with arguments for pytest""",
)
def test(context: typer.Context) -> int:
    """Test maskall itself by tox, and pass arguments on.

    Everything in tox.ini, with the nested lane in it.
    """
    from harness.cli.run import run_tox

    return run_tox(context.args)
