"""Provisioning and its undo as a whole, on a host made of answers: what is done, in which order, and what is not."""

from __future__ import annotations

import io
from unittest.mock import Mock

import pytest

from harness.base.errors import HostUnreachable, LabError, RestoreFailed, SafetyRefusal, Unreachable
from harness.base.progress import PlainProgress
from harness.lab.lease.ownxen import GRUBENV
from harness.lab.provision import apply, boot
from harness.lab.provision.apply import provision
from harness.lab.provision.menu import parse_menu
from harness.lab.provision.takeback import unprovision
from harness.lab.provision.wanted import GRUB_FILE, MENU, MODULES_FILE
from harness.lab.reboot import How
from suites.selftest.fakes.faketransport import Reply
from suites.selftest.fakes.provisionfacts import menu
from suites.selftest.fakes.provisionhost import INITRD, LIBRARY, MANIFEST, FakeSystem

QUIET = PlainProgress(io.StringIO())
PLAIN = menu().encode()
BACKUP = "/var/lib/maskall/provision"


def menu_of(system: FakeSystem) -> str:
    return system.transport.files[MENU][0].decode()


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> FakeSystem:
    made = FakeSystem()
    monkeypatch.setattr(boot, "reboot", made.reboot)
    monkeypatch.setattr(boot, "_SERVICES_SECONDS", 0.0)
    return made


def test_every_change_is_told_before_it_is_made(system: FakeSystem) -> None:
    steps = provision(system.visit(), None, QUIET)
    assert len(steps) == 6
    assert system.events == [
        "open provision",
        "told persistent /var/lib/apt/lists",
        "did update",
        f"told persistent {BACKUP}",
        f"told persistent {GRUB_FILE}",
        "told persistent xen-system-amd64",
        "did install",
        f"told persistent {MODULES_FILE}",
        f"told persistent {MENU}",
        "did menu",
        f"told persistent {GRUBENV}",
        "did set next_entry fallback",
        "told reboot boot-0",
        "did reboot",
        f"told persistent {GRUB_FILE}",
        "did menu",
    ]
    assert system.environment == {}
    assert parse_menu(menu_of(system)).default == "xen-gnulinux-simple-u"


def test_the_backup_is_whole_before_anything_is_changed(system: FakeSystem) -> None:
    provision(system.visit(), None, QUIET)
    done = system.changes
    manifest = next(number for number, line in enumerate(done) if MANIFEST in line)
    install = next(number for number, line in enumerate(done) if "maskall-install" in line)
    assert manifest < install
    assert system.kept == {MENU: PLAIN, INITRD: b"old initramfs", GRUBENV: b""}


def test_a_second_time_nothing_is_sent(system: FakeSystem) -> None:
    provision(system.visit(), None, QUIET)
    before = len(system.changes)
    assert provision(system.visit(), None, QUIET) == ()
    assert len(system.changes) == before


def test_and_all_the_way_back(system: FakeSystem) -> None:
    packages = set(system.packages)
    provision(system.visit(), None, QUIET)
    system.events.clear()
    assert unprovision(system.visit(), None, QUIET)
    files = system.transport.files
    assert (files[MENU][0], files[INITRD][0]) == (PLAIN, b"old initramfs")
    assert not {GRUB_FILE, MODULES_FILE, MANIFEST} & files.keys()
    assert system.packages == packages and not system.xen and system.boots == 2
    order = [event for event in system.events if event.startswith("did")]
    back = [f"did back {path}" for path in (GRUB_FILE, MODULES_FILE)]
    exact = [f"did back {path}" for path in (MENU, GRUBENV, INITRD)]
    assert order == ["did purge", *back, "did menu", *exact, "did reboot", "did forget"]
    assert not unprovision(system.visit(), None, QUIET), "there is nothing to take back"


@pytest.mark.parametrize("verb", [provision, unprovision])
def test_without_leave_the_host_is_not_even_asked(system: FakeSystem, verb: object) -> None:
    with pytest.raises(SafetyRefusal, match="does not allow"):
        verb(system.visit(allowed=False), None, QUIET)  # type: ignore[operator]
    assert system.transport.executed == []


@pytest.mark.parametrize("line", ["Remv busybox [1]\n", "Inst libc6 [1] (2)\n"])
def test_what_cannot_be_taken_back_is_not_begun(system: FakeSystem, line: str) -> None:
    system.simulated = line
    with pytest.raises(LabError, match="cannot be taken back"):
        provision(system.visit(), None, QUIET)
    assert "did install" not in system.events and MANIFEST not in system.transport.files
    simulation = next(one.shown for one in system.transport.executed if "--simulate" in one.shown)
    assert "--no-remove" not in simulation, "apt would refuse instead of telling what it would remove"


