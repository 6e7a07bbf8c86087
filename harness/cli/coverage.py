"""`maskall coverage`: what is played of the whole matrix, and why the rest is not."""

from __future__ import annotations

from pathlib import Path

import typer

from harness.base.deadline import Deadline
from harness.base.errors import UsageError
from harness.base.process import run
from harness.host.stacks import stack
from harness.nested import devices
from harness.nested.machine import QEMU
from harness.play.catalogue import catalogue
from harness.report.coverage import as_json, table
from harness.report.heatmap import page
from harness.run.options import DEFAULT_STACK
from harness.run.store import write_atomically
from harness.scenario.coverage import coverage
from harness.xen.toolstack.choice import ToolstackName


def show(stack_name: str | None, toolstack: str, *, json: bool, html: Path | None) -> None:
    """Print the map; with `html` also write it as one page."""
    chosen = stack(stack_name or DEFAULT_STACK)
    through = ToolstackName.of(toolstack)
    models = devices.catalogue()
    lacking = _lacking()
    there = {name: model for name, model in models.items() if name not in lacking}
    known = catalogue()
    found = coverage(known, devices.candidates(there), lacking, through)
    context = {"stack": chosen.name, "toolstack": through.value}
    if html is not None:
        write_atomically(html, page(found, known.titles, context).encode())
    if json:
        typer.echo(as_json(found, context), nl=False)
        return
    for line in table(found, context=", ".join(context.values())):
        typer.echo(line)
    if html is not None:
        typer.echo(f"\nwritten: {html}")


def _lacking() -> dict[str, str]:
    """Devices of ours that the installed QEMU does not offer; none when there is no QEMU to ask."""
    try:
        offer = devices.offered(run([QEMU, "-device", "help"], deadline=Deadline.after(20)).stdout)
    except UsageError:
        return {}
    return {
        name: f"the installed QEMU has no {model.model}"
        for name, model in devices.catalogue().items()
        if model.model not in offer
    }
