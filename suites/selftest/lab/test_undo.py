"""Undoing: only what the journal names, only where it still is what it was, and the same however often it is begun."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.base.deadline import Deadline
from harness.base.errors import LabError, RestoreFailed
from harness.lab.lease.baseline import Baseline, _known_settings, read
from harness.lab.lease.entry import FIRST, JournalLine, What
from harness.lab.lease.undo import FORGET, Touched, Undo
from harness.model.address import Bdf
from harness.model.change import Change, ChangeKind
from harness.model.guestspec import GuestSpec, GuestType
from harness.transport.base import Command, CommandResult, Script
from harness.transport.ssh import SshTransport
from harness.xen.toolstack.xl import XlToolstack
from suites.selftest.fakes.fakehost import board
from suites.selftest.fakes.fakelab import FakeLab, fake_host
from suites.selftest.fakes.faketransport import FakeTransport, Reply
from suites.selftest.fakes.journalline import must_be_storable
from suites.selftest.fakes.patience import soon

__all__ = ["fake_host"]
pytestmark = pytest.mark.whole
NIC = Bdf.parse(board.NIC)
PLURAL = Bdf.parse(board.PLURAL)


@dataclass
class Book:
    """A ledger that notes what was executed before each change it hears of."""

    lab: FakeLab
    told: list[tuple[Change, int]] = field(default_factory=list)
    stop_at: int = -1

    def about_to(self, change: Change) -> None:
        must_be_storable(change)
        self.told.append((change, len(self.lab.fake.executed)))
        if len(self.told) == self.stop_at:
            raise KeyboardInterrupt


class PlainLinux:
    """The same host in a boot without Xen: no xl, and sysfs says nothing of a hypervisor."""

    def __init__(self, link: SshTransport) -> None:
        self._link = link

    def __getattr__(self, name: str) -> object:
        return getattr(self._link, name)

    def run(self, command: Command, *, deadline: Deadline, **more: object) -> CommandResult:
        words = [] if not isinstance(command, list) else command
        if (
            words[:1] == ["xl"]
            or (isinstance(command, Script) and "exec xl " in command.text)
            or words == ["cat", "/sys/hypervisor/type"]
        ):
            return CommandResult(" ".join(words), b"", b"not there\n", 127, None, 0.0, "xenbox1")
        return self._link.run(command, deadline=deadline, **more)  # type: ignore[arg-type]


class Silent(bytearray):
    """The config space of a device that does not answer: writes are lost."""

    def __setitem__(self, *_: object) -> None:
        pass


def guest(name: str, *devices: Bdf) -> GuestSpec:
    kernel, initrd = f"/boot/vmlinuz-{board.RELEASE}", f"/boot/initrd.img-{board.RELEASE}"
    return GuestSpec(name, GuestType.HVM, kernel, initrd, devices)


def borrowed(lab: FakeLab) -> tuple[SshTransport, Baseline, dict[str, object]]:
    """The NIC is with a guest of ours and in several ways not as it was; and the state before that."""
    link, before = lab.transport(), now(lab)
    baseline = read(link, NIC)
    tools = XlToolstack(link)
    tools.make_assignable(NIC, soon()).check()
    tools.create(guest("maskall-a", NIC), soon()).result.check()
    for name, value in (("power/control", "auto"), ("driver_override", "pciback"), ("reset_method", "bus")):
        path = f"/sys/bus/pci/devices/{NIC}/{name}"
        link.run(["tee", path], deadline=soon(), stdin=f"{value}\n".encode(), changes=True).check()
    lab.fake.executed.clear()
    return link, baseline, before


def now(lab: FakeLab) -> dict[str, object]:
    return {**lab.fake.state(), "files": []}


def touched(*baselines: Baseline, domains: tuple[str, ...] = ("maskall-a",)) -> Touched:
    return Touched(frozenset(domains), frozenset(), baselines)


class TestGoingBack:
    def test_each_step_is_told_before_it_is_made(self, fake_host: FakeLab) -> None:
        link, baseline, before = borrowed(fake_host)
        book = Book(fake_host)
        Undo(link, book, touched(baseline)).reconcile(whole=True)
        assert now(fake_host) == before
        assert [done for _, done in book.told] == list(range(len(fake_host.fake.executed)))

    def test_a_second_time_changes_nothing(self, fake_host: FakeLab) -> None:
        link, baseline, _ = borrowed(fake_host)
        undo = Undo(link, Book(fake_host), touched(baseline))
        undo.reconcile(whole=True)
        fake_host.fake.executed.clear()
        undo.reconcile(whole=True)
        assert fake_host.fake.executed == []

    def test_broken_off_anywhere_the_next_one_ends_it(self, fake_host: FakeLab) -> None:
        """Each one makes a single change and dies before its second: all together they are one undo."""
        link, baseline, before = borrowed(fake_host)
        for died in range(30):
            try:
                Undo(link, Book(fake_host, stop_at=2), touched(baseline)).reconcile(whole=True)
                break
            except KeyboardInterrupt:
                assert len(fake_host.fake.executed) == died + 1
        assert now(fake_host) == before
        assert died >= 4

    def test_without_xen_it_goes_by_sysfs(self, fake_host: FakeLab) -> None:
        """A host that came up in plain Linux, with the device still seized by pciback."""
        link, baseline, before = borrowed(fake_host)
        XlToolstack(link).destroy(1, soon()).check()
        Undo(PlainLinux(link), Book(fake_host), touched(baseline)).reconcile(whole=True)  # type: ignore[arg-type]
        nic = str(NIC)
        assert now(fake_host)["slots"] == before["slots"]
        expected = {**before["functions"][nic], "owner": "DomIO"}  # type: ignore[index]  # Xen's mind, if there were one
        assert now(fake_host)["functions"][nic] == expected  # type: ignore[index]

    def test_virtual_functions_go_by_way_of_none(self, fake_host: FakeLab) -> None:
        """The kernel changes no number of VFs to another but 0 (sriov_numvfs_store)."""
        link = fake_host.transport()
        function = fake_host.fake.functions[str(PLURAL)]
        function.numvfs = 4
        fake_host.fake.tree.show(function)
        baseline = read(link, PLURAL)
        function.numvfs = 2
        fake_host.fake.tree.show(function)
        Undo(link, Book(fake_host), touched(baseline)).reconcile(whole=True)
        assert function.numvfs == 4

    def test_the_backend_that_libxl_left_of_a_dead_guest_is_forgotten(self, fake_host: FakeLab) -> None:
        """Of ours, once it is gone; what is left of others' is their business."""
        link, baseline, _ = borrowed(fake_host)
        XlToolstack(link).create(guest("maskall-b"), soon()).result.check()
        names = {1: "maskall-a", 2: "maskall-b", 7: "maskall-a", 9: "bob"}
        left = {f"/local/domain/0/backend/pci/{domid}/0/domain": name for domid, name in names.items()}
        XlToolstack(link).destroy(1, soon()).check()
        fake_host.fake.xenstore.update(left)
        Undo(link, Book(fake_host), touched(baseline), domids={1, 2, 9}).reconcile(whole=True)
        assert now(fake_host)["domains"] == {0: "Domain-0", 2: "maskall-b"}
        assert fake_host.fake.xenstore.keys() & left.keys() == {name for name in left if "/1/" not in name}

    @pytest.mark.parametrize(("xl", "forgotten"), [("exit 1", False), ("[ $# = 1 ]", True), ("exit 0", False)])
    def test_a_toolstack_that_is_silent_has_not_said_that_a_domain_is_gone(
        self, xl: str, forgotten: bool, tmp_path: Path
    ) -> None:
        for name, does in (("xl", xl), ("xenstore-rm", f"touch {tmp_path}/forgotten")):
            (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
            (tmp_path / name).chmod(0o755)
        path = f"PATH={tmp_path}:$PATH\n"
        subprocess.run(["/bin/sh", "-c", path + FORGET.format(domid=7)], check=False)  # noqa: S603 - our own program
        assert (tmp_path / "forgotten").exists() == forgotten

    def test_what_does_not_go_back_is_named(self, fake_host: FakeLab) -> None:
        link, baseline, _ = borrowed(fake_host)
        fake_host.fake.modules.discard("e1000e")
        with pytest.raises(RestoreFailed, match=r"0000:02:00\.0: driver is none, was e1000e") as raised:
            Undo(link, Book(fake_host), touched(baseline)).reconcile(whole=True)
        assert raised.value.hint == "maskall restore xenbox1"


class TestOnlyOurs:
    def test_a_domain_the_journal_does_not_name_lives(self, fake_host: FakeLab) -> None:
        link, baseline, _ = borrowed(fake_host)
        XlToolstack(link).create(guest("maskall-b"), soon()).result.check()
        Undo(link, Book(fake_host), touched(baseline)).reconcile(whole=True)
        assert now(fake_host)["domains"] == {0: "Domain-0", 2: "maskall-b"}

    @pytest.mark.parametrize("rebooted", [False, True])
    def test_another_device_at_the_address_is_not_touched(self, fake_host: FakeLab, rebooted: bool) -> None:
        """Buses were numbered anew: behind the address of the NIC is the disk of the root file system, say."""
        link = fake_host.transport()
        baseline = replace(read(link, NIC), who="8086 ffff 0000 0000 elsewhere", driver="nvme", power_control="auto")
        heard: list[str] = []
        undo = Undo(link, Book(fake_host), touched(baseline), heard.append, rebooted)
        assert undo.still_there() == []
        if rebooted:
            undo.reconcile(whole=True)
            assert "another device is at" in heard[0]
        else:
            with pytest.raises(RestoreFailed, match="another device is at"):
                undo.reconcile(whole=True)
        assert fake_host.fake.executed == []

    def test_a_device_that_fell_silent_is_still_who_it_was(self, fake_host: FakeLab) -> None:
        """Config space reads as all ones, after a reset that went wrong: it goes back to its driver all the same."""
        link, baseline, _ = borrowed(fake_host)
        XlToolstack(link).destroy(1, soon()).check()
        function = fake_host.fake.functions[str(NIC)]
        function.config = Silent(b"\xff" * len(function.config))
        fake_host.fake.tree.show(function)
        undo = Undo(link, Book(fake_host), touched(baseline))
        assert undo.still_there() == [str(NIC)]
        with pytest.raises(RestoreFailed, match="command is none") as raised:
            undo.reconcile(whole=True)
        assert "another device" not in str(raised.value)
        assert function.bound == "e1000e"

    def test_a_device_that_is_gone_is_said_so(self, fake_host: FakeLab) -> None:
        link = fake_host.transport()
        baseline = read(link, NIC)
        fake_host.fake.tree.unplug(fake_host.fake.functions.pop(str(NIC)))
        with pytest.raises(RestoreFailed, match="is not there"):
            Undo(link, Book(fake_host), touched(baseline)).reconcile(whole=True)
        assert fake_host.fake.executed == []


class TestDomainsOfAHostThatDoesNotSay:
    def undo(self, hypervisor: Reply) -> Undo:
        link = FakeTransport("xenbox1", connected=True)
        link.commands = {"xl list": Reply(stderr=b"libxl: error: cannot open\n", status=1), "cat /sys.*": hypervisor}
        return Undo(link, _Deaf(), touched())

    def test_on_xen_that_is_not_none(self) -> None:
        with pytest.raises(LabError, match=r"xenbox1: .*libxl: error: cannot open"):
            self.undo(Reply(b"xen\n")).reconcile(whole=True)

    @pytest.mark.parametrize("hypervisor", [Reply(status=1, stderr=b"No such file\n"), Reply(b"kvm\n")])
    def test_without_xen_it_is(self, hypervisor: Reply) -> None:
        self.undo(hypervisor).reconcile(whole=True)


class _Deaf:
    def about_to(self, change: Change) -> None:
        pytest.fail(f"nothing is to be done: {change.text}")


def intents(*changes: tuple[ChangeKind, str, str]) -> list[JournalLine]:
    return [
        JournalLine(number, "", boot, "r", What.INTENT, {"kind": str(kind), "subject": subject}, FIRST)
        for number, (kind, subject, boot) in enumerate(changes, start=1)
    ]


class TestWhatWasTouched:
    def test_a_module_of_an_earlier_boot_is_the_hosts_own(self) -> None:
        entries = intents((ChangeKind.MODULE, "xen-pciback", "boot1"), (ChangeKind.MODULE, "vfio-pci", "boot2"))
        assert Touched.by(entries, "boot2").modules == {"vfio-pci"}
        assert Touched.by(entries, "boot3").modules == frozenset()

    @given(st.text(max_size=20), st.sampled_from(ChangeKind))
    def test_whatever_a_journal_says_only_our_names_are_domains_to_destroy(self, name: str, kind: ChangeKind) -> None:
        found = Touched.by(intents((kind, name, "b")))
        assert found.domains == ({name} if kind is ChangeKind.DOMAIN and name.startswith("maskall-") else frozenset())

    def test_the_first_baseline_of_a_device_counts(self, fake_host: FakeLab) -> None:
        first = read(fake_host.transport(), NIC)
        later = replace(first, driver="pciback")
        entries = [
            JournalLine(number, "", "b", "r", What.BASELINE, one.as_payload(), FIRST)
            for number, one in enumerate((first, later), start=1)
        ]
        assert Touched.by(entries).baselines == (first,)


class TestSettings:
    """What an administrator has set and a driver that is bound anew sets back."""

    @pytest.mark.parametrize(
        ("setting", "value", "command"),
        [
            ("net0 mtu", "9000", "^ip link set dev eth1 mtu 9000$"),
            ("net0 address", "52:54:00:00:00:01", "^ip link set dev eth1 address 52:54:00:00:00:01$"),
        ],
    )
    def test_they_are_set_back_or_told(self, fake_host: FakeLab, setting: str, value: str, command: str) -> None:
        link = fake_host.transport()
        settings = {**dict(read(link, NIC).settings), setting: value}
        baseline = replace(read(link, NIC), settings=tuple(settings.items()))
        heard: list[str] = []
        Undo(link, Book(fake_host), touched(baseline), heard.append).reconcile(whole=True)
        assert fake_host.fake.ran(command) == 1
        assert any(f"{setting} is" in line and f"was {value}" in line for line in heard), "the fake ip(8) refuses"
        assert fake_host.fake.boots == 1

    def test_what_baseline_sh_prints_of_them(self, fake_host: FakeLab) -> None:
        found = dict(read(fake_host.transport(), NIC).settings)
        assert found["net0 name"] == "eth1" and found["net0 mtu"] == "1500"
        assert found["net0 address"] == board.NIC_MAC
        lines = "block0 scheduler none [mq-deadline] kyber\nblock0 nr_requests 256\nnet0 feature tx-gso on\nnet0 x; y\n"
        assert dict(_known_settings(lines)) == {
            "block0 scheduler": "mq-deadline",
            "block0 nr_requests": "256",
            "net0 feature tx-gso": "on",
        }
