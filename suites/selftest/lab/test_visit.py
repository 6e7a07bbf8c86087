"""Whatever goes wrong on a lab host, afterwards it is as it was, or it is in quarantine and says so.

A real journal, a real claim, a real ssh link; the host is the honest fake one.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.base.errors import HostUnreachable, JournalDamaged, LabError, LockHeld, MaskallError, OutcomeUnknown
from harness.lab.lease import ownxen
from harness.lab.lease.claim import look
from harness.lab.lease.deadman import DeadMan
from harness.lab.lease.entry import What
from harness.lab.lease.holder import STALE
from harness.lab.lease.lease import Lease
from harness.lab.lease.site import Site
from harness.lab.lease.state import HostState
from harness.transport.base import Command, CommandResult
from harness.transport.ssh import SshTransport
from suites.selftest.fakes.fakelab import NAME, FakeLab, fake_host
from suites.selftest.fakes.labrun import FORCED, NIC, WISHES, arrive, baseline, borrow, controller, die, give_back, site

__all__ = ["controller", "fake_host"]
pytestmark = pytest.mark.whole


def another_controller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another"))


def test_a_visit_leaves_nothing(fake_host: FakeLab) -> None:
    before = baseline(fake_host)
    visit = arrive(fake_host)
    borrow(visit)
    assert fake_host.fake.state()["functions"][str(NIC)]["owner"] == "d1"
    assert give_back(visit) is None
    visit.end()
    assert fake_host.fake.state() == before
    state = HostState.of(NAME)
    assert not state.journal.exists()
    assert not state.quarantine


@pytest.mark.parametrize("found", [["ab12"], ["ab12", "cd34"]])
def test_a_hypervisor_that_an_earlier_run_left_is_a_change_of_ours(
    fake_host: FakeLab, monkeypatch: pytest.MonkeyPatch, found: list[str]
) -> None:
    """It stands in a journal that is opened for it, so that restore takes it away."""
    monkeypatch.setattr(ownxen, "left", lambda _: frozenset(found))
    there = site(fake_host)
    lent = replace(there, entry=there.entry.model_copy(update={"allow_persistent": True}))
    visit = Lease.begin(lent, WISHES, lambda _: None)
    assert visit.left_behind
    told = [(one.what, one.payload.get("kind"), one.payload.get("subject")) for one in visit.journal.entries]
    wanted = [(What.INTENT, "persistent", ownxen.path_of(build_id)) for build_id in found]
    assert told[-len(found) :] == wanted and len(told) == len(found) + 1
    die(visit)


@pytest.mark.parametrize(("dirty", "allowed"), [(False, False), (True, True), (True, False)])
def test_nobody_looks_for_one_where_none_may_be_or_another_run_is_undone_first(
    fake_host: FakeLab, monkeypatch: pytest.MonkeyPatch, dirty: bool, allowed: bool
) -> None:
    there = site(fake_host)
    if dirty:
        visit = arrive(fake_host)
        die(visit)
    monkeypatch.setattr(ownxen, "left", lambda _: pytest.fail("it is asked for"))
    lent = replace(there, entry=there.entry.model_copy(update={"allow_persistent": allowed}))
    visit = Lease.begin(lent, FORCED, lambda _: None)
    assert visit.left_behind is dirty
    visit.end()


def test_a_hosts_words_are_plain(fake_host: FakeLab) -> None:
    told = list[str]()
    visit = Lease.begin(site(fake_host), WISHES, told.append)
    visit.notice("\x1b[2Jgone\n")
    assert told[-1] == "\\x1b[2Jgone\\x0a"
    visit.end()


def test_who_does_not_get_the_host_leaves_no_link(
    fake_host: FakeLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a controller knows afterwards who had it."""
    made, plain = list[SshTransport](), Site.transport

    def transport(there: Site) -> SshTransport:
        made.append(plain(there))
        return made[-1]

    monkeypatch.setattr(Site, "transport", transport)
    visit = arrive(fake_host)
    owner = visit.claim.holder.owner
    another_controller(tmp_path, monkeypatch)
    monkeypatch.setenv("SUDO_USER", "bob")
    with pytest.raises(LockHeld):
        Lease.begin(visit.site, WISHES, lambda _: None)
    assert [link.connected for link in made] == [True, False]
    assert HostState.of(NAME).heard.startswith(f"{owner} since ")
    give_back(visit)
    visit.end()
    Lease.begin(visit.site, WISHES, lambda _: None).end()
    assert HostState.of(NAME).heard == ""
    assert not any(link.connected for link in made)


