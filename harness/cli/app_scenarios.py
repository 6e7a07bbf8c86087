"""Verbs that play scenarios, or show which there are and what they came to. Registered with the others in app.py."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.words import (
    Accept,
    Device,
    Devices,
    Kept,
    Mirror,
    Results,
    Stack,
    TakeOver,
    UsualStack,
    Wait,
    Workers,
    Yes,
)
from harness.run.options import DEFAULT_PROFILE, DEFAULT_STACK, DEFAULT_TOOLSTACK

scenarios = typer.Typer()


@scenarios.command(
    epilog="""Examples:

\b
  maskall run                            profile ci: stock Xen and the known-bad control
  maskall run --profile smoke            one scenario, about a minute
  maskall run E14-F1-hvm-nvme            just this one
  maskall run 'E14-*' --device nvme      all that follows ending E14, with one device
  maskall run --stack all E14-F1-hvm-nvme  the same on every stack, side by side at the end
  maskall run E3-F7-hvm-nvme --rounds 5  a guest killed five times: does anything stay behind?
  maskall run E14 --keep                 leave host and guests up; prints how to get in
  maskall run --mutant no-maskall-reset --no-control
                                         the broken hypervisor as the one under test: exit status 1

Exit status: 0 all as expected, known issues too; 1 REGRESSION, BLIND or CHANGED; 2 wrong options or files;
3 ERROR or UNDECIDED; 5 nothing ran; 130 Ctrl-C, 143 SIGTERM."""
)
def run(
    scenario: Annotated[list[str] | None, typer.Argument(help="Ids or globs; none: the profile's.")] = None,
    profile: Annotated[str, typer.Option(help="smoke, ci, certify or full.", metavar="PROFILE")] = DEFAULT_PROFILE,
    inventory: Annotated[
        Path | None, typer.Option(help="The hosts (default: inventory/nested.yaml).", metavar="FILE")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Which host of the inventory.", metavar="NAME")] = None,
    stack: Annotated[
        list[str] | None,
        typer.Option(
            help="trixie, bookworm, bullseye or all; may be repeated (default: the inventory's).", metavar="STACK"
        ),
    ] = None,
    toolstack: Annotated[
        str, typer.Option(help="xl or libvirt: who makes and ends the domains.", metavar="NAME")
    ] = DEFAULT_TOOLSTACK,
    device: Devices = None,
    mutant: Annotated[
        str | None, typer.Option(help="The known-bad control (default: no-maskall-reset).", metavar="NAME")
    ] = None,
    no_control: Annotated[
        bool, typer.Option("--no-control", help="No control; with --mutant that one is under test.")
    ] = False,
    mutants: Annotated[Path | None, typer.Option(help="YAML file with mutants of your own.", metavar="FILE")] = None,
    known_issues: Annotated[
        Path | None, typer.Option(help="YAML file with known issues of your own.", metavar="FILE")
    ] = None,
    results: Results = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave host and guests running.")] = False,
    trace: Annotated[
        bool, typer.Option("--trace", help="Say who maps, binds, unbinds, unmaps and masks, by breakpoints in Xen.")
    ] = False,
    rounds: Annotated[
        # Xen's console ring keeps 1 MiB, and a round adds some 15 KiB to what must be read in one piece at the end
        int | None,
        typer.Option(help="Of F7, how many (default: 20).", min=3, max=60, metavar="N"),
    ] = None,
    workers: Workers = None,
    cold: Annotated[
        bool, typer.Option("--cold", help="Every scenario from its beginning, on no host frozen with guest A running.")
    ] = False,
    accept: Accept = None,
    wait: Wait = 0,
    take_over: TakeOver = None,
    mirror: Mirror = None,
    yes: Yes = False,
) -> int:
    """Play scenarios and say what they prove.

    Each on the stock hypervisor, and on the known-bad control where it must see the difference.
    The same as `pytest suites/msix`. Installs what is missing (as root), builds the Xen host when it is not there,
    and writes results.json, junit.xml, a log per scenario and all raw files.
    """
    from harness.cli.run import run_scenarios
    from harness.cli.stacks import named, run_on
    from harness.run.options import RunOptions

    names = named(stack or ())
    options = RunOptions(
        scenario=tuple(scenario or ()),
        profile=profile,
        inventory=inventory,
        host=host,
        stack=names[0] if len(names) == 1 else None,
        toolstack=toolstack,
        device=tuple(device or ()),
        mutant=mutant,
        no_control=no_control,
        mutants=mutants,
        known_issues=known_issues,
        results=results,
        keep=keep,
        trace=trace,
        rounds=rounds or 0,
        cold=cold,
        workers=workers or 0,
        accept=tuple(accept or ()),
        wait=wait,
        take_over=take_over,
        yes=yes,
    )
    return run_on(names, options, mirror) if len(names) > 1 else run_scenarios(options, mirror)


@scenarios.command(
    "list",
    epilog="""Examples:

