"""Fixtures of more than one test file, and the order of the files."""

from __future__ import annotations

import pytest

from suites.selftest.sshlink import dial, keys, server, wire

__all__ = ["dial", "keys", "server", "wire"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long sweeps first: of several workers none shall be left alone with them in the end."""
    items.sort(key=lambda item: item.path.stem != "test_visit_everywhere")
