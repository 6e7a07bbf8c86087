"""One run of a test that somebody wrote: a host, the devices and guests it asks for, and the record of it all.

Nothing here knows pytest: `harness.plugin` hands out what is made here as fixtures.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from harness.base.errors import EmulatorFault, GuestDied, HarnessBug, MaskallError, UsageError
from harness.base.progress import Progress
from harness.base.text import inert
from harness.evidence.collector import Collector
from harness.evidence.observe import host_crashes
from harness.evidence.store import EvidenceStore
from harness.host.deeds import Deeds
from harness.host.device import Device
from harness.host.guest import Guest
from harness.host.host import Host
from harness.model.guestspec import GuestSpec, GuestWishes
from harness.model.message import Marker
from harness.model.observation import Checkpoint, DomainView, GuestView, RawRef
from harness.scenario.case import CaseRecord, CaseView, folder_name
from harness.scenario.record import Action
from harness.xen.keys.console import emulator_triple_fault
from harness.xen.toolstack.xl import Toolstack

OUR_NAMES = re.compile(r"maskall-[a-z0-9-]{1,40}")
"""Domains that a host may lose when it is put back: guests have no other names."""
BOUND, END = "bound", "end"
"""Checkpoints of every test: once its devices are borrowed, and when its last line was played or failed."""


_ENDS = ("destroy", "wait_gone", "shut_down", "power_off_with_msix_on")


class RefusedDeed(AssertionError):
    """The product would not do what a test cannot go on without; it is no assertion of the test itself."""


@dataclass
class Trial:
    """A test under way on `host`. Made by `begin`; `end` once its last line was played. Used by one thread."""

    host: Host
    store: EvidenceStore
    progress: Progress
    wishes: GuestWishes = field(default_factory=GuestWishes)
    challenge: str | None = None
    """What a verifier gave, which every guest answers."""
    record: CaseRecord = field(default_factory=CaseRecord)
    devices: list[Device] = field(default_factory=list)
    guests: list[Guest] = field(default_factory=list)
    over: bool = False
    _collectors: list[Collector] = field(default_factory=list)
    _number: int = 0
    _boots: int = 0
    _heard: int = 0  # bytes of the host's console that are older than the test: a console server may repeat them

    @classmethod
    def begin(
        cls,
        host: Host,
        store: EvidenceStore,
        progress: Progress,
        wishes: GuestWishes,
        challenge: str | None = None,
    ) -> Trial:
        """From now on all that is done to `host` goes on record here, and its logs are looked at since now."""
        trial = cls(host, store, progress, wishes, challenge)
        host.deeds = Deeds(host.ledger, trial.keep, trial._note, progress.phase)
        host.began = host.mark()
        trial._heard = len(host.console.text()) if host.console is not None else 0
        return trial

    @cached_property
    def tools(self) -> Toolstack:
        """The toolstack, as the host's options chose it."""
        return self.host.toolstack.on(self.host.transport)

    # -- what a test asks for ------------------------------------------------------------------------------------------

    def borrow(self, name: str) -> Device:
        """A device of the host, bound to pciback and looked at. SafetyRefusal, LabError; then nothing was changed."""
        self._refuse_late("a device")
        if name not in self.host.devices:
            raise HarnessBug(f"{self.host.name} was made without the device {name}")
        device = Device.identify(self.host, self.tools, self.host.devices[name])
        with self.host.deeds.aside():
            device.bind()
        self.devices.append(device)
        self.record.devices.append(str(device))
        prefix = f"{str(device.address).replace(':', '-')}/"
        host = self.host
        collector = Collector(host.transport, device.address, self.store, host.memory, host.console, prefix)
        self._collectors.append(collector)
        self.record.readings.append(collector.readings)
        return device

    def bound(self) -> None:
        """All devices of the test are there: the checkpoint from which its logs count."""
        if self.devices:
            self._observe(BOUND)

    def make_guest(self, devices: Sequence[Device], wishes: GuestWishes, name: str | None, *, start: bool) -> Guest:
        """A guest; with `start` created and at work, see the fixture make_guest."""
        self._refuse_late("a guest")
        for device in devices:
            if device not in self.devices:
                hint = "give it pci_device, or *pci_devices; where there are several, each of them"
                raise UsageError(f"make_guest takes devices of this test, not {inert(repr(device))}", hint=hint)
        label = self._label()
        name = name or f"maskall-{label.lower()}"
        if not OUR_NAMES.fullmatch(name):
            raise UsageError(
                f"a guest cannot be called {inert(name)!r}", hint="maskall- and small letters, digits or dashes behind"
            )
        files = self.host.guest_files
        spec = GuestSpec(
            name=name,
            type=wishes.type,
            kernel=files.kernel,
            initramfs=files.initramfs,
            devices=tuple(device.address for device in devices),
            drivers=tuple(device.target.driver for device in devices or self.devices),
            memory_mib=wishes.memory,
            vcpus=wishes.vcpus,
            cmdline=wishes.cmdline,
            on_reboot=wishes.on_reboot,
            on_crash=wishes.on_crash,
            challenge=self.challenge,
        )
        guest = Guest(self.host, self.tools, spec, label, tuple(devices))
        self.guests.append(guest)
        if start:
            self._start(guest)
        return guest

    def checkpoint(self, name: str) -> CaseView:
        """All views of every borrowed device now, kept under this name. UsageError for a name that was used."""
        self._refuse_late("a checkpoint")
        if any(one.name == name for one in self.record.seen):
            raise UsageError(f"there is a checkpoint {inert(name)!r} already", hint="each has a name of its own")
        return self._observe(name)

    # -- its end -------------------------------------------------------------------------------------------------------

    def last_look(self) -> str:
        """The checkpoint `end`, which fails nobody; why there is none, if so."""
        try:
            if self.devices:
                self._observe(END)
        except MaskallError as error:
            return f"the device could not be looked at any more: {error}"
        return ""

    def end(self) -> None:
        """Keep what the guests' consoles and the logs have said. Putting the host back is its lab's. MaskallError."""
        if self.over:
            return
        self.over = True
        for guest in self._everybody:
            guest.close()
        self._notice_boots()
        try:
            for collector in self._collectors:
                collector.close_logs(self.moment)
        finally:
            for collector in self._collectors[:1]:
                self.record.markers += collector.markers
            if self.host.console is not None:
                self.record.console = self.keep("host_console.txt", self.host.console.text()[self._heard :])
                self.record.markers += host_crashes(self.store.name_of(self.record.console), self.store)
            self.tools.close()

    @property
    def crash(self) -> Marker | None:
        """How the hypervisor or dom0 died meanwhile."""
        return next((one for one, _ in self.record.markers if one.kind.is_host_crash), None)

    def emulator_fault(self) -> EmulatorFault | None:
        """What Xen's console says of the emulator, where that is why a guest was silent."""
        try:
            fault = emulator_triple_fault(self.host.xen_console())
        except MaskallError:
            return None
        if fault is None:
            return None
        where = f"triple fault at {fault.rip:#x} in Xen's text"
        return EmulatorFault(f"the emulator, not Xen, killed {fault.domain}: {where}")

    # -- how -----------------------------------------------------------------------------------------------------------

    def keep(self, name: str, data: bytes) -> RawRef:
        """Evidence of this test, in the order of events."""
        self._number += 1
        return self.store.put(f"{self._number:02d}-{name}", data)

    @property
    def moment(self) -> Checkpoint:
        """Which of the scenarios' checkpoints the test is at, by its guests."""
        made = [guest for guest in self._everybody if guest.exists]
        if not made:
            return Checkpoint.C1
        if self.record.actions and self.record.actions[-1].ok and self.record.actions[-1].verb in _ENDS:
            return Checkpoint.C4
        return Checkpoint.C3 if len(made) == 1 else Checkpoint.C6

    @property
    def _everybody(self) -> list[Guest]:
        """All guests in the order in which they came, with those that the toolstack has made itself."""
        found: list[Guest] = []
        for guest in self.guests:
            one: Guest | None = guest
            while one is not None:
                found.append(one)
                one = one.successor
        return found

    def _note(self, action: Action) -> None:
        self.record.actions.append(replace(action, checkpoint=self.moment))

    def _observe(self, name: str) -> CaseView:
        self._notice_boots()
        folder = folder_name(name)
        observed = []
        with self.progress.phase(f"observe {name}"):
            for device, collector in zip(self.devices, self._collectors, strict=True):
                one = collector.observe(self.moment, name=folder)
                view = self._view(device, one.domains)
                if view is not None:
                    collector.readings[-1] = replace(collector.readings[-1], guest=collector.as_exercised(view))
                observed.append(replace(one, guest=view))
        seen = CaseView(name, tuple(observed))
        self.record.seen.append(seen)
        return seen

    def _notice_boots(self) -> None:
        if self.host.boots != self._boots:
            self._boots = self.host.boots
            for collector in self._collectors:
                collector.host_rebooted()

    def _view(self, device: Device, domains: DomainView | None) -> GuestView | None:
        """That of the guest which still lives, as of when its driver worked last: looking makes no traffic."""
        for guest in reversed(self._everybody):
            if device.address in guest.views and domains is not None and guest.domid in domains.names:
                return guest.views[device.address]
        return None

    def _start(self, guest: Guest) -> None:
        created = guest.create()
        if not created:
            raise RefusedDeed(f"{guest} was not created: {created.detail}")
        if not guest.wait_up():
            raise self.emulator_fault() or GuestDied(
                f"{guest} did not reach its userland", hint="its console is among the raw files"
            )
        for device in guest.devices:
            with self.progress.phase(f"guest {guest.label}: driver of {device.target.name}"):
                guest.wait_ready(device)

    def _label(self) -> str:
        letters, number = string.ascii_uppercase, len(self.guests)
        return letters[number] if number < len(letters) else f"G{number}"

    def _refuse_late(self, what: str) -> None:
        if self.over:
            raise UsageError(f"{what} was asked for when the test was over: {self.host.name} is given back")


Checkpointer = Callable[[str], CaseView]
