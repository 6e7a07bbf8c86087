"""A machine on a bench, as a session sees it: claimed, checked, borrowed from, and given back as it was."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from harness.base.deadline import Deadline
from harness.base.errors import HostQuarantined, LabError, MaskallError, RestoreFailed
from harness.base.progress import Progress
from harness.guest.drivers import drivers
from harness.guest.initramfs import GuestFiles, install
from harness.host.host import Host, Opener, TargetDevice
from harness.lab.doctor import examine, refuse_unfit
from harness.lab.inventory.models import DeviceEntry
from harness.lab.lease.claim_options import ClaimOptions
from harness.lab.lease.deadman import DeadMan
from harness.lab.lease.entry import What
from harness.lab.lease.lease import Lease
from harness.lab.lease.livepatched import LivepatchLeave
from harness.lab.lease.site import Site
from harness.lab.lease.state import HostState
from harness.lab.packages import read_packages
from harness.lab.planned import PCIBACK_MODULE
from harness.lab.power.base import Power
from harness.lab.recorder import Recorder, record
from harness.lab.rescue import Rescue
from harness.lab.survey import Survey
from harness.model.address import Bdf
from harness.model.change import Change, ChangeKind
from harness.mutants.livepatching import Livepatches
from harness.mutants.plant import stock_again
from harness.xen.keys.xl_output import parse_info
from harness.xen.toolstack.xl import REMOTE_RUN

_GUEST_FILES = f"{REMOTE_RUN}/guest"
_INSTALL_SECONDS = 300.0
_SECONDS = 30.0


class BootedOnce(Protocol):
    """A hypervisor that a host is booted with for one session; UsageError, LabError as `boot_own` raises them."""

    @property
    def facts(self) -> dict[str, str]:
        """What results say of it."""

    def boot(self, visit: Lease, power: Power | None, console: Recorder | None, progress: Progress) -> None:
        """Boot it, and see that it runs."""

    def go_back(self, visit: Lease, power: Power | None, progress: Progress) -> None:
        """Boot the host's own again; nothing to do where that runs."""


