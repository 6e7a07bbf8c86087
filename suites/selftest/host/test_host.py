"""A host as a test sees it: commands, what its logs have gained, debug keys, and booting it anew."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.base.errors import HostUnreachable, LabError, UsageError
from harness.evidence.store import EvidenceStore
from harness.guest.initramfs import GuestFiles
from harness.host.deeds import Deeds
from harness.host.device import Device
from harness.host.host import Host, TargetDevice
from harness.model.address import Bdf
from harness.model.change import Change, ChangeKind
from harness.scenario.record import Action
from harness.xen.toolstack.xl import XlToolstack
from suites.selftest.fakes.faketransport import Executed, FakeTransport, Reply
from suites.selftest.fakes.hostile import CAPTURED, captured
from suites.selftest.fakes.snapshots import STATE

NVME = Bdf.parse("04:00.0")
MARKER = "(XEN) cannot mask IRQ 45: masking MSI-X on Dom32753's 0000:04:00.0\n"


@dataclass
class FakeConsole:
    """What the host's console has recorded, and Xen's options."""

    options: str
    recorded: str = ""
    breaks: tuple[int, ...] = ()

    def text(self) -> bytes:
        return self.recorded.replace("\n", "\r\n").encode()


@dataclass
class Dom0:
    """Xen's ring grows by a dump with each debug key; `boots` are the boot_ids that answer one after the other."""

    folder: Path
    ring: str = "(XEN) Xen version 4.20\n"
    dmesg: str = "[    0.0] Linux\n"
    console: FakeConsole = field(default_factory=lambda: FakeConsole(""))
    size: int = 1 << 20
    marks: int = 0
    boots: list[str] = field(default_factory=lambda: ["one"])
    log: list[str] = field(default_factory=list)
    done: list[Action] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.transport = FakeTransport(
            connected=True,
            commands={
                "xl dmesg": lambda _: Reply(self.ring.encode()),
                "dmesg": lambda _: Reply(self.dmesg.encode()),
                "xl debug-keys .*": self.key,
                "cat /proc/sys/kernel/random/boot_id": lambda _: Reply(f"{self.boots[0]}\n".encode()),
                "systemctl reboot": lambda _: self.boot("reboot"),
                "xl pci-assignable-add .*": lambda one: self.did(one.shown),
                "xl info": Reply(b"host: fake\n"),
                "sh -c 'xl info xen_commandline.*": lambda _: Reply(
                    f"{self.console.options}\nprintk: 4 4 1 7 N".encode()
                ),
                r"cat /sys/.*/config": Reply((CAPTURED / f"{STATE}.config.bin").read_bytes()),
                r"lspci -n -vvv -s .*": Reply(captured(f"{STATE}.lspci.txt").encode()),
                r"(setpci|sh -c 'device=/sys/bus/pci).*": lambda one: self.did(one.shown),
            },
        )
        self.host = Host("fake", self.transport, {}, GuestFiles("/k", "/i"))
        self.host.reset_button = lambda: self.boot("button") and None
        store, numbers = EvidenceStore(self.folder), iter(range(1, 100))
        keep = lambda name, data: store.put(f"{next(numbers):02d}-{name}", data)  # noqa: E731
        self.host.deeds = Deeds(self, keep, self.done.append)
        target = TargetDevice("disk", "1b36:0010", "nvme", True)
        self.device = Device(self.host, XlToolstack(self.transport), target, NVME, "nvme")

    def about_to(self, change: Change) -> None:
        self.log.append(f"about to {change.text}")

    def did(self, what: str) -> Reply:
        self.log.append(what)
        return Reply()

    def key(self, executed: Executed) -> Reply:
        for key in executed.shown.split()[-1]:
            self.marks += key == "t"
            mark = f"Synced stime skew: max=9ns avg=9ns samples={self.marks} current=9ns"
            said = captured(f"{STATE}.debugkey_{key}.txt") if key in "MQi" else f"(XEN) key {key}\n"
            self.ring += f"(XEN) {mark}\n" if key == "t" else said
        self.ring = self.ring[-self.size :]
        return Reply()

    def boot(self, how: str) -> Reply:
        self.log.append(how)
        if len(self.boots) > 1:
            del self.boots[0]
        return Reply()

    @property
    def kept(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "raw").iterdir())