def test_what_is_on_record_once_is_not_written_twice(fake_host: FakeLab) -> None:
    fake_host.fake.modules.discard("xen_pciback")
    fake_host.fake.tree.modules()
    visit = arrive(fake_host)
    for _ in range(2):
        visit.remember(NIC)
        visit.load_module("xen-pciback")
    assert [one.what for one in visit.journal.entries] == [What.OPENED, What.BASELINE, What.INTENT]
    assert fake_host.fake.ran("modprobe xen-pciback") == 1
    visit.put_back()
    assert "xen_pciback" in fake_host.fake.modules, "the next scenario needs it"
    visit.end()
    assert "xen_pciback" not in fake_host.fake.modules


def test_each_journal_of_a_stay_is_a_run_of_its_own(fake_host: FakeLab) -> None:
    """The host notes which run is closed: another one must not pass for it."""
    visit = arrive(fake_host)
    runs = set[str]()
    for _ in range(3):
        runs.add(visit.journal.run)
        visit.put_back(whole=True)
        visit.close_journal()
        visit.open_journal("the next one")
    assert len(runs) == 3
    visit.end()


def test_a_stay_whose_heartbeat_ended_beats_again(fake_host: FakeLab) -> None:
    visit = arrive(fake_host)
    visit.claim._quiet()
    assert not visit.claim.beating
    visit.put_back()
    assert visit.claim.beating
    visit.end()


