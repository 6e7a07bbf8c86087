"""Fixtures of more than one test file, their examples, their timeout, their order, what is compiled once and what is
no garbage."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

from suites.selftest.fakes.sshlink import dial, keys, server, wire

__all__ = ["dial", "keys", "server", "wire"]

# None depends on chance: the same examples every time, and no memory of earlier ones.
# Without the check that looks at a clock while examples are made: a busy machine is no fault of a test.
_STEADY = settings(deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("selftest", _STEADY, derandomize=True)
# `maskall test --fuzz MINUTES`: other examples in each round, for whoever looks for what is not known yet.
settings.register_profile("fuzz", _STEADY, max_examples=1000, print_blob=True)
# tools/small-changes: that a test fails is all that it asks, and an example that loops cannot be made smaller.
settings.register_profile("unshrunk", _STEADY, derandomize=True, phases=(Phase.explicit, Phase.generate))
settings.load_profile(os.environ.get("MASKALL_EXAMPLES", "selftest"))

# Seconds. The longest takes some twenty on an idle machine: what is ended here waits for what never happens.
# No test asserts anything of a clock (fakes/patience.py), so a busy machine makes none red before this does.
_TIMEOUT = 300


def _memory() -> Path | None:
    """A folder in memory that programs may be started from, with room for what one test writes."""
    shared = Path("/dev/shm")  # noqa: S108 - no name in it is guessed
    try:
        there = os.statvfs(shared)
    except OSError:
        return None
    roomy = there.f_bavail * there.f_frsize > 1 << 30
    return shared if roomy and not there.f_flag & os.ST_NOEXEC and os.access(shared, os.W_OK) else None


# Thousands of tests write small files and take them away again: a busy disk was half of the time.
if "TMPDIR" not in os.environ and (memory := _memory()):
    os.environ["TMPDIR"] = str(memory)  # for their children too
    tempfile.tempdir = None


def pytest_configure(config: pytest.Config) -> None:
    """Nothing is compiled twice, also where Python shall leave nothing beside its sources.

    Containers are set so, and then each worker, and each of a hundred programs that tests start, compiled the harness.
    """
    cache = getattr(config, "cache", None)  # `-p no:cacheprovider` wants nothing of an earlier run
    if cache is None or not sys.dont_write_bytecode:
        return
    with contextlib.suppress(OSError):  # a checkout that nobody may write to
        sys.pycache_prefix, sys.dont_write_bytecode = str(cache.mkdir("bytecode")), False
        os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # or it was the option -B


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long sweeps first: of several workers none shall be left alone with them in the end."""
    items.sort(key=lambda item: item.path.stem != "test_visit_everywhere")
    for item in items:
        if item.get_closest_marker("timeout") is None and os.environ.get("MASKALL_EXAMPLES") != "fuzz":
            item.add_marker(pytest.mark.timeout(_TIMEOUT))


def pytest_collection() -> None:
    """All that is imported and collected stays to the end: looking through it again and again took a quarter."""
    gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()
