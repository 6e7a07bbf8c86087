"""Small things of a lease that nothing else would miss: names of what is put aside, words for a person, rights."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from harness.base import private
from harness.base.errors import AnotherMachine, CommandFailed, JournalDamaged, UsageError
from harness.lab.lease.baseline import Baseline
from harness.lab.lease.claim_options import accepted
from harness.lab.lease.entry import FIRST, JournalLine, MachineIdentity, What, merge, of_machine, parse
from harness.lab.lease.fields import Field, number, numbers, prose, text, words
from harness.lab.lease.holder import parse as parse_claim
from harness.lab.lease.ledger import Found, adopt, found, machine, put_aside
from harness.lab.lease.state import HostState
from harness.model.change import ChangeKind
from suites.selftest.fakes.faketransport import FakeTransport, Reply
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
CLOSED_BY_ANOTHER = (GOES_ON[0], replace(CLOSED[1], run="r2", prev=GOES_ON[0].hash))


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ((), (), Found()),
        (OLD, (), Found(past=OLD, stale="rebooted")),
        (GOES_ON, (), Found(GOES_ON)),
        (CLOSED, (), Found(stale="closed")),
        (GOES_ON, GOES_ON[:1], Found(GOES_ON)),
        ((), CLOSED, Found(closed="r1")),
        ((), CLOSED_BY_ANOTHER, Found(closed="r1")),
        (OLD, NEW, Found(NEW, stale="superseded")),
        (story("r1", "b1", "b1"), NEW, None),  # of the boot in which theirs began: two stories
        (story("r1", NOW), story("r2", NOW), None),
        (CLOSED, story("r2", NOW), Found(story("r2", NOW), stale="superseded")),
        (OLD, story("r2", NOW, NOW, last=What.RESTORED), Found(stale="superseded", closed="r2")),
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
    ("theirs", "which", "expected"),
    [
        ((), "", Found(stale="closed")),
        ((), "controller", Found(GOES_ON)),
        (GOES_ON[:1], "", Found(GOES_ON)),
        (story("r2", NOW), "", Found(story("r2", NOW), stale="superseded")),
        (story("r2", NOW), "controller", Found(GOES_ON)),
        (story("r2", NOW), "host", Found(story("r2", NOW))),
    ],
)
def test_what_is_found_where_the_host_says_that_ours_is_closed(
    state: HostState, remote: Path, theirs: tuple[JournalLine, ...], which: str, expected: Found
) -> None:
    kept(state, GOES_ON)
    if theirs:
        (remote / "journal.jsonl").write_bytes(b"".join(one.line for one in theirs))
    private.folder(Path(f"{remote}-closed"))
    (Path(f"{remote}-closed") / "r1").touch()
    assert found(HERE, state, str(remote), which) == expected


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


def test_what_cannot_be_put_aside_stays_and_that_is_told(state: HostState, remote: Path) -> None:
    kept(state, OLD)
    (state.folder / "journals").touch()
    told = adopt(NEW, HERE, state, str(remote))
    assert len(told) == 1 and "Not a directory" in told[0]
    assert state.journal.read_bytes() == b"".join(one.line for one in OLD)
    assert (remote / "journal.jsonl").read_bytes() == b"".join(one.line for one in NEW)


def test_one_that_cannot_be_read_is_put_aside_too(state: HostState) -> None:
    state.journal.mkdir(parents=True)
    put_aside(state)
    assert [path.name for path in (state.folder / "journals").iterdir()] == ["damaged.jsonl"]


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


LINE = JournalLine(1, "2026-01-02T03:04:05Z", "b1", "20260102-030405-abcdef", What.RESTORED, {}, FIRST)
BDF = (["0000:02:00.0"], ["", "02:00.0", "xen-pciback", "0000:02:00.0/..", None])
SUBJECTS: dict[ChangeKind, tuple[list[object], list[object]]] = {
    ChangeKind.DRIVER: BDF,
    ChangeKind.CONFIG: BDF,
    ChangeKind.RESET: BDF,
    ChangeKind.DOMAIN: (["maskall-a"], ["", "bob", "Domain-0", "maskall-a; reboot", 7, None]),
    ChangeKind.MODULE: (["xen-pciback"], ["", "e1000e", None]),
    ChangeKind.LIVEPATCH: (["maskall-control"], ["", "maskall", "bobs", None]),
    ChangeKind.FILE: (["/run/maskall", "/run/maskall/guest/a"], ["", "/etc/passwd", "/run/maskall/../x", None]),
    ChangeKind.REBOOT: ([NOW, "xenbox1"], ["a/b", "$(reboot)", None]),
    ChangeKind.PERSISTENT: (["/boot/xen.gz", "p" * 25_000], ["p" * 25_001, "a\nb", None]),
}
SEEN = replace(WAS, who="8086 10d3 8086 a01f 0000:00:1c.1/00.0").as_payload()
PAYLOADS: dict[What, tuple[list[dict[str, object]], list[dict[str, object]]]] = {
    What.OPENED: (
        [
            {"owner": "ada@box", "reason": "a test"},
            {"owner": "", "reason": "r" * 25_000},
            {
                "host_key": "SHA256:" + "A" * 43,
                "machine_id": "0" * 32,
                "product": "0" * 8 + "-0000" * 3 + "-" + "0" * 12,
            },
        ],
        [
            *[{"owner": 5}, {"reason": "r" * 25_001}, {"reason": "a\nb"}, {"undo": "x"}],
            *[{"host_key": "SHA256:A"}, {"machine_id": "0" * 31}, {"product": "0" * 32}],
        ],
    ),
    What.BASELINE: ([SEEN], [{}, {**SEEN, "driver": "../x"}, {**SEEN, "more": 1}]),
    What.INTENT: (
        [{"kind": "domain", "subject": "maskall-a", "text": "t", "undo": "u"}],
        [
            *[{}, {"kind": "x", "subject": "maskall-a"}, {"kind": "domain"}, {"subject": "maskall-a"}],
            *[
                {"kind": "domain", "subject": "maskall-a", **more}
                for more in ({"text": "\n"}, {"undo": 5}, {"why": "x"})
            ],
        ],
    ),
    What.RESTORED: ([{}], [{"reason": "x"}]),
    What.QUARANTINED: ([{}, {"reason": "it did not end"}], [{"reason": "a\nb"}, {"reason": None}, {"owner": "x"}]),
}


def refused(line: JournalLine) -> bool:
    """Whether a journal that begins with this line is damaged, to who reads it."""
    try:
        assert parse(line.line, "j") == (line,)
    except JournalDamaged as error:
        assert str(error).startswith("j:1: ")
        return True
    return False


@pytest.mark.parametrize("kind", list(ChangeKind))
def test_what_each_kind_of_change_may_be_made_to(kind: ChangeKind) -> None:
    """A journal is obeyed as root: what stands there is what a run can have written, or all of it is refused."""
    lines = [
        [
            replace(LINE, what=What.INTENT, payload={"kind": str(kind), "subject": one, "text": "t", "undo": "u"})
            for one in some
        ]
        for some in SUBJECTS[kind]
    ]
    assert [line.payload["subject"] for line in lines[0] if refused(line)] == []
    assert [line.payload["subject"] for line in lines[1] if not refused(line)] == []


@pytest.mark.parametrize("what", list(What))
def test_what_each_line_may_hold(what: What) -> None:
    fits, others = PAYLOADS[what]
    assert [one for one in fits if refused(replace(LINE, what=what, payload=one))] == []
    assert [one for one in others if not refused(replace(LINE, what=what, payload=one))] == []


@pytest.mark.parametrize(
    ("name", "fits", "others"),
    [
        ("at", ["", "2026-01-02T03:04:05Z"], ["yesterday", "2026-01-02T03:04:05.123456789Z"]),
        ("boot_id", ["", NOW], ["a/b", "$(reboot)"]),
        ("run", ["20260102-030405-abcdef"], ["", "../x", "a/b", "-x", "a b"]),
    ],
)
def test_how_each_line_begins(name: str, fits: list[str], others: list[str]) -> None:
    assert [one for one in fits if refused(replace(LINE, **{name: one}))] == []  # type: ignore[arg-type]
    assert [one for one in others if not refused(replace(LINE, **{name: one}))] == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "line",
    [
        *["", "5", "[]", "{}", "null", "{", "[" * 100_000, LINE.line.decode().rstrip("\n") + " "],
        *[LINE.line.decode().strip().replace('"payload":{}', f'"payload":{odd}') for odd in ("5", "null", "[1]")],
        *[
            LINE.line.decode().strip().replace(f'"{name}"', '"x"')
            for name in ("seq", "at", "run", "what", "payload", "hash")
        ],
        LINE.line.decode().strip().replace('"restored"', '"burnt"'),
    ],
)
def test_what_is_no_line(line: str) -> None:
    with pytest.raises(JournalDamaged, match=r"^j:1: ") as raised:
        parse(f"{line}\n".encode(), "j")
    assert "--journal host|controller" in raised.value.hint


TWO = story("r1", "b1", "b1")


@pytest.mark.parametrize(
    ("lines", "place"),
    [
        ((replace(TWO[0], seq=0),), 1),
        ((replace(TWO[0], seq=2),), 1),
        ((replace(TWO[0], prev="1" * 64),), 1),
        ((TWO[0], replace(TWO[1], seq=3)), 2),
        ((TWO[0], replace(TWO[1], prev=FIRST)), 2),
        ((TWO[0], TWO[1], TWO[1]), 3),
    ],
)
def test_each_line_follows_the_one_before_it(lines: tuple[JournalLine, ...], place: int) -> None:
    """Each of them is sound by itself."""
    with pytest.raises(JournalDamaged, match=rf"^j:{place}: "):
        parse(b"".join(line.line for line in lines), "j")


def test_a_journal_that_an_earlier_version_has_written_is_read() -> None:
    """What it left on a host is taken back by whoever comes next."""
    kept = parse((Path(__file__).parents[1] / "data/journal.jsonl").read_bytes(), "j")
    assert [str(line.what) for line in kept] == ["opened", "baseline", "intent", "quarantined", "restored"]
    assert MachineIdentity.from_payload(kept[0].payload) == US
    assert Baseline.from_payload(kept[1].payload).driver == "e1000e"
    assert (kept[2].payload["kind"], kept[2].payload["subject"]) == ("driver", "0000:02:00.0")


@pytest.mark.parametrize(
    ("option", "found"),
    [
        ("siblings=both are ours", {"siblings": "both are ours"}),
        (" a = b=c ", {"a": "b=c"}),
        *[(odd, None) for odd in ("", "siblings", "siblings=", "siblings= ", "=ours", " =ours", "=")],
    ],
)
def test_a_check_is_accepted_for_a_reason(option: str, found: dict[str, str] | None) -> None:
    if found is not None:
        assert accepted([option, "reset=known"]) == {**found, "reset": "known"}
        return
    with pytest.raises(UsageError, match=re.escape(repr(option))) as raised:
        accepted(["reset=known", option])
    assert "--accept" in raised.value.hint


US = MachineIdentity("SHA256:" + "A" * 43, "0" * 32, "01234567-0123-0123-0123-0123456789ab")


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (US, ""),
        (replace(US, host_key=""), f"host key {US.host_key} and not none"),
        (replace(US, machine_id="5" * 32), f"machine id {'0' * 32} and not {'5' * 32}"),
        (MachineIdentity("", US.machine_id), f"host key {US.host_key} and not none, product {US.product} and not none"),
    ],
)
def test_another_machine_is_told_by_what_differs(other: MachineIdentity, told: str) -> None:
    opened = replace(LINE, what=What.OPENED, payload=US.as_payload())
    lines = (opened, replace(LINE, seq=2, prev=opened.hash))
    assert US.told_from(other) == told
    if not told:
        assert of_machine(lines, other, "j") == lines
        return
    with pytest.raises(AnotherMachine, match=r"^j: its first line speaks of another machine: ") as raised:
        of_machine(lines, other, "j")
    assert raised.value.message.endswith(told) and "--journal" in raised.value.hint


@pytest.mark.parametrize(
    ("text", "machine_id", "product"),
    [
        (f"{'A' * 32}\n\n{US.product.upper()}\n\n", "a" * 32, US.product),
        (f"\n{US.product}\n\n", "", US.product),
        (f"{US.machine_id}\n\n\n", US.machine_id, ""),
        ("uninitialized\n\nNot Settable\n\n", "", ""),
        (f"{US.machine_id}0\n\n{US.product}0\n\n", "", ""),
        ("", "", ""),
    ],
)
def test_which_machine_answers(text: str, machine_id: str, product: str) -> None:
    link = FakeTransport("xenbox1", connected=True, commands={".*": Reply(text.encode())})
    assert machine(link, US.host_key) == MachineIdentity(US.host_key, machine_id, product)
    link.commands = {".*": Reply(text.encode(), status=1)}
    with pytest.raises(CommandFailed):
        machine(link, US.host_key)


@pytest.mark.parametrize("which", ["host", "controller"])
def test_a_copy_of_another_machine_is_named(state: HostState, remote: Path, which: str) -> None:
    lines = (replace(LINE, what=What.OPENED, payload=US.as_payload()),)
    if which == "controller":
        kept(state, lines)
    else:
        (remote / "journal.jsonl").write_bytes(lines[0].line)
    path = str(state.journal) if which == "controller" else f"xenbox1:{remote}/journal.jsonl"
    with pytest.raises(AnotherMachine) as raised:
        found(HERE, state, str(remote), now=replace(US, product=""))
    assert raised.value.message.startswith(f"{path}: ")


def test_a_journal_that_does_not_say_of_which_machine_it_is_is_of_none() -> None:
    assert of_machine((), US, "j") == ()
    with pytest.raises(AnotherMachine, match=f"host key none and not {US.host_key}"):
        of_machine((replace(LINE, payload=US.as_payload()),), US, "j")


@pytest.mark.parametrize(("ours", "theirs"), [(0, 3), (3, 0), (1, 3), (3, 1), (3, 3)])
def test_the_longer_of_two_copies_counts(ours: int, theirs: int) -> None:
    whole = story("r1", "b1", "b1", "b1")
    assert merge(whole[:ours], whole[:theirs]) == whole
