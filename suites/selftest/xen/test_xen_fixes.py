"""Versions as hosts tell them, and which fixes they are expected to have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.base.errors import InventoryError, ParseError
from harness.host.stacks import stacks
from harness.xen.keys.fixes import Fix, Product, has_fix, registry
from harness.xen.keys.version import Answer, Version, parse_linux, parse_span, parse_xen, reached
from harness.xen.keys.xl_output import parse_info

YES, NO, UNKNOWN = Answer
NUMBERS = st.integers(0, 99)
ENDINGS = st.sampled_from(["", "-pre", "-rc1", "-unstable", "+deb13-amd64", "-5+b1", " (Debian 4.20.2+37-g61ff3)"])


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("4.14.6", Version(4, 14, 6)),
        ("4.20.5-pre", Version(4, 20, 5, before=True)),
        ("4.20.4-pre (Debian 4.20.2+37-g61ff35323e-0+deb13u1)", Version(4, 20, 4, before=True)),
        ("4.17.6-1", Version(4, 17, 6)),
        ("4.19-unstable", Version(4, 19, 0, before=True)),
        ("4.19.0-rc2", Version(4, 19, 0, before=True)),
        ("4.20", Version(4, 20)),
        (" 4.14.6\n", Version(4, 14, 6)),
    ],
)
def test_xen_versions(text: str, version: Version) -> None:
    assert parse_xen(text) == version


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("6.12.117+deb13-amd64", Version(6, 12, 117)),
        ("6.12.0+deb13-amd64", Version(6, 12, 0)),
        ("5.10.0-35-amd64", Version(5, 10)),
        ("6.1.0-41-amd64", Version(6, 1)),
        ("5.15.0-91-generic", Version(5, 15)),
        ("4.19.48", Version(4, 19, 48)),
        ("6.1.147-1-amd64", Version(6, 1, 147)),
        ("6.6.0-rc1", Version(6, 6, 0, before=True)),
        ("5.14.0-427.13.1.el9_4.x86_64", Version(5, 14)),
    ],
)
def test_kernel_versions(text: str, version: Version) -> None:
    assert parse_linux(text) == version


@pytest.mark.parametrize("text", ["", "4", "unknown", "v4.20", "4.20.5.1", "4..5", "-4.20", "\u0664.20"])
def test_what_is_no_version_is_refused(text: str) -> None:
    for parse in (parse_xen, parse_linux):
        with pytest.raises(ParseError, match="not a version"):
            parse(text)


@given(st.text())
def test_any_text_is_a_version_or_refused(text: str) -> None:
    for product in Product:
        try:
            product.parse(text)
        except ParseError:
            assert has_fix(fix("4.18.0", product=product), text) is UNKNOWN


@given(NUMBERS, NUMBERS, st.none() | NUMBERS, st.booleans())
def test_a_version_reads_back_as_it_is_written(major: int, minor: int, patch: int | None, before: bool) -> None:
    version = Version(major, minor, patch, before=before and patch is not None)
    assert parse_xen(str(version)) == version


@given(NUMBERS, NUMBERS, NUMBERS, st.booleans())
def test_the_order_within_a_branch(patch: int, later: int, release: int, before: bool) -> None:
    """What a version has, every later one of its branch has; and there is one answer for each pair."""
    wanted = Version(4, 17, release)
    answer = reached(Version(4, 17, patch, before), wanted)
    after = reached(Version(4, 17, patch + 1 + later, before), wanted)
    assert answer is not YES or after is YES
    assert after is not NO or answer is NO
    assert (answer is NO) == (patch < release)
    assert (answer is UNKNOWN) == (patch == release and before)


@given(NUMBERS, NUMBERS, ENDINGS)
def test_a_fix_of_the_main_line_stays(minor: int, patch: int, ending: str) -> None:
    """Every branch after the first one has it, whatever is written behind the number; every older branch has not."""
    expected = YES if minor > 18 else NO if minor < 18 else None
    answer = has_fix(fix("4.18.0"), f"4.{minor}.{patch}{ending}")
    assert expected is None or answer is expected


def fix(*releases: str, product: Product = Product.XEN, complete: bool = True) -> Fix:
    return Fix.model_validate(
        {
            "title": "t",
            "product": product,
            "first_fixed": releases,
            "complete": complete,
            "concerns": [],
            "without": "w",
        }
    )


@pytest.mark.parametrize(
    ("commit", "version", "answer"),
    [
        ("575e18d54d19", "4.14.6", YES),
        ("575e18d54d19", "4.12.1", NO),
        ("575e18d54d19", "4.11.4", YES),
        ("575e18d54d19", "4.10.4", NO),
        ("913751d7af", "4.20.5-pre", YES),
        ("913751d7af", "4.17.6-pre", YES),
        ("913751d7af", "4.17.2-pre", UNKNOWN),
        ("913751d7af", "4.17.1", NO),
        ("913751d7af", "4.17", UNKNOWN),
        ("913751d7af", "4.16.5", YES),
        ("913751d7af", "4.15.5", NO),
        ("913751d7af", "4.14.6", NO),
        ("913751d7af", "4.14", NO),
        ("913751d7af", "4.18-unstable", UNKNOWN),
        ("913751d7af", "unknown", UNKNOWN),
        ("c01855bec5", "4.19.9", NO),
        ("c01855bec5", "4.20", YES),
        ("58427889f5", "4.14.1", NO),
        ("58427889f5", "4.14.6", YES),
        ("7681f31ec9cd", "6.12.117+deb13-amd64", YES),
        ("7681f31ec9cd", "5.10.0-35-amd64", YES),
        ("7681f31ec9cd", "5.2.0-rc3", UNKNOWN),
        ("7681f31ec9cd", "5.1.7", UNKNOWN),
        ("7681f31ec9cd", "4.19.0-27-amd64", UNKNOWN),
        ("7681f31ec9cd", "4.19.47", NO),
        ("7681f31ec9cd", "4.4.302", UNKNOWN),
    ],
)
def test_which_host_has_which_fix(commit: str, version: str, answer: Answer) -> None:
    assert has_fix(registry()[commit], version) is answer


def test_a_program_is_told_one_of_three_words() -> None:
    answers = [reached(Version(4, 17, patch, before=True), Version(4, 17, 5)) for patch in (6, 4, 5)]
    assert json.loads(json.dumps(answers)) == ["yes", "no", "unknown"]


def test_what_the_stacks_are_expected_to_lack() -> None:
    lacking = {
        name: {
            commit for commit, fix in registry().items() if fix.product is Product.XEN and has_fix(fix, one.xen) is NO
        }
        for name, one in stacks().items()
    }
    for name, commits in (("trixie", set()), ("bookworm", {"c01855bec5"}), ("bullseye", {"913751d7af", "c01855bec5"})):
        assert lacking[name] == commits, name


def test_each_product_has_its_version_among_the_facts_of_a_host() -> None:
    rows = (f"{key} : {value}\n" for key, value in {"xen_version": "4.20.5", "release": "6.12.57"}.items())
    facts = parse_info("".join(rows) + "virt_caps :\nxen_commandline :\nbuild_id :\n").facts
    assert {one.called: str(one.parse(facts[one.fact])) for one in Product} == {
        "Xen": "4.20.5",
        "dom0's Linux": "6.12.57",
    }


GOOD = """\
913751d7af:
  title: t
  product: xen
  first_fixed: ["4.18.0", "4.17.2"]
  concerns: []
  without: w
