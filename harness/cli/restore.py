"""`maskall restore`: a lab host brought back to what was recorded before a run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from harness.base.errors import ExitStatus, LabError, MaskallError, RestoreFailed
from harness.cli.options import HOST, takes
from harness.run.options import RunOptions

if TYPE_CHECKING:
    from harness.lab.lease.site import Site
    from harness.lab.power.base import Power

app = typer.Typer()


@app.command(
    epilog="""Examples:

\b
  maskall restore xenbox1                       after a run that was killed, from this or another controller
  maskall restore xenbox1 --take-over 'ada is on holiday, run of Friday hangs'
  maskall restore xenbox1 --journal host        the journal on this controller is damaged, or of another machine"""
)
@takes("restore", host=HOST)
def restore(
    options: RunOptions,
    journal: Annotated[
        Literal["host", "controller"] | None,
        typer.Option(help="Go by this copy alone; the other is kept as evidence and put aside."),
    ] = None,
) -> int:
    """Bring a lab host back to the state recorded before the run, or say exactly why not.

    Goes by the journal on the host and on this controller; ends a quarantine when the host is verified to be as before.
    """
    from rich.console import Console

    from harness.base.progress import progress_for
    from harness.base.text import inert
    from harness.lab.lease.state import HostState
    from harness.lab.recorder import record
    from harness.lab.rescue import Rescue, arrive

    site = options.site
    state = HostState.of(site.name)
    with progress_for(Console()) as progress, contextlib.ExitStack() as stack:
        console = None
        try:  # one that cannot be recorded, for want of disk or of a password, is no reason to leave the host as it is
            console = record(state, site.entry, progress.note)
        except MaskallError as error:
            progress.note(f"its console is not recorded: {error}")
        if console is not None:
            stack.callback(console.stop)
        with progress.phase(f"claim {site.name}"):
            wishes = replace(options.wishes("maskall restore"), journal=journal or "")
            visit = arrive(site, wishes, progress.note)
        stack.callback(visit.end)
        if not visit.left_behind:
            state.cure()
            progress.note(f"{site.name}: no run has left anything; nothing to do")
            return ExitStatus.OK
        for entry in visit.journal.entries:
            if "text" in entry.payload:
                progress.note(inert(f"on record: {entry.at} {entry.payload['text']}"))
        with progress.phase("put everything back"):
            try:
                visit.put_back(whole=True)
            except LabError as error:
                progress.note(f"not at once: {error}")
                climbed = Rescue(visit, _power(site, progress.note), console).climb()
                if not climbed.restored:
                    raise RestoreFailed(f"{site.name} is still not as it was: {climbed.told}") from error
                visit.put_back(whole=True)
            visit.close_journal()
    typer.echo(f"{site.name} is as it was before, read back and compared")
    return ExitStatus.OK


def _power(site: Site, notice: Callable[[str], None]) -> Power | None:
    """Its power control. Without the password of somebody else's shell there is none, and the other rungs are there."""
    try:
        return site.power()
    except MaskallError as error:
        notice(f"it cannot be switched off and on: {error}")
        return None
