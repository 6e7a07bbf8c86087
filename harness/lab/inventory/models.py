"""The inventory: which hosts there are, and which of their devices may be borrowed (inventory/*.yaml)."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from harness.base import ways
from harness.base.errors import UsageError
from harness.base.modelpath import Loc, misplaced
from harness.base.secret import check_private
from harness.base.strict import StrictModel
from harness.base.words import (
    Address,
    HostKey,
    LocalPath,
    Name,
    Port,
    Switch,
    Word,
    beside,
    bounded,
)
from harness.base.yamlfile import YamlDocument, load_yaml, nearest, validate
from harness.guest.drivers import drivers
from harness.host.stacks import stack, stacks
from harness.lab import console, power
from harness.lab.console.base import ConsoleEntry
from harness.lab.power.base import PowerEntry
from harness.model.identity import Identity

if TYPE_CHECKING:
    AnyPower = PowerEntry
    AnyConsole = ConsoleEntry
    StackName = str
else:
    AnyPower = ways.entries(power, PowerEntry)
    AnyConsole = ways.entries(console, ConsoleEntry)
    StackName = Literal[tuple(stacks())]


class DeviceEntry(StrictModel):
    """A device that may be borrowed: who it is, what it plays, what it may suffer, how it recovers."""

    identity: Identity = Field(
        description="Which device: `id`, perhaps `subsystem`, and exactly one of `serial`, `mac`, `slot`, `path`."
    )
    driver: Word = Field(
        description="What the guest loads and how traffic is made: a key of `harness/guest/drivers.yaml`."
    )
    endings: tuple[Word, ...] = Field(
        description="What it may suffer, ids of `maskall list`; an empty list means nothing."
    )
    recover: tuple[Literal["flr", "bus", "reboot"], ...] = Field(
        (),
        description="`flr`, `bus`, `reboot`: tried in this order if it does not come back; nothing else is.",
    )
    reset_effective: Switch = Field(
        True, description="Whether the reset that Linux uses for it clears the MSI-X mask (MASKALL)."
    )


class NestedEntry(StrictModel):
    """A Xen host in QEMU on this machine. Devices are named; an empty list means no device, never all."""

    kind: Literal["nested"]
    stack: StackName = Field(default=stack().name, description="Debian release of dom0 and Xen, see `maskall list`.")
    devices: tuple[Word, ...] = Field(description="Emulated devices to borrow; an empty list means none, never all.")


class LabEntry(StrictModel):
    """A machine on a bench, reached over ssh. Whatever is not granted here is not done."""

    kind: Literal["lab"]
    address: Address = Field(description="Host name or IP address of dom0; no two hosts share address and port.")
    port: Port = Field(22, description="TCP port of sshd.")
    user: Word = Field("root", description="Who logs in.")
    sudo: Switch = Field(False, description="`sudo -n` before every command; a user who is not root needs it.")
    key: LocalPath = Field(
        description="Private key to log in with: absolute, below `~`, or beside this file; mode 0600. "
        "Looked at when it is used."
    )
    host_key: HostKey = Field(
        description="The only host key accepted: `cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub`, "
        "read at the machine itself."
    )
    boot_seconds: int = bounded(300, 10, 7200, "From reset to an ssh answer at worst, 10 to 7200 seconds.")
    allow_reboot: Switch = Field(False, description="The harness may reboot and power cycle the machine.")
    allow_persistent: Switch = Field(
        False, description="The harness may install packages and change the boot entry; both can be undone."
    )
    allow_livepatch: Switch = Field(
        False, description="Its hypervisor may be livepatched for a known-bad control, and is put back after each."
    )
    power: AnyPower | None = Field(
        None, description="How it is switched; no two hosts share a switch. Without it only by itself, over ssh."
    )
    console: AnyConsole | None = Field(None, description="Where its console is read; without it, it is not.")
    devices: dict[Name, DeviceEntry] = Field(description="What may be borrowed; an empty list ({}) means no device.")

    @model_validator(mode="after")
    def _consistent(self) -> LabEntry:
        if self.user != "root" and not self.sudo:
            raise misplaced("a user who is not root needs sudo: true", "user")
        needed = self.console.power_kind if self.console else ""
        if self.console and needed and not (self.power and self.power.kind == needed):
            raise misplaced(f"a console of kind {self.console.kind} needs power of kind {needed}", "console", "kind")
        seen: dict[tuple[str, ...], str] = {}
        for name, device in self.devices.items():
            first = seen.setdefault(device.identity.mark, name)
            if first != name:
                raise misplaced(f"this is the same device as {first}", "devices", name, "identity")
        return self

    def private_key(self, base: Path) -> Path:
        """Where the private key is; `base` is the folder of the inventory file. UsageError unless it is private."""
        path = beside(base, self.key)
        try:
            check_private(path, path.stat(), "this private key")
        except OSError as error:
            raise UsageError(
                f"the private key {path} cannot be read: {error.strerror}",
                hint="set `key` in the inventory to a private key, or make one with ssh-keygen -t ed25519",
            ) from error
        return path


HostEntry = Annotated[NestedEntry | LabEntry, Field(discriminator="kind")]


class Inventory(StrictModel):
    """The hosts that `maskall` may use, and which of their devices may be borrowed."""

    hosts: dict[Name, HostEntry] = Field(min_length=1, description="By the name that --host takes.")

    @model_validator(mode="after")
    def _each_once(self) -> Inventory:
        """One machine under two names would have two journals, and one outlet for two hosts switches the wrong one."""
        seen: dict[object, str] = {}
        for name, entry in self.hosts.items():
            for mark, at in _marks(entry) if isinstance(entry, LabEntry) else ():
                first = seen.setdefault(mark, name)
                if first != name:
                    raise misplaced(f"this is the same {mark[0]} as that of {first}", "hosts", name, *at)
        return self

    def host(self, name: str | None) -> HostEntry:
        """The host of this name; without a name the only one. UsageError otherwise."""
        return self.hosts[self.pick(name)]

    def pick(self, name: str | None) -> str:
        """The name itself once it is known to be right; without one that of the only host."""
        if name is None and len(self.hosts) == 1:
            return next(iter(self.hosts))
        if name is None:
            raise UsageError("the inventory has several hosts", hint=f"pick one with --host: {', '.join(self.hosts)}")
        if name not in self.hosts:
            raise UsageError(f"there is no host {name!r} in the inventory", hint=nearest(name, list(self.hosts)))
        return name


def _marks(entry: LabEntry) -> Iterator[tuple[tuple[str, str], tuple[str, ...]]]:
    """What no two hosts may share, in words to compare, and where it stands."""
    yield ("address and port", f"{entry.address.lower().rstrip('.')} {entry.port}"), ("address",)
    if entry.power:
        yield ("power switch", entry.power.switch), ("power",)
    if entry.console and entry.console.exclusive:
        yield ("console line", entry.console.model_dump_json()), ("console",)


def load_inventory(path: Path) -> Inventory:
    """InventoryError with file, line and column for whatever is wrong with the file."""
    document = load_yaml(path)
    inventory = validate(document, Inventory)
    check_names(document, inventory)
    return inventory


def check_names(document: YamlDocument, inventory: Inventory) -> None:
    """InventoryError where a device of a lab host names a driver or an ending that there is not.

    The emulated devices of a nested host are for whoever builds that host to check.
    """
    for name, entry in inventory.hosts.items():
        for role, device in entry.devices.items() if isinstance(entry, LabEntry) else ():
            at: Loc = ("hosts", name, "devices", role)
            _check_name(document, device.driver, (*at, "driver"), drivers())
            for number, ending in enumerate(device.endings):
                _check_name(document, ending, (*at, "endings", number), _endings())


def _endings() -> Collection[str]:
    from harness.play.catalogue import catalogue  # with all verbs, which an inventory of nested hosts does not need

    return catalogue().endings


def _check_name(document: YamlDocument, name: str, loc: Loc, known: Collection[str]) -> None:
    if name not in known:
        hint = nearest(name, known)
        raise document.error(
            f"there is no {str(loc[4]).removesuffix('s')} '{name:.60}'", document.place(loc), hint=hint
        )
