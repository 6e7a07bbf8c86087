"""All verbs of the `maskall` command and their help; what they do is in the modules beside this one.

Those are imported when a verb is called: `--help` must not wait for paramiko, pydantic and pytest.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.app_hosts import hosts
from harness.cli.app_nested import nested, practice
from harness.cli.words import Accept, Device, Devices, Kept, Mirror, Stack, TakeOver, Wait, Workers, Yes
from harness.options import DEFAULT_PROFILE, DEFAULT_STACK, DEFAULT_TOOLSTACK

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="Proves on a real Xen host that MSI-X MASKALL does not survive the guest that caused it.",
    epilog="Begin with: maskall run --profile smoke",
)


def _version(wanted: bool) -> None:
    if wanted:
        import importlib.metadata

        typer.echo(f"maskall {importlib.metadata.version('maskall')}")
        raise typer.Exit


@app.callback()
def top(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    del version


@app.command(
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
    results: Annotated[
        Path | None, typer.Option(help="New directory for the results (default: results/<UTC time>).", metavar="DIR")
    ] = None,
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
    from harness.options import RunOptions

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
    results: Annotated[
        Path | None, typer.Option(help="New directory for the results (default: results/<UTC time>).", metavar="DIR")
    ] = None,
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
    from harness.options import RunOptions

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


@app.command(
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


@app.command(
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


@app.command(
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


@app.command(
    epilog="""Examples:

\b
  maskall coverage                     which profile plays which cell of the matrix, and why a hole is one
  maskall coverage --html map.html     the same as one page, every cell on its own
  maskall coverage --json | jq '.cells[] | select(.hole.kind == "not yet") | .id'"""
)
def coverage(
    stack: Annotated[
        str | None, typer.Option(help="trixie, bookworm or bullseye (default: trixie).", metavar="STACK")
    ] = None,
    toolstack: Annotated[str, typer.Option(help="xl or libvirt.", metavar="NAME")] = DEFAULT_TOOLSTACK,
    json: Annotated[bool, typer.Option("--json", help="Every cell, instead of the table.")] = False,
    html: Annotated[Path | None, typer.Option(help="Also write the map as an HTML page.", metavar="FILE")] = None,
) -> None:
    """Show the map of the matrix and its holes.

    Every ending with every follow-on, guest and device: the profiles that play it, or why nobody can.
    """
    from harness.cli.coverage import show

    show(stack, toolstack, json=json, html=html)


@app.command(
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
    stack: Annotated[
        str | None, typer.Option(help="trixie, bookworm or bullseye (default: trixie).", metavar="STACK")
    ] = None,
    device: Devices = None,
    duration: Annotated[
        str | None, typer.Option("--for", help="Begin no run after this time: 2h, 90m.", metavar="TIME")
    ] = None,
    workers: Workers = None,
    results: Annotated[
        Path | None, typer.Option(help="New directory for the results (default: results/<UTC time>).", metavar="DIR")
    ] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with the soak in this directory.", metavar="DIR")] = None,
) -> int:
    """Count false alarms over many runs.

    Plays the scenarios that take the hazard on the stock hypervisor, each on a freshly restored host, without a
    control. Product failures must be 0; undecided runs and the emulator's own faults are counted apart.
    """
    from harness.cli.soak import DEFAULT_PROFILE as SOAK_PROFILE
    from harness.cli.soak import begin
    from harness.cli.soak import resume as go_on
    from harness.errors import UsageError
    from harness.options import RunOptions

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


@app.command(
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


@app.command(epilog="Example: maskall schema > results.schema.json")
def schema(
    mutants: Annotated[
        bool, typer.Option("--mutants", help="Of mutants.json, which 'maskall mutants' writes.")
    ] = False,
) -> None:
    """Print the JSON Schema of results.json."""
    from harness.report import schema as schemas

    typer.echo(schemas.schema_text(schemas.mutants_schema() if mutants else schemas.schema()), nl=False)


@app.command(epilog="Example: maskall report results/20260102-030405/results.json")
def report(results: Annotated[Path, typer.Argument(help="A results.json, or the directory it is in.")]) -> int:
    """Print the table of a finished run again.

    With its failures; the exit status is that run's.
    """
    from harness.cli.run import report_again

    return report_again(results)


app.add_typer(hosts)
app.add_typer(nested, name="nested")
app.add_typer(practice, name="practice")
