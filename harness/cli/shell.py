"""`maskall shell`: dom0 of a nested host, over the ssh that everybody knows."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

import typer

from harness.base.errors import LabError
from harness.base.process import find
from harness.cli.words import Device, Kept, Stack

app = typer.Typer()

_HINT = (
    "In dom0: 'xl list' shows the guests, 'xl console maskall-a' is the first one's console (leave it with Ctrl-]).\n"
    "Its agent takes lines 'TOKEN COMMAND', for example: x cat /proc/interrupts"
)


@app.command(
    epilog="""Examples:

\b
  maskall shell                       a fresh host, gone when you leave it
  maskall shell --device e1000e       the same with another device
  maskall shell run-k3jd82hs          a host that 'maskall run --keep' or 'maskall nested up' left running"""
)
def shell(run: Kept = None, stack: Stack = None, device: Device = "nvme") -> int:
    """Open a shell in dom0 of a nested host.

    Over ssh with its host key pinned; prints how to get to a guest from there.
    """
    from rich.console import Console

    from harness.base.progress import progress_for
    from harness.cli.nested import kept_run
    from harness.host.stacks import stack as known_stack
    from harness.nested.cache import Cache
    from harness.run.prepare import prepared_lab

    find("ssh")
    if run is not None:
        argv = _command(kept_run(run, Cache().root / "runs"))
        typer.echo(_HINT, err=True)
        os.execv(argv[0], argv)  # noqa: S606 - list argv of our own making
    chosen = known_stack(stack)
    with contextlib.ExitStack() as host:
        with progress_for(Console(stderr=True)) as progress:
            lab = prepared_lab(chosen, [device], progress)
            made = host.enter_context(lab.host([device], progress))
        made.transport.close()
        argv = _command(lab.running()[0])
        typer.echo(_HINT, err=True)
        # Interactive, so not through harness.base.process: ssh has this terminal, and Ctrl-C is the remote shell's.
        return subprocess.call(argv)  # noqa: S603 - list argv of our own making


def _command(path: Path) -> list[str]:
    from harness.nested import access

    argv = access.command(path)
    if argv is None:
        raise LabError(f"{path.name} has not come up yet", hint="see maskall nested status")
    return [find("ssh"), *argv[1:]]