def test_xen_without_an_iommu_is_told_with_what_xen_said(system: FakeSystem) -> None:
    system.iommu_works = False
    with pytest.raises(LabError, match=r"no hvm_directio.*I/O virtualisation disabled") as caught:
        provision(system.visit(), None, QUIET)
    assert "firmware" in caught.value.hint and "unprovision" in caught.value.hint
    assert unprovision(system.visit(), None, QUIET), "it can be taken back all the same"
    assert system.transport.files[MENU][0] == PLAIN


def test_a_hypervisor_that_grub_cannot_load_leaves_a_plain_host(system: FakeSystem) -> None:
    system.loads = False
    with pytest.raises(LabError, match="Xen did not come up; it is back in plain Linux") as caught:
        provision(system.visit(), None, QUIET)
    assert "unprovision" in caught.value.hint
    assert not system.xen and system.environment == {}
    assert parse_menu(menu_of(system)).default == "0"
    system.loads = True
    assert [step.kind.value for step in provision(system.visit(), None, QUIET)] == ["menu", "boot once", "default"]


class _Power:
    """Enough of one: the cycle is the fake's reboot."""


def test_one_that_hangs_is_power_cycled_and_the_default_leads_back(system: FakeSystem) -> None:
    system.comes_up = False
    with pytest.raises(LabError, match="Xen did not come up; it is back in plain Linux"):
        provision(system.visit(), _Power(), QUIET)  # type: ignore[arg-type]
    assert system.events[-2:] == ["did reboot", "did power cycle"]
    assert not system.xen and parse_menu(menu_of(system)).default == "0"


def test_without_power_control_a_person_is_needed_and_any_reset_leads_back(system: FakeSystem) -> None:
    system.comes_up = False
    with pytest.raises(HostUnreachable):
        provision(system.visit(), None, QUIET)
    system.comes_up = True
    system.reboot(None, None, None, How.CYCLE, "")
    assert not system.xen


@pytest.mark.parametrize("why", [Unreachable.REFUSED, Unreachable.SPEAKS])
def test_one_that_answers_by_a_refusal_is_not_switched_off(
    system: FakeSystem, monkeypatch: pytest.MonkeyPatch, why: Unreachable
) -> None:
    orders: list[object] = []

    def refused(link: object, power: object, deadline: object, how: How, before: object) -> None:
        orders.append(how)
        raise HostUnreachable("refused", why=why)

    monkeypatch.setattr(boot, "reboot", refused)
    with pytest.raises(HostUnreachable, match="refused"):
        provision(system.visit(), _Power(), QUIET)  # type: ignore[arg-type]
    assert orders == [How.SOFT] and system.environment == {}


def test_an_environment_that_does_not_hold_what_was_written_is_no_reboot(system: FakeSystem) -> None:
    system.transport.commands[r"grub-editenv .* list"] = Reply(b"saved_entry=0\n")
    system.transport.commands[r"grub-editenv .*"] = system.transport.commands.pop(r"grub-editenv .*")
    with pytest.raises(LabError, match="does not hold"):
        provision(system.visit(), None, QUIET)
    assert system.boots == 0 and system.environment == {}


def test_a_menu_whose_default_is_another_afterwards_is_no_reboot(system: FakeSystem) -> None:
    system.update_grub = lambda: system.transport.files.update(  # type: ignore[method-assign]
        {MENU: (menu(xen=True, default="Debian GNU/Linux, with Xen hypervisor").encode(), 0o600)}
    )
    with pytest.raises(LabError, match="with Xen hypervisor', which does not lead back") as caught:
        provision(system.visit(), None, QUIET)
    assert "not rebooted" in caught.value.hint and system.boots == 0


def test_nor_one_without_a_xen_entry(system: FakeSystem) -> None:
    system.update_grub = lambda: None  # type: ignore[method-assign]
    with pytest.raises(LabError, match="no entry of GRUB's menu boots Xen"):
        provision(system.visit(), None, QUIET)
    assert system.boots == 0


def test_xen_is_not_the_default_before_it_was_seen_to_work(system: FakeSystem) -> None:
    system.iommu_works = False
    with pytest.raises(LabError, match="no hvm_directio"):
        provision(system.visit(), None, QUIET)
    assert system.xen and parse_menu(menu_of(system)).default == "0"


def test_what_was_marked_by_hand_since_stays(system: FakeSystem) -> None:
    provision(system.visit(), None, QUIET)
    install = next(program for program in system.programs if "'install'" in program or " install " in program)
    assert "apt-mark auto -- " in install and "xen-system-amd64" not in install.partition("apt-mark auto")[2]
    assert "dpkg --configure" not in install, "other people's half upgrades are not finished"
    system.manual = {"xen-system-amd64", "pciutils", "vim"}
    assert unprovision(system.visit(), None, QUIET)
    assert "pciutils" in system.packages and "xen-system-amd64" not in system.packages
    assert any(line.startswith("pciutils: marked") for line in system.notices)


