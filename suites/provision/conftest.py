"""A plain machine, switched on, and a wire before it that can be cut."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.base.deadline import Deadline
from harness.base.progress import PlainProgress
from harness.host.stacks import stack
from harness.lab.lease.site import Site
from harness.nested import prerequisites
from harness.nested.cache import Cache
from harness.transport.base import Transport
from suites.provision.plain.image import ensure_plain
from suites.provision.plain.machine import BOOT_SECONDS, NAME, PlainMachine, plain_machine
from suites.selftest.fakes.sshserver import Wire


class LongWire(Wire):
    """One that closes what has ended: while a machine reboots, hundreds of connections come and go."""

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        super()._forward(source, sink)
        for plug in (source, sink):
            with contextlib.suppress(OSError):
                plug.shutdown(socket.SHUT_RDWR)
        source.close()


@dataclass
class Bench:
    """The machine and the ways to it."""

    machine: PlainMachine
    wire: Wire
    folder: Path
    progress: PlainProgress

    def site(self, *, allowed: bool = True) -> Site:
        """As an inventory describes it; its link goes through the wire."""
        return Site.find(self.machine.inventory(self.folder, allowed=allowed, port=self.wire.port), NAME)

    @property
    def inventory(self) -> Path:
        """The file for --inventory, with everything allowed."""
        return self.machine.inventory(self.folder, port=self.wire.port)

    @property
    def link(self) -> Transport:
        """A connection of the test's own, past the wire; made anew after a reboot."""
        self.machine.connect(Deadline.after(BOOT_SECONDS))
        return self.machine.transport


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    cache, progress = Cache(), PlainProgress(sys.__stderr__ or sys.stderr)
    prerequisites.install(progress)
    image = ensure_plain(stack(), cache, progress)
    with pytest.MonkeyPatch.context() as patch, plain_machine(image, cache) as machine:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        with progress.phase("boot plain Debian from its disk", 40):
            machine.connect(Deadline.after(BOOT_SECONDS))
        wire = LongWire(machine.machine.ssh_port)
        yield Bench(machine, wire, tmp_path_factory.mktemp("bench"), progress)
        wire.stop()
