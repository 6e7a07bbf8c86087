"""The `maskall` command: what the files beside this one give it, one for each command or family of commands.

A command imports what it needs when it is called: `--help` must not wait for paramiko, pydantic and pytest.
"""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli import (
    bench,
    bisect,
    bundle,
    certify,
    coverage,
    doctor,
    explain,
    history,
    init,
    judge,
    list,
    mutants,
    nested,
    plan,
    practice,
    provision,
    report,
    restore,
    run,
    shell,
    soak,
    test,
    verify,
)

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="Proves on a real Xen host that MSI-X MASKALL does not survive the guest that caused it.",
    epilog="Begin with: maskall run --profile smoke",
)


def _version(wanted: bool) -> None:
    if wanted:
        import importlib.metadata

        typer.echo(f"maskall {importlib.metadata.version('maskall')}")
        raise typer.Exit


@app.callback()
def top(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    del version


for command in (
    run,
    init,
    list,
    coverage,
    report,
    judge,
    bundle,
    verify,
    certify,
    history,
    explain,
    shell,
    mutants,
    soak,
    bisect,
    bench,
    test,
    doctor,
    plan,
    provision,
    restore,
):
    app.add_typer(command.app)
app.add_typer(nested.app, name="nested")
app.add_typer(practice.app, name="practice")
