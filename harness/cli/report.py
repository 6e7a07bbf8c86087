"""`maskall report` and `maskall schema`: what is stored, told again, and how it is stored."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from harness.base import ways
from harness.report import formats

app = typer.Typer()
FORMATS = ways.names(formats)


@app.command(epilog="Example: maskall schema > results.schema.json")
def schema(
    mutants: Annotated[
        bool, typer.Option("--mutants", help="Of mutants.json, which 'maskall mutants' writes.")
    ] = False,
) -> None:
    """Print the JSON Schema of results.json."""
    from harness.report import schema as schemas

    typer.echo(schemas.schema_text(schemas.mutants_schema() if mutants else schemas.schema()), nl=False)


@app.command(
    epilog="""Examples:

\b
  maskall report results/20260102-030405                 the table again, also of a run that was cut short
  maskall report results/20260102-030405 --format html --output page.html
  maskall report results/20260102-030405 --format ctrf | jq '.results.summary'
"""
)
def report(
    results: Annotated[Path, typer.Argument(help="A results.json, or the directory it is in.")],
    format: Annotated[str, typer.Option(help=f"One of {', '.join(FORMATS)}.", metavar="NAME")] = "table",
    output: Annotated[Path | None, typer.Option(help="Write it there instead of printing it.", metavar="FILE")] = None,
) -> int:
    """Tell a run again, in any format.

    The table comes with its failures; the exit status is that run's. Of a run that was cut short, what had ended by
    then.
    """
    from functools import partial

    from harness.base.errors import UsageError
    from harness.base.text import inert
    from harness.base.yamlfile import nearest
    from harness.cli import stacks
    from harness.evidence.sealed import bytes_of
    from harness.report.formats.base import load
    from harness.report.results import RunResult
    from harness.report.told import Told
    from harness.run import store
    from harness.run.cutshort import cut_short, left_out

    if format not in FORMATS:
        raise UsageError(f"unknown format {inert(format)!r}", hint=nearest(format, FORMATS))
    width = shutil.get_terminal_size().columns
    if results.is_dir() and not (results / "results.json").exists() and (runs := stacks.stored(results)):
        if format != "table":
            raise UsageError(
                f"{results} holds runs on {len(runs)} stacks, and {format} tells of one",
                hint="; ".join(str(path.parent) for path in sorted(results.glob("*/results.json"))),
            )
        _give(stacks.side_by_side(runs).encode("utf-8", "backslashreplace"), output)
        return stacks.worst([run.exit_status for run in runs.values()])
    partly = cut_short(results) if results.is_dir() and not (results / "results.json").exists() else None
    stored = results / "results.json" if results.is_dir() else results
    result, missing = partly or left_out(results, store.load(stored, RunResult))
    told = Told(result, tuple(missing), partial(bytes_of, stored.parent), width)
    _give(load(format).render(told), output)
    return result.exit_status


def _give(document: bytes, output: Path | None) -> None:
    from harness.run import store

    if output is None:
        typer.echo(document, nl=False)
    else:
        store.write_atomically(output, document)
