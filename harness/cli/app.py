"""The `maskall` command. Its verbs and their help are in app_*.py; what they do is in the modules beside those.

Those are imported when a verb is called: `--help` must not wait for paramiko, pydantic and pytest.
"""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli.app_hosts import hosts
from harness.cli.app_measure import measure
from harness.cli.app_nested import nested, practice
from harness.cli.app_scenarios import scenarios

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


app.add_typer(scenarios)
app.add_typer(measure)
app.add_typer(hosts)
app.add_typer(nested, name="nested")
app.add_typer(practice, name="practice")
