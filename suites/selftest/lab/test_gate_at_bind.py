"""Facts are read right before every bind, and the bind happens in the shell that has just seen them again."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.base.deadline import Deadline
from harness.base.errors import LabError, SafetyRefusal
from harness.base.progress import PlainProgress
from harness.guest.initramfs import GuestFiles
from harness.host.device import Device
from harness.host.host import Host
from harness.lab.lease.claim_options import ClaimOptions
from harness.lab.real import RealLab
from harness.model.address import Bdf
from harness.xen.toolstack.libvirt import LibvirtToolstack
from harness.xen.toolstack.xl import XlToolstack
from suites.selftest.fakes.fakehost import board
from suites.selftest.fakes.fakelab import FakeLab, fake_host
from suites.selftest.fakes.faketransport import FakeTransport
from suites.selftest.fakes.labrun import site

__all__ = ["fake_host"]
pytestmark = pytest.mark.whole

ADD = f"xl pci-assignable-add {board.NIC}"
ROUTES = "/proc/net/route"
DEFAULT = "eth1\t00000000\tFE0200C0\t0003\t0\t0\t9\t00000000\t0\t0\t0\n"


@pytest.fixture
def host(fake_host: FakeLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "controller"))
    monkeypatch.setattr("harness.lab.real.install", lambda *_: GuestFiles("/boot/vmlinuz", "/guest.cpio"))
    progress = PlainProgress(io.StringIO())
    lab = RealLab.opened(site(fake_host), ["nic0"], ClaimOptions(reason="a self-test"), progress)
    with lab.host(["nic0"], progress) as host:
        yield host
        fake_host.fake.tree.write(ROUTES, board.PROC[ROUTES])
    lab.close()


def device(host: Host) -> Device:
    return Device.identify(host, XlToolstack(host.transport), host.devices["nic0"])


def uplink(lab: FakeLab) -> None:
    """Somebody gives the card a default route."""
    lab.fake.tree.write(ROUTES, board.PROC[ROUTES] + DEFAULT)


def added(lab: FakeLab) -> int:
    return sum(" ".join(argv) == ADD for argv in lab.fake.executed)


def meanwhile(host: Host, act: Callable[[], object]) -> list[Bdf]:
    """`act` is done each time after the facts were read and judged, before anything is bound."""
    first, asked = host.gate, []

    def gate(address: Bdf) -> str:
        asked.append(address)
        check = first(address)
        act()
        return check

    host.gate = gate
    return asked


def test_a_card_that_became_the_uplink_since_the_run_began_is_not_bound(fake_host: FakeLab, host: Host) -> None:
    uplink(fake_host)
    with pytest.raises(SafetyRefusal, match="default route"):
        device(host).bind()
    assert added(fake_host) == 0


def test_one_that_becomes_it_after_it_was_judged_is_not_bound_either(fake_host: FakeLab, host: Host) -> None:
    asked = meanwhile(host, lambda: uplink(fake_host))
    with pytest.raises(SafetyRefusal, match="default route"):
        device(host).bind()
    assert len(asked) == 2, "the shell saw that the facts had changed, and they were judged anew"
    assert added(fake_host) == 0


def test_binds_inside_a_scenario_are_judged_too(fake_host: FakeLab, host: Host) -> None:
    nic = device(host)
    nic.bind()
    assert added(fake_host) == 1
    nic.tear_from_pciback()
    asked = meanwhile(host, lambda: None)
    assert nic.bind_again()
    assert asked == [nic.address]
    nic.tear_from_pciback()
    tree = fake_host.fake.tree
    mark = f"{tree.home(fake_host.fake.functions[board.NIC])}/boot_vga"
    tree.write(mark, "1\n")  # whatever has become of it
    for again in (nic.bind_again, nic.bind):
        with pytest.raises(SafetyRefusal, match="display"):
            again()
    assert added(fake_host) == 2
    tree.real(mark).unlink()


def test_a_host_that_never_rests_is_told(fake_host: FakeLab, host: Host) -> None:
    """Guests come and go; none of it matters for the card, and yet nobody can say that it does not."""
    coming = iter(range(100))
    store = fake_host.fake.xenstore
    path = "/local/domain/0/backend/vif/{}/0/state"
    asked = meanwhile(host, lambda: store.update({path.format(next(coming)): "4"}))
    with pytest.raises(LabError, match="changes faster than the gate can decide"):
        device(host).bind()
    assert len(asked) == 5
    assert added(fake_host) == 0


def test_libvirt_cannot_check_right_before() -> None:
    with pytest.raises(LabError, match="use xl"):
        LibvirtToolstack(FakeTransport()).make_assignable(Bdf.parse(board.NIC), Deadline.after(1), "true")


def test_the_timer_waits_for_a_host_that_reads_slowly(
    fake_host: FakeLab, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The facts are read again while the timer runs: it must not strike because the host is slow."""
    monkeypatch.setattr("harness.lab.survey._took", lambda deadline: 29.5)
    device(host).bind()
    armed = next(" ".join(argv) for argv in fake_host.fake.executed if argv[0] == "systemd-run")
    assert "--on-active=119" in armed
