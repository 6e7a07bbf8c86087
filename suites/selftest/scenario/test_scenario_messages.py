"""What was said during a run: each line at its raw place, counted once, and judged."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.base.errors import InventoryError
from harness.judge.judge import judge
from harness.judge.judgement import Verdict
from harness.model.message import Meaning, Message, Origin, kinds
from harness.play.verbs import VERBS
from harness.report import messages
from harness.scenario.catalogue import load_catalogue
from harness.scenario.messages import LogPart, read_log
from harness.xen.keys.messages import Log, catalogue
from suites.selftest.fakes.goodrecord import C1, C3, C4, C6, good, raw
from suites.selftest.fakes.logline import by_rule

RULES = catalogue()
MASKALL = "(XEN) cannot mask IRQ 42: masking MSI-X on Dom1's 0000:04:00.0\n"
HARMLESS = "(XEN) HVM d1v0 save: CPU\n"


def read(*texts: str, log: Log = Log.XEN, expected: tuple[str, ...] = ()) -> list[Message]:
    places = zip((C1, C3, C4, C6), texts, strict=False)
    return read_log([LogPart(at, raw(f"{at}"), text) for at, text in places], log, RULES, expected)


def at(found: list[Message]) -> list[tuple[str | None, str]]:
    return [(one.name, str(one.raw)) for one in found]


def test_what_stood_there_before_is_not_of_the_run() -> None:
    assert at(read(MASKALL, HARMLESS, MASKALL)) == [("hvm-context-saved", "raw/C3:1"), ("maskall-set", "raw/C4:1")]


def test_a_message_has_all_that_its_rule_says() -> None:
    oops, gone = "[    1.0] BUG: bad\n", "[    1.0] xen:events: domain 3 does not have 54 anymore\n"
    found = read("[    0.0] Linux\n", f"{oops}{gone}[    1.0] odd\n", log=Log.DOM0)
    rules = [RULES.rules[one.name] if one.name else None for one in found]
    assert [one.reason for one in found] == [rule.reason if rule else "" for rule in rules]
    assert [(one.name, one.fails, one.esrch) for one in found] == [
        ("linux-oops", True, False),
        ("pirq-already-unmapped", False, True),
        (None, False, False),
    ]


@pytest.mark.parametrize("name", [name for name, rule in RULES.rules.items() if rule.fails or rule.esrch or rule.loses])
def test_what_a_rule_says_of_a_line_is_kept(name: str) -> None:
    rule = RULES.rules[name]
    first, *_ = read("", f"{rule.example}\n", log=rule.log)
    assert (first.name, first.fails, first.esrch, first.loses) == (name, rule.fails, rule.esrch, rule.loses)


def test_lines_are_numbered_in_their_own_file() -> None:
    found = read("(XEN) boot\n", "\n" + HARMLESS, "", HARMLESS + "(XEN) odd\n" + MASKALL)
    assert at(found) == [
        ("hvm-context-saved", "raw/C3:2"),
        ("hvm-context-saved", "raw/C6:1"),
        (None, "raw/C6:2"),
        ("maskall-set", "raw/C6:3"),
    ]
    assert [one.checkpoint for one in found] == [C3, C6, C6, C6]


def test_of_a_boot_only_symptoms_count() -> None:
    said = HARMLESS + MASKALL + "(XEN) odd\n"
    parts = [
        LogPart(C1, raw("C1"), "(XEN) boot\n"),
        LogPart(C3, raw("C3"), said, boot=True),
        LogPart(C4, raw("C4"), said),
    ]
    assert at(read_log(parts, Log.XEN, RULES, ())) == [
        ("maskall-set", "raw/C3:2"),
        ("hvm-context-saved", "raw/C4:1"),
        ("maskall-set", "raw/C4:2"),
        (None, "raw/C4:3"),
    ]


@pytest.mark.parametrize("cut", [1, 5, 20, len(MASKALL) - 1])
def test_a_line_that_was_cut_in_two_is_one(cut: int) -> None:
    found = read("(XEN) boot\n", HARMLESS + MASKALL[:cut], MASKALL[cut:] + HARMLESS)
    assert at(found) == [
        ("hvm-context-saved", "raw/C3:1"),
        ("maskall-set", "raw/C3:2"),
        ("hvm-context-saved", "raw/C4:2"),
    ]


def test_the_rest_of_a_line_from_before_is_not_of_the_run() -> None:
    assert at(read("(XEN) bo", "ot\n" + HARMLESS)) == [("hvm-context-saved", "raw/C3:2")]


def test_a_trace_that_was_cut_in_two_is_one() -> None:
    first, second = "[    1.0] BUG: bad\n[    1.0] RIP: e030:f+0x1/0x2\n", "[    1.0] Call Trace:\n"
    (one,) = read("[    0.0] Linux\n", first, second, log=Log.DOM0)
    assert (one.name, one.lines, str(one.raw)) == ("linux-oops", 3, "raw/C3:1")


def test_symptoms_are_folded_by_their_words_and_the_rest_by_its_rule() -> None:
    other = MASKALL.replace("42", "43")
    found = kinds(read("", MASKALL + HARMLESS + other + "(XEN) odd 1\n(XEN) odd 2\n(XEN) odder\n" + HARMLESS))
    assert [(len(alike), alike[0].text) for alike in found] == [
        (2, "cannot mask IRQ 42: masking MSI-X on Dom1's 0000:04:00.0"),
        (2, "HVM d1v0 save: CPU"),
        (2, "odd 1"),
        (1, "odder"),
    ]


def unknown(text: str = "odd") -> Message:
    return Message(C4, Origin.DOM0, Meaning.UNKNOWN, text, raw("C4/dom0_dmesg.txt", 7))


def known(name: str, *, expected: bool = False) -> Message:
    return by_rule(name, C4, raw("C4/log", 8), expected=expected)


class TestJudge:
    def test_an_unknown_line_fails_the_strict_only(self) -> None:
        record = good()
        record.messages = [unknown(), unknown()]
        assert judge(record).verdict is Verdict.PASS
        record.strict_messages = True
        judgement = judge(record)
        assert judgement.verdict is Verdict.FAIL
        assert judgement.reason == "C4 messages: lines: expected known to messages.yaml, seen dom0: odd"
        (check,) = judgement.violations
        assert str(check.raw) == "raw/C4/dom0_dmesg.txt:7"

    @pytest.mark.parametrize("name", [name for name, rule in RULES.rules.items() if rule.fails])
    def test_what_fails_in_every_profile_unless_expected(self, name: str) -> None:
        record = good()
        record.messages = [known(name)]
        assert (judge(record).verdict, judge(record).violations[0].view) == (Verdict.FAIL, "messages")
        record.messages = [known(name, expected=True)]
        assert judge(record).verdict is Verdict.PASS

    @pytest.mark.parametrize("strict", [False, True])
    def test_what_has_a_rule_changes_nothing(self, strict: bool) -> None:
        record = good()
        record.messages = [known(name) for name, rule in RULES.rules.items() if not (rule.fails or rule.loses)]
        record.strict_messages = strict
        assert judge(record).verdict is Verdict.PASS

    @pytest.mark.parametrize("name", [name for name, rule in RULES.rules.items() if rule.loses])
    def test_lines_that_were_left_out_are_no_good_news(self, name: str) -> None:
        record = good()
        record.messages = [known(name)]
        judgement = judge(record)
        assert judgement.verdict is Verdict.UNDECIDED
        assert "messages: lines: expected none left out, seen" in judgement.reason
        record.messages += [known("release-failed")]
        assert judge(record).verdict is Verdict.FAIL, "what was said was said"

    def test_silence_about_the_firmwares_maskall_is_none_where_xen_left_lines_out(self) -> None:
        record = good("E17", "F1")
        assert judge(record).verdict is Verdict.PASS
        record.markers = []
        assert judge(record).verdict is Verdict.FAIL
        record.messages = [known("xen-suppressed")]
        assert judge(record).verdict is Verdict.UNDECIDED

    def test_logs_that_were_not_read_are_no_good_news(self) -> None:
        record = good()
        record.messages = None
        assert (judge(record).verdict, judge(record).violations[0].view) == (Verdict.UNDECIDED, "messages")


def test_the_ending_says_what_it_expects() -> None:
    assert [one.expected for one in read("", MASKALL + HARMLESS, expected=("maskall-set",))] == [True, False]


def test_an_ending_that_expects_what_no_rule_describes(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.yaml"
    path.write_text(
        "endings:\n  E1:\n    title: t\n    why: w\n    fault: []\n    end: [destroy]\n"
        "    expects_messages: [linux-oops, relase-failed]\nfollow_ons: {}\nprofiles: {}\n"
    )
    with pytest.raises(InventoryError) as caught:
        load_catalogue(path, VERBS)
    assert str(caught.value).startswith(f"{path}:7:36: there is no rule 'relase-failed'")
    assert "release-failed" in str(caught.value)


def test_lines_and_esrch_are_counted() -> None:
    esrch = [known("pirq-already-unmapped"), known("pirq-already-unmapped"), known("unmap-failed")]
    dump = by_rule("key-M", C4, raw("x"), lines=20)
    said = [*esrch, dump, unknown()]
    assert messages.counts(said) == "2 harmless, 1 symptom, 20 dump, 1 unknown; ESRCH 2"
    head, *rest = messages.of_side(said)
    assert head == "lines of Xen and dom0: 2 harmless, 1 symptom, 20 dump, 1 unknown; ESRCH 2"
    assert [line.partition(":")[0] for line in rest if line[:3] != "   "] == [
        "  symptom, 1x, dom0",
        "  unknown, 1x, dom0",
        "  harmless, 2x, dom0",
        "  dump, 1x, xen",
    ], "what deserves a look comes first"
