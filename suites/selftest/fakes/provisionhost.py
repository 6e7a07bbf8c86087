"""A host to be provisioned that exists only in a test: packages, files, jobs and boots as a table of answers."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import cast

from harness.base.errors import HostUnreachable, Unreachable
from harness.lab.inventory.models import LabEntry
from harness.lab.lease.lease import Lease
from harness.lab.lease.ownxen import GRUBENV
from harness.lab.provision.menu import parse_menu
from harness.lab.provision.wanted import GRUB_FILE, MENU, MODULES_FILE, PACKAGES, sha256
from harness.lab.reboot import How
from harness.model.change import Change
from suites.selftest.fakes.faketransport import Executed, FakeTransport, Reply
from suites.selftest.fakes.provisionfacts import KERNEL, XL_INFO, menu, sections

MANIFEST = "/var/lib/maskall/provision/manifest.json"
INITRD = f"/boot/initrd.img-{KERNEL}"
LIBRARY = "libxen-something"


@dataclass
class FakeSystem:
    """`events`: what was announced (`told ...`) and what was done, in order. `simulated`: more lines of apt's.

    `loads`: GRUB can load Xen. `comes_up`: Xen then boots dom0; else it hangs until it is power cycled.
    """

    transport: FakeTransport = field(default_factory=FakeTransport)
    packages: set[str] = field(default_factory=lambda: {"kmod", "iproute2"})
    events: list[str] = field(default_factory=list)
    boots: int = 0
    xen: bool = False
    loads: bool = True
    comes_up: bool = True
    environment: dict[str, str] = field(default_factory=dict)
    manual: set[str] = field(default_factory=set)
    half: set[str] = field(default_factory=set)
    programs: list[str] = field(default_factory=list)
    iommu_works: bool = True
    simulated: str = ""
    update_status: int = 0
    notices: list[str] = field(default_factory=list)
    domains: str = (
        "Name                ID   Mem VCPUs\tState\tTime(s)\nDomain-0             0  1024     1     r-----      10.1\n"
    )

    def __post_init__(self) -> None:
        self.transport.connected = True
        self.transport.files[MENU] = (menu().encode(), 0o600)
        self.transport.files[GRUBENV] = (b"", 0o600)
        self.transport.files[INITRD] = (b"old initramfs", 0o600)
        self.kept: dict[str, bytes] = {}
        self.transport.commands = {
            r".*section os-release.*": self._facts,
            r".*cp --preserve=all.*": self._backup,
            r".*--simulate.*": self._simulate,
            r"systemd-run .*": self._begin,
            r".*systemctl is-active.*": lambda _: Reply(b"ended 0\nlast line\n"),
            r"dpkg-query .*": self._known,
            r"apt-mark .*": lambda _: Reply("".join(f"{name}\n" for name in sorted(self.manual)).encode()),
            r"grub-editenv .*": self._environment,
            r"xl list": lambda _: Reply(self.domains.encode()),
            r".*xl dmesg.*": Reply(b"(XEN) I/O virtualisation disabled\n"),
            r".*rm -rf /var/lib/maskall/provision.*": self._forget,
            r".*mkdir -p.*": Reply(),
            r"sync .*": Reply(),
        }

    def visit(self, *, allowed: bool = True) -> Lease:
        """A stay on it, as far as provisioning looks at one."""
        entry = LabEntry.model_construct(allow_reboot=allowed, allow_persistent=allowed, boot_seconds=10)
        stay = SimpleNamespace(
            site=SimpleNamespace(name="box", entry=entry),
            transport=self.transport,
            journal=SimpleNamespace(boot_id="boot-0", about_to=self._about_to),
            state=SimpleNamespace(keep=lambda name, data: None),
            notice=self.notices.append,
            open_journal=lambda reason: self.events.append(f"open {reason}"),
            meet_again=lambda: None,
        )
        return cast(Lease, stay)

    def reboot(self, _: object, power: object, deadline: object, how: How, before: object) -> None:
        """In the place of harness.lab.reboot.reboot; GRUB does what its menu and its environment say."""
        self.boots += 1
        self.events.append("did reboot" if how is How.SOFT else "did power cycle")
        shown = parse_menu(self.transport.files[MENU][0].decode())
        once = self.environment.pop("next_entry", None)
        self._keep_environment()
        entry = shown.chosen(once or shown.default)
        assert entry is not None
        if entry.hypervisor and not self.loads:
            entry = shown.chosen(self.environment["fallback"])
            assert entry is not None
        self.xen = bool(entry.hypervisor)
        if self.xen and not self.comes_up:
            raise HostUnreachable("box does not answer", why=Unreachable.SILENT)

    def _environment(self, asked: Executed) -> Reply:
        _, path, verb, *words = shlex.split(asked.shown)
        assert path == GRUBENV
        if verb == "set":
            self.environment.update(word.split("=", 1) for word in words)
            self.events.append(f"did set {' '.join(word.partition('=')[0] for word in words)}")
        elif verb == "unset":
            for word in words:
                self.environment.pop(word, None)
        self._keep_environment()
        return Reply(self.transport.files[GRUBENV][0])

    def _keep_environment(self) -> None:
        lines = "".join(f"{name}={value}\n" for name, value in self.environment.items())
        self.transport.files[GRUBENV] = (lines.encode(), 0o600)

    def update_grub(self) -> None:
        """As Debian's xen.cfg has it: unless told not to, Xen becomes the default as soon as it is installed."""
        ours = self.transport.files.get(GRUB_FILE, (b"", 0))[0].decode()
        xen = "xen-system-amd64" in self.packages
        told = re.search(r"^GRUB_DEFAULT=(.*)$", ours, re.MULTILINE)
        default = shlex.split(told[1])[0] if told else "0"
        if xen and "XEN_OVERRIDE_GRUB_DEFAULT=0" not in ours:
            default = "Debian GNU/Linux, with Xen hypervisor"
        self.transport.files[MENU] = (menu(xen=xen, default=default).encode(), 0o600)

    @property
    def changes(self) -> list[str]:
        """Every command that changed something."""
        return [done.shown for done in self.transport.executed if done.changes]

    def _about_to(self, change: Change) -> None:
        self.events.append(f"told {change.kind} {change.subject.split()[0]}")

    def _facts(self, asked: Executed) -> Reply:
        separator = re.search(r"@[0-9a-f]{16}", asked.shown)
        assert separator is not None
        info = XL_INFO if self.iommu_works else XL_INFO.replace(b"hvm_directio ", b"")
        boot = sections()["boot"] + (b"pciback\n" if self.xen else b"")
        files = {path: self.transport.files[path][0] for path in (GRUB_FILE, MODULES_FILE, MENU) if self._has(path)}
        told = sections(
            boot_id=f"boot-{self.boots}\n".encode(),
            kernels=f"vmlinuz-{KERNEL} 1\ninitrd.img-{KERNEL} 1\n".encode(),
            menu=self.transport.files[MENU][0],
            grubenv=self.transport.files[GRUBENV][0],
            half="".join(f"{name} half-configured\n" for name in sorted(self.half)).encode(),
            hypervisor=b"xen\ncontrol_d\n" if self.xen else b"",
            xl_info=info if self.xen else b"",
            boot=boot,
            packages="".join(f"{name} ii  1\n" for name in sorted(self.packages)).encode(),
            files="".join(f"{sha256(data.decode())}  {path}\n" for path, data in files.items()).encode(),
            backup=self.transport.files.get(MANIFEST, (b"", 0))[0],
        )
        mark = separator[0].encode()
        return Reply(
            b"".join(b"\n%s %s\n%s" % (mark, name.encode(), data) for name, data in told.items()) + b"\n%s end\n" % mark
        )

    def _has(self, path: str) -> bool:
        return path in self.transport.files

    def _look(self, number: int, path: str) -> str:
        if not self._has(path):
            return f"absent {path}"
        data, mode = self.transport.files[path]
        return f"file {number} {mode:o} 0:0 {sha256(data.decode())} {path}"

    def _backup(self, asked: Executed) -> Reply:
        _, _, _, verb, *words = shlex.split(shlex.split(asked.shown)[2].splitlines()[0])
        if verb == "look":
            return Reply("\n".join(self._look(0, path) for path in words).encode() + b"\n")
        if verb == "keep":
            self.kept.update({path: self.transport.files[path][0] for path in words[1:] if self._has(path)})
            lines = [self._look(int(words[0]) + number, path) for number, path in enumerate(words[1:])]
            return Reply("\n".join(lines).encode() + b"\n")
        self.events.append(f"did back {words[0]}")
        if words[0] == GRUBENV:
            self.environment.clear()
        if words[1] == "absent":
            self.transport.files.pop(words[0], None)
        else:
            self.transport.files[words[0]] = (self.kept[words[0]], 0o600)
        return Reply()

    def _simulate(self, asked: Executed) -> Reply:
        names = asked.shown.partition(" -- ")[2].split()
        verb = "Purg" if "purge" in asked.shown else "Inst"
        more = [LIBRARY] if verb == "Inst" else []
        return Reply("".join(f"{verb} {name} (1)\n" for name in [*names, *more]).encode() + self.simulated.encode())

    def _begin(self, asked: Executed) -> Reply:
        path = asked.shown.split()[-1]
        program = self.transport.files[path][0].decode()
        verb = re.search(r"work|jobs/(\w+)-", program)
        assert verb is not None
        self.events.append(f"did {verb[1]}")
        self.programs.append(program)
        if verb[1] == "install":
            self.packages |= {*PACKAGES, LIBRARY}
            self.update_grub()
            self.transport.files[INITRD] = (b"new initramfs", 0o600)
        elif verb[1] == "purge":
            self.packages -= {*shlex.split(program.partition(" -- ")[2].partition(" )")[0])}
            self.update_grub()
            self.transport.files[INITRD] = (b"newest initramfs", 0o600)
        elif verb[1] == "menu":
            self.update_grub()
        self.transport.files[path.replace("program", "log")] = (b"a log\n", 0o600)
        return Reply()

    def _known(self, asked: Executed) -> Reply:
        names = asked.shown.partition(" -- ")[2].split()
        return Reply("".join(f"{name} installed\n" for name in names if name in self.packages).encode(), status=1)

    def _forget(self, _: Executed) -> Reply:
        self.transport.files.pop(MANIFEST)
        self.events.append("did forget")
        return Reply()
