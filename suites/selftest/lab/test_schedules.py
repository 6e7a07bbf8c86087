"""Whatever order two controllers, one host and their accidents come in: nobody changes what is not theirs.

A seed that fails prints its schedule; `MASKALL_SCHEDULE=SEED` plays that one alone.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from suites.selftest.fakes.schedules import explore

SCHEDULES = 2000
PARTS = 10


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory: each schedule writes some hundred lines and waits for the disk."""
    memory = Path("/dev/shm")  # noqa: S108
    made = Path(tempfile.mkdtemp(prefix="schedules-", dir=memory if memory.is_dir() else None))
    yield made
    shutil.rmtree(made)


def violations(seed: int, folder: Path, **planted: bool) -> str:
    """With the schedule that led to them; empty: there are none."""
    place = folder / f"{seed}-{len(list(folder.iterdir()))}"
    schedule = explore(seed, place, **planted)
    shutil.rmtree(place, ignore_errors=True)
    told = schedule.host.violations
    return "\n".join([f"seed {seed}: {'; '.join(told)}", *schedule.log]) if told else ""


@pytest.mark.parametrize("part", range(PARTS))
def test_no_schedule_does_harm(part: int, folder: Path) -> None:
    given = os.environ.get("MASKALL_SCHEDULE")
    for seed in [int(given)] if given else range(part, SCHEDULES, PARTS):
        told = violations(seed, folder)
        assert not told, told


def test_a_schedule_can_be_played_again(folder: Path) -> None:
    assert explore(17, folder / "a").log == explore(17, folder / "b").log


def test_it_sees_changes_that_are_not_fenced(folder: Path) -> None:
    assert any(violations(seed, folder, fenced=False) for seed in range(SCHEDULES))


def test_it_sees_a_device_that_is_taken_from_its_owner(folder: Path) -> None:
    assert any(violations(seed, folder, asks=False) for seed in range(SCHEDULES))
