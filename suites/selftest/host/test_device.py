"""Borrowing a device: every change is announced first, made once, and read back from sysfs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given

from harness.base.errors import LabError, ParseError, RestoreFailed
from harness.guest.initramfs import GuestFiles
from harness.host import device
from harness.host.device import Device
from harness.host.host import Host, TargetDevice
from harness.host.pciback import driver_of
from harness.model.address import Bdf
from harness.model.change import Change, ChangeKind, NoLedger
from harness.model.identity import find_device
from harness.xen.toolstack.xl import XlToolstack
from suites.selftest.fakes.faketransport import Executed, FakeTransport, Reply
from suites.selftest.fakes.hostile import damaged

NVME = Bdf.parse("0000:04:00.0")
LSPCI = "0000:00:00.0 0600: 8086:29c0\n0000:04:00.0 0108: 1b36:0010 (rev 02)\n0000:05:00.0 0200: 8086:10d3\n"


@dataclass
class Dom0:
    """sysfs's driver link of one device, and xl commands that move it; `log` has changes and announcements in order."""

    driver: str | None = "nvme"
    stuck: bool = False  # xl says nothing is wrong and nothing happens
    refuses: bool = False
    lspci: str = LSPCI
    log: list[str] = field(default_factory=list)
    _before: str | None = None

    def __post_init__(self) -> None:
        self.transport = FakeTransport(
            connected=True,
            commands={
                "lspci -D -n": lambda _: Reply(self.lspci.encode()),
                "lspci -D -n -s .*": lambda executed: Reply(self.at(executed.shown.split()[-1])),
                f"readlink /sys/bus/pci/devices/{NVME}/driver": lambda _: self.link(),
                f"xl pci-assignable-add {NVME}": self.change(lambda: "pciback"),
                f"xl pci-assignable-remove {NVME}": self.change(lambda: None),
                f"xl pci-assignable-remove -r {NVME}": self.change(lambda: self._before),
            },
        )

    def at(self, address: str) -> bytes:
        return "".join(line for line in self.lspci.splitlines(True) if line.startswith(address)).encode()

    def link(self) -> Reply:
        if self.driver is None:
            return Reply(status=1)
        return Reply(f"../../../bus/pci/drivers/{self.driver}\n".encode())

    def change(self, target: Callable[[], str | None]) -> Callable[[Executed], Reply]:
        def work(executed: Executed) -> Reply:
            assert executed.changes
            self.log.append(executed.shown)
            if self.refuses:
                return Reply(stderr=b"libxl: error: first\nlibxl: error: failed to quarantine\n", status=1)
            if not self.stuck:
                self._before, self.driver = self.driver if self._before is None else self._before, target()
            return Reply()

        return work

    def about_to(self, change: Change) -> None:
        assert (change.kind, change.subject) == (ChangeKind.DRIVER, str(NVME))
        self.log.append(f"about to {change.text}, undo: {change.undo}")

    def found(self, at: Bdf | None = None) -> Device:
        host = Host("fake", self.transport, {}, GuestFiles("/k", "/i"), ledger=self)
        return Device.identify(host, XlToolstack(self.transport), TargetDevice("disk", "1b36:0010", "nvme", True, at))


def test_identifying_changes_nothing() -> None:
    host = Dom0()
    found = host.found()
    assert (found.address, found.original_driver) == (NVME, "nvme")
    assert host.log == []
    assert not [one for one in host.transport.executed if one.changes]


def test_there_and_back_again() -> None:
    host = Dom0()
    borrowed = host.found()
    borrowed.bind()
    assert host.driver == "pciback"
    assert borrowed.unbind()
    assert driver_of(host.transport, NVME) is None
    borrowed.bind()
    borrowed.give_back()
    assert host.driver == "nvme"


def test_the_ledger_is_told_before_each_change() -> None:
    host = Dom0()
    borrowed = host.found()
    for step in (borrowed.bind, borrowed.unbind, borrowed.bind, borrowed.give_back):
        step()
    assert host.log == [
        f"about to bind {NVME} to pciback, undo: bind {NVME} to nvme",
        f"xl pci-assignable-add {NVME}",
        f"about to unbind {NVME} from pciback, undo: bind {NVME} to pciback",
        f"xl pci-assignable-remove {NVME}",
        f"about to bind {NVME} to pciback, undo: bind {NVME} to nvme",
        f"xl pci-assignable-add {NVME}",
        f"about to give {NVME} back to nvme, undo: nothing: this is the undo",
        f"xl pci-assignable-remove -r {NVME}",
    ]


def test_what_was_checked_at_an_address_is_only_looked_for_there() -> None:
    host = Dom0(lspci=LSPCI + "0000:06:00.0 0108: 1b36:0010 (rev 02)\n")
    assert host.found(at=NVME).address == NVME
    with pytest.raises(LabError, match="2 devices"):
        host.found()


def test_a_bind_is_guarded_and_nothing_else_is() -> None:
    host = Dom0()
    borrowed = host.found()

    @contextlib.contextmanager
    def guard(device: Bdf, driver: str | None) -> Iterator[None]:
        host.log.append(f"armed for {device} of {driver}")
        yield
        host.log.append("disarmed")

    borrowed.host.guard = guard
    borrowed.bind()
    borrowed.give_back()
    acts = [line for line in host.log if not line.startswith("about to")]
    add, remove = f"xl pci-assignable-add {NVME}", f"xl pci-assignable-remove -r {NVME}"
    assert acts == [f"armed for {NVME} of nvme", add, "disarmed", remove]


