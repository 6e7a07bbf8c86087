"""A lab of one fake host: the machine, its ssh server, the wire to it, and what the inventory says of it."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import paramiko
import pytest

from harness.base.deadline import Deadline, poll
from harness.lab.inventory.models import LabEntry, load_inventory
from harness.transport.ssh import SshTransport
from suites.selftest.fakes.fakehost import board
from suites.selftest.fakes.fakehost.executor import Executor
from suites.selftest.fakes.fakehost.machine import FakeHost
from suites.selftest.fakes.patience import soon
from suites.selftest.fakes.sshlink import keys
from suites.selftest.fakes.sshserver import SshServer, Wire

NAME = "xenbox1"
__all__ = ["FakeLab", "fake_host", "impatient", "keys", "make_lab"]

_INVENTORY = """\
hosts:
  {name}:
    kind: lab
    address: 127.0.0.1
    port: {port}
    user: root
    key: {key}
    host_key: {host_key}
    boot_seconds: 300
    allow_reboot: true
    devices:
      nic0:
        identity: {{id: "8086:10d3", subsystem: "8086:a01f", mac: "{mac}"}}
        driver: e1000e
        endings: [E3]
        recover: [bus, reboot]
      disk0:
        identity: {{id: "1b36:0010", serial: {serial}}}
        driver: nvme
        endings: [E3]
        recover: [flr, reboot]
"""


@dataclass
class FakeLab:
    """Everything a test needs. `fake` is the machine; transports go through `wire`."""

    fake: FakeHost
    server: SshServer
    wire: Wire
    folder: Path  # of the keys `host`, `user` and `other`, and of the inventory
    keys: Path
    made: list[SshTransport] = field(default_factory=list)

    def transport(self, *, dead_after: float = 15.0, connect: bool = True) -> SshTransport:
        """A new link to the machine."""
        entry = self.entry
        made = SshTransport(
            NAME,
            "127.0.0.1",
            port=self.wire.port,
            user="root",
            key_file=entry.key,
            host_key=entry.host_key,
            dead_after=dead_after,
        )
        self.made.append(made)
        if connect:
            made.connect(soon())
        return made

    def reconnect(self, link: SshTransport) -> None:
        """Once `link` knows that it was dropped."""
        poll(lambda: not link.connected, soon())
        link.connect(soon())

    @property
    def text(self) -> str:
        """The inventory, with the devices `nic0` and `disk0`."""
        public = paramiko.PKey.from_path(self.keys / "host")
        return _INVENTORY.format(
            name=NAME,
            port=self.wire.port,
            key=self.keys / "user",
            host_key=f"{public.get_name()} {public.get_base64()}",
            mac=board.NIC_MAC,
            serial=board.DISK_SERIAL,
        )

    @cached_property
    def inventory(self) -> Path:
        """The inventory as a file."""
        path = self.folder / "inventory.yaml"
        path.write_text(self.text)
        return path

    @cached_property
    def entry(self) -> LabEntry:
        entry = load_inventory(self.inventory).host(NAME)
        assert isinstance(entry, LabEntry)
        return entry

    def hang(self) -> None:
        """The whole machine: nothing arrives and nothing is said, until `power_cycle`."""
        self.wire.freeze()

    def power_cycle(self) -> None:
        self.fake.reboot()
        self.wire.thaw()

    def change_host_key(self, name: str = "other") -> None:
        """Another machine answers from now on."""
        self.server.host_key = paramiko.PKey.from_path(self.keys / name)
        self.server.drop()


def impatient(lab: FakeLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connecting is in vain at once where it would be in the end; a living host has all the time it needs."""
    connect = SshTransport.connect

    def connected(link: SshTransport, deadline: Deadline) -> None:
        connect(link, Deadline.after(0.3) if lab.wire.frozen or lab.server.refuses else deadline)

    monkeypatch.setattr(SshTransport, "connect", connected)


@contextlib.contextmanager
def make_lab(folder: Path, keys: Path) -> Iterator[FakeLab]:
    """One in `folder`, which must not exist yet."""
    folder.mkdir()
    root = Path(tempfile.mkdtemp(prefix="fakehost-"))  # a short name, and hundreds of small files: in memory
    fake = FakeHost(root)
    server = SshServer(paramiko.PKey.from_path(keys / "host"), paramiko.PKey.from_path(keys / "user"))
    executor = Executor(fake, server)
    wire = Wire(server.port)
    lab = FakeLab(fake, server, wire, folder, keys)
    try:
        yield lab
    finally:
        for transport in lab.made:
            transport.close()
        executor.stop()
        wire.stop()
        server.stop()
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def fake_host(tmp_path: Path, keys: Path) -> Iterator[FakeLab]:
    """A machine with its baseline untouched. Import it, and `keys` is in conftest."""
    with make_lab(tmp_path / "lab", keys) as lab:
        yield lab
