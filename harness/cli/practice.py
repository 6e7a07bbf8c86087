"""`maskall practice`: a machine to practise on, as strange as one on a bench."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import typer
from rich.console import Console

from harness.base.errors import UsageError
from harness.base.progress import progress_for
from harness.base.yamlfile import nearest
from harness.cli.run import use_mirror
from harness.host.stacks import stack
from harness.nested import practice
from harness.nested.cache import Cache
from harness.nested.workbench import ConsoleWay


def bring_up(name: str, stack_name: str, console: str, mirror: str | None, *, power_on: bool, sudo: bool) -> None:
    """`maskall practice up`."""
    wanted = stack(stack_name)
    way = _console(console)
    use_mirror(mirror)
    with progress_for(Console()) as progress:
        machine = practice.up(name, wanted, progress, power_on=power_on, console=way, sudo=sudo)
    typer.echo(f"{name} is there and {'boots, which takes about a minute' if power_on else 'switched off'}")
    typer.echo(f"  inventory:  {machine.inventory}")
    typer.echo(f"  console:    {machine.console_log}")
    typer.echo(f"  log in:     {shlex.join(machine.ssh_command)}")
    typer.echo(f"  end it:     maskall practice down {name}")


def bring_down(name: str | None) -> None:
    """`maskall practice down`: one, or without a name all."""
    cache = Cache()
    names = [machine.name for machine in practice.machines(cache)] if name is None else [name]
    for one in names:
        practice.down(one, cache)
        typer.echo(f"{one} is gone")
    if not names:
        typer.echo("there is no practice machine")


def status_lines() -> Iterator[str]:
    """`maskall practice status`: a line for each machine; changes nothing."""
    found = practice.machines(Cache())
    for machine in found:
        advice = f"; maskall practice down {machine.name}" if machine.state is practice.State.DEAD else ""
        yield f"{machine.name}  {machine.state}{advice}  {machine.path}"
    if not found:
        yield "there is no practice machine; maskall practice up"


def inventory_path(name: str) -> str:
    """`maskall practice inventory`: the file for --inventory."""
    return str(practice.pick(name, Cache()).inventory)


def _console(word: str) -> ConsoleWay:
    try:
        return ConsoleWay(word)
    except ValueError:
        hint = nearest(word, [way.value for way in ConsoleWay])
        raise UsageError(f"there is no console of kind {word!r}", hint=hint) from None