def test_a_link_that_is_dead_and_does_not_say_so_is_made_anew(
    fake_host: FakeLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    visit = arrive(fake_host)
    link, closed = visit.transport.link, list[bool]()
    run, close = link.run, link.close

    def dead(command: Command, **more: Any) -> CommandResult:  # noqa: ANN401
        if not closed:
            raise HostUnreachable("xenbox1: no answer")
        return run(command, **more)

    monkeypatch.setattr(link, "run", dead)
    monkeypatch.setattr(link, "close", lambda: (closed.append(link.connected), close()))
    visit.put_back()
    assert closed[0], "it was not known to be dead"
    visit.end()


def test_after_a_reboot_the_host_is_claimed_again(fake_host: FakeLab) -> None:
    told = list[str]()
    visit = Lease.begin(site(fake_host), WISHES, told.append)
    visit.open_journal("a test")
    fake_host.fake.reboot()
    visit.put_back()
    there = look(fake_host.transport())
    assert there is not None and there.holder.token == visit.claim.holder.token and visit.claim.beating
    assert sum("has rebooted: what was changed is gone" in line for line in told) == 1
    visit.end()
    assert look(fake_host.transport()) is None


def test_a_timer_that_a_dead_run_left_is_stopped(fake_host: FakeLab) -> None:
    visit = arrive(fake_host)
    borrow(visit)
    DeadMan(visit.site.transport, may_reboot=True).arm(visit.transport, NIC, "e1000e")
    die(visit)
    fake_host.fake.executed.clear()
    other = Lease.begin(site(fake_host), FORCED, lambda _: None)
    other.put_back(whole=True)
    assert fake_host.fake.ran("systemctl stop .*deadman") == 1
    other.end()


def test_a_quarantine_is_on_record_everywhere(fake_host: FakeLab) -> None:
    told = list[str]()
    visit = Lease.begin(site(fake_host), WISHES, told.append)
    visit.open_journal("a test")
    visit.quarantine("it did not end " + "x" * 30_000)
    last = visit.journal.entries[-1]
    assert last.what is What.QUARANTINED and str(last.payload["reason"]).startswith("it did not end x")
    assert len(str(last.payload["reason"])) == 2000
    assert "it did not end" in HostState.of(NAME).quarantine
    visit.end()
    there = look(fake_host.transport())
    assert there is not None and there.holder.reason.startswith("in quarantine: it did not end")
    assert not any("not on record" in line for line in told)


def test_where_it_cannot_be_is_told(fake_host: FakeLab, monkeypatch: pytest.MonkeyPatch) -> None:
    told = list[str]()
    visit = Lease.begin(site(fake_host), WISHES, told.append)
    visit.open_journal("a test")
    fake_host.fake.full = True
    visit.quarantine("a test")
    assert "a test" in HostState.of(NAME).quarantine
    assert any("not on record everywhere" in line and "No space left" in line for line in told)
    fake_host.fake.full = False
    visit.end()


def test_who_only_looks_ends_no_quarantine_and_sends_nothing(fake_host: FakeLab) -> None:
    visit = Lease.begin(site(fake_host), WISHES, lambda _: None)
    HostState.of(NAME).poison("a test")
    before = len(fake_host.fake.executed)
    visit.end()
    assert "a test" in HostState.of(NAME).quarantine
    assert len(fake_host.fake.executed) == before


def test_a_bind_that_fails_half_way(fake_host: FakeLab) -> None:
    before = baseline(fake_host)
    fake_host.fake.half_way.add(str(NIC))
    visit = arrive(fake_host)
    with pytest.raises(LabError, match="could not be bound to pciback"):
        borrow(visit)
    assert fake_host.fake.state()["functions"][str(NIC)]["driver"] is None, "it really is in between"
    assert give_back(visit) is None
    visit.end()
    assert fake_host.fake.state() == before


def test_a_full_disk_on_the_host_prevents_the_change(fake_host: FakeLab) -> None:
    before = baseline(fake_host)
    visit = arrive(fake_host)
    fake_host.fake.full = True
    with pytest.raises(LabError, match="No space left"):
        borrow(visit)
    assert fake_host.fake.ran("pci-assignable-add") == 0
    fake_host.fake.full = False
    assert give_back(visit) is None
    visit.end()
    assert fake_host.fake.state() == before


@pytest.mark.parametrize(
    ("error", "told"),
    [
        *[(kind("it does not end"), "it does not end") for kind in (SystemExit, RuntimeError, LabError)],
        (KeyboardInterrupt(), "KeyboardInterrupt()"),
    ],
)
def test_whatever_breaks_its_end_off_is_a_quarantine(
    fake_host: FakeLab, error: BaseException, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the host would be free, and not as it was."""
    visit = arrive(fake_host)
    borrow(visit)

    def broken_off(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Lease, "put_back", broken_off)
        with pytest.raises(type(error)):
            visit.end()
    there = look(fake_host.transport())
    assert there is not None and there.dirty
    assert there.holder.reason == f"in quarantine: the end of the visit: {told}"
    assert told in HostState.of(NAME).quarantine
    again = Lease.begin(visit.site, FORCED, lambda _: None)
    again.put_back(whole=True)
    again.close_journal()
    again.end()
    assert look(fake_host.transport()) is None


@pytest.mark.parametrize("lost", [HostUnreachable, OutcomeUnknown])
def test_a_link_that_breaks_at_its_end_is_made_anew(
    fake_host: FakeLab, monkeypatch: pytest.MonkeyPatch, lost: type[LabError]
) -> None:
    fake_host.fake.modules.discard("xen_pciback")  # so that its end has more to do than that of a scenario
    fake_host.fake.tree.modules()
    before = baseline(fake_host)
    visit = arrive(fake_host)
    borrow(visit)
    put_back, tried = visit.put_back, 0

    def breaks_once(*, whole: bool = False) -> None:
        nonlocal tried
        tried += 1
        if tried == 1:
            raise lost("the link is gone")
        put_back(whole=whole)

    monkeypatch.setattr(visit, "put_back", breaks_once)
    visit.end()
    assert tried == 2 and baseline(fake_host) == before
    assert not HostState.of(NAME).quarantine


def test_who_is_broken_off_as_it_arrives_leaves_a_claim_that_says_so(
    fake_host: FakeLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    visit = arrive(fake_host)
    borrow(visit)
    die(visit)

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("harness.lab.lease.lease.found", interrupted)
    monkeypatch.setattr("harness.lab.lease.lease.is_dirty", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Lease.begin(visit.site, FORCED, lambda _: None)
    there = look(fake_host.transport())
    assert there is not None and "is not undone" in there.told


def test_a_login_that_prints_something_is_named_and_nothing_is_begun(fake_host: FakeLab) -> None:
    """Root's ~/.bashrc says hello: the first line of each answer is none of ours."""
    plain = fake_host.server.executor
    assert plain is not None

    def noisy(channel: Any, command: bytes) -> None:  # noqa: ANN401  (a channel of paramiko's)
        channel.sendall(b"Welcome to xenbox1\x1b[2J\n")
        plain(channel, command)

    fake_host.server.executor = noisy
    with pytest.raises(LabError, match=r"boot_id is one line, and it says: Welcome to xenbox1\\x1b\[2J") as raised:
        Lease.begin(site(fake_host), FORCED, lambda _: None)
    assert "login" in raised.value.hint
    assert not (fake_host.fake.root / "run/maskall").exists()


def test_two_controllers_at_once(fake_host: FakeLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    visit = arrive(fake_host)
    borrow(visit)
    another_controller(tmp_path, monkeypatch)
    told = list[str]()
    with pytest.raises(LockHeld, match="a self-test"):
        Lease.begin(visit.site, WISHES, told.append)
    assert len(told) == 1 and "is used by" in told[0] and "waiting" not in told[0]
    assert fake_host.fake.state()["domains"] == {0: "Domain-0", 1: "maskall-a"}, "the first one's guest lives"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "controller"))
    visit.put_back()
    visit.end()
    visit = Lease.begin(visit.site, WISHES, lambda _: None)
    visit.end()


def test_who_was_taken_over_stops_at_the_next_change(fake_host: FakeLab) -> None:
    first = arrive(fake_host)
    second = Lease.begin(first.site, FORCED, lambda _: None)
    first.claim._stream.write(b"\n")  # type: ignore[union-attr]  # its next heartbeat
    while not first.claim._stream.ended:  # type: ignore[union-attr]
        pass
    with pytest.raises(LockHeld):
        borrow(first)
    assert fake_host.fake.ran("pci-assignable-add") == 0
    second.put_back(whole=True)
    second.close_journal()
    second.end()


def test_a_clock_that_jumps_a_day_does_not_matter(fake_host: FakeLab) -> None:
    visit = arrive(fake_host)
    fake_host.fake.clock_offset += 86400
    with pytest.raises(LockHeld):
        Lease.begin(visit.site, WISHES, lambda _: None)
    visit.put_back()
    visit.end()


def test_a_dead_run_of_the_same_owner_is_undone_by_the_next(fake_host: FakeLab) -> None:
    before = baseline(fake_host)
    visit = arrive(fake_host)
    borrow(visit)
    die(visit)
    with pytest.raises(LockHeld):
        Lease.begin(visit.site, WISHES, lambda _: None)
    fake_host.fake.advance(STALE + 1)
    again = Lease.begin(visit.site, WISHES, lambda _: None)
    assert again.left_behind
    again.put_back(whole=True)
    again.close_journal()
    again.end()
    assert fake_host.fake.state() == {**before, "timers": fake_host.fake.state()["timers"]}


def test_a_damaged_journal_stops_and_asks(fake_host: FakeLab) -> None:
    visit = arrive(fake_host)
    borrow(visit)
    die(visit)
    journal = fake_host.fake.root / "run/maskall/journal.jsonl"
    journal.write_bytes(journal.read_bytes().replace(b"pciback", b"PCIBACK", 1))
    state = fake_host.fake.state()
    with pytest.raises(JournalDamaged, match=r"journal\.jsonl:\d+"):
        Lease.begin(visit.site, FORCED, lambda _: None)
    assert fake_host.fake.state()["functions"] == state["functions"], "nothing was touched"


@pytest.mark.parametrize("moved_by", [1, 3])
def test_a_device_that_moved_is_told_and_not_taken_for_another(fake_host: FakeLab, moved_by: int) -> None:
    """The BDF of the journal names nothing, or another device, after a reboot, which has undone all that was done."""
    visit = arrive(fake_host)
    borrow(visit)
    fake_host.fake.moves_at_reboot = moved_by
    fake_host.fake.reboot()
    fake_host.fake.executed.clear()
    give_back(visit)
    visit.end()
    assert not HostState.of(NAME).quarantine
    assert [argv for argv in fake_host.fake.executed if argv[0] in ("tee", "xl", "setpci")] == []


def test_errors_are_one_line(fake_host: FakeLab) -> None:
    visit = arrive(fake_host)
    fake_host.fake.half_way.add(str(NIC))
    with pytest.raises(MaskallError) as raised:
        borrow(visit)
    assert "\n" not in str(raised.value)
    give_back(visit)
    visit.end()