@pytest.fixture
def dom0(tmp_path: Path) -> Dom0:
    return Dom0(tmp_path)


class TestCommands:
    def test_a_reading_one_is_kept(self, dom0: Dom0) -> None:
        assert dom0.host.xl("info").text == "host: fake\n"
        assert dom0.host.run(["nothing"]).status == 127
        assert dom0.kept == ["01-run.txt", "02-run.txt"]
        assert not any(one.changes for one in dom0.transport.executed)
        assert dom0.done == [] and dom0.log == []

    def test_one_that_changes_something_says_so_first(self, dom0: Dom0) -> None:
        change = Change(ChangeKind.DRIVER, str(NVME), "bind it", "give it back")
        assert dom0.host.xl("pci-assignable-add", str(NVME), change=change).ok
        assert dom0.log == ["about to bind it", f"xl pci-assignable-add {NVME}"]
        assert dom0.transport.executed[-1].changes
        assert [(one.verb, one.ok) for one in dom0.done] == [("run", True)]


class TestLogs:
    def test_since_a_mark(self, dom0: Dom0) -> None:
        host = dom0.host
        dom0.ring += MARKER
        mark = host.mark()
        assert host.said("cannot mask IRQ") == (MARKER.strip(),)
        assert host.said("cannot mask IRQ", mark) == ()
        dom0.ring += MARKER.replace("45", "46")
        dom0.dmesg += "[    9.0] pciback: release\n"
        assert host.said(r"cannot mask IRQ \d+", mark) == (MARKER.replace("45", "46").strip(),)
        assert host.dmesg(mark) == "[    9.0] pciback: release\n"
        assert "01-xl_dmesg.txt" in dom0.kept

    def test_since_the_beginning_of_a_test(self, dom0: Dom0) -> None:
        dom0.ring += MARKER
        dom0.host.began = dom0.host.mark()
        assert dom0.host.xen_console() == dom0.host.dmesg() == ""

    def test_a_ring_that_has_dropped_its_oldest_lines(self, dom0: Dom0) -> None:
        dom0.ring = "".join(f"(XEN) line {number}\n" for number in range(1000))
        mark = dom0.host.mark()
        size = len(dom0.ring)
        dom0.ring = (dom0.ring + MARKER)[-size:]
        assert dom0.host.xen_console(mark) == MARKER
        dom0.ring = (dom0.ring + "(XEN) other\n" * 2000)[-size:]
        with pytest.raises(LabError, match=r"fake: xl dmesg: it has turned over .*conring_size=1M"):
            dom0.host.said("cannot mask", mark)

    def test_a_log_that_was_cleared(self, dom0: Dom0) -> None:
        mark = dom0.host.mark()
        dom0.ring = ""
        with pytest.raises(LabError, match="turned over"):
            dom0.host.xen_console(mark)

    def test_what_a_ring_has_lost_is_taken_from_the_console(self, dom0: Dom0) -> None:
        console = dom0.console = FakeConsole("sync_console")
        dom0.host.console = console
        mark = dom0.host.mark()
        console.recorded += dom0.ring
        more = MARKER + "(XEN) other\n" * 2000
        dom0.ring += more
        dom0.key(Executed("xl debug-keys t", False, b""))
        console.recorded += dom0.ring.removeprefix(mark.xen.decode())
        dom0.ring = dom0.ring[-300:]
        assert dom0.host.said("cannot mask", mark) == (MARKER.strip(),)
        console.options = "console=com1"
        with pytest.raises(LabError, match="turned over"):
            dom0.host.said("cannot mask", mark)


class TestDebugKeys:
    def test_each_by_its_parser(self, dom0: Dom0) -> None:
        host = dom0.host
        assert {row.irq for row in host.debug_key("M")} >= {44, 45}
        assert {str(row.device): row.owner for row in host.debug_key("Q")}[str(NVME)] == "d2"
        assert any(row.is_msi for row in host.debug_key("i"))
        assert host.debug_key("z") == "(XEN) key z\n"

    def test_a_dump_that_the_ring_does_not_hold(self, dom0: Dom0) -> None:
        dom0.size = 1000
        with pytest.raises(LabError, match=r"does not fit into Xen's ring .*conring_size=1M"):
            dom0.host.debug_key("i")
        with pytest.raises(LabError, match="does not fit"):
            _ = dom0.device.owner

    def test_of_an_old_and_a_new_dump_the_new_one(self, dom0: Dom0) -> None:
        dom0.host.dump("i")
        dom0.ring += MARKER
        assert dom0.host.dump("Q") == captured(f"{STATE}.debugkey_Q.txt")

    @pytest.mark.parametrize("key", ["", "MQ", " ", "-", "\n"])
    def test_what_is_no_key(self, dom0: Dom0, key: str) -> None:
        with pytest.raises(UsageError, match="is no debug key"):
            dom0.host.debug_key(key)
        assert dom0.transport.executed == []


