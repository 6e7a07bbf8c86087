"""What the harness does to a host, one word per kind. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol


class ChangeKind(enum.StrEnum):
    """Every kind of change there is; undoing goes by kind and subject, see undo.py."""

    DRIVER = "driver"  # subject: BDF. Bind to or unbind from a driver, pciback among them
    CONFIG = "config"  # subject: BDF. A write to its config space
    RESET = "reset"  # subject: BDF. A reset of the function or its bus
    DOMAIN = "domain"  # subject: name. Create, destroy or harm a domain of ours
    MODULE = "module"  # subject: name. Load a kernel module
    LIVEPATCH = "livepatch"  # subject: its name. Patch the running hypervisor; a reboot forgets it
    FILE = "file"  # subject: path below /run/maskall. Write a file
    REBOOT = "reboot"  # subject: boot_id it ends, or the host's name. Reboot or power cycle
    PERSISTENT = "persistent"  # subject: path or package. Outlives a reboot


@dataclass(frozen=True)
class Change:
    """One change about to be made: `text` says it to a person, `undo` how it is taken back."""

    kind: ChangeKind
    subject: str
    text: str
    undo: str


@dataclass(frozen=True)
class Deed:
    """A change as the noun that makes it declares it, once for the journal and for what a plan tells beforehand.

    `text` and `undo` may name {device} (a BDF), {driver} (whose it was), {guest} (a domain's name) and {host}.
    """

    kind: ChangeKind
    text: str
    undo: str

    def to(self, *, device: object = "", driver: str | None = None, guest: str = "", host: str = "") -> Change:
        """The change that this deed is when it is done to these."""
        names = {"device": str(device), "driver": driver or "no driver", "guest": guest, "host": host}
        subjects = {ChangeKind.DOMAIN: guest, ChangeKind.REBOOT: host}
        return Change(
            self.kind, subjects.get(self.kind, str(device)), self.text.format(**names), self.undo.format(**names)
        )


class Ledger(Protocol):
    """Told of every change before it is made."""

    def about_to(self, change: Change) -> None:
        """Returns once the change is on record everywhere it must be. LabError: do not make it."""
        ...


class NoLedger:
    """For a host that is thrown away afterwards: nothing will ever have to be undone."""

    def about_to(self, change: Change) -> None:
        del change
