"""A row that is played several times is as many scenarios, whose names say which time it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.scenario.repeats import gaps, parted, repeated, row_of, times_of
from harness.scenario.spec import devices_of
from suites.selftest.fakes.goodrecord import scenario

ROWS = [scenario("E14", "F1"), scenario("E1", "F1")]


def test_all_rows_once_and_then_those_once_more_that_are_played_again() -> None:
    made = repeated(ROWS, lambda row: 3 if row.end.hazard else 1)
    first, second = (row.id for row in ROWS)
    assert [one.id for one in made] == [f"{first}@1", second, f"{first}@2", f"{first}@3"]
    assert {one.row for one in made} == {first, second}
    assert repeated(made, lambda _: 9) != made, "only what says which time it is stays what it is"
    assert [one.id for one in repeated(made[:1], lambda _: 9)] == [f"{first}@1"]
    assert repeated([], lambda _: 3) == []


@given(st.lists(st.integers(1, 20), min_size=1, max_size=8))
def test_names_say_all_of_it(often: list[int]) -> None:
    rows = [scenario("E14", "F1", device=f"nic{number}") for number in range(len(often))]
    times = dict(zip((row.id for row in rows), often, strict=True))
    names = [one.id for one in repeated(rows, lambda row: times[row.id])]
    assert times_of(names) == times and list(gaps(names)) == []
    assert len(set(names)) == len(names) == sum(often)
    assert {devices_of(name) for name in names} == {row.devices for row in rows}
    for name in names:
        if sum(often) > 1 and times[row_of(name)] > 1:
            assert list(gaps([one for one in names if one != name])) or name.endswith(f"@{times[row_of(name)]}")


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["X@1", "X@3"], "X is planned as X@1, X@3, and not as X@1 to X@N"),
        (["X@2", "X@3"], "X is planned as X@2, X@3, and not"),
        (["X", "X@1"], "X is planned as X, X@1, and not"),
        (["X@1"], "X is planned as X@1, and not"),
        (["X@1", "X@2", "X@2"], "X is planned as X@1, X@2, X@2, and not"),
        (["X", "X"], "X is planned as X, X, and not"),
    ],
)
def test_a_time_that_is_left_out(names: list[str], told: str) -> None:
    assert next(gaps([*names, "Y"])).startswith(told)


@pytest.mark.parametrize("name", ["X@0", "X@01", "X@", "X@100", "X@1@", "X@\u0661", "@1"])
def test_what_says_no_time(name: str) -> None:
    assert parted(name) == (name, 0)