\b
  maskall list               scenarios by ending and follow-on, devices, stacks, mutants, profiles
  maskall list --all         every id that 'maskall run' takes
  maskall list --mutants     the known-bad hypervisors, byte by byte
  maskall list --stack bullseye  which scenarios are expected to fail there, and why""",
)
def list_(
    every: Annotated[bool, typer.Option("--all", help="Every scenario id.")] = False,
    mutants: Annotated[bool, typer.Option("--mutants", help="The mutants in full.")] = False,
    stack: Annotated[str | None, typer.Option(help="What is expected on this stack.", metavar="STACK")] = None,
) -> None:
    """Show scenarios, devices, stacks and mutants."""
    from harness.cli.listing import all_ids, expected_on, mutants_in_full, overview

    for line in expected_on(stack) if stack else all_ids() if every else mutants_in_full() if mutants else overview():
        typer.echo(line)


@scenarios.command(
    epilog="""Examples:

\b
  maskall coverage                     which profile plays which cell of the matrix, and why a hole is one
  maskall coverage --html map.html     the same as one page, every cell on its own
  maskall coverage --json | jq '.cells[] | select(.hole.kind == "not yet") | .id'"""
)
def coverage(
    stack: UsualStack = None,
    toolstack: Annotated[str, typer.Option(help="xl or libvirt.", metavar="NAME")] = DEFAULT_TOOLSTACK,
    json: Annotated[bool, typer.Option("--json", help="Every cell, instead of the table.")] = False,
    html: Annotated[Path | None, typer.Option(help="Also write the map as an HTML page.", metavar="FILE")] = None,
) -> None:
    """Show the map of the matrix and its holes.

    Every ending with every follow-on, guest and device: the profiles that play it, or why nobody can.
    """
    from harness.cli.coverage import show

    show(stack, toolstack, json=json, html=html)


@scenarios.command(epilog="Example: maskall schema > results.schema.json")
def schema(
    mutants: Annotated[
        bool, typer.Option("--mutants", help="Of mutants.json, which 'maskall mutants' writes.")
    ] = False,
) -> None:
    """Print the JSON Schema of results.json."""
    from harness.report import schema as schemas

    typer.echo(schemas.schema_text(schemas.mutants_schema() if mutants else schemas.schema()), nl=False)


@scenarios.command(epilog="Example: maskall report results/20260102-030405/results.json")
def report(results: Annotated[Path, typer.Argument(help="A results.json, or the directory it is in.")]) -> int:
    """Print the table of a finished run again.

    With its failures; the exit status is that run's.
    """
    from harness.cli.run import report_again

    return report_again(results)


@scenarios.command(
    epilog="""Examples:

\b
  maskall shell                       a fresh host, gone when you leave it
  maskall shell --device e1000e       the same with another device
  maskall shell run-k3jd82hs          a host that 'maskall run --keep' or 'maskall nested up' left running"""
)
def shell(run: Kept = None, stack: Stack = DEFAULT_STACK, device: Device = "nvme") -> int:
    """Open a shell in dom0 of a nested host.

    Over ssh with its host key pinned; prints how to get to a guest from there.
    """
    from harness.cli.shell import open_shell

    return open_shell(run, stack, device)
