"""Verbs for the machines of a lab, and their help. Registered with the others in app.py."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.words import Accept, Devices, HostName, InventoryFile, TakeOver, Wait

hosts = typer.Typer()


@hosts.command(
    epilog="""Examples:

\b
  maskall doctor xenbox1 --inventory inventory/lab.yaml
  maskall doctor xenbox1 --raw facts.txt     also keep what the host answered

Exit status: 0 ready; 1 not usable as it is; 2 wrong options or files; 3 the host does not answer."""
)
def doctor(
    host: HostName,
    inventory: InventoryFile = None,
    accept: Accept = None,
    raw: Annotated[Path | None, typer.Option(help="Keep the host's raw answer here.", metavar="FILE")] = None,
) -> int:
    """Say whether a lab host can be used, is safe to use, what is missing and how to mend it.

    Reads only; nothing on the host is changed.
    """
    from harness.cli.lab import doctor as examine

    return examine(host, inventory, tuple(accept or ()), raw)


@hosts.command(epilog="Example: maskall plan xenbox1 --inventory inventory/lab.yaml --device nic0")
def plan(host: HostName, inventory: InventoryFile = None, device: Devices = None, accept: Accept = None) -> int:
    """Show every change a run would make to a lab host, each with its undo.

    Reads only. What provisioning would change is shown too, where the host is no Xen host yet.
    """
    from harness.cli.lab import plan as show

    return show(host, inventory, tuple(device or ()), tuple(accept or ()))


@hosts.command(
    epilog="""Examples:

\b
  maskall provision xenbox1          Debian or Ubuntu without Xen becomes a Xen dom0, after a reboot
  maskall unprovision xenbox1        and back: files byte for byte, packages purged"""
)
def provision(host: HostName, inventory: InventoryFile = None, wait: Wait = 0, take_over: TakeOver = None) -> int:
    """Make a Xen dom0 of a plain Debian or Ubuntu: packages, boot entry, Xen options, IOMMU.

    Needs `allow_persistent: true` and `allow_reboot: true` in the inventory. Does nothing where nothing is missing.
    """
    from harness.cli.provision import provision as make

    return make(host, inventory, wait, take_over)


@hosts.command(epilog="Example: maskall unprovision xenbox1")
def unprovision(host: HostName, inventory: InventoryFile = None, wait: Wait = 0, take_over: TakeOver = None) -> int:
    """Take back what 'maskall provision' did, and verify it."""
    from harness.cli.provision import unprovision as unmake

    return unmake(host, inventory, wait, take_over)


@hosts.command(
    epilog="""Examples:

\b
  maskall restore xenbox1                       after a run that was killed, from this or another controller
  maskall restore xenbox1 --take-over 'ada is on holiday, run of Friday hangs'"""
)
def restore(host: HostName, inventory: InventoryFile = None, wait: Wait = 0, take_over: TakeOver = None) -> int:
    """Bring a lab host back to the state recorded before the run, or say exactly why not.

    Goes by the journal on this controller or on the host; ends a quarantine when the host is verified to be as before.
    """
    from harness.cli.lab import restore as bring_back

    return bring_back(host, inventory, wait, take_over)
