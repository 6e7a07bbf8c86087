"""Back to the baseline: what the journal says was touched is compared with how it was, and put right.

Nothing is replayed. What was announced and perhaps never done, done twice, or undone by a reboot ends the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from harness.base.deadline import Deadline
from harness.base.errors import RestoreFailed
from harness.host.pciback import PCIBACK
from harness.lab.lease import baseline as baselines
from harness.lab.lease.baseline import COMMAND_BITS, Baseline
from harness.lab.lease.entry import Entry, What
from harness.model.address import Bdf
from harness.model.change import Change, Kind, Ledger
from harness.transport.base import Transport
from harness.xen.keys.xl_output import parse_list
from harness.xen.toolstack.xl import XlToolstack

_SECONDS = 60.0
GONE_SECONDS = 15.0
"""How long a destroyed domain may take to be gone; libxl itself has waited for its devices before."""

OUR_DOMAINS = "maskall-"
"""How the names of all our domains begin: whatever a journal says, no other is ever destroyed."""

_DRIVERS = "/sys/bus/pci/drivers"


@dataclass(frozen=True)
class Touched:
    """What a journal says was, or may have been, changed."""

    domains: frozenset[str] = frozenset()
    modules: frozenset[str] = frozenset()
    baselines: tuple[Baseline, ...] = ()

    @classmethod
    def by(cls, entries: Sequence[Entry], boot_id: str = "") -> Touched:
        """Pure. A device's first baseline counts: later ones were taken when it was no longer as found.

        A module loaded before the boot `boot_id` is not ours any more: whatever is loaded now, that boot has loaded.
        """
        subjects: dict[str, set[str]] = {}
        first: dict[str, Baseline] = {}
        for entry in entries:
            if entry.what is What.INTENT:
                if entry.payload.get("kind") == Kind.MODULE and boot_id and entry.boot_id != boot_id:
                    continue
                subjects.setdefault(str(entry.payload.get("kind")), set()).add(str(entry.payload.get("subject")))
            elif entry.what is What.BASELINE:
                known = Baseline.from_payload(entry.payload)
                first.setdefault(known.device, known)
        ours = {name for name in subjects.get(Kind.DOMAIN, ()) if name.startswith(OUR_DOMAINS)}
        return cls(frozenset(ours), frozenset(subjects.get(Kind.MODULE, ())), tuple(first.values()))


@dataclass
class Undo:
    """Puts one host back. Every step goes into the same journal before it is made."""

    transport: Transport
    ledger: Ledger
    touched: Touched
    notice: Callable[[str], None] = lambda _: None
    rebooted: bool = False  # since the baselines were read: a device may have moved, and is as the boot left it
    _toolstack: XlToolstack = field(init=False)

    def __post_init__(self) -> None:
        self._toolstack = XlToolstack(self.transport)

    def reconcile(self, *, whole: bool) -> None:
        """Every step that is needed, then everything is read again. RestoreFailed names what is not as it was.

        Not `whole`: the modules we loaded stay for the rest of the visit.
        """
        self.destroy_domains()
        for wanted in self.touched.baselines:
            self._device(wanted)
        modules = sorted(self.touched.modules) if whole else []
        for module in modules:
            if self._loaded(module):
                self._change(Kind.MODULE, module, f"unload {module}", ["modprobe", "-r", module])
        self._verify(modules)

    def _verify(self, modules: Sequence[str]) -> None:
        differences = [f"domain {name} is still there" for name in sorted(self._our_domains())]
        for wanted in self.touched.baselines:
            seen = self._read(wanted)
            if seen.who != wanted.who and self.rebooted:
                self.notice(f"{wanted.differences(seen)[0]}; the reboot has undone what was done to it")
            else:
                differences += wanted.differences(seen)
        differences += [f"module {one} is still loaded" for one in modules if self._loaded(one)]
        if differences:
            raise RestoreFailed(
                f"{self.transport.name} is not as it was: {'; '.join(differences)}",
                hint=f"maskall restore {self.transport.name}",
            )

    def destroy_domains(self) -> None:
        """Those the journal names, and no others."""
        for name, domid in self._our_domains().items():
            self.ledger.about_to(Change(Kind.DOMAIN, name, f"destroy {name} (d{domid})", "nothing: this is the undo"))
            self._toolstack.destroy(domid, self._deadline)
            for wanted in self.touched.baselines:
                self._toolstack.await_gone(domid, Bdf.parse(wanted.device), Deadline.after(GONE_SECONDS))

    def still_there(self) -> list[str]:
        """The addresses at which there still is the device that was found there: no other may be reset or bound."""
        return [wanted.device for wanted in self.touched.baselines if self._read(wanted).who == wanted.who]

    def _our_domains(self) -> dict[str, int]:
        if not self.touched.domains:
            return {}
        seen = self.transport.run(["xl", "list"], deadline=self._deadline)
        if not seen.ok:
            hypervisor = self.transport.run(["cat", "/sys/hypervisor/type"], deadline=self._deadline)
            if hypervisor.text.strip() == "xen":
                told = seen.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or [f"status {seen.status}"]
                raise RestoreFailed(f"{self.transport.name}: whether our domains are gone, xl does not say: {told[0]}")
            return {}  # no Xen in this boot: no domain either
        rows = parse_list(seen.text, file="xl list")
        return {row.name: row.domid for row in rows if row.name in self.touched.domains and row.domid != 0}

    def _device(self, wanted: Baseline) -> None:
        seen = self._read(wanted)
        if seen.who != wanted.who:  # gone, or another device: not ours to touch
            return
        if wanted.differences(seen):
            self._driver(wanted, seen)
            seen = self._read(wanted)
        if wanted.differences(seen):
            self._attributes(wanted, seen)
            self._registers(wanted)

    def _driver(self, wanted: Baseline, seen: Baseline) -> None:
        device = wanted.device
        if seen.driver != wanted.driver and (seen.driver == PCIBACK or seen.pciback_slot):
            rebind = wanted.driver is not None
            self._tell(device, f"take {device} from pciback")
            self._toolstack.take_back(Bdf.parse(device), self._deadline, rebind=rebind)
            seen = self._read(wanted)
        if seen.pciback_slot and not wanted.pciback_slot:
            self._write(device, f"{_DRIVERS}/{PCIBACK}/remove_slot", device)
        if seen.driver not in (wanted.driver, None):
            self._write(device, f"{_DRIVERS}/{seen.driver}/unbind", device)
        if seen.driver_override != wanted.driver_override:
            self._write(device, self._sysfs(device, "driver_override"), wanted.driver_override or "")
        if wanted.driver is not None and self._read(wanted).driver is None:
            self._write(device, f"{_DRIVERS}/{wanted.driver}/bind", device)

    def _attributes(self, wanted: Baseline, seen: Baseline) -> None:
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
                self._change(Kind.CONFIG, wanted.device, f"bring {name} up", command)

    def _registers(self, wanted: Baseline) -> None:
        """COMMAND by hand, MSI-X only by a reset: its bits belong to the driver, to Xen and to the device."""
        seen = self._read(wanted)
        if wanted.command is None or seen.command is None:
            return
        if seen.msix_control != wanted.msix_control and wanted.driver is None:
            self._write(wanted.device, self._sysfs(wanted.device, "reset"), "1")
            seen = self._read(wanted)
        if seen.command is not None and (seen.command ^ wanted.command) & COMMAND_BITS:
            value = f"COMMAND={wanted.command & COMMAND_BITS:x}:{COMMAND_BITS:x}"
            command = ["setpci", "-s", wanted.device, value]
            self._change(Kind.CONFIG, wanted.device, f"write {value} of {wanted.device}", command)

    def _write(self, device: str, path: str, value: str) -> None:
        """One value into a file of sysfs. That it did not take shows when everything is read again."""
        self._change(Kind.DRIVER, device, f"write {value!r} to {path}", ["tee", path], f"{value}\n".encode())

    def _change(self, kind: Kind, subject: str, text: str, command: list[str], stdin: bytes = b"") -> None:
        self.ledger.about_to(Change(kind, subject, text, "nothing: this is the undo"))
        done = self.transport.run(command, deadline=self._deadline, changes=True, stdin=stdin)
        if not done.ok:
            self.notice(f"{text}: {done.stderr.decode('utf-8', 'replace').strip() or f'status {done.status}'}")

    def _tell(self, device: str, text: str) -> None:
        self.ledger.about_to(Change(Kind.DRIVER, device, text, "nothing: this is the undo"))

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
