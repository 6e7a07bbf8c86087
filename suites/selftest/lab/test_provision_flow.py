"""Provisioning and its undo as a whole, on a host made of answers: what is done, in which order, and what is not."""

from __future__ import annotations

import io

import pytest

from harness.base.errors import LabError, RestoreFailed, SafetyRefusal
from harness.base.progress import PlainProgress
from harness.lab.provision import boot
from harness.lab.provision.apply import provision
from harness.lab.provision.takeback import unprovision
from harness.lab.provision.wanted import GRUB_FILE, MENU, MODULES_FILE
from suites.selftest.fakes.faketransport import Reply
from suites.selftest.fakes.provisionhost import INITRD, LIBRARY, MANIFEST, FakeSystem

QUIET = PlainProgress(io.StringIO())
BACKUP = "/var/lib/maskall/provision"


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> FakeSystem:
    made = FakeSystem()
    monkeypatch.setattr(boot, "reboot", made.reboot)
    monkeypatch.setattr(boot, "_SERVICES_SECONDS", 0.0)
    return made


def test_every_change_is_told_before_it_is_made(system: FakeSystem) -> None:
    steps = provision(system.visit(), None, QUIET)
    assert len(steps) == 5
    assert system.events == [
        "open provision",
        "told persistent /var/lib/apt/lists",
        "did update",
        f"told persistent {BACKUP}",
        "told persistent xen-system-amd64",
        "did install",
        f"told persistent {GRUB_FILE}",
        f"told persistent {MODULES_FILE}",
        f"told persistent {MENU}",
        "did menu",
        "told reboot boot-0",
        "did reboot",
    ]


def test_the_backup_is_whole_before_anything_is_changed(system: FakeSystem) -> None:
    provision(system.visit(), None, QUIET)
    done = system.changes
    manifest = next(number for number, line in enumerate(done) if MANIFEST in line)
    install = next(number for number, line in enumerate(done) if "maskall-install" in line)
    assert manifest < install
    assert system.kept == {MENU: b"old menu", INITRD: b"old initramfs"}


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
    assert (files[MENU][0], files[INITRD][0]) == (b"old menu", b"old initramfs")
    assert not {GRUB_FILE, MODULES_FILE, MANIFEST} & files.keys()
    assert system.packages == packages and not system.xen and system.boots == 2
    order = [event for event in system.events if event.startswith("did")]
    back = [f"did back {path}" for path in (GRUB_FILE, MODULES_FILE)]
    exact = [f"did back {path}" for path in (MENU, INITRD)]
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
    assert system.transport.files[MENU][0] == b"old menu"


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
    assert [step.kind.value for step in steps] == ["menu", "reboot"]
    assert unprovision(system.visit(), None, QUIET)
    assert system.transport.files[MENU][0] == b"old menu" and LIBRARY not in system.packages


def test_guests_are_not_rebooted_away(system: FakeSystem) -> None:
    provision(system.visit(), None, QUIET)
    system.domains += "web                  3  1024     1     -b----      10.1\n"
    with pytest.raises(SafetyRefusal, match="guests: web"):
        unprovision(system.visit(), None, QUIET)
    assert "open unprovision" not in system.events


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
    system.transport.files[MENU] = (b"menu with another kernel", 0o600)
    assert unprovision(system.visit(), None, QUIET)
    assert system.transport.files[MENU][0] == b"plain" and any(MENU in line for line in system.notices)


def test_what_is_not_as_it_was_is_said_and_the_backup_stays(
    system: FakeSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    provision(system.visit(), None, QUIET)

    def spoilt(*_: object) -> None:
        system.reboot()
        system.transport.files[MENU] = (b"spoilt", 0o600)

    monkeypatch.setattr(boot, "reboot", spoilt)
    with pytest.raises(RestoreFailed, match=f"{MENU} has another content"):
        unprovision(system.visit(), None, QUIET)
    assert MANIFEST in system.transport.files
    monkeypatch.setattr(boot, "reboot", system.reboot)
    assert unprovision(system.visit(), None, QUIET), "called again, it goes on"
    assert system.transport.files[MENU][0] == b"old menu"
