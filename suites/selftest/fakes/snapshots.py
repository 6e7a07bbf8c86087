"""A dom0 whose snapshots are made of files, and a collector that reads from it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from harness.evidence.collector import Collector
from harness.evidence.store import EvidenceStore
from harness.model.address import Bdf
from harness.model.observation import Checkpoint, Reading
from suites.selftest.fakes.faketransport import Executed, FakeTransport, Reply
from suites.selftest.fakes.hostile import CAPTURED, captured

NVME = Bdf.parse("04:00.0")
STATE = "nvme_in_running_guest"
KEYS = "".join(captured(f"{STATE}.debugkey_{key}.txt") for key in "MQi")
MARKER = "(XEN) cannot mask IRQ 45: masking MSI-X on Dom32753's 0000:04:00.0\n"


def dump(data: bytes) -> bytes:
    """As `od -An -v -tx1` prints it."""
    rows = [data[start : start + 16] for start in range(0, len(data), 16)]
    return "".join(" " + row.hex(" ") + "\n" for row in rows).encode()


class Dom0:
    """Answers snapshot.sh from captured files; the ring and dom0's log grow as the test says."""

    def __init__(self) -> None:
        self.sections: dict[str, bytes] = {
            "config.hex": dump((CAPTURED / f"{STATE}.config.bin").read_bytes()),
            "driver.txt": b"../../../../bus/pci/drivers/pciback\n",
            "physfn.txt": b"",
            "lspci.txt": captured(f"{STATE}.lspci.txt").encode(),
            "xl_list.txt": captured(f"{STATE}.xl_list.txt").encode(),
            "xl_pci_assignable.txt": b"",
            "owner_domid.txt": b"2\n",
            "dom0_dmesg.txt": b"",
            "debugkeys.txt": b"",
            "xl_dmesg.txt": b"",
        }
        self.keys = KEYS
        self.ring = "(XEN) Xen version 4.20\n"
        self.log = "[    0.0] Linux version 6.12\n"
        self.spoil: Callable[[bytes], bytes] = lambda output: output
        self.ring_size = self.log_size = 1 << 20  # bytes that dom0's and Xen's rings hold
        self.pressed = self.closed = 0
        self.options = self.levels = ""  # of Xen, and of dom0's printk
        self.breaks: tuple[int, ...] = ()
        self.transport = FakeTransport(
            connected=True,
            commands={
                "sh -c 'set -- @.*": self.snapshot,
                "sh -c 'xl info xen_commandline.*": lambda _: Reply(
                    f"{self.options}\nprintk: {self.levels}\n".encode()
                ),
            },
        )

    def text(self) -> bytes:
        """The host's console: first all that dom0's kernel has said."""
        return (self.log + self.ring).replace("\n", "\r\n").encode()

    def printed(self, number: int) -> str:
        """What Xen prints for the debug keys the n-th time, key t before and behind the dumps."""
        mark = "(XEN) Synced stime skew: max=9ns avg=9ns samples={} current=9ns\n"
        return f"{mark.format(2 * number - 1)}{self.keys}{mark.format(2 * number)}"

    def snapshot(self, executed: Executed) -> Reply:
        match = re.match(r"sh -c 'set -- (@\w+)(?: (\S+) /libxl/pci/\S+/domid)?\n", executed.shown)
        assert match is not None and match[2] in (str(NVME), None) and not executed.changes
        if match[2]:
            self.pressed += 1
            self.ring += self.printed(self.pressed)
        else:
            self.closed += 1
            self.ring += f"(XEN) Synced stime skew: max=9ns avg=9ns samples={10**6 + self.closed} current=9ns\n"
        self.sections["xl_dmesg.txt"] = self.ring.encode()[-self.ring_size :]
        log = self.log.encode()[-self.log_size :]
        self.sections["dom0_dmesg.txt"] = log if len(log) < self.log_size else log[log.index(b"\n") + 1 :]
        separator = match[1].encode()
        asked = {name: data for name, data in self.sections.items() if f"section {name}\n" in executed.shown}
        parts = [b"\n%s %s\n%s" % (separator, name.encode(), data) for name, data in asked.items()]
        return Reply(self.spoil(b"".join([*parts, b"\n%s end\n" % separator])))

    def stored(self, store: EvidenceStore, checkpoint: Checkpoint, folder: str) -> Reading:
        """What a collector stores at a checkpoint, without one."""
        files = self.sections | {"xl_dmesg.txt": (self.ring + self.keys).encode()}
        for name, data in files.items():
            store.below(folder).put(name, data)
        return Reading(checkpoint, 1.0, folder, tuple(files))

    def collector(self, root: Path, **more: object) -> Collector:
        return Collector(self.transport, NVME, EvidenceStore(root), **more)  # type: ignore[arg-type]
