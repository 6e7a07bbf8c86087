"""`maskall history`: a scenario over many runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command(
    epilog="""Examples:

\b
  maskall run --history lab.sqlite              every run adds to it
  maskall history E14-F1-hvm-nvme --history lab.sqlite
  maskall history E14-F1-hvm-nvme --history lab.sqlite --json | jq '.[-1]'

It is SQLite, two tables, run and row: 'sqlite3 lab.sqlite .schema'. Exit status: 0; 1 when the last run was bad."""
)
def history(
    scenario: Annotated[str, typer.Argument(help="The id of a scenario or of a test.", metavar="ID")],
    history: Annotated[Path, typer.Option("--history", help="The file that runs add to.", metavar="FILE")],
    json: Annotated[bool, typer.Option("--json", help="For a program: every run of it.")] = False,
) -> int:
    """Say when a scenario was last good and first bad, which component moved between, and how often it flickers."""
    from dataclasses import asdict
    from json import dumps

    from harness.run.history import played, told

    runs = played(history, scenario)
    for line in [dumps([asdict(one) for one in runs], indent=2)] if json else told(scenario, runs):
        typer.echo(line)
    return 0 if runs[-1].good else 1
