"""Whatever order two controllers, one host and their accidents come in: nobody changes what is not theirs.

A seed that fails prints its schedule; `MASKALL_SCHEDULE=SEED` plays that one alone.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from suites.selftest.fakes.schedules import explore

pytestmark = pytest.mark.whole

SCHEDULES = 2000
PARTS = 10


def violations(seed: int, tmp_path: Path, **planted: bool) -> str:
    """With the schedule that led to them; empty: there are none."""
    place = tmp_path / f"{seed}-{len(list(tmp_path.iterdir()))}"
    schedule = explore(seed, place, **planted)
    shutil.rmtree(place, ignore_errors=True)
    told = schedule.host.violations
    return "\n".join([f"seed {seed}: {'; '.join(told)}", *schedule.log]) if told else ""


@pytest.mark.parametrize("part", range(PARTS))
def test_no_schedule_does_harm(part: int, tmp_path: Path) -> None:
    given = os.environ.get("MASKALL_SCHEDULE")
    for seed in [int(given)] if given else range(part, SCHEDULES, PARTS):
        told = violations(seed, tmp_path)
        assert not told, told


def test_a_schedule_can_be_played_again(tmp_path: Path) -> None:
    for seed in range(20):
        assert explore(seed, tmp_path / f"{seed}a").log == explore(seed, tmp_path / f"{seed}b").log


def test_it_sees_changes_that_are_not_fenced(tmp_path: Path) -> None:
    assert any(violations(seed, tmp_path, fenced=False) for seed in range(SCHEDULES))


def test_it_sees_a_device_that_is_taken_from_its_owner(tmp_path: Path) -> None:
    assert any(violations(seed, tmp_path, asks=False) for seed in range(SCHEDULES))