def test_nothing_is_taken_back_beside_somebodys_half_upgrade(system: FakeSystem) -> None:
    provision(system.visit(), None, QUIET)
    system.half = {"libc6"}
    system.events.clear()
    with pytest.raises(LabError, match="dpkg has work left with libc6"):
        unprovision(system.visit(), None, QUIET)
    assert system.events == []


def test_it_is_not_rebooted_back_into_xen(system: FakeSystem) -> None:
    provision(system.visit(), None, QUIET)
    there = menu_of(system)
    system.update_grub = lambda: system.transport.files.update(  # type: ignore[method-assign]
        {MENU: (there.encode(), 0o600)}
    )
    system.kept[MENU] = there.encode()
    with pytest.raises(RestoreFailed, match="not plain Linux"):
        unprovision(system.visit(), None, QUIET)
    assert system.boots == 1


def test_an_interrupted_provisioning_is_continued_with_the_first_backup(
    system: FakeSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_reboot(*_: object) -> None:
        raise LabError("power cut")

    monkeypatch.setattr(boot, "reboot", no_reboot)
    with pytest.raises(LabError, match="power cut"):
        provision(system.visit(), None, QUIET)
    monkeypatch.setattr(boot, "reboot", system.reboot)
    steps = provision(system.visit(), None, QUIET)
    assert [step.kind.value for step in steps] == ["menu", "boot once", "default"]
    assert unprovision(system.visit(), None, QUIET)
    assert system.transport.files[MENU][0] == PLAIN and LIBRARY not in system.packages


def test_guests_are_not_rebooted_away(system: FakeSystem) -> None:
    provision(system.visit(), None, QUIET)
    system.domains += "web                  3  1024     1     -b----      10.1\n"
    with pytest.raises(SafetyRefusal, match="guests: web"):
        unprovision(system.visit(), None, QUIET)
    assert "open unprovision" not in system.events


@pytest.mark.parametrize("when", ["before it begins", "while it is at work"])
def test_nor_by_an_interrupted_provisioning_that_is_continued(
    system: FakeSystem, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Xen was booted once and somebody uses it; by a newer version of ours its options are others, to be tried."""
    with monkeypatch.context() as interrupted, pytest.raises(LabError, match="power cut"):
        interrupted.setattr(apply, "_make_default", Mock(side_effect=LabError("power cut")))
        provision(system.visit(), None, QUIET)
    system.transport.files[GRUB_FILE] = (b"an older version's", 0o644)
    boots, guest = system.boots, "web                  3  1024     1     -b----      10.1\n"
    visit = system.visit()
    if when == "before it begins":
        system.domains += guest
    else:
        visit.open_journal = lambda reason: setattr(system, "domains", system.domains + guest)  # type: ignore[method-assign]
    with pytest.raises(SafetyRefusal, match="guests: web"):
        provision(visit, None, QUIET)
    assert system.boots == boots


def test_nor_when_xl_does_not_say_whether_there_are_any(system: FakeSystem) -> None:
    provision(system.visit(), None, QUIET)
    system.transport.commands["xl list"] = Reply(b"", b"xl: cannot open\n", 1)
    with pytest.raises(LabError, match="xl does not say: xl: cannot open"):
        unprovision(system.visit(), None, QUIET)
    assert "open unprovision" not in system.events


def test_what_came_later_is_not_purged_along(system: FakeSystem) -> None:
    provision(system.visit(), None, QUIET)
    system.simulated = "Purg somebodys-toolstack [1]\n"
    with pytest.raises(LabError, match="somebodys-toolstack"):
        unprovision(system.visit(), None, QUIET)
    assert "open unprovision" not in system.events


def test_a_menu_that_was_made_anew_since_stays(system: FakeSystem) -> None:
    provision(system.visit(), None, QUIET)
    system.transport.files[MENU] = (menu(xen=True, kernels=("7", "6")).encode(), 0o600)
    system.kept[MENU] = b"with one kernel"
    assert unprovision(system.visit(), None, QUIET)
    assert system.transport.files[MENU][0] == PLAIN and any(MENU in line for line in system.notices)


def test_what_is_not_as_it_was_is_said_and_the_backup_stays(
    system: FakeSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    provision(system.visit(), None, QUIET)

    def spoilt(link: object, power: object, deadline: object, how: How, before: object) -> None:
        system.reboot(link, power, deadline, how, before)
        system.transport.files[MENU] = (b"spoilt", 0o600)

    monkeypatch.setattr(boot, "reboot", spoilt)
    with pytest.raises(RestoreFailed, match=f"{MENU} has another content"):
        unprovision(system.visit(), None, QUIET)
    assert MANIFEST in system.transport.files
    monkeypatch.setattr(boot, "reboot", system.reboot)
    assert unprovision(system.visit(), None, QUIET), "called again, it goes on"
    assert system.transport.files[MENU][0] == PLAIN
