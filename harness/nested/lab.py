"""The embedded lab: hands out a fresh Xen host, restored from a snapshot, for every run of a scenario."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from harness.deadline import Deadline
from harness.errors import LabError
from harness.guest.drivers import drivers
from harness.lab.host import Host, TargetDevice
from harness.nested.accelerator import Accelerator, detect
from harness.nested.cache import Cache, remove_tree
from harness.nested.devices import DeviceModel, catalogue, offered, select
from harness.nested.image import Image, ensure_image
from harness.nested.machine import QEMU, Boot, Machine, MachineSpec
from harness.nested.mirror import find_mirrors
from harness.nested.rundir import RunDir, sweep
from harness.nested.snapshot import Snapshot, SnapshotRecipe, connect, overlay
from harness.nested.stacks import Stack
from harness.process import run
from harness.report.progress import Progress

_RESTORE_SECONDS = 60.0


@dataclass
class ConsoleLog:
    """The host's console as QEMU records it from power-on."""

    path: Path

    def text(self) -> bytes:
        return self.path.read_bytes() if self.path.exists() else b""


@dataclass
class RunningHost:
    """A restored host and the machine it runs on."""

    host: Host
    machine: Machine


class NestedLab:
    """One stack, and the devices wanted of it."""

    def __init__(self, stack: Stack, devices: list[str], cache: Cache, progress: Progress) -> None:
        self.stack = stack
        self.cache = cache
        self.progress = progress
        self.accelerator: Accelerator = detect()
        self.devices = select(devices, self._offered)
        for path in sweep(self._runs):
            progress.note(f"cleaned up after a run that died: {path.name}")

    @property
    def _runs(self) -> Path:
        return self.cache.root / "runs"

    @cached_property
    def _offered(self) -> frozenset[str]:
        return offered(run([QEMU, "-device", "help"], deadline=Deadline.after(20)).stdout)

    @cached_property
    def qemu_version(self) -> str:
        text = run([QEMU, "--version"], deadline=Deadline.after(20)).stdout
        match = re.search(r"version (\S+)", text)
        return match[1] if match else "unknown"

    @cached_property
    def image(self) -> Image:
        """The stack's image, built when it is not there."""
        return ensure_image(self.stack, self.cache, self.progress, mirrors=find_mirrors())

    @property
    def _recipe(self) -> SnapshotRecipe:
        # every device that can be frozen is there from the start, so that one snapshot serves every scenario
        frozen = {name: model for name, model in catalogue().items() if model.migrates and model.model in self._offered}
        boot = Boot(
            self.image.xen, self.image.kernel, self.image.initrd, self.stack.xen_options, self.stack.dom0_options
        )
        spec = MachineSpec(boot, self.accelerator, frozen)
        return SnapshotRecipe(self.image, spec, self.qemu_version, drivers(), self._runs, self.progress)

    @cached_property
    def snapshot(self) -> Snapshot:
        """The booted host, frozen; made when it is not there."""
        entry = self.cache.obtain(self._recipe, deadline=Deadline.after(900), notice=self.progress.note)
        return Snapshot(entry.path)

    def facts(self) -> dict[str, str]:
        """What a result says about the host it came from."""
        info = self.snapshot.facts()
        return {
            "stack": self.stack.name,
            "xen_version": info.get("xen_version", "unknown"),
            "xen_build_id": info.get("build_id", "unknown"),
            "xen_commandline": info.get("xen_commandline", "unknown"),
            "kernel": info.get("release", "unknown"),
            "qemu": self.qemu_version,
            "accelerator": f"{self.accelerator.name}: {self.accelerator.why}",
        }

    @contextlib.contextmanager
    def host(self, device: str, progress: Progress, *, keep: bool = False) -> Iterator[RunningHost]:
        """A fresh host with `device` in it. Thrown away at the end, or left running with `keep`."""
        run_dir = RunDir.create(self._runs)
        try:
            if keep:
                run_dir.keep()
            machine = self._restored(run_dir, progress, survives=keep)
            try:
                yield self._dressed(machine, device, progress)
            finally:
                machine.close()
        finally:
            run_dir.close()

    def _restored(self, run_dir: RunDir, progress: Progress, *, survives: bool) -> Machine:
        try:
            return self._restore(run_dir, progress, survives=survives)
        except LabError as error:
            progress.note(f"the snapshot cannot be restored ({error.message}); making it again")
            remove_tree(self.snapshot.path)
            del self.snapshot
            (run_dir.path / "disk.qcow2").unlink(missing_ok=True)
            return self._restore(run_dir, progress, survives=survives)

    def _restore(self, run_dir: RunDir, progress: Progress, *, survives: bool) -> Machine:
        snapshot = self.snapshot
        with progress.phase("restore the host", 0.5):
            disk = run_dir.path / "disk.qcow2"
            overlay(snapshot.disk, "qcow2", disk)
            machine = Machine.start(
                self._recipe.spec, run_dir, disk=disk, ram=snapshot.ram, paused=True, survives=survives
            )
            try:
                machine.restore(snapshot.state)
            except LabError:
                machine.close()
                raise
        return machine

    def _dressed(self, machine: Machine, device: str, progress: Progress) -> RunningHost:
        """Add what cannot be frozen, connect, and describe the host without a word of how it was made."""
        model = self.devices[device]
        if device not in machine.spec.devices:
            machine.hot_add(device, model)
        transport = connect(machine, self.image, Deadline.after(_RESTORE_SECONDS), progress)
        host = Host(
            name=transport.name,
            transport=transport,
            devices={device: _target(device, model)},
            guest_files=self.snapshot.guest_files,
            disposable=True,
            console=ConsoleLog(machine.console_log),
            debugger=machine.debugger(),
            memory=machine,
            facts=self.facts(),
        )
        return RunningHost(host, machine)


def _target(name: str, model: DeviceModel) -> TargetDevice:
    return TargetDevice(name, model.identity, model.driver, reset_effective=model.reset == "effective")
