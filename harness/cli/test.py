"""`maskall test`: everything in tox.ini."""

from __future__ import annotations

import os
import sys

import typer

from harness.base.errors import UsageError
from harness.cli.run import checkout

app = typer.Typer()


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    epilog="""Examples:

\b
  maskall test                    lint, types, import rules, self-tests, the nested lane and the lab lane
  maskall test -e self            the self-tests: no root, no QEMU, no network
  maskall test -e nested -- -k E14    one lane, with arguments for pytest""",
)
def test(context: typer.Context) -> int:
    """Test maskall itself by tox, and pass arguments on.

    Everything in tox.ini, with the nested lane in it. tox takes the place of this process.
    """
    root = checkout()
    try:
        import tox  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise UsageError("tox is not installed", hint="call ./tools/maskall test, which installs it") from error
    os.chdir(root)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "tox", *context.args])  # noqa: S606 - list argv, our own interpreter
