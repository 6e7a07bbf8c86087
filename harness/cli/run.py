"""`maskall run`: scenarios played through pytest, on one stack or on several."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.base.errors import ExitStatus, HarnessBug, LabError, MaskallError, UsageError
from harness.cli.options import takes
from harness.run.options import RunOptions

if TYPE_CHECKING:
    from harness.plugin.running import Running
    from harness.report.results import RunResult

app = typer.Typer()

_QUIETLY = ("-p", "no:terminal", "-p", "no:cacheprovider")
"""pytest's own reporter is left out: phases, table and failures are ours, and one voice is enough."""


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
  maskall run --resume results/20260102-030405   go on after Ctrl-C, a crash or a power cut
  maskall run --failed results/20260102-030405   a new run of what was not as expected there
  maskall run E14 --xen xen/xen.gz --control-xen base/xen.gz
                                         your build, against your build without the fix
  maskall run --mutant no-maskall-reset --no-control
                                         the broken hypervisor as the one under test: exit status 1

Exit status: 0 all as expected, known issues too; 1 REGRESSION, BLIND or CHANGED; 2 wrong options or files;
3 ERROR or UNDECIDED; 5 nothing ran; 130 Ctrl-C, 143 SIGTERM. With --bisect: 0 PASS; 1 FAIL or CRASH, a known
one too; 125 (skip) ERROR, UNDECIDED, another failure than --bad-is; 129 (give up) wrong options, BLIND, nothing ran."""
)
@takes("run", scenario=typer.Argument(help="Ids or globs; none: the profile's."))
def run(
    options: RunOptions,
    stacks: Annotated[
        list[str] | None,
        typer.Option(
            "--stack",
            help="A stack of 'maskall list', or all; may be repeated (default: the inventory's).",
            metavar="STACK",
        ),
    ] = None,
    bisect: Annotated[
        bool, typer.Option("--bisect", help="End with the status that 'git bisect run' wants: 0 good, 1 bad, 125, 129.")
    ] = False,
    bad_is: Annotated[
        str | None,
        typer.Option(help="With --bisect: only this failure is bad: 'C6 hardware: message control'.", metavar="CHECK"),
    ] = None,
) -> int:
    """Play scenarios and say what they prove.

    Each on the stock hypervisor, and on the known-bad control where it must see the difference.
    The same as `pytest suites/msix`. Installs what is missing (as root), builds the Xen host when it is not there,
    and writes results.json, report.html, junit.xml, a log per scenario and all raw files.
    """
    from harness.cli.stacks import named

    names = named(stacks or ())
    if bad_is is not None and not bisect:
        raise UsageError("--bad-is goes with --bisect", hint="give both")
    if bisect and len(names) > 1:
        raise UsageError("--bisect takes one stack", hint="give one --stack")
    if bisect:
        return run_for_git(replace(options, stack=names[0] if names else None), bad_is)
    if len(names) > 1:
        return run_on(names, options)
    return run_scenarios(replace(options, stack=names[0] if names else None))


def run_scenarios(options: RunOptions, go_on: str = "") -> int:
    """Play them; the exit status is the verdicts', not pytest's. `go_on`: what to type if it breaks off."""
    from harness.run.resume import settled
    from harness.run.selection import chosen

    options = settled(options)
    chosen(options)  # whatever is wrong with the options is said before pytest starts
    running = play(options, go_on)
    status = running.result.exit_status if running.result is not None else ExitStatus.NOTHING_RAN
    if running.error is not None and status is not ExitStatus.FAILED:
        raise running.error
    return status


def run_for_git(options: RunOptions, bad_is: str | None) -> int:
    """As `run_scenarios`, told as `git bisect run` reads it; what ends early is translated at the command's door."""
    from harness.run.bisect import STATUS, answer_of
    from harness.run.selection import chosen

    chosen(options)
    running = play(options)
    if running.result is None:
        raise running.error or LabError("nothing was played")
    return STATUS[answer_of(running.result, bad_is)]


def play(options: RunOptions, go_on: str = "") -> Running:
    """Play scenarios through pytest and print what they came to. KeyboardInterrupt when it was interrupted."""
    import pytest

    from harness.plugin import Given

    suite = checkout() / "suites" / "msix"
    given = Given(options)
    ended = pytest.main([str(suite), *_QUIETLY], plugins=[given])
    running = given.running
    if running is None:
        raise HarnessBug(f"pytest ended with {int(ended)} before any scenario", hint=f"see: pytest {suite}")
    width, colour = shutil.get_terminal_size().columns, sys.stdout.isatty() and "NO_COLOR" not in os.environ
    for line in running.report(width=width, colour=colour, failures=True):
        typer.echo(line)
    if running.may_go_on:
        typer.echo(f"go on with: {go_on or f'maskall run --resume {running.results}'}")
    if running.interrupted:
        raise KeyboardInterrupt
    return running


def run_on(names: Sequence[str], options: RunOptions) -> int:
    """One run after the other, each with its own results below one directory, and all side by side at the end.

    A stack whose lab fails is told of and does not keep the others from being tried. The exit status is the worst.
    """
    from harness.cli.stacks import told, worst
    from harness.run.selection import chosen

    if options.resume or options.failed:
        raise UsageError("--resume and --failed are for one run", hint="leave --stack out: the run knows its own")
    for name in names:  # whatever is wrong with the options is said before anything begins
        chosen(replace(options, stack=name))
    root = options.results_directory()
    done: dict[str, RunResult] = {}
    lost: dict[str, ExitStatus] = {}
    for number, name in enumerate(names, 1):
        typer.echo(f"stack {name} ({number} of {len(names)})")
        running = play(replace(options, stack=name, results=root / name))
        if running.result is not None:
            done[name] = running.result
        if isinstance(running.error, UsageError) or (
            running.error is not None and not isinstance(running.error, MaskallError)
        ):
            raise running.error
        if running.error is not None:
            lost[name] = running.error.exit_status
            print(f"maskall: stack {name}: {running.error}", file=sys.stderr, flush=True)
        elif running.result is None:
            lost[name] = ExitStatus.NOTHING_RAN
        typer.echo("")
    told(done)
    typer.echo(f"results: {root}")
    return worst([*(result.exit_status for result in done.values()), *lost.values()])


def checkout() -> Path:
    """The source checkout this package runs from. Raises UsageError when it was installed without one."""
    root = Path(__file__).resolve().parents[2]
    if not (root / "suites" / "msix").is_dir():
        raise UsageError(
            f"the scenarios are not there: {root} is not a source checkout of maskall",
            hint="clone the repository and call ./tools/maskall in it",
        )
    return root
