"""The embedded lab: hands out a fresh Xen host, restored from a snapshot, for every run of a scenario."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from harness.base.deadline import Deadline
from harness.base.errors import LabError
from harness.base.progress import Progress
from harness.guest.drivers import Driver, drivers
from harness.host.host import Host, Opener, TargetDevice
from harness.host.stacks import Stack
from harness.nested import access, rootfs
from harness.nested.accelerator import Accelerator, detect
from harness.nested.apt_sources import find_mirrors
from harness.nested.cache import Cache, remove_tree
from harness.nested.devices import EmulatedDevice, catalogue, select
from harness.nested.emulator import ensure_emulator
from harness.nested.image import Image, ensure_image
from harness.nested.laidover import LaidOver
from harness.nested.machine import Boot, Machine, MachineSpec
from harness.nested.ownparts import OwnParts
from harness.nested.rundir import RunDir, kept_runs, sweep
from harness.nested.silence import Silences
from harness.nested.snapshot import Snapshot, SnapshotRecipe, connect
from harness.nested.virtualfunction import switch_on
from harness.nested.warm_snapshot import WarmRecipe, WarmSnapshot, WarmSnapshots

_RESTORE_SECONDS = 180.0
NO_PARTS = OwnParts()
_OWN_SNAPSHOTS = 4 << 30  # bytes; the last three or so
_OVERLAYS = 1 << 30


@dataclass
class ConsoleLog:
    """The host's console as QEMU records it from power-on."""

    path: Path

    def text(self) -> bytes:
        return self.path.read_bytes() if self.path.exists() else b""

    @property
    def breaks(self) -> tuple[int, ...]:
        return ()


