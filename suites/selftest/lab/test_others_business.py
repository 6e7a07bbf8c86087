"""What others do on a lent host meanwhile is theirs: told, never undone, and no reason to reboot anybody's machine."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.base.errors import DeviceTaken, LabError, RestoreFailed
from harness.base.progress import PlainProgress
from harness.host.guest import CREATE
from harness.lab.lease import owners
from harness.lab.lease.ladder import Rung
from harness.lab.lease.lease import Lease
from harness.lab.lease.state import HostState
from suites.selftest.fakes.fakehost import board
from suites.selftest.fakes.fakehost.machine import Domain
from suites.selftest.fakes.fakelab import NAME, FakeLab, fake_host
from suites.selftest.fakes.fakepower import FakePower
from suites.selftest.fakes.hostcalls import run
from suites.selftest.fakes.labrun import FORCED, NIC, arrive, borrow, controller, die, give_back, site

__all__ = ["controller", "fake_host"]
pytestmark = pytest.mark.whole


def append(lab: FakeLab, path: str, text: str) -> None:
    with (lab.fake.root / path).open("a") as file:
        file.write(text)


def login(lab: FakeLab) -> None:
    append(lab, "proc/self/mounts", "tmpfs /run/user/1000 tmpfs rw,nosuid 0 0\n")


def guest(lab: FakeLab) -> None:
    lab.fake.domains[9] = Domain("bob", 9)
    lab.fake.xenstore |= {"/local/domain/0/backend/vif/9/0": "", "/local/domain/9/name": "bob"}


def more_queues(lab: FakeLab) -> None:
    """ethtool -L."""
    append(lab, "proc/interrupts", "  60:          0          9  xen-pirq    -msi-x  eth0-TxRx-4\n")


def refuses(lab: FakeLab, program: str, first: str = "") -> None:
    """From now on the program fails in every shell; or when that is its first word."""
    folder = lab.fake.root / "bin"
    (folder / "real").mkdir(exist_ok=True)
    (folder / program).unlink()
    (folder / "real" / program).symlink_to("../.client")
    case = f'[ "$1" = {first} ] && exit 1' if first else "exit 1"
    (folder / program).write_text(f'#!/bin/sh\n{case}\nexec {folder}/real/{program} "$@"\n')
    (folder / program).chmod(0o755)


def bobs_device(lab: FakeLab) -> None:
    """Given to a guest of his."""
    link = lab.transport()
    run(link, ["xl", "pci-assignable-add", board.DISK], changes=True)
    lab.fake.domains[9] = Domain("bob", 9, devices=(board.DISK,))
    disk = lab.fake.functions[board.DISK]
    disk.owner = "d9"
    lab.fake.xenstore |= {
        f"/libxl/pci/{disk.key}/domid": "9",
        "/local/domain/0/backend/pci/9/0/dev-0": board.DISK,
    }


@pytest.mark.parametrize("meanwhile", [login, guest, more_queues, bobs_device])
def test_it_does_not_climb(fake_host: FakeLab, meanwhile: Callable[[FakeLab], None]) -> None:
    told: list[str] = []
    visit = arrive(fake_host)
    visit.notice = told.append
    borrow(visit)
    meanwhile(fake_host)
    before = fake_host.fake.state()
    power = FakePower()
    assert give_back(visit, power=power) is None
    visit.end()
    assert fake_host.fake.boots == 1 and power.orders == []
    assert not HostState.of(NAME).quarantine
    after = fake_host.fake.state()
    assert after["functions"][board.DISK] == before["functions"][board.DISK]
    assert {9: "bob"}.items() <= after["domains"].items() or meanwhile in (login, more_queues)
    assert any("which is not ours" in line for line in told)


def test_no_reboot_under_somebody_elses_guest(fake_host: FakeLab) -> None:
    """A zombie of ours would need one."""
    visit = arrive(fake_host)
    borrow(visit)
    fake_host.fake.zombies = True
    guest(fake_host)
    climb = give_back(visit, power=FakePower())
    assert climb is not None and not climb.restored
    assert "bob" in climb.told
    assert Rung.POWER_CYCLE not in {one.rung for one in climb.tried}
    visit.end()
    assert fake_host.fake.boots == 1
    assert HostState.of(NAME).quarantine


class TestPciback:
    def test_it_stays_while_it_holds_anything(self, fake_host: FakeLab) -> None:
        fake_host.fake.modules.discard("xen_pciback")
        fake_host.fake.tree.modules()
        visit = arrive(fake_host)
        borrow(visit)  # which loads it
        bobs_device(fake_host)
        visit.end()
        assert "xen_pciback" in fake_host.fake.state()["modules"]
        assert fake_host.fake.state()["functions"][board.DISK]["driver"] == "pciback"
        assert fake_host.fake.state()["functions"][str(NIC)]["driver"] == "e1000e"
        assert not fake_host.fake.ran("modprobe -r")

    def test_nor_while_it_would_seize_something(self, fake_host: FakeLab) -> None:
        fake_host.fake.modules.discard("xen_pciback")
        fake_host.fake.tree.modules()
        visit = arrive(fake_host)
        borrow(visit)
        fake_host.fake.slots.add(board.PLURAL)
        fake_host.fake.tree.pciback()
        visit.end()
        assert "xen_pciback" in fake_host.fake.state()["modules"]

    def test_and_goes_otherwise(self, fake_host: FakeLab) -> None:
        fake_host.fake.modules.discard("xen_pciback")
        fake_host.fake.tree.modules()
        before = fake_host.fake.state()
        visit = arrive(fake_host)
        borrow(visit)
        visit.end()
        assert fake_host.fake.state() == before


class TestWhoHasItNow:
    def given_to_bob(self, lab: FakeLab) -> None:
        """The NIC hangs at pciback, so that anybody can take it into a guest."""
        link = lab.transport()
        run(link, ["xl", "destroy", "maskall-a"], changes=True)
        config = f'name="bob"\npci=["{NIC}"]\n'
        (lab.fake.root / "etc/bob.cfg").write_text(config)
        run(link, ["xl", "create", "/etc/bob.cfg"], changes=True)
        lab.fake.executed.clear()

    @pytest.mark.parametrize("noted", [True, False], ids=["xenstore and Xen say so", "only Xen does"])
    def test_another_guest(self, fake_host: FakeLab, noted: bool) -> None:
        visit = arrive(fake_host)
        borrow(visit)
        self.given_to_bob(fake_host)
        if not noted:
            for key in [key for key in fake_host.fake.xenstore if "pci" in key]:
                del fake_host.fake.xenstore[key]
        climb = give_back(visit, power=FakePower())
        assert climb is not None and not climb.restored
        assert "in use by others" in climb.told
        assert [one.rung for one in climb.tried] == [Rung.RECONNECT, Rung.QUARANTINE]
        visit.end()
        assert fake_host.fake.functions[str(NIC)].owner == "d2"
        assert not fake_host.fake.ran("xl|tee|setpci|modprobe"), "nothing was touched"
        assert (fake_host.fake.root / "run/maskall/claim").exists(), "it stays claimed"

    def test_unknown_means_no(self, fake_host: FakeLab) -> None:
        """Neither Xen's key Q nor xenstore says who has it."""
        visit = arrive(fake_host)
        borrow(visit)
        self.given_to_bob(fake_host)
        refuses(fake_host, "xl", "debug-keys")
        for program in ("xenstore-ls", "xenstore-read"):
            refuses(fake_host, program)
        climb = give_back(visit, power=FakePower())
        assert climb is not None and not climb.restored
        assert "who has it cannot be told" in climb.told
        visit.end()
        assert fake_host.fake.functions[str(NIC)].owner == "d2"
        assert not fake_host.fake.ran("xl|tee|setpci|modprobe"), "nothing was touched"

    @pytest.mark.parametrize("silent", [("xl", "debug-keys"), ("xenstore-ls",)], ids=["xenstore", "Xen"])
    def test_the_word_of_one_will_do(self, fake_host: FakeLab, silent: tuple[str, ...]) -> None:
        before = fake_host.fake.state()
        visit = arrive(fake_host)
        borrow(visit)
        run(fake_host.transport(), ["xl", "destroy", "maskall-a"], changes=True)
        refuses(fake_host, *silent)
        visit.undo().reconcile(whole=True)
        assert fake_host.fake.state()["functions"] == before["functions"]

    def test_a_note_is_no_leftover_while_xl_does_not_tell_of_its_domain(self, fake_host: FakeLab) -> None:
        visit = arrive(fake_host)
        borrow(visit)
        run(fake_host.transport(), ["xl", "destroy", "maskall-a"], changes=True)
        fake_host.fake.xenstore[f"/libxl/pci/{fake_host.fake.functions[str(NIC)].key}/domid"] = "7"
        refuses(fake_host, "xl", "list")
        with pytest.raises(DeviceTaken, match="domain 7 has it"):
            visit.undo().reconcile(whole=True)

    def test_without_xen_nobody_has_it(self, fake_host: FakeLab) -> None:
        """In a boot of the plain kernel xenstore is silent, and no domain is there to have a device."""
        visit = arrive(fake_host)
        borrow(visit)
        run(fake_host.transport(), ["xl", "destroy", "maskall-a"], changes=True)
        for path in ("sys/hypervisor/type", "proc/xen/capabilities"):
            (fake_host.fake.root / path).unlink()
        refuses(fake_host, "xenstore-ls")
        told = owners.ask(visit.transport, ())
        assert not told.xen
        run(visit.transport, told.unless_taken(["true"], str(NIC)))

    def test_another_guest_in_the_last_moment(self, fake_host: FakeLab) -> None:
        """Behind the question to Xen: the shell that takes the device back asks xenstore once more."""
        visit = arrive(fake_host)
        borrow(visit)
        run(fake_host.transport(), ["xl", "destroy", "maskall-a"], changes=True)
        config = f'name="bob"\npci=["{NIC}"]\n'
        (fake_host.fake.root / "etc/bob.cfg").write_text(config)
        quick = fake_host.transport()
        fake_host.fake.trap(
            lambda: run(quick, ["xl", "create", "/etc/bob.cfg"], changes=True), line="write|pci-assignable-remove"
        )
        climb = give_back(visit)
        assert climb is not None and "in use by others" in climb.told
        visit.end()
        assert fake_host.fake.functions[str(NIC)].owner == "d2"
        assert not fake_host.fake.ran("pci-assignable-remove")

    def test_another_driver(self, fake_host: FakeLab) -> None:
        visit = arrive(fake_host)
        borrow(visit)
        link = fake_host.transport()
        run(link, ["xl", "destroy", "maskall-a"], changes=True)
        run(link, ["xl", "pci-assignable-remove", str(NIC)], changes=True)
        fake_host.fake.modules.add("vfio_pci")
        fake_host.fake.tree.modules()
        function = fake_host.fake.functions[str(NIC)]
        function.override = "vfio-pci"
        fake_host.fake.bind(str(NIC), "vfio-pci")
        climb = give_back(visit)
        assert climb is not None and "vfio-pci has it" in climb.told
        visit.end()
        assert function.bound == "vfio-pci"

    def test_a_note_that_outlived_its_domain_is_nobodys(self, fake_host: FakeLab) -> None:
        before = fake_host.fake.state()
        visit = arrive(fake_host)
        borrow(visit)
        run(fake_host.transport(), ["xl", "destroy", "maskall-a"], changes=True)
        key = f"/libxl/pci/{fake_host.fake.functions[str(NIC)].key}/domid"
        fake_host.fake.xenstore[key] = "7"
        with pytest.raises(RestoreFailed, match="libxl owner of device"):  # a leak of ours; the device is back
            visit.put_back()
        assert fake_host.fake.functions[str(NIC)].bound == "e1000e"
        del fake_host.fake.xenstore[key]
        visit.end()
        assert fake_host.fake.state() == before


