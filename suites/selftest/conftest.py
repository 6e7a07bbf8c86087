"""Fixtures of more than one test file."""

from __future__ import annotations

from suites.selftest.sshlink import dial, keys, server, wire

__all__ = ["dial", "keys", "server", "wire"]
