"""`maskall provision` and `maskall unprovision`: a plain Debian or Ubuntu made a Xen dom0, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from harness.base.errors import ExitStatus
from harness.cli.options import HOST, takes
from harness.run.options import RunOptions

if TYPE_CHECKING:
    from harness.base.progress import Progress
    from harness.lab.lease.lease import Lease

app = typer.Typer()


@app.command(
    epilog="""Examples:

\b
  maskall provision xenbox1          Debian or Ubuntu without Xen becomes a Xen dom0, after a reboot
  maskall unprovision xenbox1        and back: files byte for byte, packages purged"""
)
@takes("provision", host=HOST)
def provision(options: RunOptions) -> int:
    """Make a Xen dom0 of a plain Debian or Ubuntu: packages, boot entry, Xen options, IOMMU.

    Needs `allow_persistent: true` and `allow_reboot: true` in the inventory. Does nothing where nothing is missing.
    """
    from harness.lab.provision.apply import provision as make
    from harness.lab.provision.plan import describe

    with _visiting(options, "provision") as (visit, progress):
        steps = make(visit, visit.site.power(), progress)
    if not steps:
        typer.echo(f"{options.host} is a Xen dom0 already; nothing was done")
        return ExitStatus.OK
    typer.echo("\n".join(["done:", *describe(steps)]))
    typer.echo(f"{options.host} is a Xen dom0 now; take it back with: maskall unprovision {options.host}")
    return ExitStatus.OK


@app.command(epilog="Example: maskall unprovision xenbox1")
@takes("unprovision", host=HOST)
def unprovision(options: RunOptions) -> int:
    """Take back what 'maskall provision' did, and verify it."""
    from harness.lab.provision.takeback import unprovision as unmake

    with _visiting(options, "unprovision") as (visit, progress):
        done = unmake(visit, visit.site.power(), progress)
    typer.echo(
        f"{options.host} is as it was before it was provisioned"
        if done
        else f"{options.host} was not provisioned by maskall"
    )
    return ExitStatus.OK


@contextmanager
def _visiting(options: RunOptions, reason: str) -> Iterator[tuple[Lease, Progress]]:
    """A stay that is allowed to do it. What an earlier run left behind is put back first."""
    from rich.console import Console

    from harness.base.progress import progress_for
    from harness.lab.lease.lease import Lease
    from harness.lab.provision import survey

    site = options.site
    survey.refuse_forbidden(site.name, site.entry)  # before the host hears of us
    with progress_for(Console()) as progress:
        notice: Callable[[str], None] = progress.note
        visit = Lease.begin(site, options.wishes(reason), notice)
        try:
            visit.state.refuse_quarantined()
            if visit.left_behind:
                visit.put_back(whole=True)
                visit.close_journal()
            yield visit, progress
        finally:
            visit.end()
