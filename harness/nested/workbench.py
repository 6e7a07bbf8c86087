"""What a practice machine has plugged in, and how an inventory describes it."""

from __future__ import annotations

import enum
from pathlib import Path

import yaml

from harness.lab.inventory.models import LabEntry, load_inventory
from harness.nested import bmc
from harness.nested.bmc import Ports
from harness.nested.devices import EmulatedDevice, catalogue

BOOT_SECONDS = 240
DATA_DISK = "datadisk"
"""A second nvme with a file system on it: somebody's data, for the safety gate to refuse once it is in use."""

MAC = "52:54:00:6d:61:73"
_DATA_SLOT = 5
_ENDINGS = ("E1", "E2", "E3", "E14")
_CIPHER_SUITE = 3  # ipmi_sim knows HMAC-SHA1 and AES-CBC-128, not suite 17


class ConsoleWay(enum.StrEnum):
    """How the machine's serial line is read; QEMU writes it to console.log in any case."""

    LOG = "log"  # tail(1) of console.log
    # For these two the line is on a loopback port, which asks whose a connection is. It serves one client, and SOL is
    # one.
    SOL = "sol"  # serial over LAN of the controller
    TCP = "tcp"  # that port itself

    def entry(self, console_log: Path, ports: Ports) -> dict[str, object]:
        """What the inventory says under `console`."""
        if self is ConsoleWay.SOL:
            return {"kind": "ipmi"}
        if self is ConsoleWay.TCP:
            return {"kind": "tcp", "address": "127.0.0.1", "port": ports.serial}
        return {"kind": "command", "argv": ["tail", "-n", "+1", "-F", str(console_log)]}


def models() -> dict[str, EmulatedDevice]:
    """Every device, each behind its own root port, with the mark it is told by."""
    known = catalogue()
    card = known["e1000e"]
    disk = known["nvme"]
    return {
        "e1000e": card.model_copy(update={"properties": {**card.properties, "mac": MAC}}),
        "virtio-rng": known["virtio-rng"],
        "nvme": disk,
        DATA_DISK: disk.model_copy(update={"slot": _DATA_SLOT, "properties": {"serial": f"maskall-{DATA_DISK}"}}),
    }


def describe(name: str, model: EmulatedDevice) -> dict[str, object]:
    """What an inventory says of it."""
    mark: dict[str, str] = {key: value for key, value in model.properties.items() if key in ("serial", "mac")}
    if not mark:
        mark = {"path": f"0000:00:{0x10 + model.slot:02x}.0/00.0"}
    effective = model.reset == "effective"
    return {
        "identity": {"id": model.identity, **mark},
        "driver": model.driver,
        "endings": [] if name == DATA_DISK else list(_ENDINGS),
        "recover": ["flr", "reboot"] if effective else ["bus", "reboot"],
        "reset_effective": effective,
    }


def write_inventory(directory: Path, name: str, host_key: str, ports: Ports, console: ConsoleWay) -> Path:
    """Write `inventory.yaml`, in which the machine is a stranger's; InventoryError if we wrote it wrong."""
    entry = {
        "kind": "lab",
        "address": "127.0.0.1",
        "port": ports.ssh,
        "key": str(directory / "key"),
        "host_key": host_key,
        "boot_seconds": BOOT_SECONDS,
        "allow_reboot": True,
        "allow_persistent": False,
        "allow_livepatch": True,
        "power": {
            "kind": "ipmi",
            "address": "127.0.0.1",
            "port": ports.ipmi,
            "user": bmc.USER,
            "password": f"file:{bmc.password_file(directory)}",
            "cipher_suite": _CIPHER_SUITE,
        },
        "console": console.entry(directory / "console.log", ports),
        "devices": {device: describe(device, model) for device, model in models().items()},
    }
    path = directory / "inventory.yaml"
    path.write_text(
        "# A machine to practise on, see 'maskall practice'. It can be broken without harm.\n"
        + yaml.safe_dump({"hosts": {name: entry}}, sort_keys=False, width=200)
    )
    load_inventory(path)
    return path


def entry_of(directory: Path, name: str) -> LabEntry:
    """The machine as its inventory describes it."""
    entry = load_inventory(directory / "inventory.yaml").hosts[name]
    assert isinstance(entry, LabEntry)  # noqa: S101 - we wrote it
    return entry
