"""Lines of Xen and of dom0's kernel: real logs are understood to the last line, and nothing else passes for known."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.base.errors import InventoryError
from harness.model.message import Meaning, Origin
from harness.xen.keys.messages import Classified, Log, catalogue, classify, load_rules
from harness.xen.keys.messages_table import BEGIN, END, publish, table, with_table
from suites.selftest.fakes.hostile import CAPTURED

RULES = catalogue()
LOGS = sorted(CAPTURED.parent.glob("xen-*/*_of_run.txt"))


def xen(text: str) -> list[tuple[str | None, int]]:
    return [(one.name, one.more) for one in classify(text, Log.XEN, RULES)]


def dom0(text: str) -> list[tuple[str | None, int]]:
    return [(one.name, one.more) for one in classify(text, Log.DOM0, RULES)]


def log_of(path: Path) -> Log:
    return Log.DOM0 if ".dom0_" in path.name else Log.XEN


@pytest.mark.parametrize("path", LOGS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_line_of_a_real_run_is_understood(path: Path) -> None:
    found = classify(path.read_text(), log_of(path), RULES)
    assert found
    assert [one.line.text for one in found if one.meaning is Meaning.UNKNOWN] == []


def test_no_line_is_lost_or_counted_twice() -> None:
    for path in LOGS:
        found = classify(path.read_text(), log_of(path), RULES)
        said = sum(bool(line.strip()) for line in path.read_text().split("\n"))
        assert sum(1 + one.more for one in found) == said, path


@pytest.mark.parametrize(
    ("line", "name", "meaning"),
    [
        ("xen:events: domain 3 does not have 54 anymore", "pirq-already-unmapped", Meaning.HARMLESS),
        ("domain 3 does not have 54 anymore", "pirq-already-unmapped", Meaning.HARMLESS),
        ("xen:events: unmap irq failed -22", "unmap-failed", Meaning.SYMPTOM),
        ("xen:events: unmap irq failed -3", "unmap-failed", Meaning.SYMPTOM),
        ("xen:events: domain 3 does not have 54 anymore, nor any other", None, Meaning.UNKNOWN),
    ],
)
def test_esrch_is_told_from_every_other_failure(line: str, name: str | None, meaning: Meaning) -> None:
    (one,) = classify(f"[   12.345678] {line}\n", Log.DOM0, RULES)
    assert (one.name, one.meaning) == (name, meaning)
    assert (one.rule is not None and one.rule.esrch) is (name == "pirq-already-unmapped")


def test_only_what_says_esrch_is_counted_as_such() -> None:
    assert [name for name, rule in RULES.rules.items() if rule.esrch] == ["pirq-already-unmapped"]


def test_a_dump_is_one_message_whatever_comes_between() -> None:
    text = (
        "(XEN) MSI information:\n"
        "(XEN)  MSI-X   44 vec=b2  fixed  edge   assert phys    cpu dest=00000000 mask=1/HG/?\n"
        "(XEN) cannot mask IRQ 42: masking MSI-X on Dom1's 0000:04:00.0\n"
        "(d1) MSI-X   45 vec=b2\n"
        "(XEN)  MSI-X   45 vec=b2  fixed  edge   assert phys    cpu dest=00000000 mask=1/HG/?\n"
    )
    assert xen(text) == [("key-M", 2), ("maskall-set", 0), ("guest-console", 0)]


def test_a_row_without_its_dump_is_unknown() -> None:
    assert xen("(XEN)  MSI-X   44 vec=b2  fixed\n") == [(None, 0)]


def test_a_dump_ends_where_another_begins() -> None:
    assert xen("(XEN) MSI information:\n(XEN) ==== PCI devices ====\n(XEN)  MSI-X   44 vec=b2\n") == [
        ("key-M", 0),
        ("key-Q", 0),
        (None, 0),
    ]


def test_a_torn_line_is_put_together_and_its_rest_is_no_message() -> None:
    text = (
        "(XEN) IRQ information:\n"
        "(XEN)    IRQ:  41 vec:b2 PCI-MSI status=022 aff:{0-1}/{0} (XEN) cannot mask IRQ 42: masking MSI-X on "
        "Dom1's 0000:04:00.0\n"
        "mapped, unbound\n"
    )
    assert xen(text) == [("key-i", 1), ("maskall-set", 0)]


def test_what_has_no_prefix_is_no_word_of_xen() -> None:
    assert xen("cannot mask IRQ 42: masking MSI-X on Dom1's 0000:04:00.0\n") == [(None, 0)]


def test_a_guest_cannot_speak_for_xen_or_dom0() -> None:
    assert xen("(d1) cannot mask IRQ 42: masking MSI-X on Dom1's 0000:04:00.0\n") == [("guest-console", 0)]
    assert dom0("[    1.000000] (XEN) MSI information:\n") == [(None, 0)]


OOPS = """\
[   77.000001] ------------[ cut here ]------------
[   77.000002] kernel BUG at drivers/xen/events/events_base.c:123!
[   77.000003] Oops: invalid opcode: 0000 [#1] PREEMPT SMP NOPTI
[   77.000004] CPU: 0 UID: 0 PID: 77 Comm: xl Not tainted 6.12.57+deb13-amd64 #1
[   77.000005] a line of somebody else
[   77.000006] RIP: e030:xen_destroy_irq+0x10/0x20
[   77.000007]  <TASK>
[   77.000008]  xen_destroy_irq+0x10/0x20
[   77.000009] ---[ end trace 0000000000000000 ]---
"""


def test_a_trace_belongs_to_the_line_that_began_it() -> None:
    assert dom0(OOPS) == [("linux-cut-here", 0), ("linux-oops", 6), (None, 0)]


@pytest.mark.parametrize(
    "line",
    [
        "BUG: kernel NULL pointer dereference, address: 0000000000000010",
        "Oops: general protection fault, probably for non-canonical address 0x1: 0000 [#1] SMP",
        "general protection fault: 0000 [#1] SMP",
        "kernel BUG at mm/slub.c:1!",
        "pciback 0000:04:00.0: MSI-X release failed (-16)",
        "pciback 0000:04:00.0: xen_pciback: MSI-X release failed (-16)",
    ],
)
def test_what_fails_every_scenario(line: str) -> None:
    (one,) = classify(f"[    1.000000] {line}\n", Log.DOM0, RULES)
    assert one.rule is not None and one.rule.fails


def test_line_numbers_are_of_the_text() -> None:
    found = classify("\n\n(XEN) HVM d1v0 save: CPU\n(XEN) \n(XEN) what\n", Log.XEN, RULES)
    assert [(one.line.number, one.line.origin, one.line.text) for one in found] == [
        (3, Origin.XEN, "HVM d1v0 save: CPU"),
        (5, Origin.XEN, "what"),
    ]


@given(st.text() | st.lists(st.sampled_from(OOPS.split("\n"))).map("\n".join), st.sampled_from(Log))
def test_any_text_is_classified(text: str, log: Log) -> None:
    found: tuple[Classified, ...] = classify(text, log, RULES)
    assert all(one.line.text for one in found)


RULE = """\
continuations:
  rows:
    lines: [' row \\d+']
    example: ' row 1'
rules:
  first:
    origin: xen
    class: harmless
    pattern: 'one .*'
    example: '(XEN) one thing'
    reason: f
"""


def refused(tmp_path: Path, text: str) -> str:
    path = tmp_path / "messages.yaml"
    path.write_text(text)
    with pytest.raises(InventoryError) as caught:
        load_rules(path)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{path}:")


@pytest.mark.parametrize(
    ("wrong", "right", "place", "message"),
    [
        ("'one .*'", "'one (.*'", "9:14", "not a regular expression: missing )"),
        ("'one .*'", "'(XEN) one .*'", "9:14", "does not match its own example"),
        ("'(XEN) one", "'one", "9:14", "does not match its own example"),
        ("'(XEN) one", "'(d1) one", "9:14", "does not match its own example"),
        ("one thing'", "one thing\\n(XEN) one more'", "9:14", "does not match its own example"),
        ("origin: xen", "origin: dom0", "9:14", "does not match its own example"),
        ("reason: f", "reason: f\n    also: ['(XEN) one too', '(XEN) two']", "12:29", "does not match its own example"),
        ("class: harmless", "class: unknown", "8:12", "there are harmless, symptom, dump"),
        ("class: harmless", "class: harmles", "8:12", "did you mean 'harmless'?"),
        ("class: harmless", "class: harmless\n    fails: true", "9:12", "only a symptom can fail"),
        ("reason: f", "reason: f\n    continues: rowz", "12:16", "did you mean 'rows'?"),
        ("reason: f", "reason: f\n    cause: link", "12:12", "there is no cause 'link'"),
        ("reason: f", "reason: f\n    question: 7", "12:15", "less than or equal to 6"),
        ("reason: f", "reasn: f", "11:5", "did you mean 'reason'?"),
        ("' row 1'", "' rov 1'", "4:14", "nothing under lines matches ' rov 1'"),
        ("\\d+']", "\\d+', ' no']", "3:25", "matches no line of the example"),
        ("\\d+']", "\\d+[']", "3:13", "not a regular expression"),
    ],
)
def test_a_rule_that_can_never_do_anything_is_refused(
    tmp_path: Path, wrong: str, right: str, place: str, message: str
) -> None:
    assert RULE.count(wrong) == 1
    said = refused(tmp_path, RULE.replace(wrong, right.replace("\\n", "\n\n      ")))
    assert said.startswith(f"{place}:"), said
    assert message in said


def test_a_rule_that_comes_too_late_is_refused(tmp_path: Path) -> None:
    late = RULE[RULE.index("  first:") :].replace("first", "second").replace("one .*", "one thing")
    assert refused(tmp_path, RULE + late).startswith("15:14: rules.second.pattern: never matches: first takes")


def test_the_rules_of_the_example_are_good(tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text(RULE)
    assert list(load_rules(tmp_path / "good.yaml").rules) == ["first"]


def test_what_other_rules_said_of_a_text_does_not_count() -> None:
    line = "(XEN) cannot mask IRQ 42: masking MSI-X on Dom1's 0000:04:00.0\n"
    fewer = {name: rule for name, rule in RULES.rules.items() if name != "maskall-set"}
    others = RULES.model_copy(update={"rules": fewer})
    for rules, name in ((RULES, "maskall-set"), (others, None), (RULES, "maskall-set")):
        assert [one.name for one in classify(line, Log.XEN, rules)] == [name]


def test_what_dmesg_sets_in_goes_on() -> None:
    """As a dom0 printed it: the further lines of one printk stand under its text."""
    told = (
        "[   67.821738] pciback 0000:02:00.0: xen-pciback: Driver tried to write to a read-only configuration space"
        " field at offset 0x48, size 2. This may be harmless, but if you have problems with your device:\n"
        "               1) see permissive attribute in sysfs\n"
        "               2) report problems to the xen-devel mailing list along with details of your device obtained"
        " from lspci.\n"
    )
    assert dom0(told) == [("pciback-noted", 2)]
    assert dom0(told.replace("1) see", "3) see"))[1] == (None, 0)


PAGE = Path(__file__).parents[3] / "docs" / "messages.md"


def test_the_published_table_is_of_these_rules() -> None:
    page = PAGE.read_text()
    assert with_table(page, RULES) == page, "publish it again, as harness/xen/keys/messages_table.py says"
    changed = RULES.model_copy(update={"rules": dict(list(RULES.rules.items())[:-1])})
    assert with_table(page, changed) != page
    assert with_table(f"before\n{BEGIN}old\n{END}after\n", RULES) == f"before\n{BEGIN}\n{table(RULES)}\n{END}after\n"
    with pytest.raises(ValueError, match="no place for the table"):
        with_table("page", RULES)


def test_the_table_is_put_where_the_old_one_was(tmp_path: Path) -> None:
    page = tmp_path / "messages.md"
    page.write_text(f"before\n{BEGIN}old\n{END}after\n")
    publish(page)
    assert page.read_text() == f"before\n{BEGIN}\n{table(RULES)}\n{END}after\n"


def test_a_bar_does_not_end_a_cell_of_the_table() -> None:
    assert "| c | this \\| that |\n" in table(RULES.model_copy(update={"causes": {"c": "this | that"}}))


def test_each_rule_names_the_functions_that_print_it() -> None:
    """So that its words can be looked up in the source; a guest's console has no such function."""
    for name, rule in RULES.rules.items():
        assert any("_" in word or word.islower() for word in rule.spoken_by.replace(",", " ").split()), name


def test_the_wording_of_other_versions_is_the_same_rule() -> None:
    """Each is checked when the file is read; here, that some rule has one from each side."""
    assert {rule.origin for rule in RULES.rules.values() if rule.also} == {Origin.XEN, Origin.DOM0}
