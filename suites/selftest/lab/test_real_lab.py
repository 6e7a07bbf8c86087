"""A lab host as a session gets it: nothing is touched that was refused, and whatever happens it is given back."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from harness.base.errors import (
    ExitStatus,
    HostQuarantined,
    LabError,
    LockHeld,
    RestoreFailed,
    SafetyRefusal,
    UsageError,
)
from harness.base.progress import PlainProgress
from harness.cli import main
from harness.guest.initramfs import GuestFiles
from harness.host.device import Device
from harness.host.host import Host, Rewritten
from harness.lab.lease import ownxen
from harness.lab.lease.claim import look
from harness.lab.lease.claim_options import ClaimOptions, accepted
from harness.lab.lease.lease import Lease
from harness.lab.lease.site import Site
from harness.lab.lease.state import HostState
from harness.lab.power.qmp import QmpPower
from harness.lab.real import RealLab
from harness.xen.toolstack.xl import XlToolstack
from suites.selftest.fakes.fakehost import board
from suites.selftest.fakes.fakehost.machine import Domain
from suites.selftest.fakes.fakelab import NAME, FakeLab, fake_host
from suites.selftest.fakes.labrun import FORCED, arrive, borrow, die, site
from suites.selftest.fakes.patience import soon

__all__ = ["fake_host"]
pytestmark = pytest.mark.whole


@pytest.fixture(autouse=True)
def controller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "controller"))
    monkeypatch.setattr("harness.lab.lease.undo.GONE_SECONDS", 0.1)
    # building an initramfs reads a real host's modules; the lab lane does it
    monkeypatch.setattr("harness.lab.real.install", lambda *_: GuestFiles("/boot/vmlinuz", "/guest.cpio"))


@pytest.fixture
def said() -> io.StringIO:
    return io.StringIO()


ASKED = ClaimOptions(reason="a self-test")


def opened(lab: FakeLab, said: io.StringIO, *names: str, wishes: ClaimOptions = ASKED) -> RealLab:
    return RealLab.opened(site(lab), list(names) or ["nic0"], wishes, PlainProgress(said))


class TestTheInventory:
    """What it says of one host, in one hand."""

    @pytest.fixture
    def there(self, fake_host: FakeLab) -> Site:
        fake_host.inventory.write_text(fake_host.text + "  nested: {kind: nested, devices: []}\n")
        return Site.find(fake_host.inventory, NAME)

    def test_a_host_that_is_made_and_thrown_away_is_none_of_a_lab(self, there: Site) -> None:
        with pytest.raises(UsageError, match=r"^nested is no machine of a lab") as raised:
            Site.find(there.inventory, "nested")
        assert raised.value.hint == f"hosts of kind lab in {there.inventory}: {NAME}"

    def test_other_names_of_the_same_machine_have_its_host_key(self, fake_host: FakeLab) -> None:
        """The comment of a key says nothing."""
        entry, key = fake_host.text.partition("hosts:\n")[2], Site.find(fake_host.inventory, NAME).entry.host_key
        same = (
            entry.replace(f"  {NAME}:", "  same:").replace("127.0.0.1", "localhost").replace(key, f"{key} root@{NAME}")
        )
        other = (
            entry.replace(f"  {NAME}:", "  other:")
            .replace("127.0.0.1", "127.0.0.2")
            .replace(key, f"{key[:-8]}AAAAAAAA")
        )
        fake_host.inventory.write_text(fake_host.text + same + other)
        assert "root@" in same and key not in other
        assert Site.find(fake_host.inventory, NAME).also == ("same",)
        assert Site.find(fake_host.inventory, "other").also == ()

    def test_its_devices_are_those_that_are_named_each_once(self, there: Site) -> None:
        entry = there.entry
        for wanted, names in (
            ([], ["nic0", "disk0"]),
            (["disk0"], ["disk0"]),
            (["disk0", "nic0", "disk0"], ["disk0", "nic0"]),
        ):
            found = there.devices(wanted)
            assert list(found) == names
            assert all(found[name] is entry.devices[name] for name in names)
            told = [(one.name, one.kind, one.endings, one.reset_effective) for one in there.candidates(wanted)]
            assert told == [(one, found[one].driver, frozenset({"E3"}), True) for one in names]

    def test_none_is_ever_guessed(self, there: Site) -> None:
        with pytest.raises(UsageError, match=f"{there.inventory}: {NAME} has no device 'nic1'") as raised:
            there.devices(["disk0", "nic1"])
        assert raised.value.hint == "did you mean 'nic0'?"
        bare = replace(there, entry=there.entry.model_copy(update={"devices": {}}))
        with pytest.raises(UsageError, match=f"{there.inventory}: {NAME} lends no device") as raised:
            bare.devices()
        assert "`devices`" in raised.value.hint

    def test_its_power_lies_beside_the_inventory(self, there: Site) -> None:
        assert there.power() is None
        entry = there.entry.model_copy(update={"power": QmpPower(kind="qmp", socket="monitor.sock")})
        power = replace(there, entry=entry).power()
        assert power is not None
        assert power.name == f"{NAME} (qmp {there.inventory.parent / 'monitor.sock'})"

    def test_a_silent_host_gets_the_time_of_one_boot(self, there: Site) -> None:
        assert there.patience == there.entry.boot_seconds == 300


@pytest.fixture
def real(fake_host: FakeLab, said: io.StringIO) -> Iterator[RealLab]:
    lab = opened(fake_host, said)
    yield lab
    lab.close()


def borrowed(host: Host) -> Device:
    return Device.identify(host, XlToolstack(host.transport), next(iter(host.devices.values())))


def test_a_device_is_lent_and_given_back(fake_host: FakeLab, said: io.StringIO) -> None:
    before = fake_host.fake.state()
    lab = opened(fake_host, said)
    with lab.host(["nic0"], PlainProgress(said)) as host:
        assert host.devices["nic0"].address is not None
        borrowed(host).bind()
        assert fake_host.fake.state()["functions"][board.NIC]["driver"] == "pciback"
        assert host.restore is not None
        host.restore()
    assert fake_host.fake.state()["functions"] == before["functions"]
    lab.close()
    lab.close()
    assert fake_host.fake.state() == before


@pytest.mark.parametrize("error", [LabError("in mid-scenario"), KeyboardInterrupt()])
def test_whatever_ends_a_scenario_the_device_goes_back(
    fake_host: FakeLab, said: io.StringIO, error: BaseException
) -> None:
    before = fake_host.fake.state()
    lab = opened(fake_host, said)
    with pytest.raises(type(error)), lab.host(["nic0"], PlainProgress(said)) as host:
        borrowed(host).bind()
        raise error
    lab.close()
    assert fake_host.fake.state() == before


def test_a_refused_device_is_not_touched_and_the_host_is_free_again(fake_host: FakeLab, said: io.StringIO) -> None:
    link = fake_host.transport()
    mask = ["setpci", "-s", board.NIC, "CAP_MSIX+2.w=c004"]  # somebody did
    link.run(mask, deadline=soon(), changes=True).check()
    fake_host.fake.executed.clear()
    before = fake_host.fake.state()
    with pytest.raises(SafetyRefusal, match=r"nic0 is not touched: .*msix"):
        opened(fake_host, said)
    assert fake_host.fake.state() == before
    assert not fake_host.fake.ran("xl|tee|setpci")
    assert look(fake_host.transport()) is None


def test_a_run_on_a_refused_device_is_one_line_and_changes_nothing(
    fake_host: FakeLab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    link = fake_host.transport()
    mask = ["setpci", "-s", board.NIC, "CAP_MSIX+2.w=c004"]
    link.run(mask, deadline=soon(), changes=True).check()
    before = fake_host.fake.state()
    results = tmp_path / "results"
    words = ["--host", NAME, "--inventory", str(fake_host.inventory), "--device", "nic0", "--results", str(results)]
    assert main(["run", "E3-F1", *words]) == ExitStatus.USAGE
    told = capsys.readouterr()
    assert told.err.startswith("maskall: nic0 is not touched: DENY msix")
    assert "Traceback" not in told.out + told.err
    assert fake_host.fake.state() == before
    assert not results.exists()
    assert main(["run", "E14-F1", *words]) == ExitStatus.USAGE
    assert "nic0 may not suffer E14" in capsys.readouterr().err


def test_a_check_that_does_not_exist_cannot_be_accepted(fake_host: FakeLab, said: io.StringIO) -> None:
    with pytest.raises(UsageError, match="msi"):
        opened(fake_host, said, wishes=ClaimOptions("a self-test", accepted(["msi=fine"])))
    assert look(fake_host.transport()) is None


def test_what_a_dead_run_left_is_undone_first(fake_host: FakeLab, said: io.StringIO) -> None:
    before = fake_host.fake.state()
    visit = arrive(fake_host)
    borrow(visit)
    die(visit)
    with pytest.raises(LockHeld):
        opened(fake_host, said)
    lab = opened(fake_host, said, wishes=FORCED)
    assert "undo what an earlier run left" in said.getvalue()
    assert fake_host.fake.state()["functions"] == before["functions"]
    lab.close()
    assert fake_host.fake.state() == before


def test_a_twin_that_appears_before_the_bind_is_noticed(real: RealLab, fake_host: FakeLab, said: io.StringIO) -> None:
    """All facts are read again for every scenario."""
    fake_host.fake.plug_twin(board.NIC)  # the same MAC too
    with pytest.raises(SafetyRefusal, match="several functions are"), real.host(["nic0"], PlainProgress(said)):
        pytest.fail("lent")
    assert fake_host.fake.ran("pci-assignable-add") == 0


def test_a_twin_with_another_mac_is_no_matter(real: RealLab, fake_host: FakeLab, said: io.StringIO) -> None:
    fake_host.fake.plug_twin(board.NIC, mac="52:54:00:aa:00:99")
    with real.host(["nic0"], PlainProgress(said)) as host:
        assert str(host.devices["nic0"].address) == board.NIC


def test_a_host_that_cannot_be_restored_is_left_alone(fake_host: FakeLab, said: io.StringIO) -> None:
    lab = opened(fake_host, said)
    lab.site.entry.__dict__["allow_reboot"] = False
    with pytest.raises(RestoreFailed, match="in quarantine") as raised, lab.host(["nic0"], PlainProgress(said)) as host:
        borrowed(host).bind()
        _make_unbindable(fake_host)
    assert raised.value.hint == f"maskall restore {NAME}"
    with pytest.raises(HostQuarantined), lab.host(["nic0"], PlainProgress(said)):
        pytest.fail("lent")
    lab.close()
    assert look(fake_host.transport()) is not None, "it stays claimed"
    assert HostState.of(NAME).quarantine
    with pytest.raises(HostQuarantined):
        opened(fake_host, said, wishes=FORCED)


def _make_unbindable(lab: FakeLab) -> None:
    """The driver is gone: nothing can bind the device to it again."""
    lab.fake.modules.discard("e1000e")


def test_a_second_interrupt_in_the_undo_is_a_quarantine_that_says_so(
    fake_host: FakeLab, said: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = fake_host.fake.state()
    lab = opened(fake_host, said)

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), lab.host(["nic0"], PlainProgress(said)) as host:
        borrowed(host).bind()
        monkeypatch.setattr(lab.visit, "put_back", interrupted)
        raise KeyboardInterrupt
    lab.close()
    assert "broken off" in HostState.of(NAME).quarantine
    home = HostState.of(NAME).folder.parents[2]
    monkeypatch.undo()  # that of the controller too
    monkeypatch.setenv("XDG_STATE_HOME", str(home))
    assert main(["restore", NAME, "--inventory", str(fake_host.inventory), "--take-over", "a test"]) == 0
    assert fake_host.fake.state() == before


def test_a_host_that_lacks_a_program_lends_nothing(fake_host: FakeLab, said: io.StringIO) -> None:
    (fake_host.fake.root / "bin" / "xenstore-read").unlink()
    with pytest.raises(LabError, match="not ready: programs: xenstore-read is missing"):
        opened(fake_host, said)
    assert look(fake_host.transport()) is None


def test_a_zombie_from_before_is_a_reason_not_to_begin(fake_host: FakeLab, said: io.StringIO) -> None:
    fake_host.fake.domains[7] = Domain("(null)", 7, zombie=True)
    lab = opened(fake_host, said)
    with pytest.raises(LabError, match="dead domains: zombie 7"), lab.host(["nic0"], PlainProgress(said)):
        pytest.fail("lent")
    lab.close()
    assert fake_host.fake.ran("pci-assignable-add") == 0


class Once:
    """A hypervisor that is booted for a session: as far as the lab that lends the host knows it."""

    facts: ClassVar[dict[str, str]] = {"own_xen": "xen.gz, SHA-256 00"}

    def __init__(self, *, dies: bool = False) -> None:
        self.log: list[str] = []
        self.dies = dies

    def boot(self, visit: Lease, *_: object) -> None:
        self.log.append("boot")
        if self.dies:
            raise LabError("xen.gz did not come up")
        visit.lent_xen = ownxen.running(visit.transport)

    def go_back(self, visit: Lease, *_: object) -> None:
        self.log.append("go back")
        visit.lent_xen = ""


def test_a_hypervisor_for_one_session(fake_host: FakeLab, said: io.StringIO) -> None:
    before, once = fake_host.fake.state(), Once()
    lab = RealLab.opened(site(fake_host), ["nic0"], ASKED, PlainProgress(said), once)
    assert once.log == ["boot"] and lab.facts()["own_xen"] == "xen.gz, SHA-256 00"
    with lab.host(["nic0"], PlainProgress(said)):
        pass
    lab.visit.lent_xen = "another"  # as after a reboot
    with pytest.raises(LabError, match="no longer runs the hypervisor of --xen"):
        lab.host(["nic0"], PlainProgress(said)).__enter__()
    lab.close()
    assert once.log == ["boot", "go back"]
    assert fake_host.fake.state() == before


def test_a_reboot_in_mid_scenario_is_no_result_of_that_hypervisor(fake_host: FakeLab, said: io.StringIO) -> None:
    lab = RealLab.opened(site(fake_host), ["nic0"], ASKED, PlainProgress(said), Once())
    with (
        pytest.raises(LabError, match="no longer runs the hypervisor of --xen"),
        lab.host(["nic0"], PlainProgress(said)),
    ):
        lab.visit.lent_xen = "another"
    lab.close()
    assert not HostState.of(NAME).quarantine


def test_one_that_does_not_come_up_is_gone_back_from(fake_host: FakeLab, said: io.StringIO) -> None:
    before, once = fake_host.fake.state(), Once(dies=True)
    with pytest.raises(LabError, match="did not come up"):
        RealLab.opened(site(fake_host), ["nic0"], ASKED, PlainProgress(said), once)
    assert once.log == ["boot", "go back"]
    assert fake_host.fake.state() == before


def test_a_text_that_is_not_stock_again_is_a_quarantine(
    fake_host: FakeLab, said: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    def differs(_: Host) -> None:
        raise LabError("the running text is not that of its file")

    monkeypatch.setattr("harness.lab.real.stock_again", differs)
    lab = opened(fake_host, said)
    with pytest.raises(LabError, match="not that of its file"), lab.host(["nic0"], PlainProgress(said)) as host:
        host.rewritten = (Rewritten(1, b"a", b"b"),)
    assert "not that of its file" in (HostState.of(NAME).quarantine or "")
    lab.close()


def test_facts_name_the_host_and_what_was_accepted(fake_host: FakeLab, said: io.StringIO) -> None:
    lab = opened(fake_host, said, wishes=ClaimOptions("a self-test", accepted(["reset=it is known to hang"])))
    facts = lab.facts()
    assert facts["host"] == NAME
    assert "nested" not in facts
    assert facts["accepted reset"] == "it is known to hang"
    assert facts["xen_version"].startswith("4.")
    lab.close()
    assert lab.packages() == dict.fromkeys(("xen", "qemu", "linux"), "unknown: there is no dpkg")  # asked before


def test_raw_facts_are_kept(real: RealLab) -> None:
    folders = list(HostState.of(NAME).folder.glob("*/facts.txt"))
    assert folders and b"@@ pci" in folders[0].read_bytes()


def test_the_claim_says_what_for(real: RealLab, fake_host: FakeLab) -> None:
    there = look(fake_host.transport())
    assert there is not None and there.holder.reason == "a self-test"