class TestWhoseJournal:
    def test_another_machines_is_not_replayed(self, fake_host: FakeLab) -> None:
        """The name has moved to another machine, where somebody's guest has the card in the same slot."""
        visit = arrive(fake_host)
        borrow(visit)
        die(visit)
        fake_host.fake.reboot()
        (fake_host.fake.root / "etc/machine-id").write_text(f"{'5' * 32}\n")
        run(fake_host.transport(), ["xl", "pci-assignable-add", str(NIC)], changes=True)
        state = fake_host.fake.state()
        fake_host.fake.executed.clear()
        with pytest.raises(Exception, match="another machine"):
            Lease.begin(site(fake_host), FORCED, lambda _: None).put_back(whole=True)
        assert fake_host.fake.executed == []
        assert fake_host.fake.state()["functions"] == state["functions"]

    def test_nor_one_that_was_copied_there(self, fake_host: FakeLab, tmp_path: Path) -> None:
        visit = arrive(fake_host)
        borrow(visit)
        die(visit)
        (fake_host.fake.root / "etc/machine-id").write_text(f"{'5' * 32}\n")
        (HostState.of(NAME).journal).unlink()
        fake_host.fake.executed.clear()
        with pytest.raises(Exception, match="another machine"):
            Lease.begin(site(fake_host), FORCED, lambda _: None).put_back(whole=True)
        assert fake_host.fake.executed == []

    def test_a_copy_whose_run_was_closed_elsewhere(
        self, fake_host: FakeLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Ada's run dies, Eve restores the host, Bob takes the card; then Ada comes back."""
        visit = arrive(fake_host)
        borrow(visit)
        die(visit)
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "eve"))
        eve = Lease.begin(site(fake_host), FORCED, lambda _: None)
        eve.put_back(whole=True)
        eve.close_journal()
        eve.end()
        run(fake_host.transport(), ["xl", "pci-assignable-add", str(NIC)], changes=True)  # bob's
        fake_host.fake.executed.clear()
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "controller"))
        ada = Lease.begin(site(fake_host), FORCED, lambda _: None)
        ada.put_back(whole=True)
        ada.close_journal()
        ada.end()
        assert not fake_host.fake.ran("xl|tee|setpci|modprobe")
        assert fake_host.fake.functions[str(NIC)].bound == "pciback"
        assert not HostState.of(NAME).journal.exists()

    def test_a_copy_of_an_earlier_boot(self, fake_host: FakeLab) -> None:
        visit = arrive(fake_host)
        borrow(visit)
        die(visit)
        fake_host.fake.reboot()
        run(fake_host.transport(), ["xl", "pci-assignable-add", str(NIC)], changes=True)  # bob's
        fake_host.fake.executed.clear()
        told: list[str] = []
        again = Lease.begin(site(fake_host), FORCED, told.append)
        again.put_back(whole=True)
        again.close_journal()
        again.end()
        assert not fake_host.fake.ran("xl|tee|setpci|modprobe")
        assert fake_host.fake.functions[str(NIC)].bound == "pciback"

    def test_one_that_says_restored_is_no_leftover(self, fake_host: FakeLab) -> None:
        visit = arrive(fake_host)
        borrow(visit)
        visit.put_back(whole=True)
        visit.journal.close = list  # type: ignore[method-assign]  # it dies right after saying so
        visit.close_journal()
        die(visit)
        run(fake_host.transport(), ["xl", "pci-assignable-add", str(NIC)], changes=True)  # bob's
        fake_host.fake.executed.clear()
        again = Lease.begin(site(fake_host), FORCED, lambda _: None)
        assert not again.left_behind
        again.end()
        assert not fake_host.fake.ran("xl|tee|setpci|modprobe")
        after = arrive(fake_host)  # and the next run begins a journal of its own
        after.end()


