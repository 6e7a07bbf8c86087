"""Nothing of a console line is lost where several speakers share it, and each keeps what it said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.model.message import MarkerKind, Origin
from harness.xen.keys.console import console_lines, find_markers

WORDS = st.text(st.characters(categories=["L"], max_codepoint=0x7F), min_size=1, max_size=8)


@given(before=WORDS | st.just(""), said=st.lists(WORDS, max_size=3))
def test_each_speaker_keeps_its_words(before: str, said: list[str]) -> None:
    """Dom0's words before the first of Xen's, then one message of Xen after the other."""
    line = before + "".join(f"(XEN) {words}" for words in said)
    found = [(one.origin, one.text) for one in console_lines(line)]
    dom0 = [(Origin.DOM0, before)] if before or not said else []
    assert found == dom0 + [(Origin.XEN, words) for words in said]


@given(st.lists(WORDS, max_size=3))
def test_a_guest_says_all_of_its_line(said: list[str]) -> None:
    line = "(d3) " + "".join(f"(XEN) {words}" for words in said)
    [one] = console_lines(line)
    assert one.origin is Origin.GUEST


def test_the_rest_of_a_message_is_found_behind_an_empty_line() -> None:
    found = console_lines("(XEN) one (XEN) another\n\nrest\nroot\n")
    assert [one.text for one in found if one.origin is Origin.XEN] == ["one rest", "another"]
    assert [one.text for one in found if not one.is_rest] == ["one rest", "another", "", "root", ""]


def test_a_level_within_another_message_hides_nothing_of_what_follows() -> None:
    found = console_lines("(XEN) MSIs < <1>uart (XEN) d1v0 save: CPU\n")
    assert (Origin.XEN, "d1v0 save: CPU") in [(one.origin, one.text) for one in found if not one.is_rest]


@pytest.mark.parametrize("then", ["", "(XEN) d1v0 save: CPU"])
def test_the_death_of_dom0_is_heard_also_before_a_word_of_xen(then: str) -> None:
    [marker] = find_markers(f"[   12.3] Kernel panic - not syncing: Fatal exception{then}\n")
    assert marker.kind is MarkerKind.LINUX_PANIC
