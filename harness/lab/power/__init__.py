"""Switching a host on, off and over."""

from __future__ import annotations

from pathlib import Path

from harness.lab.inventory.control import CommandPower, IpmiPower, LibvirtPower, PowerEntry, QmpPower
from harness.lab.inventory.secret import resolve
from harness.lab.power.base import Power

__all__ = ["make"]


def make(name: str, entry: PowerEntry, base: Path = Path()) -> Power:
    """The power control of host `name`; nothing is contacted yet. `base` is the folder of the inventory file.

    Libraries are loaded for the kind that is asked for. UsageError for a secret that is not there, LabError for a
    library that is not.
    """
    if isinstance(entry, IpmiPower):
        from harness.lab.power.ipmi import Ipmi

        return Ipmi(name, entry, resolve(entry.password))
    if isinstance(entry, CommandPower):
        from harness.lab.power.command import Command

        return Command(name, entry)
    if isinstance(entry, LibvirtPower):
        from harness.lab.power.libvirt import Libvirt

        return Libvirt(name, entry)
    if isinstance(entry, QmpPower):
        from harness.lab.power.qmp import Qmp

        return Qmp(name, entry, base)
    from harness.lab.power.redfish import Redfish

    return Redfish(name, entry, resolve(entry.password) if entry.password else None, base)
