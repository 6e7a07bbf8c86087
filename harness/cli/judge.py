"""`maskall judge`: every verdict of a run made anew, without a host."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command(
    epilog="""Examples:

\b
  maskall judge results/20260102-030405                  every verdict of the run, made anew
  maskall judge results/20260102-030405 --scenario 'E5-*'
  maskall judge results/ALL-STACKS                       each run of 'maskall run --stack all'
  maskall judge results/20260102-030405 --json | jq '.judged[] | select(.answer != "SAME")'

What it goes by: run.json, and of each side record.json with the raw files beside it, whose SHA-256 it checks. Known
issues, fixes and messages are those of this maskall, so a verdict may differ because the judge has changed: then the
checks that do are named. What no raw byte can show is taken from record.json, on the harness's word, and counted in
the last line: that a step was carried out and how its command ended, the guests' domids, breakpoints in Xen.
docs/evidence.md has the files and their formats.

Exit status: 0 same, 1 differs, 2 a file is missing, was changed or cannot be read."""
)
def judge(
    results: Annotated[Path, typer.Argument(help="The directory of a run, or of one on several stacks.")],
    scenario: Annotated[str | None, typer.Option(help="Only these: an id or a glob.", metavar="ID")] = None,
    json: Annotated[bool, typer.Option("--json", help="For a program: every scenario, every difference.")] = False,
) -> int:
    """Make every verdict of a run anew from its raw files, and say SAME or what differs.

    Without a host, by the very code that judged it when it was played. Nothing outside of the run's directory is read.
    """
    from json import dumps

    from harness.run.comparison import compared, run_directory
    from harness.run.store import RESULTS

    root = run_directory(results)
    several = [] if (root / RESULTS).exists() else sorted(path.parent for path in root.glob(f"*/{RESULTS}"))
    comparisons = {one: compared(one, scenario) for one in several or [root]}
    if json:
        told = {one.name: each.as_json for one, each in comparisons.items()} if several else comparisons[root].as_json
        typer.echo(dumps(told, indent=2))
    else:
        for one, each in comparisons.items():
            for line in [*([f"{one.name}:"] if several else []), *each.lines]:
                typer.echo(line)
    return max(each.status for each in comparisons.values())
