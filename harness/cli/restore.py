"""`maskall restore`: a lab host brought back to what was recorded before a run."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import typer

from harness.base.errors import ExitStatus, LabError, RestoreFailed
from harness.cli.options import HOST, takes
from harness.run.options import RunOptions

if TYPE_CHECKING:
    from harness.base.progress import Progress
    from harness.lab.lease.site import Site
    from harness.lab.lease.visit import Visit
    from harness.lab.lease.wishes import Wishes

app = typer.Typer()


@app.command(
    epilog="""Examples:

\b
  maskall restore xenbox1                       after a run that was killed, from this or another controller
  maskall restore xenbox1 --take-over 'ada is on holiday, run of Friday hangs'"""
)
@takes("restore", host=HOST)
def restore(options: RunOptions) -> int:
    """Bring a lab host back to the state recorded before the run, or say exactly why not.

    Goes by the journal on this controller or on the host; ends a quarantine when the host is verified to be as before.
    """
    from rich.console import Console

    from harness.base.progress import progress_for
    from harness.base.text import inert
    from harness.lab.lease.state import HostState
    from harness.lab.recorder import record
    from harness.lab.rescue import Rescue

    site = options.site
    state = HostState.of(site.name)
    with progress_for(Console()) as progress, contextlib.ExitStack() as stack:
        console = record(state, site.entry, progress.note)
        if console is not None:
            stack.callback(console.stop)
        with progress.phase(f"claim {site.name}"):
            visit = _arrived(site, options.wishes("maskall restore"), progress)
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
                climbed = Rescue(visit, site.power(), console).climb()
                if not climbed.restored:
                    raise RestoreFailed(f"{site.name} is still not as it was: {climbed.told}") from error
                visit.put_back(whole=True)
            visit.close_journal()
    typer.echo(f"{site.name} is as it was before, read back and compared")
    return ExitStatus.OK


def _arrived(site: Site, wishes: Wishes, progress: Progress) -> Visit:
    """A host that does not answer is switched off and on, if that is allowed: nothing else can bring it back."""
    from harness.base.deadline import Deadline
    from harness.lab.lease.state import HostState
    from harness.lab.lease.visit import Visit

    try:
        return Visit.begin(site, wishes, progress.note)
    except LabError as error:
        power = site.power() if site.entry.allow_reboot else None
        if power is None or not HostState.of(site.name).journal.exists():
            raise
        progress.note(f"{error.message}; a run of ours is not undone there, so it is power cycled")
        power.cycle(Deadline.after(site.entry.boot_seconds))
        link = site.transport()
        link.connect(Deadline.after(site.entry.boot_seconds))
        link.close()
        return Visit.begin(site, wishes, progress.note)