@pytest.mark.parametrize(
    "step", [Device.bind, Device.unbind, Device.rebind, Device.tear_from_pciback, Device.bind_again, Device.give_back]
)
def test_a_ledger_that_cannot_write_prevents_the_change(step: Callable[[Device], object]) -> None:
    host = Dom0()
    borrowed = host.found()

    class Full:
        def about_to(self, change: Change) -> None:
            raise LabError("no space left")

    borrowed.host.deeds.ledger = Full()
    with pytest.raises(LabError, match="no space left"):
        step(borrowed)
    assert host.log == []


@pytest.mark.parametrize(("stuck", "refuses"), [(True, False), (False, True)])
def test_a_bind_that_does_not_take(stuck: bool, refuses: bool) -> None:
    host = Dom0(stuck=stuck, refuses=refuses)
    with pytest.raises(LabError, match=r"0000:04:00\.0 could not be bound to pciback") as caught:
        host.found().bind()
    assert ("failed to quarantine" in str(caught.value)) is refuses
    assert not isinstance(caught.value, RestoreFailed)


def test_a_bind_that_leaves_the_device_with_nobody() -> None:
    host = Dom0()
    host.transport.commands[f"xl pci-assignable-add {NVME}"] = host.change(lambda: None)
    with pytest.raises(LabError, match="could not be bound"):
        host.found().bind()


def test_xl_may_complain_as_long_as_sysfs_shows_it() -> None:
    """It is an error for xl to bind what is bound already; the link decides, not the status."""
    host = Dom0(driver="pciback", refuses=True)
    assert not host.found().bind().ok


@pytest.mark.parametrize(("stuck", "refuses"), [(True, False), (False, True)])
def test_a_device_that_does_not_come_back(stuck: bool, refuses: bool) -> None:
    host = Dom0()
    borrowed = host.found()
    borrowed.bind()
    host.stuck, host.refuses = stuck, refuses
    with pytest.raises(RestoreFailed, match=r"0000:04:00\.0 did not go back to nvme"):
        borrowed.give_back()


def test_a_device_that_comes_back_to_another_driver() -> None:
    host = Dom0()
    borrowed = host.found()
    borrowed.bind()
    host._before = "vfio-pci"
    with pytest.raises(RestoreFailed):
        borrowed.give_back()


def test_a_device_that_had_no_driver_goes_back_to_none() -> None:
    host = Dom0(driver=None)
    borrowed = host.found()
    borrowed.bind()
    assert f"about to bind {NVME} to pciback, undo: bind {NVME} to no driver" in host.log
    host._before = None
    borrowed.give_back()
    assert host.driver is None


def test_an_unbind_that_is_refused_is_a_result() -> None:
    host = Dom0(driver="pciback", refuses=True)
    refused = host.found().unbind()
    assert (refused.ok, refused.detail) == (False, "status 1: libxl: error: failed to quarantine")


def test_a_missing_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_SECONDS", 0.1)
    host = Dom0(lspci="0000:00:00.0 0600: 8086:29c0\n")
    with pytest.raises(LabError, match=r"0 devices are 1b36:0010 \(none\)"):
        host.found()


def test_a_hot_added_device_is_waited_for() -> None:
    host = Dom0(lspci="0000:00:00.0 0600: 8086:29c0\n")
    asked: list[int] = []

    def lspci(_: Executed) -> Reply:
        asked.append(1)
        return Reply((LSPCI if len(asked) > 2 else host.lspci).encode())

    host.transport.commands["lspci -D -n"] = lspci
    assert host.found().address == NVME
    assert len(asked) == 3


def test_an_ambiguous_device() -> None:
    host = Dom0(lspci=LSPCI + "0000:06:00.0 0108: 1b36:0010\n")
    with pytest.raises(LabError, match=r"2 devices are 1b36:0010 \(0000:04:00\.0, 0000:06:00\.0\)"):
        host.found()
    assert host.log == []


class TestFindDevice:
    def test_by_identity_alone(self) -> None:
        assert find_device(LSPCI, "8086:10d3") == Bdf.parse("05:00.0")

    @pytest.mark.parametrize("identity", ["1b36:001", "b36:0010", "0108", "1b36:0010 (rev 02)", ""])
    def test_part_of_an_identity_names_nothing(self, identity: str) -> None:
        with pytest.raises(LabError, match="0 devices"):
            find_device(LSPCI, identity)

    @pytest.mark.parametrize("line", ["lspci: cannot open", "04:00.0 0108: 1b36:0010"])
    def test_the_line_of_what_is_no_lspci_with_domains(self, line: str) -> None:
        with pytest.raises(ParseError, match=rf"lspci -D -n:2: '{line}"):
            find_device(f"0000:00:00.0 0600: 8086:29c0\n{line}\n", "1b36:0010")

    @given(damaged([LSPCI]))
    def test_damage(self, text: str) -> None:
        with contextlib.suppress(ParseError, LabError):
            assert str(find_device(text, "1b36:0010")) in text


def test_a_host_that_is_thrown_away_needs_no_ledger() -> None:
    NoLedger().about_to(Change(ChangeKind.DRIVER, "x", "y", "z"))
