"""`maskall explain FILE...`: what somebody's log shows."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from harness.base.errors import UsageError

app = typer.Typer()
_BLOCK = 1 << 20


@app.command(
    epilog="""Examples:

\b
  maskall explain xl-dmesg.txt lspci.txt      what somebody sent, quoted and wrapped as it is
  xl dmesg | maskall explain                  this host's
  maskall explain --json serial.log           for programs

Exit status: 0 nothing of this class; 1 a signature of it is there; 2 nothing could be read;
3 it cannot be told from this. What each signature means: docs/explain.md."""
)
def explain(
    files: Annotated[
        list[str] | None, typer.Argument(help="Logs, in any mixture; - or none: standard input.", metavar="FILE...")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Say what anybody's xl dmesg, debug keys, lspci and dom0 dmesg show.

    Which known signature it is, of which device, with the lines; which fix it needs; what to capture next.
    """
    from harness.report.explain import tell
    from harness.report.explain.reader import Reader

    reader, refused = Reader(), []
    for name in files or ["-"]:
        try:
            if name == "-":
                if sys.stdin.isatty():
                    typer.echo("reading from the terminal; Ctrl-D ends it", err=True)
                reader.read("<stdin>", iter(lambda: sys.stdin.buffer.read(_BLOCK), b""))
                continue
            with Path(name).open("rb") as file:
                reader.read(name, iter(lambda: file.read(_BLOCK), b""))
        except (OSError, ValueError) as error:  # a name with a zero in it is a ValueError
            refused.append(f"{name}: {getattr(error, 'strerror', error)}")
            reader.refuse(name, refused[-1].rpartition(": ")[2])
    if len(refused) == len(files or ["-"]):
        raise UsageError("; ".join(refused), hint="give files, or - for standard input")
    told = tell.explain(reader.close())
    if as_json:
        typer.echo(json.dumps(asdict(told), indent=2))
    else:
        typer.echo("\n".join(tell.as_text(told)))
    return int(told.verdict)
