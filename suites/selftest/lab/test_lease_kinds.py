"""Small things of a lease that nothing else would miss: names of what is put aside, words for a person, rights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.lab.lease.baseline import Baseline
from harness.lab.lease.entry import FIRST, JournalLine, What
from harness.lab.lease.fields import Field, number, numbers, prose, text, words
from harness.lab.lease.holder import parse as parse_claim
from harness.lab.lease.ledger import Found, adopt, found
from harness.lab.lease.state import HostState
from suites.selftest.fakes.localtransport import LocalTransport

HERE = LocalTransport("xenbox1")
NOW = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
WAS = Baseline("0000:02:00.0", "8086 10d3 8086 a01f x", "e1000e", None, "on", "pm", "0", 6, 4, 1, False)


def story(run: str, *boots: str, last: What = What.INTENT) -> tuple[JournalLine, ...]:
    lines = list[JournalLine]()
    told = {"kind": "domain", "subject": "maskall-a", "text": "t", "undo": "u"}
    for nth, boot in enumerate(boots, start=1):
        what = last if nth == len(boots) else What.INTENT
        said = told if what is What.INTENT else {}
        lines.append(JournalLine(nth, "", boot, run, what, said, lines[-1].hash if lines else FIRST))
    return tuple(lines)


def kept(state: HostState, lines: tuple[JournalLine, ...]) -> None:
    state.folder.mkdir(parents=True, exist_ok=True)
    state.journal.write_bytes(b"".join(one.line for one in lines))


@pytest.fixture
def state(tmp_path: Path) -> HostState:
    return HostState("xenbox1", tmp_path / "state")


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


OLD, NEW, CLOSED = story("r1", "b0", "b0"), story("r2", "b1", NOW), story("r1", NOW, NOW, last=What.RESTORED)
GOES_ON = story("r1", NOW, NOW)


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ((), (), Found()),
        (OLD, (), Found(past=OLD, stale="rebooted")),
        (GOES_ON, (), Found(GOES_ON)),
        (CLOSED, (), Found(stale="closed")),
        (GOES_ON, GOES_ON[:1], Found(GOES_ON)),
        ((), CLOSED, Found(closed="r1")),
        (OLD, NEW, Found(NEW, stale="superseded")),
        (story("r1", "b1", "b1"), NEW, None),  # of the boot in which theirs began: two stories
        (CLOSED, story("r2", NOW), Found(story("r2", NOW), stale="superseded")),
    ],
)
def test_what_is_found_of_two_copies(
    state: HostState,
    remote: Path,
    ours: tuple[JournalLine, ...],
    theirs: tuple[JournalLine, ...],
    expected: Found | None,
) -> None:
    if ours:
        kept(state, ours)
    if theirs:
        (remote / "journal.jsonl").write_bytes(b"".join(one.line for one in theirs))
    if expected is None:
        with pytest.raises(Exception, match="tell different stories"):
            found(HERE, state, str(remote))
    else:
        assert found(HERE, state, str(remote)) == expected


@pytest.mark.parametrize(
    ("before", "name"), [(OLD, "r1-superseded"), (None, "damaged-superseded")], ids=["another story", "damaged"]
)
def test_what_is_put_aside_has_a_name(
    state: HostState, remote: Path, before: tuple[JournalLine, ...] | None, name: str
) -> None:
    kept(state, before or ())
    if before is None:
        state.journal.write_bytes(b"nothing\n")
    raw = state.journal.read_bytes()
    assert adopt(NEW, HERE, state, str(remote)) == []
    assert {path.name: path.read_bytes() for path in (state.folder / "journals").iterdir()} == {f"{name}.jsonl": raw}
    assert (remote / "journal.jsonl").stat().st_mode & 0o777 == 0o600


def test_the_torn_beginning_of_a_first_line_is_no_story(state: HostState, remote: Path) -> None:
    kept(state, ())
    state.journal.write_bytes(story("r9", "b1")[0].line[:-1])
    assert adopt(NEW, HERE, state, str(remote)) == []
    assert not (state.folder / "journals").exists()
    assert state.journal.read_bytes() == b"".join(one.line for one in NEW)


def test_a_line_is_plain_letters_for_any_shell() -> None:
    line = replace(OLD[0], what=What.QUARANTINED, payload={"reason": "schläft \U0001f634"}).line
    assert line.isascii() and b"schl\\u00e4ft" in line


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"driver": None}, "driver is none, was e1000e"),
        ({"driver": "pciback"}, "driver is pciback, was e1000e"),
        ({"driver_override": "pciback"}, "driver override is pciback, was none"),
        ({"power_control": "auto"}, "power control is auto, was on"),
        ({"reset_method": "flr bus"}, "reset method is flr bus, was pm"),
        ({"numvfs": "2"}, "numvfs is 2, was 0"),
        ({"command": 2}, "command is 0x0002, was 0x0006"),
        ({"command": None}, "command is none, was 0x0006"),
        ({"msix_control": 0}, "msix control is 0x0000, was 0x0004"),
        ({"msix_control": None}, "msix control is none, was 0x0004"),
        ({"interfaces_up": 0}, "interfaces up is 0x0000, was 0x0001"),
        ({"pciback_slot": True}, "pciback slot is yes, was no"),
    ],
)
def test_a_difference_is_told(change: dict[str, object], told: str) -> None:
    assert WAS.differences(replace(WAS, **change)) == [f"0000:02:00.0: {told}"]  # type: ignore[arg-type]
    assert WAS.differences(replace(WAS, command=0x0306)) == [], "bits that nobody sets back"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[]\n5\n9\nx\n", "somebody whose claim cannot be read since unknown (unknown; last heard of 4 s ago)"),
        ('{"owner": "a", "token": "t"}\n\n9\nx\n', "a since unknown (unknown; never heard of)"),
        ('{"owner": "a", "token": "t"}\n9.5\n9\nx\n', "a since unknown (unknown; never heard of)"),
        ('{"owner": "a", "token": "t"}\n9\n9\nx\njournal\n', "a since unknown (unknown; last heard of 0 s ago)"),
    ],
)
def test_a_claim_is_told(text: str, told: str) -> None:
    there = parse_claim(text)
    assert there is not None and there.told == told
    assert (there.digest, there.dirty, there.live) == ("x", "journal" in text, "never" not in told)


@pytest.mark.parametrize(
    ("before", "now", "as_it_was"),
    [
        *[(0x8003, 0x8003, True), (0x4003, 0x0003, True), (0xC003, 0x8003, True), (None, None, True)],
        *[(0x0003, 0x4003, False), (0x4003, 0x8003, False), (0x8003, 0x0003, False), (None, 0x0003, False)],
    ],
)
def test_a_maskall_that_somebody_left_may_be_gone(before: int | None, now: int | None, as_it_was: bool) -> None:
    """It is a fault, and a reset clears it; whatever else changed is told."""
    told = replace(WAS, msix_control=before).differences(replace(WAS, msix_control=now))
    assert (told == []) is as_it_was
    assert all("msix control" in one for one in told)


@pytest.mark.parametrize(
    ("field", "fits", "others"),
    [
        (text("a|b"), ["a", "b"], ["", "ab", "a\n", " a", 1, True, None, b"a", ["a"]]),
        (words("bdf"), ["0000:02:00.0", "10000:02:00.0"], ["02:00.0", "0000:02:00.8", "0000:02:00.0\n", 2, None, {}]),
        (words("bdf", none=True), ["0000:02:00.0", None], ["", 0, False]),
        (number(5), [0, 5], [-1, 6, 1.0, True, "1", None]),
        (numbers(5), [None, 0, 5], [-1, 6, False, "", []]),
        (prose(3), ["", "abc", "ä b"], ["abcd", "a\n", "\x1b", 3, None, b"a"]),
    ],
)
def test_what_a_field_of_a_journal_may_hold(field: Field, fits: list[object], others: list[object]) -> None:
    assert [value for value in fits if not field(value)] == []
    assert [value for value in others if field(value) is not False] == []
