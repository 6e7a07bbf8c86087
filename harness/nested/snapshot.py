"""A booted host, frozen: memory, device state and disk, restored copy-on-write in well under a second."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from harness.base.deadline import Deadline
from harness.base.errors import HostUnreachable, LabError
from harness.base.progress import Progress
from harness.guest.drivers import Driver
from harness.guest.initramfs import GuestFiles, OtherKernel, exercise_script, install
from harness.mutants.devicemodel import open_device_model
from harness.nested.image import Image
from harness.nested.machine import Machine, MachineSpec
from harness.nested.ownparts import OwnParts
from harness.nested.owntools import START, OwnTools
from harness.nested.rundir import RunDir
from harness.nested.silence import Listener, Silences
from harness.transport.base import Script
from harness.transport.ssh import SshTransport
from harness.xen.keys.console import find_markers
from harness.xen.keys.xl_output import XlInfo, info_of, parse_info_fields

_FORMAT = 3
_BOOT_SECONDS = 600.0  # some 25 on two processors, 160 beside five other programs
_MIB = 1024 * 1024
_LAST_LINES = 12
# read once before the freeze, so that restored machines find them in their page cache
_WARM = (
    "modprobe xen-pciback; xl info; xl list; xl pci-assignable-list; lspci -vvv; xl dmesg; xenstore-ls /libxl; "
    "xl debug-keys h; cat /boot/vmlinuz-* $(command -v xl setpci lspci od awk) /usr/libexec/xen-qemu-system-i386 "
    "/usr/lib/xen-*/boot/hvmloader /usr/lib/xen-*/bin/* /var/lib/maskall/* "
)


COPIED_AS_THEY_ARE = ("guest.json", "facts.json")


@dataclass(frozen=True)
class Snapshot:
    """A finished snapshot; nothing in it is written to again."""

    path: Path

    @property
    def ram(self) -> Path:
        return self.path / "ram"

    @property
    def state(self) -> Path:
        return self.path / "state"

    @property
    def disk(self) -> Path:
        return self.path / "disk.qcow2"

    @property
    def guest_files(self) -> GuestFiles:
        record = json.loads((self.path / "guest.json").read_text())
        return GuestFiles(record["kernel"], record["initramfs"])

    def facts(self) -> XlInfo:
        """`xl info` of the frozen host. ParseError for a snapshot of a host that did not say what is wanted."""
        file = self.path / "facts.json"
        return info_of(json.loads(file.read_text()), file=str(file))


@dataclass(frozen=True)
class SnapshotRecipe:
    """Boot the image cold, prepare the host for guests, freeze it."""

    image: Image
    spec: MachineSpec
    drivers: dict[str, Driver]
    runs: Path
    progress: Progress
    own: OwnParts = field(default_factory=OwnParts)
    usual: Silences | None = None
    """How silent a boot of the stack's own was, on this machine."""

    needs_bytes = 2700 * _MIB

    @property
    def name(self) -> str:
        return f"snapshot-{'own' if self.own.facts else self.image.stack.name}"

    @property
    def digest(self) -> str:
        content = {
            "format": _FORMAT,
            "image": str(self.image.path),
            "built": (self.image.path / "manifest.json").read_text(),
            "qemu": self.spec.emulator.version,
            "machine": self.spec.arguments(disk=Path("disk"), ram=Path("ram"), ram_shared=True),
            "guests": {name: exercise_script(driver) for name, driver in self.drivers.items()},
            "userland": [path.read_text() for path in sorted((Path(__file__).parents[1] / "guest").glob("*.sh"))],
            "warm": _WARM,
            **self.own.facts,
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def build(self, directory: Path) -> None:
        snapshot = Snapshot(directory)
        run_dir = RunDir.create(self.runs)
        try:
            self.spec.emulator.overlay(self.image.disk, "raw", snapshot.disk)
            machine = Machine.start(self.spec, run_dir, disk=snapshot.disk, ram=snapshot.ram, ram_shared=True)
            try:
                listener = Listener(machine.console_log, self.usual)
                transport = self._booted(machine, listener)
                listener.longest.store(directory)
                with self.progress.phase("prepare the host for guests", 15):
                    self._prepare(transport, snapshot)
                transport.close()
                with self.progress.phase("freeze the host", 3):
                    machine.save(snapshot.state)
            finally:
                machine.close()
        finally:
            run_dir.close()

    def _booted(self, machine: Machine, listener: Listener) -> SshTransport:
        """LabError with Xen's last lines when it dies or hangs before dom0 answers."""
        try:
            return connect(machine, self.image, Deadline.after(_BOOT_SECONDS), self.progress, listener)
        except HostUnreachable as error:
            said = machine.console()
            dead = died(said)
            late = listener.hung or f"did not bring dom0 up in {_BOOT_SECONDS:.0f} s"
            what = f"died while it booted: {dead}" if dead else late
            lines = "".join(f"\n    {line}" for line in said.splitlines()[-_LAST_LINES:])
            which = self.own.xen.path if self.own.xen else "the hypervisor"
            raise LabError(f"{which} {what}; its last lines:{lines or ' none'}") from error

    def _prepare(self, transport: SshTransport, snapshot: Snapshot) -> None:
        deadline = Deadline.after(_BOOT_SECONDS)
        if self.own.xen is not None:  # where whoever plants a mutant looks for the text of the running one
            transport.put(self.own.xen.path.read_bytes(), "/boot/xen-own.gz", 0o644, deadline)
        if self.own.qemu is not None:
            with open_device_model(transport) as installed:
                path = self.own.tools.device_model if self.own.tools is not None else installed.path
                transport.run(["rm", "-f", path], deadline=deadline, changes=True).check()  # one may be running
                transport.run(["mkdir", "-p", str(PurePosixPath(path).parent)], deadline=deadline, changes=True).check()
                transport.put(self.own.qemu.path.read_bytes(), path, 0o755, deadline)
                transport.run([path, "-version"], deadline=deadline).check()
        if self.own.tools is not None:
            _assert_run(self.own.tools, transport, deadline)
        files = install(transport, self.drivers, deadline, kernel=self._guests_kernel())
        record = {"kernel": files.kernel, "initramfs": files.initramfs}
        (snapshot.path / "guest.json").write_text(json.dumps(record))
        info = transport.run(["xl", "info"], deadline=deadline).check().text
        (snapshot.path / "facts.json").write_text(json.dumps(parse_info_fields(info, file="xl info")))
        transport.run(["sh", "-c", f"({_WARM}) >/dev/null 2>&1; sync"], deadline=deadline, changes=True)

    def _guests_kernel(self) -> OtherKernel | None:
        own = self.own.guest
        if own is None:
            return None
        modules = {name: own.guest_modules(driver) for name, driver in self.drivers.items()}
        return OtherKernel(own.path.read_bytes(), modules)


def _assert_run(tools: OwnTools, transport: SshTransport, deadline: Deadline) -> None:
    """LabError when the xenstored that runs is not that of these tools, which then were not what the host started."""
    running = transport.run(Script("sha256sum \"/proc/$(pgrep -o -x 'o?xenstored')/exe\""), deadline=deadline).text
    if not any(running.startswith(hashlib.sha256(one.read_bytes()).hexdigest()) for one in tools.xenstored):
        raise LabError(
            f"the host runs another xenstored than those of {tools.path}",
            hint=f"it is started by {START}, or by the host's own script from /usr/lib/xen-VERSION",
        )


def died(console: str) -> str | None:
    """The line by which Xen or dom0's kernel says that it is dead, if one does."""
    found = (one.text for one in find_markers(console) if one.kind.is_host_crash)
    return next(found, None)


@dataclass(frozen=True)
class _WhileAlive(Deadline):
    """A deadline that is over as soon as the machine or its hypervisor is, or hangs: nobody will ever answer then."""

    machine: Machine
    listener: Listener | None = None

    @property
    def remaining(self) -> float:
        return super().remaining if self._may_answer else 0.0

    @property
    def expired(self) -> bool:
        return super().expired or not self._may_answer

    @property
    def _may_answer(self) -> bool:
        if self.listener is not None and self.listener.hangs():
            return False
        return self.machine.alive and died(self.machine.console()) is None


def connect(
    machine: Machine, image: Image, deadline: Deadline, progress: Progress, listener: Listener | None = None
) -> SshTransport:
    """The host's dom0 over ssh, as any lab machine: root, its own key, the host key pinned."""
    transport = SshTransport(
        f"nested-{image.stack.name}",
        "127.0.0.1",
        port=machine.ssh_port,
        host_key=image.host_key.read_text().strip(),
        key_file=image.user_key,
        dead_after=60.0,  # emulated processors that others want too may be silent for long; QEMU's end closes the link
    )
    with progress.phase("dom0 answers ssh"):
        try:
            transport.connect(_WhileAlive(deadline.at, machine, listener))
        except HostUnreachable as error:
            if machine.alive:
                raise
            raise LabError(f"QEMU ended before dom0 answered: {machine.last_words()}") from error
    return transport