def test_progress_is_plain(fake_host: FakeLab) -> None:
    """A host's words in a notice cannot repaint a terminal."""
    said = io.StringIO()
    visit = Lease.begin(site(fake_host), FORCED, PlainProgress(said).note)
    visit.open_journal("a self-test")
    fake_host.fake.domains[9] = Domain("\x1b[2J", 9)
    visit.put_back()
    visit.end()
    assert "\x1b" not in said.getvalue()


def test_a_leak_of_ours_is_still_one(fake_host: FakeLab) -> None:
    visit = arrive(fake_host)
    borrow(visit)
    append(fake_host, "proc/self/mounts", "tmpfs /run/maskall/saved tmpfs rw 0 0\n")
    with pytest.raises(RestoreFailed, match="mount /run/maskall/saved"):
        visit.put_back()
    (fake_host.fake.root / "proc/self/mounts").write_text("")
    visit.end()


class TestANumberIsGivenAwayAgain:
    """Xen's numbers of domains wrap, and begin anew in each boot: that of a guest of ours may be bob's by now."""

    def number(self, visit: Lease, lab: FakeLab) -> int:
        """That of our guest, which is gone."""
        (found,) = (one.domid for one in lab.fake.domains.values() if one.name == "maskall-a")
        visit.domids.add(found)
        run(lab.transport(), ["xl", "destroy", "maskall-a"], changes=True)
        return found

    def test_his_device_is_not_taken(self, fake_host: FakeLab) -> None:
        visit = arrive(fake_host)
        borrow(visit)
        fake_host.fake._next_domid = number = self.number(visit, fake_host)
        (fake_host.fake.root / "etc/bob.cfg").write_text(f'name="bob"\npci=["{NIC}"]\n')
        run(fake_host.transport(), ["xl", "create", "/etc/bob.cfg"], changes=True)
        fake_host.fake.executed.clear()
        climb = give_back(visit, power=FakePower())
        assert climb is not None and "in use by others" in climb.told
        visit.end()
        assert fake_host.fake.functions[str(NIC)].owner == f"d{number}"
        assert not fake_host.fake.ran("xl|tee|setpci|modprobe"), "nothing was touched"

    def test_his_guest_is_no_leak_of_ours(self, fake_host: FakeLab) -> None:
        before = fake_host.fake.state()
        visit = arrive(fake_host)
        borrow(visit)
        number = self.number(visit, fake_host)
        fake_host.fake.domains[number] = Domain("bob", number)
        fake_host.fake.xenstore |= {f"/local/domain/0/backend/vif/{number}/0/frontend": "", "/local/domain/9/name": ""}
        assert give_back(visit, power=FakePower()) is None
        visit.end()
        assert fake_host.fake.state()["functions"] == before["functions"]
        assert fake_host.fake.domains[number].name == "bob" and fake_host.fake.boots == 1


