"""Back to the baseline: what the journal says was touched is compared with how it was, and put right.

Nothing is replayed. What was announced and perhaps never done, done twice, or undone by a reboot ends the same way.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from harness.base.deadline import Deadline
from harness.base.errors import DeviceTaken, NotRecorded, RestoreFailed
from harness.host.pciback import PCIBACK
from harness.lab.lease import baseline as baselines
from harness.lab.lease import owners, ownxen
from harness.lab.lease.baseline import COMMAND_BITS, Baseline
from harness.lab.lease.entry import JournalLine, What
from harness.lab.lease.livepatched import take_away
from harness.model.address import Bdf
from harness.model.change import Change, ChangeKind, Ledger
from harness.mutants.livepatching import NAME
from harness.transport.base import Command, Script, Transport
from harness.xen.keys.xl_output import DomainRow, parse_list
from harness.xen.toolstack.xl import REMOTE_RUN, XlToolstack

_SECONDS = 60.0
GONE_SECONDS = 15.0
"""How long a destroyed domain may take to be gone; libxl itself has waited for its devices before."""

OUR_DOMAINS = "maskall-"
"""How the names of all our domains begin: whatever a journal says, no other is ever destroyed."""

_DRIVERS = "/sys/bus/pci/drivers"

# A driver that is unloaded lets go of all it has, and another user's device may be there by now.
_UNLOAD = """\
for one in /sys/bus/pci/drivers/pciback/*:*:*.*; do
  [ -e "$one" ] || continue
  echo "it holds ${one##*/}, which is not ours" >&2
  exit 95
