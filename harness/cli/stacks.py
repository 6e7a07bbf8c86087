"""Several stacks in one run: their names, their results, and the worst exit status."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import typer

from harness.base.errors import ExitStatus, UsageError
from harness.report.results import RunResult

ALL = "all"
_WORST_FIRST = (ExitStatus.FAILED, ExitStatus.USAGE, ExitStatus.UNDECIDED, ExitStatus.NOTHING_RAN, ExitStatus.OK)


def named(words: Sequence[str]) -> list[str]:
    """The stacks meant by these words, each once; `all` is one of each Xen. Raises UsageError, with the nearest."""
    from harness.base.yamlfile import nearest
    from harness.host.stacks import stacks

    for word in words:
        if word not in (ALL, *stacks()):
            raise UsageError(f"unknown stack {word!r}", hint=nearest(word, [*stacks(), ALL]))
    each = [name for name, one in stacks().items() if one.base == name]
    names = [name for word in words for name in (each if word == ALL else [word])]
    return list(dict.fromkeys(names))


def told(runs: Mapping[str, RunResult]) -> None:
    """Print the table of all stacks."""
    if runs:
        typer.echo(side_by_side(runs), nl=False)


def side_by_side(runs: Mapping[str, RunResult]) -> str:
    """The table of all stacks, as wide as the terminal."""
    from harness.report.table import stacks_side_by_side

    return stacks_side_by_side(runs, width=shutil.get_terminal_size().columns)


def stored(folder: Path) -> dict[str, RunResult]:
    """The runs below the directory that `run_on` made, by stack; empty when it is none."""
    from harness.run.store import load

    runs = [load(path, RunResult) for path in folder.glob("*/results.json")]
    runs.sort(key=lambda run: run.started)
    return {run.host.facts.get("stack", run.run_id): run for run in runs}


def worst(statuses: Sequence[ExitStatus]) -> ExitStatus:
    return min(statuses, key=_WORST_FIRST.index, default=ExitStatus.NOTHING_RAN)