class TestBoot:
    @pytest.mark.parametrize(("name", "order"), [("reboot", "reboot"), ("reset", "button")])
    def test_a_new_boot_is_waited_for(self, dom0: Dom0, name: str, order: str) -> None:
        dom0.boots, dom0.ring = ["one", "two"], "(XEN) of the old boot\n"
        dom0.host.began = dom0.host.mark()
        dom0.log.clear()
        getattr(dom0.host, name)()
        dom0.ring = "(XEN) of the new boot\n"
        assert dom0.host.said("boot") == ("(XEN) of the new boot",), "what was said before is not missed"
        assert dom0.log[0].startswith(f"about to {name} fake") and dom0.log[1] == order
        assert [(one.verb, one.detail) for one in dom0.done] == [(name, "boot two")]
        assert dom0.transport.connected

    def test_one_that_was_none(self, dom0: Dom0) -> None:
        with pytest.raises(LabError, match="the reset was none: boot_id is still one"):
            dom0.host.reset(seconds=0.1)
        assert dom0.done == []

    def test_one_that_does_not_come_back(self, dom0: Dom0) -> None:
        def dies() -> None:
            dom0.transport.listening = False
            dom0.transport.close()

        dom0.host.reset_button = dies
        with pytest.raises(HostUnreachable):
            dom0.host.reset(seconds=0.1)

    def test_a_host_without_a_button(self, dom0: Dom0) -> None:
        dom0.host.reset_button = None
        with pytest.raises(LabError, match="fake has no reset button"):
            dom0.host.reset()
        assert dom0.log == []


class TestDevice:
    def test_what_it_looks_like(self, dom0: Dom0) -> None:
        device = dom0.device
        assert (str(device), repr(device)) == ("disk at 0000:04:00.0", "<device disk at 0000:04:00.0>")
        assert device.command.memory
        assert (device.msix.enabled, device.msix.masked, device.msix.table) == (True, False, None)
        assert "MSI-X: Enable+" in device.lspci
        assert (device.owner, device.irqs) == ("d2", (44, 45))
        assert [one.irq for one in device.masks] == [44, 45]
        assert dom0.kept[0] == "01-config-0000-04-00.0.bin"
        assert dom0.done == [] and dom0.log == [], "looking changes nothing"

    def test_its_table_where_memory_can_be_read(self, dom0: Dom0) -> None:
        class Memory:
            def read_words(self, address: int, count: int) -> tuple[int, ...]:
                assert count % 4 == 0
                return tuple(place == 3 for place in range(count))

        dom0.host.memory = Memory()
        table = dom0.device.msix.table
        assert table is not None and table[0] and not any(table[1:])

    def test_what_is_done_to_it(self, dom0: Dom0) -> None:
        device = dom0.device
        for deed in (device.memory_decoding(False), device.memory_decoding(True), device.clear_maskall()):
            assert deed
        assert dom0.log == [
            f"about to switch memory decoding of {NVME} off (COMMAND bit 1)",
            f"setpci -s {NVME} COMMAND=0:2",
            f"about to switch memory decoding of {NVME} on (COMMAND bit 1)",
            f"setpci -s {NVME} COMMAND=2:2",
            f"about to write message control of {NVME} without MASKALL",
            f"setpci -s {NVME} CAP_MSIX+2.W=0:4000",
        ]

    def test_a_reset_by_name(self, dom0: Dom0) -> None:
        assert dom0.device.reset("bus")
        assert dom0.log[0] == f"about to reset {NVME} by bus"
        assert "echo bus > $device/reset_method" in dom0.log[1]
        with pytest.raises(UsageError, match=r"no reset method 'flt'.*'flr'"):
            dom0.device.reset("flt")
