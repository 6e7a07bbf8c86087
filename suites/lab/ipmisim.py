"""A management controller, ipmi_sim(1), that really starts and kills a program: power and SOL without a machine."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.base.secret import Secret
from harness.lab.power.base import PowerState
from harness.lab.power.ipmi import IpmiPower
from harness.nested import bmc
from harness.nested.bmc import Ports

_MACHINE = Path(__file__).with_name("tinymachine.py")


@dataclass(frozen=True)
class Simulated:
    """A controller that runs, and the program it switches."""

    folder: Path
    ports: Ports
    entry: IpmiPower
    password: Secret

    @property
    def pids(self) -> list[int]:
        """Of every start of the program so far, in order."""
        boots = self.folder / "boots"
        return [int(line) for line in boots.read_text().split()] if boots.exists() else []

    @property
    def state(self) -> PowerState:
        """What the process table says, whatever the controller does."""
        return PowerState.ON if self.pids and self._is_ours(self.pids[-1]) else PowerState.OFF

    def say(self, data: bytes) -> None:
        """Send bytes over the serial line."""
        with (self.folder / "say").open("ab") as line:
            line.write(data)

    def break_start(self) -> None:
        """From now on the controller accepts a power-on, and the program does not start."""
        (self.folder / bmc.POWER_ON).write_text("#!/bin/sh\nexit 1\n")

    def stop(self) -> None:
        bmc.stop(self.folder)
        for pid in self.pids:
            if self._is_ours(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _is_ours(self, pid: int) -> bool:
        """By its directory: a pid may be somebody else's by now. A zombie has none."""
        with contextlib.suppress(OSError):
            return Path(f"/proc/{pid}/cwd").readlink() == self.folder.resolve()
        return False


@contextlib.contextmanager
def simulated(folder: Path, *, power_on: bool = False, sol: bool = False) -> Iterator[Simulated]:
    """Start the controller in `folder`, an empty directory; it and what it started is gone afterwards."""
    ports = Ports.free()
    bmc.configure(folder, ports, power_on=power_on, sol=sol)
    script = folder / bmc.POWER_ON
    script.write_text(f"#!/bin/sh\nexec {shlex.join([sys.executable, '-S', str(_MACHINE)])}\n")
    script.chmod(0o700)
    file = bmc.password_file(folder)
    entry = IpmiPower(
        kind="ipmi", address="127.0.0.1", port=ports.ipmi, user=bmc.USER, password=f"file:{file}", cipher_suite=3
    )
    machine = Simulated(folder, ports, entry, Secret(file.read_text().strip()))
    try:
        bmc.start(folder, ports, serial=sol)
        yield machine
    finally:
        machine.stop()
