"""`maskall report` and `maskall schema`: what is stored, told again, and how it is stored."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command(epilog="Example: maskall schema > results.schema.json")
def schema(
    mutants: Annotated[
        bool, typer.Option("--mutants", help="Of mutants.json, which 'maskall mutants' writes.")
    ] = False,
) -> None:
    """Print the JSON Schema of results.json."""
    from harness.report import schema as schemas

    typer.echo(schemas.schema_text(schemas.mutants_schema() if mutants else schemas.schema()), nl=False)


@app.command(epilog="Example: maskall report results/20260102-030405")
def report(results: Annotated[Path, typer.Argument(help="A results.json, or the directory it is in.")]) -> int:
    """Print the table of a run again.

    With its failures; the exit status is that run's. Of a run that was cut short, what had ended by then.
    """
    from harness.cli import stacks
    from harness.report.failure import failures, remarks, skipped
    from harness.report.results import RunResult
    from harness.report.table import plain
    from harness.run.cutshort import cut_short, left_out
    from harness.run.store import load

    if results.is_dir() and not (results / "results.json").exists() and (runs := stacks.stored(results)):
        stacks.told(runs)
        return stacks.worst([run.exit_status for run in runs.values()])
    partial = cut_short(results) if results.is_dir() and not (results / "results.json").exists() else None
    stored = results / "results.json" if results.is_dir() else results
    result, missing = partial or left_out(results, load(stored, RunResult))
    typer.echo(plain(result, width=shutil.get_terminal_size().columns), nl=False)
    paragraphs = [*skipped(result), *remarks(result), *failures(result), *missing]
    if paragraphs:
        typer.echo("\n".join(["", *paragraphs]))
    return result.exit_status
