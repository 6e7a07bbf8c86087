"""A control on a lab host by livepatch: by leave only, on record first, and taken away by whoever comes."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.base.errors import LabError, SafetyRefusal, UsageError
from harness.guest.initramfs import GuestFiles
from harness.host.host import Host
from harness.lab.lease import entry, livepatched
from harness.lab.lease.entry import FIRST, JournalLine, What
from harness.lab.lease.livepatched import LivepatchLeave, take_away
from harness.lab.lease.undo import Touched, Undo
from harness.model.change import Change
from harness.model.observation import RawRef
from harness.mutants.catalogue import catalogue
from harness.mutants.livepatching import COMPARISON, NAME
from harness.mutants.plant import plant, stock_again
from harness.run.options import DEFAULT_CONTROL, RunOptions
from harness.run.plan import Plan
from harness.run.selection import refuse_mistakes
from suites.selftest.cli.test_cli_stacks import LAB
from suites.selftest.fakes.faketransport import Executed, FakeTransport, Reply
from suites.selftest.fakes.goodrecord import scenario
from suites.selftest.fakes.journalline import must_be_storable
from suites.selftest.mutants.test_livepatch import RESET, XenLivepatch

LIST = "Name ID Mem VCPUs State Time(s)\nDomain-0 0 1024 1 r----- 10.0\n"
OTHER = LIST + "bob 3 512 1 -b---- 1.0\n"


@dataclass
class Host1:
    """A host, and the order of what is done to it: what is written down, armed, and asked of xen-livepatch."""

    domains: str = LIST
    xen: XenLivepatch = field(default_factory=XenLivepatch)
    log: list[str] = field(default_factory=list)
    armed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.xen.log = self.log
        new = {"xl list": Reply(self.domains.encode()), "xl dmesg": Reply(b""), "(?s)sh -c .*mkdir -p.*": self._arm}
        self.transport.commands = new | {"(?s)sh -c .*rm -f .*armed-.*": self._disarm} | self.transport.commands

    @property
    def transport(self) -> FakeTransport:
        return self.xen.transport

    def _arm(self, executed: Executed) -> Reply:
        self.log.append("arm")
        self.armed += re.findall(r"livepatch\.armed-\w+", executed.shown)[:1]
        return Reply()

    def _disarm(self, _: Executed) -> Reply:
        self.log.append("disarm")
        return Reply()

    def about_to(self, change: Change) -> None:
        must_be_storable(change)
        self.log.append(f"journal {change.kind} {change.subject}")

    def host(self, *, allowed: bool = True) -> Host:
        leave = LivepatchLeave(self.transport, self, allowed)
        return Host("xenbox1", self.transport, {}, GuestFiles("/k", "/i"), before_livepatch=leave)

    def undo(self) -> Undo:
        return Undo(self.transport, self, Touched(livepatched=True))


def test_it_is_on_record_and_a_timer_runs_before_it_is_made() -> None:
    one = Host1()
    (made,) = plant(DEFAULT_CONTROL, catalogue()[DEFAULT_CONTROL], one.host())
    assert one.log[:2] == [f"journal livepatch {NAME}", "arm"]
    assert one.log[-1] == f"apply {NAME}"
    assert (made.place.where, made.place.address, made.after.hex()) == ("pci_reset_msix_state", RESET, "31c0c3")
    assert made.before.hex() == "530fb6"
    one.log.clear()
    one.undo().reconcile(whole=True)
    assert one.xen.loaded == {}
    assert (one.log[0], one.log[-1]) == (f"journal livepatch {NAME}", "disarm")


@pytest.mark.parametrize(
    ("one", "mutant", "allowed", "words"),
    [
        (Host1(), DEFAULT_CONTROL, False, "DENY the inventory does not allow"),
        (Host1(), "unmap-does-nothing", True, "DENY mutant unmap-does-nothing is none for a lab host"),
        (Host1(OTHER), DEFAULT_CONTROL, True, "DENY domains of others run: bob"),
    ],
)
def test_without_leave_nothing_is_done(one: Host1, mutant: str, allowed: bool, words: str) -> None:
    with pytest.raises(SafetyRefusal, match=words):
        plant(mutant, catalogue()[mutant], one.host(allowed=allowed))
    assert one.log == []


def test_a_host_that_knows_no_leave_has_no_control() -> None:
    one = Host1()
    host = Host("xenbox1", one.transport, {}, GuestFiles("/k", "/i"))
    with pytest.raises(LabError, match="no debugger to apply mutant"):
        plant(DEFAULT_CONTROL, catalogue()[DEFAULT_CONTROL], host)
    assert one.log == []


def test_a_mutant_of_bytes_is_none_where_they_do_not_stand() -> None:
    one = Host1()
    with pytest.raises(LabError, match=r"stands 0 times in pci_reset_msix_state \(it must stand there exactly once"):
        plant("sticky-host-maskall", catalogue()["sticky-host-maskall"], one.host())
    assert one.xen.loaded == {}


@pytest.mark.parametrize("name", ["reset-does-nothing", "device-model-keeps-pirqs"])
def test_a_mutant_of_something_else_is_none_for_a_livepatch(name: str) -> None:
    one = Host1()
    with pytest.raises(LabError, match="does not fit this host"):
        plant(name, catalogue()[name], one.host())
    assert one.log == []


def test_what_xen_does_not_show_patched_is_no_control() -> None:
    one = Host1()
    one.xen.shifted = 1
    with pytest.raises(LabError, match="debug key x does not show pci_reset_msix_state livepatched at"):
        plant(DEFAULT_CONTROL, catalogue()[DEFAULT_CONTROL], one.host())


def kept_by(host: Host) -> dict[str, bytes]:
    kept: dict[str, bytes] = {}

    def keep(name: str, data: bytes) -> RawRef:
        kept[name] = data
        return RawRef(name, "")

    host.deeds.keep = keep
    return kept


def test_that_it_is_gone_is_shown_and_kept() -> None:
    one = Host1()
    host = one.host()
    plant(DEFAULT_CONTROL, catalogue()[DEFAULT_CONTROL], host)
    assert host.rewritten
    one.undo().reconcile(whole=True)
    kept = kept_by(host)
    stock_again(host)
    assert (one.xen.loaded, host.rewritten) == ({}, ())
    assert set(kept) == {f"{COMPARISON}.livepatch", "livepatch_taken_away.txt"}


def test_a_text_that_is_not_the_files_afterwards_is_told() -> None:
    one = Host1()
    host = one.host()
    plant(DEFAULT_CONTROL, catalogue()[DEFAULT_CONTROL], host)
    one.undo().reconcile(whole=True)
    one.xen.patched = True
    with pytest.raises(LabError, match="running text of pci_reset_msix_state is not that of its file"):
        stock_again(host)
    assert host.rewritten


def test_one_that_is_still_there_is_told() -> None:
    one = Host1()
    host = one.host()
    plant(DEFAULT_CONTROL, catalogue()[DEFAULT_CONTROL], host)
    with pytest.raises(LabError, match="still shows livepatch maskall-control"):
        stock_again(host)


def test_one_that_stays_is_no_host_put_back() -> None:
    one = Host1(xen=XenLivepatch(stuck=True))
    one.xen.loaded[NAME] = "APPLIED"
    with pytest.raises(LabError, match=NAME):
        one.undo().reconcile(whole=True)


def test_both_of_ours_are_taken_away() -> None:
    one = Host1()
    one.xen.loaded |= {NAME: "APPLIED", COMPARISON: "APPLIED", "xsa-999": "APPLIED"}
    take_away(one.transport)
    assert one.xen.loaded == {"xsa-999": "APPLIED"}


def test_what_is_not_there_is_taken_away_too() -> None:
    one = Host1()
    take_away(one.transport)
    assert one.log == ["disarm"]


def test_no_timer_strikes_at_a_later_control() -> None:
    one = Host1()
    for _ in range(2):
        plant(DEFAULT_CONTROL, catalogue()[DEFAULT_CONTROL], one.host())
        take_away(one.transport)
    assert len(set(one.armed)) == 2


def test_all_that_changes_is_sent_as_a_change() -> None:
    """So that it is fenced, and never sent twice."""
    one = Host1()
    plant(DEFAULT_CONTROL, catalogue()[DEFAULT_CONTROL], one.host())
    take_away(one.transport)
    words = ("xen-livepatch apply", "xen-livepatch revert", "xen-livepatch unload", "xen-livepatch upload", "rm -f")
    sent = [run for run in one.transport.executed if any(word in run.shown for word in words)]
    assert len(sent) >= len(words)
    assert all(run.changes for run in sent)


def test_a_journal_holds_it_and_no_other_name() -> None:
    payload = {"kind": "livepatch", "subject": NAME, "text": "t", "undo": "u"}
    assert entry.problem(JournalLine(1, "", "boot1", "r", What.INTENT, payload, FIRST)) == ""
    payload["subject"] = "xsa-999"
    assert entry.problem(JournalLine(1, "", "boot1", "r", What.INTENT, payload, FIRST)) == "subject of kind livepatch"


def test_a_reboot_has_taken_it_away() -> None:
    payload = {"kind": "livepatch", "subject": NAME}
    entries = [JournalLine(1, "", "boot1", "r", What.INTENT, payload, FIRST)]
    assert Touched.by(entries, "boot1").livepatched
    assert not Touched.by(entries, "boot2").livepatched
    assert Touched.by(entries).livepatched, "the boot is not known"


@pytest.mark.parametrize("armed", [True, False])
def test_the_timer_strikes_where_nobody_came(tmp_path: Path, armed: bool) -> None:
    tool, file, log = tmp_path / "xen-livepatch", tmp_path / "armed", tmp_path / "log"
    tool.write_text(f'#!/bin/sh\necho "$@" >>{log}\n')
    tool.chmod(0o755)
    if armed:
        file.touch()
    script = livepatched._STRIKE.format(armed=file, name=NAME).replace("/dev/kmsg", "/dev/null")
    subprocess.run(["/bin/sh", "-c", script], check=True, env={"PATH": f"{tmp_path}:/usr/bin:/bin"})  # noqa: S603
    assert (log.read_text() if log.exists() else "") == (f"revert {NAME}\nunload {NAME}\n" if armed else "")
    assert not file.exists()


@pytest.mark.parametrize(
    ("more", "no_control", "control"),
    [("allow_livepatch: true", False, DEFAULT_CONTROL), ("allow_livepatch: true", True, None), ("", False, None)],
)
def test_the_inventory_says_whether_a_run_has_a_control(
    tmp_path: Path, more: str, no_control: bool, control: str | None
) -> None:
    inventory = tmp_path / "lab.yaml"
    inventory.write_text(LAB.replace("kind: lab\n", f"kind: lab\n    {more}\n"))
    assert RunOptions(inventory=inventory, no_control=no_control).control == control


def lab(tmp_path: Path, *, allowed: bool = True) -> Path:
    inventory = tmp_path / "lab.yaml"
    text = LAB.replace("endings: [E3]", "endings: [E3, E14, E15]")
    inventory.write_text(text.replace("kind: lab\n", "kind: lab\n    allow_livepatch: true\n") if allowed else text)
    return inventory


@pytest.mark.parametrize(
    ("mutant", "allowed", "words"),
    [
        ("unmap-does-nothing", True, "--mutant: unmap-does-nothing is none for a lab host"),
        (DEFAULT_CONTROL, False, "--mutant: the inventory does not allow to livepatch this host"),
    ],
)
def test_a_mutant_that_is_asked_for_is_one_that_may_be(tmp_path: Path, mutant: str, allowed: bool, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        refuse_mistakes(RunOptions(inventory=lab(tmp_path, allowed=allowed), mutant=mutant))


def test_a_lab_host_has_its_endings_own_control_if_that_may_be(tmp_path: Path) -> None:
    plan = Plan.of(RunOptions(inventory=lab(tmp_path), profile="full"), (), results=tmp_path)
    rows = [scenario(ending, "F1", "nvme") for ending in ("E3", "E14", "E15")]
    assert [plan.control(row) for row in rows] == [None, DEFAULT_CONTROL, "maskall-not-refused"]
    options = RunOptions(inventory=lab(tmp_path), mutant="sticky-host-maskall")
    asked = Plan.of(options, (), results=tmp_path)
    assert [asked.control(row) for row in rows] == [None, "sticky-host-maskall", None]