"""


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("xen", "zen", "did you mean 'xen'"),
        ('"4.18.0", "4.17.2"', '"4.17.2", "4.18.0"', "the newest first"),
        ('"4.18.0", "4.17.2"', '"4.18.0", "4.18.2"', "each branch once"),
        ('"4.18.0"', '"4.18.1"', "ends in .0"),
        ('"4.18.0"', "4.18", "in quotes"),
        ('"4.18.0"', '"4.18"', "not a release"),
        ('"4.18.0"', '"4.18.0-1"', "not a release"),
        ('"4.18.0"', '"next"', "not a release"),
        ('"4.18.0"', '"4.18.0-rc1"', "not a release"),
        ('"4.18.0"', '"4.18.0-pre"', "not a release"),
        ("913751d7af", "xyz", "pattern"),
        ("concerns", "concern", "did you mean 'concerns'"),
    ],
)
def test_a_malformed_registry_is_refused_with_its_place(tmp_path: Path, old: str, new: str, told: str) -> None:
    path = tmp_path / "fixes.yaml"
    path.write_text(GOOD)
    assert list(registry(path)) == ["913751d7af"]
    path = tmp_path / "bad.yaml"
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(InventoryError, match=r"bad\.yaml:\d") as caught:
        registry(path)
    assert told in str(caught.value)


def test_a_branch_that_is_not_named_has_no_fix_unless_the_entry_is_incomplete(tmp_path: Path) -> None:
    for name, more, answer in (("whole", "", NO), ("part", "  complete: false\n", UNKNOWN)):
        path = tmp_path / f"{name}.yaml"
        path.write_text(GOOD + more)
        assert has_fix(registry(path)["913751d7af"], "4.16.5") is answer


@pytest.mark.parametrize(
    ("span", "inside", "outside"),
    [
        ("4.20", ["4.20", "4.20.0", "4.20.5-pre", "4.20.99"], ["4.19.9", "4.21.0", "3.20.1"]),
        ("4.14..4.17", ["4.14.0", "4.15.5", "4.17.9", "4.16"], ["4.13.9", "4.18.0", "4.18"]),
        ("4.14.6..4.17", ["4.14.6", "4.15.0", "4.17.9"], ["4.14.5"]),
        ("4.14..4.17.2", ["4.14.0", "4.17.2"], ["4.17.3"]),
        ("4.17.5", ["4.17.5", "4.17.5-pre", "4.17"], ["4.17.4", "4.17.6"]),
    ],
)
def test_spans_of_versions(span: str, inside: list[str], outside: list[str]) -> None:
    parsed = parse_span(span)
    assert str(parsed) == span
    assert [text for text in [*inside, *outside] if parse_xen(text) in parsed] == inside


@pytest.mark.parametrize(
    "text", ["", "..", "4.17..", "..4.17", "4.17..4.14", "4.17.6..4.17.5", "4.14...4.17", "any", " 4.17", "4.17..4.17"]
)
def test_what_is_no_span_is_refused(text: str) -> None:
    with pytest.raises(ParseError):
        parse_span(text)
