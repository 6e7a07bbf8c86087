"""`maskall practice`: a machine to practise on, as strange as one on a bench."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from harness.base.errors import UsageError
from harness.cli.options import takes
from harness.cli.words import Stack
from harness.run.options import RunOptions

if TYPE_CHECKING:
    from harness.nested.workbench import ConsoleWay

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="A Xen host in QEMU that is reached like a machine on a bench: ssh, and a management controller.",
)
_BOOTS = 60.0  # seconds of an emulated one
Machine = Annotated[str, typer.Argument(help="Name of the practice machine.", metavar="[NAME]")]


@app.command(
    "up",
    epilog="""Examples:

\b
  maskall practice up
  maskall doctor practice --inventory $(maskall practice inventory)
  maskall run --host practice --inventory $(maskall practice inventory) --device nvme""",
)
@takes("practice")
def up(
    options: RunOptions,
    name: Machine = "practice",
    stack: Stack = None,
    console: Annotated[str, typer.Option(help="How its console is read: log, sol or tcp.", metavar="WAY")] = "log",
    off: Annotated[bool, typer.Option("--off", help="Leave it switched off.")] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not wait until it has booted.")] = False,
) -> None:
    """Make a machine with a management controller, switch it on, and wait until it answers on ssh and runs Xen.

    It stays until 'practice down': its disk outlives power cycles.
    """
    from rich.console import Console

    from harness.base.progress import progress_for
    from harness.host.stacks import stack as known_stack
    from harness.nested import practice
    from harness.nested.apt_sources import use_mirror

    wanted = known_stack(stack)
    way = _console(console)
    use_mirror(options.mirror)
    with progress_for(Console()) as progress:
        machine = practice.up(name, wanted, progress, power_on=not off, console=way, sudo=options.yes)
        if not off and not no_wait:
            with progress.phase(f"{name} boots", _BOOTS):
                practice.await_answer(machine)
    state = "switched off" if off else f"boots, which takes about {_BOOTS:.0f} s" if no_wait else "has booted"
    typer.echo(f"{name} is there and {state}")
    typer.echo(f"  inventory:  {machine.inventory}")
    typer.echo(f"  console:    {machine.console_log}")
    typer.echo(f"  log in:     {shlex.join(machine.ssh_command)}")
    typer.echo(f"  end it:     maskall practice down {name}")


@app.command("down", epilog="Example: maskall practice down")
def down(
    name: Annotated[str | None, typer.Argument(help="Which one (default: all).", metavar="[NAME]")] = None,
) -> None:
    """End machines and remove all of them."""
    from harness.nested import practice
    from harness.nested.cache import Cache

    cache = Cache()
    names = [machine.name for machine in practice.machines(cache)] if name is None else [name]
    for one in names:
        practice.down(one, cache)
        typer.echo(f"{one} is gone")
    if not names:
        typer.echo("there is no practice machine")


@app.command("status", epilog="Example: maskall practice status")
def status() -> None:
    """Show which there are and whether they are on; change nothing."""
    from harness.nested import practice
    from harness.nested.cache import Cache

    found = practice.machines(Cache())
    for machine in found:
        advice = f"; maskall practice down {machine.name}" if machine.state is practice.State.DEAD else ""
        typer.echo(f"{machine.name}  {machine.state}{advice}  {machine.path}")
    if not found:
        typer.echo("there is no practice machine; maskall practice up")


@app.command("inventory", epilog="Example: maskall doctor practice --inventory $(maskall practice inventory)")
def inventory(name: Machine = "practice") -> None:
    """Print the path of the file that describes it, for --inventory."""
    from harness.nested import practice
    from harness.nested.cache import Cache

    typer.echo(str(practice.pick(name, Cache()).inventory))


def _console(word: str) -> ConsoleWay:
    from harness.base.yamlfile import nearest
    from harness.nested.workbench import ConsoleWay

    try:
        return ConsoleWay(word)
    except ValueError:
        hint = nearest(word, [way.value for way in ConsoleWay])
        raise UsageError(f"there is no console of kind {word!r}", hint=hint) from None