class NestedLab:
    """One stack, and the devices wanted of it."""

    def __init__(
        self, stack: Stack, devices: list[str], cache: Cache, progress: Progress, own: OwnParts = NO_PARTS
    ) -> None:
        self.stack = stack
        self.own = own
        self.cache = cache
        self.progress = progress
        self._machines: list[Machine] = []  # those that run now; several threads add theirs
        self._aborted = False
        self._openings = WarmSnapshots(cache)
        self.emulator = ensure_emulator(cache, progress)
        self.accelerator: Accelerator = self.emulator.usable(detect())
        self.devices = select(devices, self.emulator.models)
        for path in sweep(self._runs):
            progress.note(f"cleaned up after a run that died: {path.name}")

    def abort(self) -> None:
        """End every machine at once, for Ctrl-C: threads that work with one get a LabError, and no new one starts."""
        self._aborted = True
        for machine in list(self._machines):
            machine.kill()

    def running(self) -> list[Path]:
        """Run directories of the machines that this lab has handed out and not taken back."""
        return [machine.run_dir.path for machine in self._machines]

    def kept(self) -> list[Path]:
        """Run directories of the machines that were left running, by any run."""
        return kept_runs(self._runs)

    def close(self) -> None:
        """Nothing is held beyond a host's own run directory."""

    @property
    def _runs(self) -> Path:
        return self.cache.root / "runs"

    @cached_property
    def image(self) -> Image:
        """The stack's image, built when it is not there."""
        return ensure_image(self.stack, self.cache, self.progress, mirrors=find_mirrors())

    @property
    def machine_spec(self) -> MachineSpec:
        """The machine as it is switched on."""
        # every device that can be frozen is there from the start, so that one snapshot serves every scenario
        frozen = {
            name: model
            for name, model in catalogue().items()
            if model.freezes(self.emulator.release) and model.model in self.emulator.models
        }
        xen = self.image.xen if self.own.xen is None else self.own.xen.stored(self.cache)
        kernel, initrd = self._started
        boot = Boot(xen, kernel, initrd, self.stack.xen_options, self.stack.dom0_options)
        return MachineSpec(self.emulator, boot, self.accelerator, frozen, ssh=rootfs.SOONER)

    @cached_property
    def _started(self) -> tuple[Path, Path]:
        """Dom0's kernel and initramfs; other than the image's where something is laid over its root."""
        own = self.own
        if own.dom0 is None and own.tools is None:
            return self.image.kernel, self.image.initrd
        recipe = LaidOver(self.image, own.dom0, own.tools, self._drivers.values())
        entry = self.cache.obtain(recipe, deadline=Deadline.after(900), notice=self.progress.note)
        self.cache.trim("over-", _OVERLAYS)
        return entry.path / "vmlinuz", entry.path / "initrd.img"

    @cached_property
    def _drivers(self) -> dict[str, Driver]:
        return self.own.drivers(drivers())

    @property
    def _recipe(self) -> SnapshotRecipe:
        spec = self.machine_spec
        usual = Silences.known((self.cache.root / "entries").glob(f"snapshot-{self.stack.name}-*"))
        return SnapshotRecipe(
            self.image,
            spec,
            self._drivers,
            self._runs,
            self.progress,
            self.own,
            usual if self.own != NO_PARTS else None,
        )

    @cached_property
    def snapshot(self) -> Snapshot:
        """The booted host, frozen; made when it is not there."""
        libc = re.match(r"(\d+)\.(\d+)", self.image.packages().get("libc6", ""))
        self.own.fit_image(self.image.disk, self.stack, (int(libc[1]), int(libc[2])) if libc else (2, 0))
        entry = self.cache.obtain(self._recipe, deadline=Deadline.after(900), notice=self.progress.note)
        if self.own != NO_PARTS:
            self.cache.trim(f"{self._recipe.name}-", _OWN_SNAPSHOTS)
        return Snapshot(entry.path)

    def facts(self) -> dict[str, str]:
        """What a result says about the host it came from."""
        return {
            "host": f"nested-{self.stack.name}",
            "nested": "in QEMU",
            "stack": self.stack.name,
            **self.own.facts,
            **self.snapshot.facts().facts,
            "qemu": self.emulator.version,
            "accelerator": f"{self.accelerator.name}: {self.accelerator.why}",
        }

    def packages(self) -> dict[str, str]:
        """The exact version of every package of the host."""
        return self.image.packages()

    @contextlib.contextmanager
    def host(
        self, devices: Sequence[str], progress: Progress, *, keep: bool = False, opener: Opener | None = None
    ) -> Iterator[Host]:
        """A fresh host with `devices` in it. Thrown away at the end, or left running with `keep`.

        With an `opener` it comes with what that plays already played, unless it is told otherwise (`Host.opened`).
        """
        opened = self._opened(devices, opener, progress) if opener is not None else None
        run_dir = RunDir.create(self._runs)
        try:
            with self._restored(run_dir, opened, progress, survives=keep) as (machine, source):
                host = self._dressed(machine, devices, progress)
                host.opened = source.opening if isinstance(source, WarmSnapshot) else None
                if keep:
                    run_dir.keep()
                yield host
        finally:
            run_dir.close()

    def _opened(self, devices: Sequence[str], opener: Opener, progress: Progress) -> WarmSnapshot | None:
        """The snapshot with this opening played; None where there is none and none can be, or need be, made."""
        if not all(self.devices[device].freezes(self.emulator.release) for device in devices):
            return None

        @contextlib.contextmanager
        def live(disk: Path, ram: Path) -> Iterator[tuple[Machine, Host]]:
            run_dir = RunDir.create(self._runs)
            try:
                with self._running(run_dir, self.snapshot, disk, ram, progress, ram_shared=True) as machine:
                    yield machine, self._dressed(machine, devices, progress)
            finally:
                run_dir.close()

        return self._openings.obtain(WarmRecipe(self.snapshot, self._recipe.digest, devices, opener, live, progress))

    @contextlib.contextmanager
    def _restored(
        self, run_dir: RunDir, opened: WarmSnapshot | None, progress: Progress, *, survives: bool
    ) -> Iterator[tuple[Machine, Snapshot]]:
        """A machine that runs, and what it came from: the opened snapshot if it can be restored."""
        disk = run_dir.path / "disk.qcow2"
        with contextlib.ExitStack() as stack:

            def restore(source: Snapshot) -> tuple[Machine, Snapshot]:
                disk.unlink(missing_ok=True)
                self.emulator.overlay(source.disk, "qcow2", disk)
                running = self._running(run_dir, source, disk, source.ram, progress, survives=survives)
                return stack.enter_context(running), source

            try:
                restored = restore(opened or self.snapshot)
            except LabError as error:
                if self._aborted:
                    raise
                if opened is not None:
                    progress.note(f"the snapshot with guest A cannot be restored ({error.message}); going without it")
                    remove_tree(opened.path)
                else:
                    progress.note(f"the snapshot cannot be restored ({error.message}); making it again")
                    remove_tree(self.snapshot.path)
                    del self.snapshot
                restored = restore(self.snapshot)
            yield restored

    @contextlib.contextmanager
    def _running(
        self,
        run_dir: RunDir,
        source: Snapshot,
        disk: Path,
        ram: Path,
        progress: Progress,
        *,
        survives: bool = False,
        ram_shared: bool = False,
    ) -> Iterator[Machine]:
        """A machine that goes on from the state of `source`, on these files; ended at the end."""
        what = "restore the host with guest A running" if isinstance(source, WarmSnapshot) else "restore the host"
        with progress.phase(what, 0.5):
            machine = Machine.start(
                self._recipe.spec,
                run_dir,
                disk=disk,
                ram=ram,
                ram_shared=ram_shared,
                frozen=source.state,
                survives=survives,
            )
            self._machines.append(machine)
            try:
                if self._aborted:
                    raise LabError("the run was interrupted")
                machine.restore(source.state)
            except BaseException:
                machine.kill()
                self._end(machine)
                raise
        try:
            yield machine
        except KeyboardInterrupt:
            machine.kill()
            raise
        finally:
            self._end(machine)

    def _end(self, machine: Machine) -> None:
        machine.close()
        self._machines.remove(machine)

    def _dressed(self, machine: Machine, devices: Sequence[str], progress: Progress) -> Host:
        """Add what cannot be frozen, connect, and describe the host without a word of how it was made."""
        models = {device: self.devices[device] for device in devices}
        for device, model in models.items():
            if device not in machine.spec.devices:
                with progress.phase(f"hot-add {device}"):
                    machine.hot_add(device, model)
        transport = connect(machine, self.image, Deadline.after(_RESTORE_SECONDS), progress)
        for device, model in models.items():
            if model.physical_function is not None:
                with progress.phase(f"switch on the virtual function {device}"):
                    switch_on(transport, model.physical_function, drivers()[model.driver])
        access.write(
            machine.run_dir.path,
            name=transport.name,
            port=machine.ssh_port,
            host_key=self.image.host_key.read_text().strip(),
            key_file=self.image.user_key,
        )
        return Host(
            name=transport.name,
            transport=transport,
            devices={device: _target(device, model) for device, model in models.items()},
            guest_files=self.snapshot.guest_files,
            console=ConsoleLog(machine.console_log),
            debugger=machine.debugger(),
            reset_button=machine.reset,
            memory=machine,
            facts=self.facts(),
        )


def _target(name: str, model: EmulatedDevice) -> TargetDevice:
    return TargetDevice(name, model.identity, model.driver, reset_effective=model.reset == "effective")