@dataclass
class RealLab:
    """One lab host and the devices wanted of it. Made by `opened`; `close` gives the host free."""

    site: Site
    devices: dict[str, DeviceEntry]
    wishes: ClaimOptions
    progress: Progress
    visit: Lease
    console: Recorder | None = None
    power: Power | None = None
    guest_files: GuestFiles | None = None
    xen: BootedOnce | None = None
    """What was booted there for this session instead of its own hypervisor."""
    _facts: dict[str, str] = field(default_factory=dict)
    _packages: dict[str, str] = field(default_factory=dict)
    _closed: bool = False
    _reading_seconds: float = 0.0

    @classmethod
    def opened(
        cls,
        site: Site,
        names: list[str],
        wishes: ClaimOptions,
        progress: Progress,
        xen: BootedOnce | None = None,
    ) -> RealLab:
        """Claim the host, undo what a dead run left, check every device. Nothing is borrowed yet.

        With `xen` it is booted once with that hypervisor, and goes back to its own by another boot as it is closed.

        UsageError, SafetyRefusal, LabError; then the host is free again and as it was found.
        """
        devices = site.devices(names)
        HostState.of(site.name).refuse_quarantined()
        power = site.power()
        with contextlib.ExitStack() as undo:
            console = record(HostState.of(site.name), site.entry, progress.note)
            if console is not None:
                undo.callback(console.stop)
            with progress.phase(f"claim {site.name}"):
                visit = Lease.begin(site, wishes, progress.note)
            undo.callback(visit.end)
            lab = cls(site, devices, wishes, progress, visit, console, power, xen=xen)
            lab._refuse_quarantined()
            if visit.left_behind:
                with progress.phase("undo what an earlier run left"):
                    lab.restore(whole=True)
                    visit.close_journal()
            survey = lab._check()
            refuse_unfit(site.name, examine(site.entry, survey.facts, None, ""))
            if xen is not None:
                undo.callback(lab._go_back)
                xen.boot(visit, power, console, progress)
                lab._check()
            lab._packages = read_packages(visit.transport, Deadline.after(_SECONDS))
            undo.pop_all()
        return lab

    def _refuse_quarantined(self) -> None:
        """Another controller's quarantine is in the journal on the host."""
        reasons = [one.payload.get("reason", "") for one in self.visit.journal.entries if one.what is What.QUARANTINED]
        if reasons:
            self.visit.leave_alone(f"{reasons[-1]}")
            raise HostQuarantined(
                f"{self.site.name} was put in quarantine from another controller",
                hint=f"maskall restore {self.site.name}",
            )

    def _check(self) -> Survey:
        """All facts anew; SafetyRefusal when one of the devices may not be touched."""
        with self.progress.phase("read the facts, check the devices"):
            survey = Survey.take(self.visit, self.devices, self.wishes.accepted)
            for name in self.devices:
                survey.address(name)
        return survey

    @contextlib.contextmanager
    def host(
        self, devices: Sequence[str], progress: Progress, *, keep: bool = False, opener: Opener | None = None
    ) -> Iterator[Host]:
        """The host with `devices` to borrow; at the end everything is put back and verified, whatever happened."""
        del keep, opener  # the options refuse the first: a lab host is given back; and none can be frozen
        self.visit.state.refuse_quarantined()
        self.visit.refuse_other_xen()
        survey = self._check()
        addresses = {device: survey.address(device) for device in devices}
        for address in addresses.values():
            self._begin_journal(address)
        host, restored = self._dressed(addresses), False

        def restore() -> None:
            nonlocal restored
            restored = True
            self.restore(host)

        host.restore = restore
        try:
            yield host
        finally:
            if not restored:
                self.restore(host)

    def _begin_journal(self, address: Bdf) -> None:
        visit = self.visit
        if not visit.journal.entries:
            visit.open_journal(self.wishes.reason)
        visit.remember(address)
        visit.load_module(PCIBACK_MODULE)
        if self.guest_files is not None:
            return
        with self.progress.phase("install guest files"):
            visit.journal.about_to(
                Change(ChangeKind.FILE, _GUEST_FILES, "put kernel modules for guests there", "remove them")
            )
            wanted = {entry.driver: drivers()[entry.driver] for entry in self.devices.values()}
            self.guest_files = install(visit.transport, wanted, Deadline.after(_INSTALL_SECONDS), _GUEST_FILES)

    def _dressed(self, addresses: dict[str, Bdf]) -> Host:
        timer = DeadMan(self.site.transport, may_reboot=self.site.entry.allow_reboot)
        visit = self.visit
        assert self.guest_files is not None  # noqa: S101 - _begin_journal
        return Host(
            name=self.site.name,
            transport=visit.transport,
            devices={name: self._target(name, address) for name, address in addresses.items()},
            guest_files=self.guest_files,
            ledger=visit.journal,
            guard=lambda device, driver: self._timer(timer).guarding(visit.transport, device, driver),
            gate=self._gate,
            before_livepatch=self._leave,
            console=self.console,
            facts=self.facts(),
        )

    @property
    def _leave(self) -> LivepatchLeave | None:
        allowed = self.site.entry.allow_livepatch
        return LivepatchLeave(self.visit.transport, self.visit.journal, allowed) if allowed else None

    def _gate(self, device: Bdf) -> str:
        """All facts anew, right before a device is taken; what it gives ends the taking if they have changed."""
        survey = Survey.take(self.visit, self.devices, self.wishes.accepted)
        survey.refuse(device)
        self._reading_seconds = survey.seconds
        return survey.still

    def _timer(self, timer: DeadMan) -> DeadMan:
        """It also stands while the shell that binds reads the facts once more, which on a slow host takes its time."""
        return replace(timer, seconds=timer.seconds + math.ceil(2 * self._reading_seconds))

    def _target(self, name: str, address: Bdf) -> TargetDevice:
        entry = self.devices[name]
        return TargetDevice(name, entry.identity.id, entry.driver, entry.reset_effective, address=address)

    def restore(self, host: Host | None = None, *, whole: bool = False) -> None:
        """Back to the baseline, by the ladder if need be. RestoreFailed leaves the host in quarantine.

        `host`: whose hypervisor may have been livepatched, and must be stock again. LabError when it is no longer the
        one that was booted for this session.
        """
        with self._or_quarantine():
            self._surely(lambda: self.visit.put_back(whole=whole))
            if host is not None and host.rewritten:
                stock_again(host)
        if host is not None:
            self.visit.refuse_other_xen()

    def _go_back(self) -> None:
        """To the hypervisor that is the host's own. RestoreFailed leaves the host in quarantine."""
        xen = self.xen
        if xen is None or self.visit.state.quarantine:  # nothing touches that one any more
            return
        with self._or_quarantine():
            self._surely(lambda: xen.go_back(self.visit, self.power, self.progress))

    def _surely(self, step: Callable[[], None]) -> None:
        """A step back, or the ladder."""
        try:
            step()
        except MaskallError as error:
            self.progress.note(f"{self.site.name} did not go back: {error}")
            climbed = Rescue(self.visit, self.power, self.console).climb()
            if not climbed.restored:
                raise RestoreFailed(
                    f"{self.site.name} is in quarantine: {climbed.told}", hint=f"maskall restore {self.site.name}"
                ) from error

    @contextlib.contextmanager
    def _or_quarantine(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            if not self.visit.state.quarantine:
                self.visit.quarantine(f"restoring it was broken off: {error!r}")
            raise

    def facts(self) -> dict[str, str]:
        """What a result says about the host it came from."""
        if not self._facts:
            deadline = Deadline.after(_SECONDS)
            text = self.visit.transport.run(["xl", "info"], deadline=deadline).check().text
            self._facts = {
                "host": self.site.name,
                **(self.xen.facts if self.xen is not None else {}),
                **parse_info(text, file="xl info").facts,
                **self._livepatches(),
                **{f"accepted {check}": reason for check, reason in self.wishes.accepted.items()},
            }
        return self._facts

    def _livepatches(self) -> dict[str, str]:
        """Those of others: what is called stock here is Xen with these."""
        try:
            there = Livepatches(self.visit.transport).there()
        except LabError:  # this Xen has none
            return {}
        return {"livepatches": ", ".join(sorted(there))} if there else {}

    def packages(self) -> dict[str, str]:
        """The versions of Xen, qemu and Linux there, see `read_packages`; read when the host was claimed."""
        return self._packages

    def abort(self) -> None:
        """Nothing to end: a lab host is worked on by one thread, which gives it back itself."""

    def kept(self) -> list[Path]:
        """None: a lab host is always given back."""
        return []

    def close(self) -> None:
        """Give the host free. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        try:
            try:
                self._go_back()
            finally:
                self.visit.end()
        finally:
            if self.console is not None:
                self.console.stop()
