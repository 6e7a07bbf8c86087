"""A host with one network card, as far as giving it back is concerned: what an undo reads and writes, as the kernel and
xl answer it. In memory, so that a test sees every step and may say what fails."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field

from harness.base.errors import NotRecorded
from harness.lab.lease import owners, ownxen
from harness.model.address import Bdf
from harness.model.change import Change
from suites.selftest.fakes.faketransport import Executed, FakeTransport, Reply
from suites.selftest.fakes.journalline import must_be_storable

NIC = Bdf.parse("0000:02:00.0")
DEVICE = f"/sys/bus/pci/devices/{NIC}"
DRIVERS = "/sys/bus/pci/drivers"
_MASKALL = 0x4000


@dataclass
class PlainBox:
    """`broken`: programs, or files by the end of their path, that refuse; `idle`: those that say yes and do nothing."""

    driver: str = "e1000e"
    native: str = "e1000e"  # the driver that xl remembers
    slot: bool = False
    override: str = ""
    power: str = "on"
    method: str = "pm"
    vfs: str = "0"
    command: int = 0x0006
    msix: int = 0x0004
    silent: bool = False
    dies_of_reset: bool = False
    ids: str = "0x8086\n0x10d3\n0x8086\n0xa01f"
    path: str = f"/sys/devices/pci0000:00/0000:00:1c.1/{NIC}"
    up: dict[str, bool] = field(default_factory=lambda: {"eth1": True})
    settings: dict[str, str] = field(default_factory=dict)
    domains: dict[int, str] = field(default_factory=lambda: {0: "Domain-0"})
    states: dict[int, str] = field(default_factory=dict)  # where another than of the living, or of the nameless dead
    zombies: bool = False  # what is destroyed does not go
    domids: str = ""  # as creation noted them
    xenstore: str = ""
    modules: set[str] = field(default_factory=lambda: {"xen_pciback"})
    key_q: str = ""
    xl: str = ""  # what xl complains of instead of listing
    hypervisor: str = "xen\n"
    full: bool = False  # no line of a journal can be written
    broken: set[str] = field(default_factory=set)
    idle: set[str] = field(default_factory=set)
    sent: list[str] = field(default_factory=list)  # that changed something, or tried to
    told: list[tuple[str, str, str, int]] = field(default_factory=list)  # kind, subject, words, after how many of those
    link: FakeTransport = field(init=False)

    def __post_init__(self) -> None:
        self.link = FakeTransport("box", connected=True, commands={".*": self._answer})

    def about_to(self, change: Change) -> None:
        must_be_storable(change)
        if self.full:
            raise NotRecorded("No space left on device")
        self.told.append((str(change.kind), change.subject, change.text, len(self.sent)))

    @property
    def asked(self) -> list[str]:
        """Everything that was sent, and changes nothing."""
        return [one.shown for one in self.link.executed if not one.changes]

    def _answer(self, executed: Executed) -> Reply:
        words = shlex.split(executed.shown)
        text = words[2] if words[:2] == ["sh", "-c"] else ""
        if executed.changes:
            return self._change(text, words, executed.stdin)
        modules = [[f"/sys/module/{module}"] for module in self.modules]
        known: list[tuple[bool, Callable[[], Reply]]] = [
            ("set -- @" in text, lambda: self._sections(text)),
            (text == owners._ASK, lambda: Reply(self.key_q.encode(), status=0 if self.hypervisor else 95)),
            ("*.domids" in text, lambda: Reply(self.domids.encode())),
            ("/libxl/pci" in text, Reply),  # waits until a domain is gone
            (words == ["xl", "list"], self._list),
            (words == ["xl", "info"], lambda: Reply(status=1)),
            (words == ["xenstore-ls", "-f", "/local/domain/0/backend/pci"], lambda: Reply(self.xenstore.encode())),
            (words == ["cat", "/sys/hypervisor/type"], lambda: Reply(self.hypervisor.encode())),
            (words == ["ls", f"{DEVICE}/net"], lambda: Reply("\n".join(self.up).encode())),
            (words[:2] == ["test", "-d"], lambda: Reply(status=int(words[2:] not in modules))),
        ]
        (answer,) = [answer for fits, answer in known if fits]
        return answer()

    def _list(self) -> Reply:
        if self.xl:
            return Reply(stderr=self.xl.encode(), status=1)
        rows = "".join(
            f"{name:<40} {domid} 128 1 {self.states.get(domid, '--p--d' if name == '(null)' else '-b----')} 1.0\n"
            for domid, name in self.domains.items()
        )
        return Reply(f"Name ID Mem VCPUs State Time(s)\n{rows}".encode())

    def _sections(self, text: str) -> Reply:
        mark = re.search(r"set -- (@\w+)", text)
        assert mark
        config = bytearray(64)
        config[4:6], config[6], config[0x34] = self.command.to_bytes(2, "little"), 0x10, 0x40
        config += bytes([0x11, 0, *self.msix.to_bytes(2, "little")]) + bytes(12)
        said = {
            "path": self.path,
            "ids": self.ids,
            "slots": str(NIC) if self.slot else "",
            "driver": f"{DRIVERS}/{self.driver}" if self.driver else "",
            "driver_override": self.override or "(null)",
            "power_control": self.power,
            "reset_method": self.method,
            "sriov_numvfs": self.vfs,
            "config": (b"\xff" * 64 if self.silent else bytes(config)).hex(" "),
            "interfaces": "\n".join(f"{name} {0x1003 if up else 0x1002:#x}" for name, up in self.up.items()),
            "settings": "\n".join(f"{name} {value}" for name, value in self.settings.items()),
            "end": "",
        }
        return Reply("".join(f"\n{mark[1]} {name}\n{value}\n" for name, value in said.items()).encode())

    def _change(self, text: str, words: list[str], stdin: bytes) -> Reply:
        if "modprobe -r xen-pciback" in text:
            words = ["modprobe", "-r", "xen-pciback"]
        elif "xenstore-rm" in text:
            words = text.split()[-2:]
        elif "grub-editenv" in text or "maskall: boots" in text:
            words = ["rm", ownxen.CUSTOM]
        elif text:
            words = shlex.split(text.rpartition("exec ")[2])
        value = stdin.decode().removesuffix("\n")
        words = [words[0], words[1], value] if words[0] == "tee" else words
        self.sent.append(" ".join(words).replace(DEVICE, "D").replace(DRIVERS, "P"))
        names = (words[0], words[1].rpartition("/")[2])
        if self.broken.intersection(names):
            return Reply(stderr=f"first\n{names[1]}: Invalid argument\n".encode(), status=1)
        refused = False if self.idle.intersection(names) else self._made(words, value)
        return Reply(stderr=b"Device or resource busy\n", status=1) if refused else Reply()

    def _made(self, words: list[str], value: str) -> bool | None:
        """True: the kernel refuses."""
        match words:
            case ["tee", path, _] if path.startswith(DRIVERS):
                return self._bound(*path.rpartition("/")[::2])
            case ["tee", path, _] if path.endswith("/sriov_numvfs"):
                if "0" not in (value, self.vfs):
                    return True
                self.vfs = value
            case ["tee", path, _]:
                self._written(path.rpartition("/")[2], value)
            case ["xl", "pci-assignable-remove", *option, _]:
                self.driver, self.slot = self.native if option == ["-r"] else "", False
            case ["xl", "destroy", domid]:
                name = self.domains.pop(int(domid))
                self.domains |= {int(domid): "(null)"} if self.zombies else {}
                return not name
            case ["setpci", "-s", _, setting]:
                bits, mask = (int(one, 16) for one in setting.removeprefix("COMMAND=").split(":"))
                self.command = self.command & ~mask | bits
            case ["ip", "link", "set", "dev", name, "up"]:
                self.up[name] = True
            case ["ip", "link", "set", "dev", _, what, _]:
                self.settings[f"net0 {what.replace('txqueuelen', 'tx_queue_len')}"] = words[-1]
            case ["ethtool", option, _, what, _]:
                kind, shown = {"-K": ("feature", what), "-G": ("ring", what.upper()), "-L": ("channels", what.title())}[
                    option
                ]
                self.settings[f"net0 {kind} {shown}"] = words[-1]
            case ["modprobe", "-r", _]:
                self.modules.discard("xen_pciback")
        return None

    def _bound(self, folder: str, what: str) -> bool:
        if what in ("new_slot", "remove_slot"):
            self.slot = what == "new_slot"
        elif what == "unbind":
            self.driver = ""
        elif folder.endswith("/pciback") and not self.slot and self.override != "pciback":
            return True
        elif self.override in ("", folder.rpartition("/")[2]):
            self.driver = folder.rpartition("/")[2]
        else:
            return True
        return False

    def _written(self, name: str, value: str) -> None:
        match name:
            case "driver_override":
                self.override = value
            case "control":
                self.power = value
            case "reset_method":
                self.method = value
            case "reset":
                self.msix &= ~_MASKALL
                self.silent = self.silent or self.dies_of_reset
            case setting:
                self.settings[f"block0 {setting}"] = value
