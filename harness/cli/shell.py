"""`maskall shell`: dom0 of a nested host, over the ssh that everybody knows."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

import typer
from rich.console import Console

from harness.base.errors import LabError
from harness.base.process import find
from harness.base.progress import progress_for
from harness.cli.nested import kept_run
from harness.host.stacks import stack
from harness.nested import access
from harness.nested.cache import Cache
from harness.run.prepare import prepared_lab

_HINT = (
    "In dom0: 'xl list' shows the guests, 'xl console maskall-a' is the first one's console (leave it with Ctrl-]).\n"
    "Its agent takes lines 'TOKEN COMMAND', for example: x cat /proc/interrupts"
)


def open_shell(run: str | None, stack_name: str, device: str) -> int:
    """A shell in the host left running as `run`, or in a fresh one that is gone afterwards."""
    find("ssh")
    if run is not None:
        argv = _command(kept_run(run, Cache().root / "runs"))
        typer.echo(_HINT, err=True)
        os.execv(argv[0], argv)  # noqa: S606 - list argv of our own making
    stack(stack_name)
    with contextlib.ExitStack() as host:
        with progress_for(Console(stderr=True)) as progress:
            lab = prepared_lab(stack_name, [device], progress)
            made = host.enter_context(lab.host([device], progress))
        made.transport.close()
        argv = _command(lab.running()[0])
        typer.echo(_HINT, err=True)
        # Interactive, so not through harness.base.process: ssh has this terminal, and Ctrl-C is the remote shell's.
        return subprocess.call(argv)  # noqa: S603 - list argv of our own making


def _command(path: Path) -> list[str]:
    argv = access.command(path)
    if argv is None:
        raise LabError(f"{path.name} has not come up yet", hint="see maskall nested status")
    return [find("ssh"), *argv[1:]]
