"""Every change that a scenario makes was told beforehand: each row is played, and its journal held against its plan."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.base.errors import HarnessBug
from harness.base.progress import PlainProgress
from harness.evidence.store import EvidenceStore
from harness.guest.initramfs import GuestFiles
from harness.host import device as device_deeds
from harness.host.host import Host, TargetDevice
from harness.judge.rules import ends_late
from harness.model.address import Bdf
from harness.model.change import Change, ChangeKind
from harness.play.plan import Borrowed, KeptTo, plan
from harness.play.run import PlayedSide, play
from harness.play.verbs import VERBS, ends, hostreset
from harness.scenario.spec import CREATE, Fate, Scenario
from harness.xen.trace.callchain import DecodeOff
from harness.xen.trace.plant import Planted
from suites.selftest.fakes.fakemachine import FakeMachine
from suites.selftest.fakes.goodrecord import rows, scenario
from suites.selftest.fakes.obligingdom0 import ObligingDom0

ADDRESSES = [Bdf.parse("04:00.0"), Bdf.parse("05:00.0")]


class Journal:
    """All that was announced, in order."""

    def __init__(self) -> None:
        self.told: list[Change] = []

    def about_to(self, change: Change) -> None:
        self.told.append(change)


Plays = dict[str, tuple[PlayedSide, list[Change]]]


@pytest.fixture(scope="module")
def plays(tmp_path_factory: pytest.TempPathFactory) -> Plays:
    """Each row is played once."""
    journals = {row.id: Journal() for row in few()}
    folder = tmp_path_factory.mktemp("plays")
    return {row.id: (played(row, journals[row.id], folder / row.id), journals[row.id].told) for row in few()}


def teardown(*_: object, begin: Callable[[], None], **more: object) -> DecodeOff:
    begin()
    return DecodeOff(6, 4, ())


def played(row: Scenario, journal: Journal, folder: Path) -> PlayedSide:
    """On a host that refuses what the row says must be refused; what takes a real debugger is taken as done."""
    ids = [f"1b36:{number:04x}" for number in range(0x10, 0x10 + len(row.devices))]
    refused = {CREATE: "maskall-a", "assign": "maskall-r", "save": "xl save", "detach": "xl pci-detach [0-9]"}
    dom0 = ObligingDom0(
        dict(zip(ids, ADDRESSES, strict=False)),
        refuses=[refused[verb] for verb in row.end.refusals],
        restarts=row.end.fate is Fate.RESTARTED,
    )
    known = {name: TargetDevice(name, id, "nvme", True) for name, id in zip(row.devices, ids, strict=True)}
    host = Host("fake", dom0.transport, known, GuestFiles("/k", "/i"), ledger=journal)
    host.debugger, host.reset_button = FakeMachine(), lambda: None
    row = row.with_rounds(2) if row.follow.rounds else row
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ends, "decode_off_at_teardown", teardown)
        patch.setattr(hostreset, "plant_maskall", lambda *_, **more: Planted(0, 0x4000))
        return play(row, host, EvidenceStore(folder), PlainProgress(io.StringIO()))


def told(row: Scenario) -> tuple[Change, ...]:
    held = [Borrowed(address, "nvme") for address in ADDRESSES[: len(row.devices)]]
    return plan(row, held, "fake", VERBS)


def few() -> list[Scenario]:
    """Each ending with one follow-on, and with every follow-on those that end a guest in ways of their own."""
    first: dict[str, Scenario] = {}
    for row in rows():
        first.setdefault(row.ending, row)
    return [row for row in rows() if row is first[row.ending] or row.ending in ("E1", "E14", "E9", "E5")]


@pytest.mark.parametrize("row", few(), ids=lambda row: row.id)
def test_each_change_was_in_the_plan(row: Scenario, plays: Plays) -> None:
    done, journal = plays[row.id]
    assert done.error is None
    assert journal and set(journal) <= set(told(row))
    left_out = () if row.follow.rounds or ends_late(done.record) else row.end.late
    assert {action.verb for action in done.record.actions} >= set(row.steps) - set(left_out)


def test_no_verb_declares_what_it_never_does(plays: Plays) -> None:
    """A plan that tells too much is read by nobody: every change that is told is made in some row."""
    planned = {change.text for row in few() for change in told(row)}
    made = {change.text for _, journal in plays.values() for change in journal}
    assert planned - made == {"destroy domain maskall-r"}, "a create that is refused leaves nothing to destroy"
    assert {name for row in few() for name in row.steps} == set(VERBS)


class TestWhatPlansUsedToLeaveOut:
    @pytest.mark.parametrize(
        ("row", "text", "undo"),
        [
            (scenario("E27", "F1"), "write message control of 0000:04:00.0 without MASKALL", "MASKALL is Xen's: "),
            (scenario("E12", "F1"), "bind 0000:04:00.0 to pciback", "bind 0000:04:00.0 to nvme"),
            (scenario("E23", "F1", "nvme+e1000e"), "create domain maskall-c", "xl destroy maskall-c"),
            (scenario("E14", "F3"), "give 0000:04:00.0 back to nvme", "nothing: this is the undo"),
            (scenario("E14", "F8"), "unbind 0000:04:00.0 from pciback", "bind 0000:04:00.0 to pciback"),
            (scenario("E9", "F1"), "attach 0000:04:00.0 to domain maskall-a", "destroy maskall-a"),
            (scenario("E5", "F2"), "send SIGKILL to the device model of maskall-a", "destroy maskall-a"),
            (scenario("E15", "F1", "e1000e"), "reset 0000:04:00.0 by bus", "nothing: reset_method is put back"),
        ],
    )
    def test_it_is_told(self, row: Scenario, text: str, undo: str) -> None:
        (found,) = (change for change in told(row) if change.text == text)
        assert found.undo.startswith(undo)

    def test_each_once_and_in_order(self) -> None:
        texts = [change.text for change in told(scenario("E14", "F2"))]
        assert texts == [
            "bind 0000:04:00.0 to pciback",
            "create domain maskall-a",
            "switch memory decoding of 0000:04:00.0 off (COMMAND bit 1)",
            "switch MSI-X of 0000:04:00.0 off from inside maskall-a",
            "switch memory decoding of 0000:04:00.0 on (COMMAND bit 1)",
            "destroy domain maskall-a",
            "create domain maskall-b",
        ]

    def test_every_change_names_its_subject_and_its_undo(self) -> None:
        for row in rows():
            for change in told(row):
                assert change.undo and "{" not in change.text + change.undo
                wanted = {ChangeKind.DOMAIN: "maskall-", ChangeKind.REBOOT: "fake"}.get(change.kind, "0000:0")
                assert change.subject.startswith(wanted), change


class TestKeptTo:
    BIND = device_deeds.BIND.to(device="0000:04:00.0", driver="nvme")

    def test_what_was_not_planned_is_not_done(self) -> None:
        journal = Journal()
        ledger = KeptTo(journal, lambda: (self.BIND,))
        ledger.about_to(self.BIND)
        for other in (replace(self.BIND, subject="0000:05:00.0"), replace(self.BIND, undo="none")):
            with pytest.raises(HarnessBug, match=r"'bind 0000:04:00\.0 to pciback' is in no plan"):
                ledger.about_to(other)
        assert journal.told == [self.BIND]

    @pytest.mark.parametrize(
        ("verb", "row"),
        [
            ("clear_maskall", scenario("E27", "F1")),  # the first two are what plans once left out
            ("bind_again", scenario("E12", "F1")),
            ("create", scenario("E1", "F1")),
            ("other_guest", scenario("E1", "F2")),
            ("rebind", scenario("E1", "F8")),
            ("back_to_dom0", scenario("E1", "F3")),
            ("stop_device_model", scenario("E5", "F1")),
            ("kill_stopped_device_model", scenario("E5", "F1")),
            ("destroy_former", scenario("E9", "F2")),
        ],
    )
    def test_a_verb_that_hides_a_change_is_stopped_before_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, row: Scenario
    ) -> None:
        journal = Journal()
        monkeypatch.setattr("harness.play.run.VERBS", {**VERBS, verb: replace(VERBS[verb], changes=())})
        done = played(row, journal, tmp_path)
        assert isinstance(done.error, HarnessBug)
        assert "is in no plan" in str(done.error)
        assert verb not in {action.verb for action in done.record.actions}