def test_no_reboot_under_a_guest_whose_name_is_not_told(fake_host: FakeLab) -> None:
    """Where xenstore is silent `xl list` calls every domain (null): only one that Xen has taken apart is dead."""
    visit = arrive(fake_host)
    borrow(visit)
    fake_host.fake.zombies = True  # one of ours would need a reboot
    fake_host.fake.domains[9] = Domain("(null)", 9)
    climb = give_back(visit, power=FakePower())
    assert climb is not None and not climb.restored
    assert "d9, which has no name" in climb.told
    visit.end()
    assert fake_host.fake.boots == 1


def test_a_clone_that_answers_in_the_middle_of_a_run_is_not_touched(fake_host: FakeLab) -> None:
    """It has our disk, with the same host keys: its name had two addresses, or another machine got the address."""
    visit = arrive(fake_host)
    borrow(visit)
    fake_host.fake.reboot()
    board_id = fake_host.fake.root / "sys/class/dmi/id/product_uuid"
    board_id.parent.mkdir(parents=True, exist_ok=True)
    board_id.write_text("4c4c4544-0042-4a10-8056-b4c04f575931\n")
    run(fake_host.transport(), ["xl", "pci-assignable-add", str(NIC)], changes=True)  # somebody's there
    fake_host.fake.executed.clear()
    power = FakePower()
    # the first when its heartbeat has heard the link break already
    with pytest.raises(LabError, match=r"no claim of ours|rebooted by itself"):
        visit.journal.about_to(CREATE.to(guest="maskall-b"))
    climb = give_back(visit, power=power)
    assert climb is not None and "another machine answers" in climb.told
    assert [one.rung for one in climb.tried] == [Rung.RECONNECT, Rung.QUARANTINE]
    visit.end()
    assert fake_host.fake.executed == [] and power.orders == []
    assert not (fake_host.fake.root / "run/maskall/claim").exists(), "not even claimed"
