"""`maskall provision` and `maskall unprovision`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.console import Console

from harness.base.errors import ExitStatus
from harness.base.progress import Progress, progress_for
from harness.lab.lease.site import Site
from harness.lab.lease.visit import Visit
from harness.lab.lease.wishes import Wishes
from harness.lab.provision import survey
from harness.lab.provision.apply import provision as make
from harness.lab.provision.plan import describe
from harness.lab.provision.takeback import unprovision as unmake
from harness.run.options import OUR_INVENTORY


def provision(host: str, inventory: Path | None, wait: int, take_over: str | None) -> int:
    """Exit status 0 when the host is a Xen dom0 afterwards, whether or not it was before."""
    with _visiting(host, inventory, wait, take_over, "provision") as (visit, progress):
        steps = make(visit, visit.site.power(), progress)
    if not steps:
        typer.echo(f"{host} is a Xen dom0 already; nothing was done")
        return ExitStatus.OK
    typer.echo("\n".join(["done:", *describe(steps)]))
    typer.echo(f"{host} is a Xen dom0 now; take it back with: maskall unprovision {host}")
    return ExitStatus.OK


def unprovision(host: str, inventory: Path | None, wait: int, take_over: str | None) -> int:
    """Exit status 0 when nothing of ours is on the host afterwards."""
    with _visiting(host, inventory, wait, take_over, "unprovision") as (visit, progress):
        done = unmake(visit, visit.site.power(), progress)
    typer.echo(f"{host} is as it was before it was provisioned" if done else f"{host} was not provisioned by maskall")
    return ExitStatus.OK


@contextmanager
def _visiting(
    host: str, inventory: Path | None, wait: int, take_over: str | None, reason: str
) -> Iterator[tuple[Visit, Progress]]:
    """A stay that is allowed to do it. What an earlier run left behind is put back first."""
    site = Site.find(inventory or OUR_INVENTORY, host)
    survey.refuse_forbidden(site.name, site.entry)  # before the host hears of us
    with progress_for(Console()) as progress:
        notice: Callable[[str], None] = progress.note
        visit = Visit.begin(site, Wishes(wait=wait, take_over=take_over, reason=reason), notice)
        try:
            visit.state.refuse_quarantined()
            if visit.left_behind:
                visit.put_back(whole=True)
                visit.close_journal()
            yield visit, progress
        finally:
            visit.end()
