"""Verbs for the hosts that run inside QEMU, and their help. Registered with the others in app.py."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli.words import Device, Kept, Mirror, Stack, Yes
from harness.run.options import DEFAULT_STACK

practice = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="A Xen host in QEMU that is reached like a machine on a bench: ssh, and a management controller.",
)
nested = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The Xen host that runs inside QEMU.")


@nested.command(epilog="Example: maskall nested build --stack bookworm")
def build(
    stack: Stack = DEFAULT_STACK,
    mirror: Mirror = None,
    yes: Yes = False,
) -> None:
    """Build the host where that is not done already.

    Installs what is missing, makes the image, boots it once and freezes it.
    """
    from harness.cli.nested import build_host

    build_host(stack, mirror, sudo=yes)


@nested.command(epilog="Example: maskall nested up --device e1000e")
def up(stack: Stack = DEFAULT_STACK, device: Device = "nvme") -> None:
    """Start a host and leave it running."""
    from harness.cli.nested import start_host

    start_host(stack, device)


@nested.command(epilog="Examples: maskall nested down; maskall nested down run-k3jd82hs")
def down(run: Kept = None) -> None:
    """End hosts that were left running."""
    from harness.cli.nested import end_hosts

    end_hosts(run)


@nested.command(epilog="Example: maskall nested status")
def status() -> None:
    """Show what is built and what runs."""
    from harness.cli.nested import status_lines

    for line in status_lines():
        typer.echo(line)


@nested.command(epilog="Example: maskall nested clean")
def clean() -> None:
    """Remove all images and snapshots.

    Refused while a host runs on them.
    """
    from harness.cli.nested import clean_cache

    clean_cache()


Machine = Annotated[str, typer.Argument(help="Name of the practice machine.", metavar="[NAME]")]


@practice.command(
    "up",
    epilog="""Examples:

\b
  maskall practice up
  maskall doctor practice --inventory $(maskall practice inventory)
  maskall run --host practice --inventory $(maskall practice inventory) --device nvme""",
)
def practice_up(
    name: Machine = "practice",
    stack: Stack = DEFAULT_STACK,
    console: Annotated[str, typer.Option(help="How its console is read: log, sol or tcp.", metavar="WAY")] = "log",
    off: Annotated[bool, typer.Option("--off", help="Leave it switched off.")] = False,
    mirror: Mirror = None,
    yes: Yes = False,
) -> None:
    """Make a machine with a management controller, and switch it on.

    It stays until 'practice down': its disk outlives power cycles.
    """
    from harness.cli.practice import bring_up

    bring_up(name, stack, console, mirror, power_on=not off, sudo=yes)


@practice.command("down", epilog="Example: maskall practice down")
def practice_down(
    name: Annotated[str | None, typer.Argument(help="Which one (default: all).", metavar="[NAME]")] = None,
) -> None:
    """End machines and remove all of them."""
    from harness.cli.practice import bring_down

    bring_down(name)


@practice.command("status", epilog="Example: maskall practice status")
def practice_status() -> None:
    """Show which there are and whether they are on."""
    from harness.cli.practice import status_lines

    for line in status_lines():
        typer.echo(line)


@practice.command("inventory", epilog="Example: maskall doctor practice --inventory $(maskall practice inventory)")
def practice_inventory(name: Machine = "practice") -> None:
    """Print the path of the file that describes it, for --inventory."""
    from harness.cli.practice import inventory_path

    typer.echo(inventory_path(name))
