"""Fixtures of more than one test file, the order of the files, and what the garbage collector need not look at."""

from __future__ import annotations

import gc

import pytest
from hypothesis import settings

from suites.selftest.fakes.sshlink import dial, keys, server, wire

__all__ = ["dial", "keys", "server", "wire"]

# No test depends on wall time, and none on chance: the same examples every time.
settings.register_profile("selftest", deadline=None, derandomize=True)
settings.load_profile("selftest")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long sweeps first: of several workers none shall be left alone with them in the end."""
    items.sort(key=lambda item: item.path.stem != "test_visit_everywhere")


def pytest_collection() -> None:
    """All that is imported and collected stays to the end: looking through it again and again took a quarter."""
    gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()