done
slots=$(cat /sys/bus/pci/drivers/pciback/slots 2>/dev/null)
[ -z "$slots" ] || { echo "it would seize" $slots >&2; exit 95; }
exec modprobe -r xen-pciback
"""
_HOLDS = 95

# libxl waits in vain for the backend of a PV guest that has shut down by itself, which closed it, and leaves it behind.
_BACKENDS = "/local/domain/0/backend/pci"
_NAMED = re.compile(rf'^{_BACKENDS}/([1-9][0-9]{{0,4}})/[0-9]+/domain = "([a-z0-9-]+)"$', re.MULTILINE)
# Only where xl can tell: a toolstack that does not answer has not said that the domain is gone.
FORGET = f"xl list >/dev/null 2>&1 || exit\nxl list {{domid}} >/dev/null 2>&1 || exec xenstore-rm {_BACKENDS}/{{domid}}"
_OF_ONE_BOOT = (ChangeKind.MODULE, ChangeKind.LIVEPATCH)


@dataclass(frozen=True)
class Touched:
    """What a journal says was, or may have been, changed."""

    domains: frozenset[str] = frozenset()
    modules: frozenset[str] = frozenset()
    baselines: tuple[Baseline, ...] = ()
    livepatched: bool = False
    booted: frozenset[str] = frozenset()  # build-ids of hypervisors that were booted once

    @classmethod
    def by(cls, entries: Sequence[JournalLine], boot_id: str = "") -> Touched:
        """Pure. A device's first baseline counts: later ones were taken when it was no longer as found.

        A module loaded before the boot `boot_id` is not ours any more: whatever is loaded now, that boot has loaded. So
        is a livepatch: that boot's hypervisor has none.
        """
        subjects: dict[str, set[str]] = {}
        first: dict[str, Baseline] = {}
        for entry in entries:
            if entry.what is What.INTENT:
                if entry.payload.get("kind") in _OF_ONE_BOOT and boot_id and entry.boot_id != boot_id:
                    continue
                subjects.setdefault(str(entry.payload.get("kind")), set()).add(str(entry.payload.get("subject")))
            elif entry.what is What.BASELINE:
                known = Baseline.from_payload(entry.payload)
                first.setdefault(known.device, known)
        ours = {name for name in subjects.get(ChangeKind.DOMAIN, ()) if name.startswith(OUR_DOMAINS)}
        modules = frozenset(subjects.get(ChangeKind.MODULE, ()))
        booted = ownxen.build_ids(subjects.get(ChangeKind.PERSISTENT, ()))
        return cls(frozenset(ours), modules, tuple(first.values()), ChangeKind.LIVEPATCH in subjects, booted)


@dataclass
class Undo:
    """Puts one host back. Every step goes into the same journal before it is made, if there is room for it.

    `domids`: of our domains, as far as they are known; those that are destroyed here are added.
    """

    transport: Transport
    ledger: Ledger
    touched: Touched
    notice: Callable[[str], None] = lambda _: None
    rebooted: bool = False  # since the baselines were read: a device may have moved, and is as the boot left it
    domids: set[int] = field(default_factory=set)
    lent: str = ""  # build-id of the hypervisor that this visit has booted, and goes on with
    _owners: owners.Owners = field(init=False)
    _unwritten: bool = False
    _kept: set[str] = field(default_factory=set)
    _toolstack: XlToolstack = field(init=False)

    def __post_init__(self) -> None:
        self._toolstack = XlToolstack(self.transport)

    def reconcile(self, *, whole: bool) -> None:
        """Every step that is needed, then everything is read again. RestoreFailed names what is not as it was.

        DeviceTaken, before anything of that device is touched, when somebody else has it. Not `whole`: the modules we
        loaded stay for the rest of the visit.
        """
        self._note_domids()
        self.destroy_domains()
        self._forget_the_dead()
        if self.touched.livepatched:
            self._announce(ChangeKind.LIVEPATCH, NAME, "take the livepatch away")
            take_away(self.transport)
        if self._booted:
            self._announce(ChangeKind.PERSISTENT, ownxen.CUSTOM, "remove what booted another hypervisor")
            ownxen.take_away(self.transport)
        changed = [wanted for wanted in self.touched.baselines if self._differs(wanted, self._read(wanted))]
        if changed:
            self._owners = owners.ask(self.transport, self.domids)
            for wanted in changed:
                self._refuse_taken(wanted)
        for wanted in changed:
            self._device(wanted)
        modules = sorted(self.touched.modules) if whole else []
        for module in modules:
            if self._loaded(module):
                self._unload(module)
        self._verify([module for module in modules if module not in self._kept])

    @property
    def _booted(self) -> frozenset[str]:
        """Hypervisors that must not be there any more."""
        return self.touched.booted - {self.lent}

    def _refuse_taken(self, wanted: Baseline) -> None:
        """We bind to pciback and nothing else: another driver has been given the device by somebody else."""
        self._owners.refuse(wanted.device)
        seen = self._read(wanted)
        if seen.who == wanted.who and seen.driver not in (wanted.driver, PCIBACK, None):
            raise DeviceTaken(
                f"{wanted.device} is in use by others now: {seen.driver} has it, which we have not bound",
                hint=f"when they are done with it: maskall restore {self.transport.name}",
            )

    @staticmethod
    def _differs(wanted: Baseline, seen: Baseline) -> bool:
        return bool([*wanted.differences(seen), *wanted.drift(seen)])

    def _unload(self, module: str) -> None:
        text = f"unload {module}"
        self._announce(ChangeKind.MODULE, module, text)
        done = self.transport.run(Script(_UNLOAD), deadline=self._deadline, changes=True)
        if done.status == _HOLDS:
            self._kept.add(module)
            self.notice(f"{module} stays loaded: {done.complaint}")
        elif not done.ok:
            self.notice(f"{text}: {done.complaint}")

    def _verify(self, modules: Sequence[str]) -> None:
        differences = [f"domain {name} is still there" for name in sorted(self._our_domains())]
        differences += [f"domain {domid} is dead and not gone" for domid in self._zombies()]
        for wanted in self.touched.baselines:
            seen = self._read(wanted)
            if seen.who != wanted.who and self.rebooted:
                self.notice(f"{wanted.differences(seen)[0]}; the reboot has undone what was done to it")
                continue
            differences += wanted.differences(seen)
            for name, before, now in wanted.drift(seen):  # no reason to reboot anybody's machine
                self.notice(f"{wanted.device}: {name} is {now}, was {before}, and could not be set back")
        differences += [f"module {one} is still loaded" for one in modules if self._loaded(one)]
        if self._booted and (running := ownxen.running(self.transport)) in self._booted:
            differences.append(f"the hypervisor that was booted once still runs, build-id {running}: a reboot ends it")
        if differences:
            raise RestoreFailed(
                f"{self.transport.name} is not as it was: {'; '.join(differences)}",
                hint=f"maskall restore {self.transport.name}",
            )

    def destroy_domains(self) -> None:
        """Those the journal names, and no others."""
        for name, domid in self._our_domains().items():
            self.domids.add(domid)
            self._announce(ChangeKind.DOMAIN, name, f"destroy {name} (d{domid})")
            self._toolstack.destroy(domid, self._deadline)
            for wanted in self.touched.baselines:
                self._toolstack.await_gone(domid, Bdf.parse(wanted.device), Deadline.after(GONE_SECONDS))

    def _forget_the_dead(self) -> None:
        """What xenstore has of pciback's part in domains of ours that are gone."""
        if not self.domids:
            return
        listed = self.transport.run(["xenstore-ls", "-f", _BACKENDS], deadline=self._deadline)
        for domid, name in sorted(set(_NAMED.findall(listed.text))):
            if int(domid) in self.domids and name in self.touched.domains:
                text = f"make xenstore forget pciback's part in {name} (d{domid}), if that is gone"
                self._announce(ChangeKind.DOMAIN, name, text)
                self.transport.run(Script(FORGET.format(domid=domid)), deadline=self._deadline, changes=True)

    def reset(self, device: str, method: str) -> None:
        """One reset of the device by one of the kernel's methods. What the write says proves nothing, the registers are
        read afterwards. DeviceTaken."""
        self._note_domids()
        self._owners = owners.ask(self.transport, self.domids)
        for wanted in self.touched.baselines:
            if wanted.device == device:
                self._refuse_taken(wanted)
        for name, value in (("reset_method", method), ("reset", "1")):
            self._change(
                *(ChangeKind.RESET, device, f"reset {device} by {method}"),
                ["tee", self._sysfs(device, name)],
                f"{value}\n".encode(),
            )

    def others(self) -> list[str]:
        """The domains on the host that run and are none of ours, by name. RestoreFailed when Xen does not say.

        One without a name is a guest whose name xenstore does not tell, unless it is ours or Xen has taken it apart.
        """
        self._note_domids()
        there = [row for row in self._rows() if row.domid and row.name not in self.touched.domains]
        return sorted(
            f"d{row.domid}, which has no name" if row.zombie else row.name
            for row in there
            if not row.zombie or not (row.dying or row.domid in self.domids)
        )

    def still_there(self) -> list[str]:
        """The addresses at which there still is the device that was found there: no other may be reset or bound."""
        return [wanted.device for wanted in self.touched.baselines if self._read(wanted).who == wanted.who]

    def _our_domains(self) -> dict[str, int]:
        if not self.touched.domains:
            return {}
        return {row.name: row.domid for row in self._rows() if row.domid and row.name in self.touched.domains}

    def _zombies(self) -> list[int]:
        """Of our domains, those that are dead and not gone: a device may be theirs still."""
        if not self.domids:
            return []
        return [row.domid for row in self._rows() if row.zombie and row.domid in self.domids]

    def _note_domids(self) -> None:
        """The numbers that our domains had, as their creation noted them on the host: a zombie has no name.

        A number is nobody's for good: Xen gives it away again, from 1 on in each boot. Whose name it has now is its.
        """
        noted = self.transport.run(Script(f"cat {REMOTE_RUN}/*.domids 2>/dev/null"), deadline=self._deadline)
        self.domids |= {int(word) for word in noted.text.split() if re.fullmatch(r"[1-9][0-9]{0,4}", word)}
        if self.domids:
            named = {row.domid: row.name for row in self._rows() if not row.zombie}
            self.domids -= {domid for domid, name in named.items() if name not in self.touched.domains}

    def _rows(self) -> tuple[DomainRow, ...]:
        """All domains, dom0 too. RestoreFailed when this is Xen and does not say."""
        seen = self.transport.run(["xl", "list"], deadline=self._deadline)
        if not seen.ok:
            hypervisor = self.transport.run(["cat", "/sys/hypervisor/type"], deadline=self._deadline)
            if hypervisor.text.strip() == "xen":
                told = f"whether our domains are gone, xl does not say: {seen.complaint}"
                raise RestoreFailed(f"{self.transport.name}: {told}")
            return ()  # no Xen in this boot: no domain either
        return parse_list(seen.text, file="xl list")

    def _device(self, wanted: Baseline) -> None:
        seen = self._read(wanted)
        if seen.who != wanted.who:  # gone, or another device: not ours to touch
            return
        self._driver(wanted, seen)
        self._attributes(wanted)
        self._registers(wanted)
        self._settings(wanted)

    def _driver(self, wanted: Baseline, seen: Baseline) -> None:
        device = wanted.device
        if wanted.driver not in (seen.driver, PCIBACK) and (seen.driver == PCIBACK or seen.pciback_slot):
            option = [] if wanted.driver is None else ["-r"]
            self._change(
                ChangeKind.DRIVER,
                device,
                f"take {device} from pciback",
                ["xl", "pci-assignable-remove", *option, device],
            )
            seen = self._read(wanted)
        if seen.pciback_slot != wanted.pciback_slot:  # pciback binds what it has in its list (pcistub_match)
            slot = "new_slot" if wanted.pciback_slot else "remove_slot"
            self._write(device, f"{_DRIVERS}/{PCIBACK}/{slot}", device)
        if seen.driver not in (wanted.driver, None):
            self._write(device, f"{_DRIVERS}/{seen.driver}/unbind", device)
        if seen.driver_override != wanted.driver_override:
            self._write(device, self._sysfs(device, "driver_override"), wanted.driver_override or "")
        if wanted.driver is not None and self._read(wanted).driver is None:
            self._write(device, f"{_DRIVERS}/{wanted.driver}/bind", device)

    def _attributes(self, wanted: Baseline) -> None:
        seen = self._read(wanted)
        for name, before, now in (
            ("power/control", wanted.power_control, seen.power_control),
            ("reset_method", wanted.reset_method, seen.reset_method),
            ("sriov_numvfs", wanted.numvfs, seen.numvfs),
        ):
            if before != now and before:
                path = self._sysfs(wanted.device, name)
                if name == "sriov_numvfs" and "0" not in (before, now):  # sriov_numvfs_store: EBUSY from one to another
                    self._write(wanted.device, path, "0")
                self._write(wanted.device, path, before)
        if seen.interfaces_up < wanted.interfaces_up:
            folder = self._sysfs(wanted.device, "net")
            names = self.transport.run(["ls", folder], deadline=self._deadline).text.split()
            for name in names:
                command = ["ip", "link", "set", "dev", name, "up"]
                self._change(ChangeKind.CONFIG, wanted.device, f"bring {name} up", command)

    def _registers(self, wanted: Baseline) -> None:
        """COMMAND by hand, MSI-X only by a reset: its bits belong to the driver, to Xen and to the device."""
        seen = self._read(wanted)
        if wanted.command is None or seen.command is None:
            return
        if not wanted.has_msix_of(seen) and wanted.driver is None:
            self._write(wanted.device, self._sysfs(wanted.device, "reset"), "1")
            seen = self._read(wanted)
        if seen.command is not None and (seen.command ^ wanted.command) & COMMAND_BITS:
            value = f"COMMAND={wanted.command & COMMAND_BITS:x}:{COMMAND_BITS:x}"
            command = ["setpci", "-s", wanted.device, value]
            self._change(ChangeKind.CONFIG, wanted.device, f"write {value} of {wanted.device}", command)

    def _settings(self, wanted: Baseline) -> None:
        """What a driver that is bound anew has set back: MTU, MAC, features, queues, schedulers."""
        seen = self._read(wanted)
        names = dict(seen.settings)
        for name, before, _ in wanted.drift(seen):
            thing, *setting = name.split(" ")
            place = names.get(f"{thing} name", "")
            text = f"set {place} {' '.join(setting)} to {before}"
            if thing.startswith("block"):
                path = f"/sys/class/block/{place}/queue/{setting[0]}"
                self._change(ChangeKind.CONFIG, wanted.device, text, ["tee", path], f"{before}\n".encode())
            elif len(setting) == 2:
                option = {"feature": "-K", "ring": "-G", "channels": "-L"}[setting[0]]
                command = ["ethtool", option, place, setting[1].lower(), before]
                self._change(ChangeKind.CONFIG, wanted.device, text, command)
            else:
                word = {"tx_queue_len": "txqueuelen"}.get(setting[0], setting[0])
                self._change(ChangeKind.CONFIG, wanted.device, text, ["ip", "link", "set", "dev", place, word, before])

    def _write(self, device: str, path: str, value: str) -> None:
        """One value into a file of sysfs. That it did not take shows when everything is read again."""
        self._change(ChangeKind.DRIVER, device, f"write {value!r} to {path}", ["tee", path], f"{value}\n".encode())

    def _change(self, kind: ChangeKind, device: str, text: str, command: Command, stdin: bytes = b"") -> None:
        """One step with a device, made by a shell that asks first whether somebody else has the device by now."""
        self._announce(kind, device, text)
        asking = self._owners.unless_taken(command, device)
        done = self.transport.run(asking, deadline=self._deadline, changes=True, stdin=stdin)
        if not owners.refuse_taken(done, device).ok:
            self.notice(f"{text}: {done.complaint}")

    def _announce(self, kind: ChangeKind, subject: str, text: str) -> None:
        """Going back needs no line of its own: what is on record already says where to."""
        try:
            self.ledger.about_to(Change(kind, subject, text, "nothing: this is the undo"))
        except NotRecorded as error:
            if not self._unwritten:
                self.notice(f"going back without writing it down: {error.message}")
            self._unwritten = True

    def _read(self, wanted: Baseline) -> Baseline:
        return baselines.read(self.transport, Bdf.parse(wanted.device))

    def _loaded(self, module: str) -> bool:
        name = module.replace("-", "_")
        return self.transport.run(["test", "-d", f"/sys/module/{name}"], deadline=self._deadline).ok

    @staticmethod
    def _sysfs(device: str, name: str) -> str:
        return f"/sys/bus/pci/devices/{device}/{name}"

    @property
    def _deadline(self) -> Deadline:
        return Deadline.after(_SECONDS)
