"""One machine under QEMU: the only place that starts QEMU and talks to its monitor."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from qemu.qmp.legacy import QEMUMonitorProtocol
from qemu.qmp.qmp_client import ExecuteError

from harness.base.deadline import Deadline, poll
from harness.base.errors import LabError
from harness.base.process import environment, run
from harness.nested.accelerator import Accelerator
from harness.nested.devices import EmulatedDevice, root_ports
from harness.nested.emulator import Emulator
from harness.nested.rootfs import ADDRESS
from harness.nested.rundir import RunDir
from harness.transport.gdbstub import GdbDebugger

MEMORY_MIB = 2560
_START_SECONDS = 20.0


class Boots(Protocol):
    """What a machine boots."""

    def arguments(self) -> list[str]:
        """QEMU's options for it."""


@dataclass(frozen=True)
class Boot:
    """What the machine boots, multiboot fashion: no boot loader, QEMU loads Xen and its two modules."""

    xen: Path
    kernel: Path
    initrd: Path
    xen_options: str
    dom0_options: str

    def arguments(self) -> list[str]:
        modules = f"{self.kernel} {self.dom0_options},{self.initrd}"
        return ["-kernel", str(self.xen), "-append", self.xen_options, "-initrd", modules]


@dataclass(frozen=True)
class MachineSpec:
    emulator: Emulator
    boot: Boots
    accelerator: Accelerator
    devices: dict[str, EmulatedDevice]  # present from power-on; others are hot-added
    ssh: int = 22  # the host's port that is reached through `Machine.ssh_port`

    @property
    def drives(self) -> list[str]:
        """Those of the devices that have a drive of their own."""
        return [name for name, model in self.devices.items() if model.backend.drive]

    def arguments(
        self,
        *,
        disk: Path,
        ram: Path | None,
        ram_shared: bool = False,
        ssh_port: int = 0,
        serial: str = "file:console.log",
    ) -> list[str]:
        """The command line but for what depends on the run directory, which is QEMU's working directory.

        The memory is a file: shared when a snapshot shall be made of it, else private, so that a restored machine
        copies only the pages it writes; without `ram` it is QEMU's own. `ssh_port` of 0 lets the kernel choose.
        """
        ports = [
            argument
            for slot in root_ports()
            for argument in ("-device", f"pcie-root-port,id=rp{slot},chassis={slot},slot={slot},addr={0x10 + slot:#x}")
        ]
        share = "on" if ram_shared else "off"
        memory = ["-object", f"memory-backend-file,id=ram,size={MEMORY_MIB}M,mem-path={ram},share={share}"]
        machine = "q35,memory-backend=ram" if ram else "q35"
        return [
            *("-nodefaults", "-display", "none", "-no-user-config"),
            *("-machine", machine, "-accel", self.accelerator.argument, "-cpu", self.accelerator.cpu),
            *("-smp", str(self.accelerator.cpus), "-m", str(MEMORY_MIB)),
            *(memory if ram else ()),
            *("-device", "intel-iommu,intremap=on,aw-bits=48"),
            *("-drive", f"file={disk},if=none,id=root,format=qcow2,cache=unsafe"),
            *("-device", "virtio-blk-pci,drive=root,addr=0x3"),
            # restrict=on: the nested host reaches nothing outside; port 0: the kernel chooses, runs never collide
            *("-netdev", f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{ssh_port}-{ADDRESS}:{self.ssh}"),
            *("-device", "virtio-net-pci,netdev=net,addr=0x4"),
            *ports,
            *(argument for name, model in self.devices.items() for argument in _cold_plug(name, model)),
            *self.boot.arguments(),
            *("-serial", serial, "-qmp", "unix:qmp.sock,server=on,wait=off"),
            *("-pidfile", "qemu.pid"),
        ]


def _cold_plug(name: str, model: EmulatedDevice) -> list[str]:
    arguments: list[str] = []
    if model.backend.netdev:
        arguments += ["-netdev", f"user,id={name}-net,restrict=on"]
    if model.backend.object:
        arguments += ["-object", f"{model.backend.object},id={name}-rng,filename=/dev/urandom"]
    if model.backend.drive:  # the file is made by whoever switches the machine on
        arguments += ["-drive", f"file={name}.raw,if=none,id={name}-drive,format=raw,cache=unsafe"]
    pairs = model.device_arguments(name)
    driver = pairs.pop("driver")
    arguments += ["-device", ",".join([driver, *(f"{key}={value}" for key, value in pairs.items())])]
    if model.backend.usb:
        arguments += ["-device", f"{model.backend.usb},bus={name}-dev.0"]
    return arguments


def make_drive(path: Path, model: EmulatedDevice) -> None:
    """An empty drive for a device whose backend is one."""
    run(["truncate", "-s", str(model.backend.drive), str(path)], deadline=Deadline.after(10))


def copy_sparse(source: Path, target: Path) -> None:
    """What nobody wrote takes no room in the copy either."""
    run(["cp", "--sparse=always", "--reflink=auto", str(source), str(target)], deadline=Deadline.after(120))


class Machine:
    """A running QEMU. Made by `start`; `close` ends it."""

    def __init__(self, spec: MachineSpec, run_dir: RunDir, process: subprocess.Popen[bytes]) -> None:
        self.spec = spec
        self.run_dir = run_dir
        self._process = process
        self._qmp: QEMUMonitorProtocol | None = None
        self._gdb_started = False

    @classmethod
    def start(
        cls,
        spec: MachineSpec,
        run_dir: RunDir,
        *,
        disk: Path,
        ram: Path,
        ram_shared: bool = False,
        frozen: Path | None = None,
        survives: bool = False,
    ) -> Machine:
        """Start QEMU in `run_dir`. With `frozen`, what `save` wrote, it waits for `restore`.

        `survives` lets it outlive the harness.
        """
        for name in spec.drives:
            drive = run_dir.path / f"{name}.raw"
            if frozen is None:
                make_drive(drive, spec.devices[name])
            else:
                copy_sparse(frozen.with_name(drive.name), drive)
        argv = [*spec.emulator.qemu, *spec.arguments(disk=disk, ram=ram, ram_shared=ram_shared)]
        argv += ["-S", "-incoming", "defer"] if frozen else []
        if not survives:
            argv = ["setpriv", "--pdeathsig", "KILL", *argv]  # setpriv(1): a killed harness leaves no emulator behind
        with (run_dir.path / "qemu.log").open("wb") as log:
            process = subprocess.Popen(  # noqa: S603 - argv list of our own making
                argv,
                cwd=run_dir.path,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=environment(),
            )
        machine = cls(spec, run_dir, process)
        machine._connect(Deadline.after(_START_SECONDS))
        return machine

    @property
    def console_log(self) -> Path:
        return self.run_dir.path / "console.log"

    def console(self) -> str:
        """What the serial console has shown since power-on."""
        return self.console_log.read_text(errors="replace") if self.console_log.exists() else ""

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def _connect(self, deadline: Deadline) -> None:
        def monitor() -> socket.socket | None:
            if not self.alive:
                raise LabError(f"QEMU did not start: {self.last_words()}")
            return self.run_dir.connect("qmp.sock")

        connection = poll(monitor, deadline, every=0.01)
        if connection is None:
            raise LabError(f"QEMU's monitor did not appear: {self.last_words()}")
        self._qmp = QEMUMonitorProtocol(connection)
        self._qmp.settimeout(_START_SECONDS)
        self._qmp.connect()

    def last_words(self) -> str:
        """The last line QEMU wrote, for an error message."""
        lines = (self.run_dir.path / "qemu.log").read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it wrote nothing"

    def qmp(self, command: str, **arguments: object) -> object:
        """One monitor command; LabError with QEMU's own words when it refuses or is gone."""
        if self._qmp is None:
            raise LabError("QEMU's monitor is closed")
        try:
            return self._qmp.cmd(command, **arguments)
        except ExecuteError as error:
            raise LabError(f"QEMU refused {command}: {error}") from error
        except Exception as error:  # the library's many ways to say that the connection is gone
            raise LabError(f"QEMU's monitor does not answer {command}: {error!r}; {self.last_words()}") from error

    def hmp(self, line: str) -> str:
        """One command of the human monitor, for what QMP does not offer."""
        return str(self.qmp("human-monitor-command", **{"command-line": line}))

    @property
    def ssh_port(self) -> int:
        """The loopback port that leads to the host's ssh server."""
        forward = rf"TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)\s+{re.escape(ADDRESS)}\s+{self.spec.ssh}\b"
        match = re.search(forward, self.hmp("info usernet"))
        if match is None:
            raise LabError("QEMU does not forward a port to the nested host")
        return int(match[1])

    def save(self, state: Path) -> None:
        """Stop and write the machine's state, all but the memory, which is the shared file `ram` already.

        The drives of its devices are copied to beside it.
        """
        self.qmp("stop")
        self._ignore_shared_memory()
        self.qmp("migrate", uri=f"exec:cat > '{state}'")
        self._await_migration("the snapshot could not be written")
        for name in self.spec.drives:
            copy_sparse(self.run_dir.path / f"{name}.raw", state.with_name(f"{name}.raw"))

    def restore(self, state: Path) -> None:
        """Load a state into a machine started with it as `frozen`, and let it run."""
        self._ignore_shared_memory()
        self.qmp("migrate-incoming", uri=f"exec:cat '{state}'")
        self._await_migration("the snapshot could not be loaded")
        self.qmp("cont")

    def _ignore_shared_memory(self) -> None:
        self.qmp("migrate-set-capabilities", capabilities=[{"capability": "x-ignore-shared", "state": True}])

    def _await_migration(self, failure: str) -> None:
        def ended() -> str | None:
            answer = self.qmp("query-migrate")
            status = str(answer.get("status")) if isinstance(answer, dict) else ""
            return status if status in ("completed", "failed", "cancelled") else None

        if poll(ended, Deadline.after(60), every=0.01) != "completed":
            raise LabError(f"{failure}: {self.last_words()}")

    def hot_add(self, name: str, model: EmulatedDevice) -> None:
        """Plug a device into its root port."""
        if model.backend.drive:
            drive = self.run_dir.path / f"{name}.raw"
            make_drive(drive, model)
            file = {"driver": "file", "filename": str(drive)}
            self.qmp("blockdev-add", driver="raw", file=file, **{"node-name": f"{name}-drive"})
        if model.backend.netdev:
            self.qmp("netdev_add", type="user", id=f"{name}-net", restrict=True)
        self.qmp("device_add", **model.device_arguments(name))
        self.spec = replace(self.spec, devices={**self.spec.devices, name: model})

    def reset(self) -> None:
        """A warm reset, as by the button; what the machine does next is its own business."""
        self.qmp("system_reset")

    def debugger(self) -> GdbDebugger:
        if not self._gdb_started:
            self.hmp("gdbserver unix:gdb.sock,server=on,wait=off")
            self._gdb_started = True
        return GdbDebugger(self._connect_debugger)

    def _connect_debugger(self) -> socket.socket:
        connection = self.run_dir.connect("gdb.sock")
        if connection is None:
            raise LabError("QEMU's gdbstub does not answer")
        return connection

    def read_words(self, address: int, count: int) -> tuple[int, ...]:
        """Physical memory by the monitor's `xp`, which does not stop the machine."""
        lines = self.hmp(f"xp /{count}wx {address:#x}").splitlines()
        words = [int(word, 16) for line in lines for word in line.partition(":")[2].split()]
        if len(words) != count:
            raise LabError(f"QEMU read {len(words)} of {count} words at {address:#x}")
        return tuple(words)

    def kill(self) -> None:
        """End QEMU now, kept or not, whatever another thread is doing with it; that thread gets a LabError."""
        self.run_dir.discard()
        self._process.kill()

    def close(self) -> None:
        """End QEMU; its overlay and all it wrote go with the run directory."""
        if self._qmp is not None and not self.run_dir.kept:
            self._process.kill()
        if self._qmp is not None:
            with contextlib.suppress(Exception):  # the library raises whatever a dead emulator left in its reader
                self._qmp.close()
            self._qmp = None
        if not self.run_dir.kept:
            self._process.wait()
