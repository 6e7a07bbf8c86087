"""`maskall report` and `maskall schema`: what is stored, told again, and how it is stored."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.base import ways
from harness.report import formats

if TYPE_CHECKING:
    from harness.report.results import RunResult

app = typer.Typer()
FORMATS = ways.names(formats)


@app.command(epilog="Example: maskall schema > results.schema.json")
def schema(
    mutants: Annotated[
        bool, typer.Option("--mutants", help="Of mutants.json, which 'maskall mutants' writes.")
    ] = False,
    certificate: Annotated[
        bool, typer.Option("--certificate", help="Of certificate.json, which 'maskall certify' writes.")
    ] = False,
) -> None:
    """Print the JSON Schema of results.json."""
    from harness.run import schema as schemas

    made = schemas.certificate_schema if certificate else schemas.mutants_schema if mutants else schemas.schema
    typer.echo(schemas.schema_text(made()), nl=False)


@app.command(
    epilog="""Examples:

\b
  maskall report results/20260102-030405                 the table again, also of a run that was cut short
  maskall report results/20260102-030405 --html --output page.html
  maskall report results/20260102-030405 --format ctrf | jq '.results.summary'
  maskall report results/SOAK --html --output soak.html   also of a soak, and of a campaign of mutants
  maskall report --compare results/MONDAY results/TUESDAY
                                                         what changed; exit status 1 if a verdict did

With --compare: components that moved, verdicts that flipped, rows lost and gained, times beyond 10 %."""
)
def report(
    results: Annotated[list[Path], typer.Argument(help="A results.json, or its directory; with --compare two.")],
    format: Annotated[str | None, typer.Option(help=f"One of {', '.join(FORMATS)}.", metavar="NAME")] = None,
    html: Annotated[bool, typer.Option("--html", help="The page: --format html.")] = False,
    compare: Annotated[bool, typer.Option("--compare", help="What changed from the first run to the second.")] = False,
    output: Annotated[Path | None, typer.Option(help="Write it there instead of printing it.", metavar="FILE")] = None,
) -> int:
    """Tell a run again, in any format, or what changed between two.

    The table comes with its failures; the exit status is that run's. Of a run that was cut short, what had ended by
    then.
    """
    from harness.base.errors import UsageError
    from harness.base.text import inert
    from harness.base.yamlfile import nearest

    if html and format not in (None, "html"):
        raise UsageError(f"--html is --format html, and --format {inert(str(format))} was given", hint="take one")
    name = "html" if html else format or "table"
    if name not in FORMATS:
        raise UsageError(f"unknown format {inert(name)!r}", hint=nearest(name, FORMATS))
    if len(results) != (2 if compare else 1):
        hint = "first the earlier run, then the later one" if compare else "name one run; --compare takes two"
        raise UsageError(f"{len(results)} runs were given", hint=hint)
    return _compared(results[0], results[1], name, output) if compare else _told(results[0], name, output)


def _compared(before: Path, after: Path, name: str, output: Path | None) -> int:
    import json

    from harness.base.errors import UsageError
    from harness.report.changes import changes

    found = changes(_stored(before)[0], _stored(after)[0])
    if name not in ("table", "json"):
        raise UsageError(f"--compare has no format {name}", hint="table or json")
    text = json.dumps(found.as_json, indent=2) if name == "json" else "\n".join(found.lines)
    _give(f"{text}\n".encode("utf-8", "backslashreplace"), output)
    return found.status


def _stored(results: Path) -> tuple[RunResult, list[str]]:
    """A run, as far as it came, and what is missing in it."""
    from harness.base.errors import EvidenceError, UsageError
    from harness.report.results import RunResult
    from harness.run import store
    from harness.run.cutshort import cut_short, left_out

    stored = results / store.RESULTS if results.is_dir() else results
    try:
        partly = cut_short(results) if results.is_dir() and not stored.exists() else None
        hint = "give a results.json, or the directory of a run, as 'results: ...' said"
        return partly or left_out(results, store.load(stored, RunResult, hint=hint))
    except EvidenceError as error:  # the file is whoever named it's to put right
        raise UsageError(error.message, hint=error.hint) from error


def _told(results: Path, name: str, output: Path | None) -> int:
    from functools import partial

    from harness.base.errors import UsageError
    from harness.cli import stacks
    from harness.evidence.sealed import bytes_of
    from harness.report.formats.base import load
    from harness.report.told import Told
    from harness.run import store
    from harness.run.many import page_of

    width = shutil.get_terminal_size().columns
    if results.is_dir() and not (results / store.RESULTS).exists():
        if name == "html" and (page := page_of(results)) is not None:
            _give(page, output)
            return 0
        if runs := stacks.stored(results):
            if name != "table":
                raise UsageError(
                    f"{results} holds runs on {len(runs)} stacks, and {name} tells of one",
                    hint="; ".join(str(path.parent) for path in sorted(results.glob(f"*/{store.RESULTS}"))),
                )
            _give(stacks.side_by_side(runs).encode("utf-8", "backslashreplace"), output)
            return stacks.worst([run.exit_status for run in runs.values()])
    result, missing = _stored(results)
    root = results if results.is_dir() else results.parent
    told = Told(result, tuple(missing), partial(bytes_of, root), width)
    _give(load(name).render(told), output)
    return result.exit_status


def _give(document: bytes, output: Path | None) -> None:
    from harness.run import store

    if output is None:
        typer.echo(document, nl=False)
    else:
        store.write_out(output, document)
