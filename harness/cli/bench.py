"""`maskall bench`: how long every phase takes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.words import Device, Stack

app = typer.Typer()


@app.command(
    epilog="""Examples:

\b
  maskall bench                    the table
  maskall bench --json bench.json  the figures also as JSON ('-': on standard output, without the table)"""
)
def bench(
    json: Annotated[Path | None, typer.Option(help="Also write the figures here.", metavar="FILE")] = None,
    stack: Stack = None,
    device: Device = "nvme",
) -> None:
    """Measure how long every phase takes.

    Cold boot, restore, hot-add, guest, and one scenario with its control in both ways: about five minutes.
    """
    from rich.console import Console

    from harness.base.progress import progress_for
    from harness.host.stacks import stack as known_stack
    from harness.run.bench import measure
    from harness.run.store import write_atomically

    with progress_for(Console(stderr=True)) as progress:
        figures = measure(known_stack(stack), device, progress)
    if json == Path("-"):
        typer.echo(figures.as_json(), nl=False)
        return
    typer.echo("\n".join(figures.table()))
    if json is not None:
        write_atomically(json, figures.as_json().encode())
