"""A dom0 that does at once what it is told: commands are answered as on a good day, and nothing has a meaning.

For whatever asks only what is done to a host, and in which order; what a host makes of it is for other fakes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from harness.model.address import Bdf
from suites.selftest.fakes.faketransport import Executed, FakeTransport, Reply
from suites.selftest.fakes.hostile import CAPTURED, captured
from suites.selftest.fakes.readings import files_of
from suites.selftest.fakes.snapshots import KEYS, STATE, dump
from suites.selftest.guest.test_guest_exercise import text as exercised

CONFIG = (CAPTURED / f"{STATE}.config.bin").read_bytes()
_HEADER = "Name                                        ID   Mem VCPUs\tState\tTime(s)\n"
_ROW = "{name:<40} {domid:5d}   128     1     {state}       1.0\n"
_MCFG = "(XEN) PCI: MCFG configuration 0: base b0000000 segment 0000 buses 00 - ff\n"
_XENSYMS = "ffff82d040200000 T _stext\n"


@dataclass
class ObligingDom0:
    """`devices`: where each vendor:device is, bound to `driver` at first.

    `refuses`: names of domains that are not created, and beginnings of commands (regular expressions) that fail.
    `lists`: what is observed shows its own domains, not those of the captured state.
    `restarts`: the toolstack has started the first guest again.
    """

    devices: dict[str, Bdf]
    driver: str = "nvme"
    refuses: Sequence[str] = ()
    restarts: bool = False
    lists: bool = False
    bound: dict[Bdf, str | None] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    state: str = "-b----"
    _pressed: int = 0
    said: list[str] = field(default_factory=list)  # in guests' consoles
    kernel_log: str = ""
    boot_log: str = ""  # what Xen's console begins with
    _challenge: str = ""  # that the guest which was created last was told, as it answers it

    def __post_init__(self) -> None:
        self.bound = {address: self.driver for address in self.devices.values()}
        self.transport = FakeTransport(
            connected=True,
            commands={
                **{f"{command}.*": Reply(b"refused\n", status=1) for command in self.refuses},
                r"lspci -D -n.*": lambda _: self._lspci(),
                r"readlink /sys/bus/pci/devices/(\S+)/driver": self._driver,
                r"xl pci-assignable-add .*": self._bind(lambda _: "pciback"),
                r"xl pci-assignable-remove -r .*": self._bind(lambda _: self.driver),
                r"xl pci-assignable-remove .*": self._bind(lambda _: None),
                r"xl (destroy|pci-attach|pci-detach|save) .*": Reply(),
                r"xl debug-keys .*": Reply(),
                r"xl list": lambda _: self._list(),
                r"xl dmesg": Reply(_MCFG.encode()),
                r"cat /proc/xen/xensyms": Reply(_XENSYMS.encode()),
                r"setpci .*": Reply(),
                r"sh -c 'mkdir -p .*": self._create,
                r"sh -c 'now\(\).*": Reply(),
                r"sh -c 'pid=.*": Reply(b"pid 77\n"),
                r"sh -c 'echo \S+ > /sys/bus/pci/drivers/pciback/unbind'": self._bind(lambda _: None),
                r"sh -c '(device=|cd /sys/bus/pci).*": Reply(),
                r"sh -c 'set -- [0-9a-f]{4}:.*": Reply(exercised().encode()),
                r"sh -c 'set -- @.*": self._sections,
            },
            streams={".*": self._console},
        )

    def _lspci(self) -> Reply:
        return Reply("".join(f"{address} 0108: {name}\n" for name, address in self.devices.items()).encode())

    def _driver(self, executed: Executed) -> Reply:
        driver = self.bound[Bdf.parse(executed.shown.split("/")[5])]
        return Reply(f"../../{driver}\n".encode()) if driver else Reply(status=1)

    def _bind(self, to: Callable[[Bdf], str | None]) -> Callable[[Executed], Reply]:
        def work(executed: Executed) -> Reply:
            assert executed.changes
            address = Bdf.parse(re.findall(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", executed.shown)[0])
            self.bound[address] = to(address)
            return Reply()

        return work

    def _create(self, executed: Executed) -> Reply:
        name = re.findall(r'^name = "(.*)"$', executed.stdin.decode(), re.MULTILINE)[0]
        if name in self.refuses:
            return Reply(b"libxl: error: Device or resource busy\ndomid none\n", status=3)
        told = re.findall(r" maskall\.challenge=(\w+)", executed.stdin.decode())
        self._challenge = f"\n== challenge\n{told[0]}\n" if told else ""
        domid = len(self.names) + 1
        self.names[domid] = name
        return Reply(f"domid {domid}\n".encode())

    def _list(self) -> Reply:
        """A guest that is restarted has its successor by now."""
        if self.restarts and len(self.names) == 1:
            self.names[2] = self.names[1]
        rows = [_ROW.format(name=name, domid=domid, state=self.state) for domid, name in self.names.items()]
        return Reply((_HEADER + _ROW.format(name="Domain-0", domid=0, state="r-----") + "".join(rows)).encode())

    def _console(self, data: bytes) -> bytes:
        if not data:
            return b"@agent up 1.0\n"
        token, _, command = data.decode().strip().partition(" ")
        self.said.append(command)
        if "sysrq" in command:
            self.state = "----c-"
        answer = self._challenge + exercised() if "/exercise/" in command else ""
        if "od -An" in command:
            answer = "".join(f" {CONFIG[start : start + 16].hex(' ')}\n" for start in range(0, 256, 16))
        return f"{answer}\n@{token} 0\n".encode()

    def _ring(self) -> str:
        """Xen's console; where its readers look for what is new, each reading has pressed the keys once more."""
        self._pressed += 1
        return self.boot_log + KEYS * (self._pressed if self.lists else 1)

    def _sections(self, executed: Executed) -> Reply:
        """What the reading programs print: of a device, of both logs, of what dead domains have left."""
        separator = re.findall(r"@\w+", executed.shown)[0].encode()
        sections = {
            "config.hex": dump(CONFIG),
            "driver.txt": b"../pciback\n",
            "physfn.txt": b"",
            "lspci.txt": captured(f"{STATE}.lspci.txt").encode(),
            "xl_list.txt": self._list().stdout if self.lists else captured(f"{STATE}.xl_list.txt").encode(),
            "owner_domid.txt": b"2\n",
            "dom0_dmesg.txt": self.kernel_log.encode(),
            "xl_dmesg.txt": self._ring().encode(),
        }
        if "section irq_desc.txt" in executed.shown:
            sections = files_of("4.20/no_guest_alive")
        asked = set(re.findall(r"^section (\S+)$", executed.shown, re.MULTILINE))
        sections = {name: data for name, data in sections.items() if name in asked}
        body = b"".join(b"\n%s %s\n%s" % (separator, name.encode(), data) for name, data in sections.items())
        return Reply(body + b"\n%s end\n" % separator)
