"""The same scenarios on several stacks: `maskall run --stack all`."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import typer

from harness.base.errors import ExitStatus, MaskallError, UsageError
from harness.cli.run import play, use_mirror
from harness.report.results import RunResult
from harness.run.options import RunOptions

ALL = "all"
_WORST_FIRST = (ExitStatus.FAILED, ExitStatus.USAGE, ExitStatus.UNDECIDED, ExitStatus.NOTHING_RAN, ExitStatus.OK)


def named(words: Sequence[str]) -> list[str]:
    """The stacks meant by these words, each once; `all` is every one. Raises UsageError with the nearest name."""
    from harness.base.yamlfile import nearest
    from harness.host.stacks import stacks

    for word in words:
        if word not in (ALL, *stacks()):
            raise UsageError(f"unknown stack {word!r}", hint=nearest(word, [*stacks(), ALL]))
    names = [name for word in words for name in (stacks() if word == ALL else [word])]
    return list(dict.fromkeys(names))


def run_on(names: Sequence[str], options: RunOptions, mirror: str | None) -> int:
    """One run after the other, each with its own results below one directory, and all side by side at the end.

    A stack whose lab fails is told of and does not keep the others from being tried. The exit status is the worst.
    """
    for name in names:  # whatever is wrong with the options is said before anything begins
        replace(options, stack=name).scenarios()
    use_mirror(mirror)
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


def told(runs: Mapping[str, RunResult]) -> None:
    """The table of all stacks."""
    from harness.report.table import stacks_side_by_side

    if runs:
        typer.echo(stacks_side_by_side(runs, width=shutil.get_terminal_size().columns), nl=False)


def stored(folder: Path) -> dict[str, RunResult]:
    """The runs below the directory that `run_on` made, by stack; empty when it is none."""
    from harness.run.store import load

    runs = [load(path) for path in folder.glob("*/results.json")]
    runs.sort(key=lambda run: run.started)
    return {run.host.facts.get("stack", run.run_id): run for run in runs}


def worst(statuses: Sequence[ExitStatus]) -> ExitStatus:
    return min(statuses, key=_WORST_FIRST.index, default=ExitStatus.NOTHING_RAN)
