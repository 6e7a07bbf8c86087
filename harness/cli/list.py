"""`maskall list`: what there is to play, to play it with, and to play it on."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer()


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
