"""`maskall coverage`: what is played of the whole matrix, and why the rest is not."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.words import Stack
from harness.run.options import DEFAULT_TOOLSTACK

app = typer.Typer()


@app.command(
    epilog="""Examples:

\b
  maskall coverage                     which profile plays which cell of the matrix, and why a hole is one
  maskall coverage --html map.html     the same as one page, every cell on its own
  maskall coverage --json | jq '.cells[] | select(.hole.kind == "not yet") | .id'"""
)
def coverage(
    stack: Stack = None,
    toolstack: Annotated[str, typer.Option(help="xl or libvirt.", metavar="NAME")] = DEFAULT_TOOLSTACK,
    json: Annotated[bool, typer.Option("--json", help="Every cell, instead of the table.")] = False,
    html: Annotated[Path | None, typer.Option(help="Also write the map as an HTML page.", metavar="FILE")] = None,
) -> None:
    """Show the map of the matrix and its holes.

    Every ending with every follow-on, guest and device: the profiles that play it, or why nobody can.
    """
    from harness.host.stacks import stack as known_stack
    from harness.nested import devices
    from harness.play.catalogue import catalogue
    from harness.report.coverage import as_json, table
    from harness.report.heatmap import page
    from harness.run.store import write_out
    from harness.scenario.coverage import coverage as cover
    from harness.xen.toolstack.choice import ToolstackName

    chosen = known_stack(stack)
    through = ToolstackName.of(toolstack)
    models = devices.catalogue()
    lacking = _lacking()
    there = {name: model for name, model in models.items() if name not in lacking}
    known = catalogue()
    found = cover(known, devices.candidates(there), lacking, through)
    context = {"stack": chosen.name, "toolstack": through.value}
    if html is not None:
        write_out(html, page(found, known.titles, context).encode())
    if json:
        typer.echo(as_json(found, context), nl=False)
        return
    for line in table(found, context=", ".join(context.values())):
        typer.echo(line)
    if html is not None:
        typer.echo(f"\nwritten: {html}")


def _lacking() -> dict[str, str]:
    """Devices of ours that the emulator does not offer; none when it is not here yet."""
    from harness.nested.cache import Cache
    from harness.nested.devices import catalogue
    from harness.nested.emulator import known_emulator

    emulator = known_emulator(Cache())
    return {
        name: f"QEMU {emulator.version} has no {model.model}"
        for name, model in (catalogue() if emulator else {}).items()
        if emulator and model.model not in emulator.models
    }
