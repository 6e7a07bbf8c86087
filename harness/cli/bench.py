"""`maskall bench`: how long every phase takes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.words import Device, Stack
from harness.run.against import Yardstick

app = typer.Typer()


@app.command(
    epilog="""Examples:

\b
  maskall bench                    the table
  maskall bench --json bench.json  the figures also as JSON ('-': on standard output, without the table)
  maskall bench --against ../old   the same in another checkout, turn and turn about: medians and ratios
  maskall bench --against ../old --what scenario  one as a run plays it, which may go on from a frozen guest
  maskall bench --against ../old --what ci     profile ci with its controls, and whether both judge alike
  maskall bench --against ../old --what first  the first verdict with nothing cached, environment and images too"""
)
def bench(
    json: Annotated[Path | None, typer.Option(help="Also write the figures here.", metavar="FILE")] = None,
    stack: Stack = None,
    device: Device = "nvme",
    against: Annotated[Path | None, typer.Option(help="Another checkout to measure as well.", metavar="DIR")] = None,
    what: Annotated[
        Yardstick, typer.Option(help="With --against: what is measured; self: the self-tests; first: a first verdict.")
    ] = Yardstick.PHASES,
    turns: Annotated[int, typer.Option(help="With --against: how often.", min=1, metavar="N")] = 3,
) -> None:
    """Measure how long every phase takes.

    Cold boot, restore, hot-add, guest, and one scenario with its control in both ways: about five minutes. Against
    another checkout it is what both take on this machine now that counts: ratios hold elsewhere, seconds do not.
    """
    from rich.console import Console

    from harness.base.progress import progress_for
    from harness.host.stacks import stack as known_stack
    from harness.run.bench import measure
    from harness.run.store import write_out

    if against is not None:
        from harness.run.against import compare

        with progress_for(Console(stderr=True)) as progress:
            compared = compare(against, what, turns, known_stack(stack).name, device, progress)
        typer.echo("\n".join(compared.table()))
        return
    with progress_for(Console(stderr=True)) as progress:
        figures = measure(known_stack(stack), device, progress)
    if json == Path("-"):
        typer.echo(figures.as_json(), nl=False)
        return
    typer.echo("\n".join(figures.table()))
    if json is not None:
        write_out(json, figures.as_json().encode())
