"""Each single thing that may be left otherwise is put back, alone: no other step of the undo happens to do it too."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.base.errors import RestoreFailed
from harness.lab.lease.baseline import Baseline, read
from harness.lab.lease.undo import Touched, Undo
from harness.model.address import Bdf
from harness.transport.ssh import SshTransport
from harness.xen.toolstack.xl import XlToolstack
from suites.selftest.fakes.fakehost.function import MSIX
from suites.selftest.fakes.fakelab import FakeLab, fake_host
from suites.selftest.fakes.patience import soon
from suites.selftest.lab.test_undo import NIC, PLURAL, Book, now, touched

__all__ = ["fake_host"]
pytestmark = pytest.mark.whole
MASKALL = 0x4000
HOME = f"/sys/bus/pci/devices/{NIC}"
DRIVERS = "/sys/bus/pci/drivers"


def write(path: str, value: str) -> Callable[[SshTransport], None]:
    def written(link: SshTransport) -> None:
        link.run(["tee", path], deadline=soon(), stdin=f"{value}\n".encode(), changes=True).check()

    return written


LEFT: dict[str, Callable[[SshTransport], object]] = {
    "with no driver": write(f"{DRIVERS}/e1000e/unbind", str(NIC)),
    "with pciback": lambda link: XlToolstack(link).make_assignable(NIC, soon()).check(),
    "to be seized by pciback": write(f"{DRIVERS}/pciback/new_slot", str(NIC)),
    "for one driver only": write(f"{HOME}/driver_override", "pciback"),
    "with power management": write(f"{HOME}/power/control", "auto"),
    "with another reset": write(f"{HOME}/reset_method", "bus"),
    "without memory decoding": lambda link: link.run(
        ["setpci", "-s", str(NIC), "COMMAND=0:2"], deadline=soon(), changes=True
    ).check(),
}


@pytest.mark.parametrize("left", LEFT)
def test_one_thing_alone(fake_host: FakeLab, left: str) -> None:
    link, before = fake_host.transport(), now(fake_host)
    wanted = read(link, NIC)
    LEFT[left](link)
    assert wanted.differences(read(link, NIC)), "nothing was left"
    Undo(link, Book(fake_host), touched(wanted)).reconcile(whole=True)
    assert wanted.differences(read(link, NIC)) == []
    assert now(fake_host) == before


class TestMaskallLeftBehind:
    def test_a_reset_clears_it_where_no_driver_does(self, fake_host: FakeLab) -> None:
        link = fake_host.transport()
        wanted = without_driver(fake_host, PLURAL)
        leave_maskall(fake_host, PLURAL)
        assert wanted.differences(read(link, PLURAL))
        Undo(link, Book(fake_host), touched(wanted)).reconcile(whole=True)
        assert read(link, PLURAL).msix_control == wanted.msix_control
        assert resets(fake_host) == 1

    def test_a_reset_that_does_nothing_is_told(self, fake_host: FakeLab) -> None:
        """By power states, of a function that keeps its registers through them (NoSoftRst+)."""
        wanted = without_driver(fake_host, NIC)
        leave_maskall(fake_host, NIC)
        with pytest.raises(RestoreFailed, match="msix control is 0x4004, was 0x0004"):
            Undo(fake_host.transport(), Book(fake_host), touched(wanted)).reconcile(whole=True)
        assert resets(fake_host) == 1

    def test_it_is_not_reset_under_a_driver(self, fake_host: FakeLab) -> None:
        """The driver would not know of it: the ladder goes on instead."""
        link = fake_host.transport()
        wanted = read(link, PLURAL)
        leave_maskall(fake_host, PLURAL)
        with pytest.raises(RestoreFailed, match="msix control"):
            Undo(link, Book(fake_host), touched(wanted)).reconcile(whole=True)
        assert resets(fake_host) == 0


def without_driver(lab: FakeLab, device: Bdf) -> Baseline:
    """As it was found by us: nobody drove it."""
    function, link = lab.fake.functions[str(device)], lab.transport()
    write(f"{DRIVERS}/{function.bound}/unbind", str(device))(link)
    wanted = read(link, device)
    assert (wanted.driver, wanted.msix_control is None) == (None, False)
    return wanted


def leave_maskall(lab: FakeLab, device: Bdf) -> None:
    function = lab.fake.functions[str(device)]
    function.word(MSIX + 2, (function.msix or 0) | MASKALL)
    lab.fake.tree.show(function)
    lab.fake.executed.clear()


def resets(lab: FakeLab) -> int:
    return lab.fake.ran("/reset$")


class TestModule:
    @pytest.fixture(autouse=True)
    def _free(self, fake_host: FakeLab) -> None:
        assert "xen_pciback" in fake_host.fake.modules
        assert not fake_host.fake.slots

    def undo(self, lab: FakeLab) -> Undo:
        return Undo(lab.transport(), Book(lab), Touched(modules=frozenset({"xen-pciback"})))

    def test_at_the_end_of_a_visit_it_is_unloaded(self, fake_host: FakeLab) -> None:
        self.undo(fake_host).reconcile(whole=True)
        assert "xen_pciback" not in fake_host.fake.modules

    def test_during_a_visit_it_stays(self, fake_host: FakeLab) -> None:
        self.undo(fake_host).reconcile(whole=False)
        assert "xen_pciback" in fake_host.fake.modules

    def test_one_that_was_never_loaded_is_not_unloaded(self, fake_host: FakeLab) -> None:
        fake_host.fake.modules.discard("xen_pciback")
        fake_host.fake.tree.modules()
        self.undo(fake_host).reconcile(whole=True)
        assert fake_host.fake.executed == []

    @pytest.mark.parametrize(("holds", "told"), [(True, "it holds"), (False, "it would seize")])
    def test_one_that_others_need_stays_and_that_is_told(self, fake_host: FakeLab, holds: bool, told: str) -> None:
        fake_host.fake.slots.add(str(PLURAL))
        fake_host.fake.tree.pciback()
        if holds:
            XlToolstack(fake_host.transport()).make_assignable(PLURAL, soon()).check()
        undo, heard = self.undo(fake_host), list[str]()
        undo.notice = heard.append
        undo.reconcile(whole=True)
        assert "xen_pciback" in fake_host.fake.modules
        assert len(heard) == 1 and heard[0].startswith(f"xen-pciback stays loaded: {told} {PLURAL}")

    def test_one_that_stays_loaded_is_named(self, fake_host: FakeLab, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("harness.lab.lease.undo._UNLOAD", "true\n")
        with pytest.raises(RestoreFailed, match="module xen-pciback is still loaded"):
            self.undo(fake_host).reconcile(whole=True)
