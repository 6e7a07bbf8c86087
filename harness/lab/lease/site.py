"""One lab host of an inventory file, found by name: everything that is said about it in one hand."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.base.deadline import Deadline
from harness.base.errors import HostUnreachable, Unreachable, UsageError
from harness.base.yamlfile import nearest
from harness.lab.inventory.models import DeviceEntry, LabEntry, load_inventory
from harness.scenario.choose import Candidate

if TYPE_CHECKING:
    from harness.lab.power.base import Power
    from harness.transport.ssh import SshTransport

CONNECT_SECONDS = 30.0
"""After this a person wants to know that somebody is waited for."""


@dataclass(frozen=True)
class Site:
    """`inventory` is the file the entry stands in; paths in the entry are relative to it. `also`: other names in it of
    what has the same host key, so is the same machine by another address."""

    name: str
    entry: LabEntry
    inventory: Path
    also: tuple[str, ...] = ()

    @classmethod
    def find(cls, inventory: Path, name: str | None) -> Site:
        """UsageError (InventoryError) when the file is wrong, there is no such host, or it is a nested one."""
        hosts = load_inventory(inventory)
        picked = hosts.pick(name)
        entry = hosts.hosts[picked]
        if not isinstance(entry, LabEntry):
            labs = [other for other, one in hosts.hosts.items() if isinstance(one, LabEntry)]
            raise UsageError(
                f"{picked} is no machine of a lab: it is made and thrown away by the harness",
                hint=f"hosts of kind lab in {inventory}: {', '.join(labs) or 'none'}",
            )
        also = [
            name
            for name, one in hosts.hosts.items()
            if name != picked and isinstance(one, LabEntry) and one.host_key.split()[:2] == entry.host_key.split()[:2]
        ]
        return cls(picked, entry, inventory, tuple(also))

    def transport(self) -> SshTransport:
        """The ssh transport to it, not connected. UsageError for a bad key."""
        from harness.transport.ssh import SshTransport

        entry = self.entry
        return SshTransport(
            self.name,
            entry.address,
            port=entry.port,
            user=entry.user,
            sudo=entry.sudo,
            host_key=entry.host_key,
            key_file=entry.private_key(self.inventory.absolute().parent),
        )

    @property
    def patience(self) -> float:
        """The seconds that a silent host gets, which may be booting by itself."""
        return self.entry.boot_seconds

    def reach(self, link: SshTransport, notice: Callable[[str], None]) -> None:
        """Connect. Where nobody answers, or refuses because sshd has not begun yet, a boot's time is waited, and told.

        HostUnreachable says of the whole boot's time why there is no connection; and HostKeyMismatch.
        """
        try:
            link.connect(Deadline.after(CONNECT_SECONDS))
        except HostUnreachable as error:
            if error.why not in (Unreachable.SILENT, Unreachable.SPEAKS):
                raise
            notice(f"{error.message}; it may be booting: it gets {self.entry.boot_seconds} s")
            link.connect(Deadline.after(self.patience))

    @property
    def host_key_fingerprint(self) -> str:
        """Of the pinned host key, as ssh-keygen prints it."""
        blob = base64.b64decode(self.entry.host_key.split()[1])
        return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")

    def power(self) -> Power | None:
        """Its power control, nothing contacted yet; None when the inventory names none. UsageError for a bad secret."""
        base = self.inventory.absolute().parent
        return self.entry.power.control(self.name, base) if self.entry.power is not None else None

    def devices(self, wanted: Iterable[str] = ()) -> dict[str, DeviceEntry]:
        """The devices of these names, all without names. UsageError for an unknown name, or when there is none."""
        names = list(dict.fromkeys(wanted)) or list(self.entry.devices)
        for name in names:
            if name not in self.entry.devices:
                hint = nearest(name, self.entry.devices)
                raise UsageError(f"{self.inventory}: {self.name} has no device {name!r}", hint=hint)
        if not names:
            raise UsageError(
                f"{self.inventory}: {self.name} lends no device", hint="name one under `devices`: none is ever guessed"
            )
        return {name: self.entry.devices[name] for name in names}

    def candidates(self, wanted: Iterable[str]) -> list[Candidate]:
        """The devices as scenarios are chosen for them."""
        found = self.devices(wanted)
        return [
            Candidate(name, device.driver, frozenset(device.endings), device.reset_effective)
            for name, device in found.items()
        ]
