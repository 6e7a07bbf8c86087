"""A lab for tests that somebody wrote: its hosts obey, and on the known-bad Xen a next guest is deaf."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.base.progress import Progress
from harness.guest.initramfs import GuestFiles
from harness.host.host import Host, Opener, TargetDevice
from harness.model.address import Bdf
from suites.selftest.fakes.fakemachine import FakeMachine
from suites.selftest.fakes.faketransport import Handler, Reply
from suites.selftest.fakes.obligingdom0 import ObligingDom0
from suites.selftest.fakes.sessionrun import ANSWERS, BROKEN, ENTRY, FITTING
from suites.selftest.guest.test_guest_exercise import BEFORE
from suites.selftest.guest.test_guest_exercise import text as exercised

XEN, KERNEL = "4.20.5-pre", "6.12.118+deb13-amd64"
BUILD_ID = "576c0736b3e38388c5afe9aaccc43a18d514e88e"
MACHINE = "QEMU Standard PC (Q35 + ICH9, 2009), BIOS 1.16.2-debian-1.16.2-1 04/01/2014"
"""Those of the recorded runs, so that one of them can be a part of a run here."""
PLACES = {"nvme": ("1b36:0010", "0000:04:00.0"), "virtio-rng": ("1af4:1044", "0000:05:00.0")}


@dataclass
class Dom0(ObligingDom0):
    """`deaf`: whether the guest that was created last gets no interrupts."""

    deaf: Callable[[], bool] = lambda: False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.transport.commands.update(ANSWERS)
        self.transport.commands["dmesg"] = Reply(b"[    0.0] Linux\n")

    def _console(self, data: bytes) -> bytes:
        if b"/exercise/" not in data or not self.deaf():
            return super()._console(data)
        token = data.decode().partition(" ")[0]
        return f"{self._challenge}{exercised(interrupts_after=BEFORE)}\n@{token} 0\n".encode()


@dataclass
class CaseLab:
    """`log`: what became of its hosts, in order. `restore` is a lab host's; None: they are thrown away."""

    restore: Callable[[], None] | None = None
    unreachable: Exception | None = None
    refuses: Sequence[str] = ()
    restarts: bool = False
    commands: Mapping[str, Handler] = field(default_factory=dict)  # other answers than those of the obliging dom0
    log: list[str] = field(default_factory=list)
    dom0: Dom0 | None = None  # of the host that was made last

    @contextlib.contextmanager
    def host(
        self, devices: Sequence[str], progress: Progress, *, keep: bool = False, opener: Opener | None = None
    ) -> Iterator[Host]:
        del keep, opener
        if self.unreachable is not None:
            raise self.unreachable
        machine = FakeMachine()
        machine.put(ENTRY, FITTING)
        dom0 = Dom0(
            {PLACES[name][0]: Bdf.parse(PLACES[name][1]) for name in devices},
            refuses=self.refuses,
            restarts=self.restarts,
            lists=True,
            kernel_log=f"[    0.0] Linux version {KERNEL} (gcc)\n[    0.0] DMI: {MACHINE}\n",
            boot_log=f"(XEN) Xen version {XEN} (Debian) (gcc) debug=n\n",
        )
        self.dom0 = dom0
        dom0.transport.commands.update(self.commands)
        dom0.deaf = lambda: len(dom0.names) > 1 and machine.memory[ENTRY] == BROKEN[0]
        self.log.append(f"host with {' '.join(devices) or 'nothing'}")
        try:
            yield Host(
                "fake",
                dom0.transport,
                {name: TargetDevice(name, PLACES[name][0], name, True) for name in devices},
                GuestFiles("/k", "/i"),
                debugger=machine,
                restore=self.restore,
                facts={"stack": "trixie"},
            )
        finally:
            self.log.append("gone")

    def facts(self) -> dict[str, str]:
        told = {"stack": "trixie", "xen_version": XEN, "xen_build_id": BUILD_ID, "kernel": KERNEL}
        return {"host": "nested-fake", "nested": "in QEMU", **told}

    def packages(self) -> dict[str, str]:
        return {"xen": "4.20"}

    def abort(self) -> None:
        self.log.append("aborted")

    def kept(self) -> list[Path]:
        return []

    def close(self) -> None:
        self.log.append("closed")
