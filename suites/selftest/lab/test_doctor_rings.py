"""What doctor says of Xen's ring: the size that this machine needs, by its processors."""

from __future__ import annotations

import re

import pytest

from harness.lab.doctor import _rings


@pytest.mark.parametrize(
    ("commandline", "cpus", "told"),
    [
        ("placeholder conring_size=1M loglvl=all", "8", "conring_size=1M"),
        ("conring_size=4M", "128", "conring_size=4M"),
        ("loglvl=all", "8", "conring_size is not set, .*: ask for conring_size=1M .* log_buf_len=1M"),
        ("conring_size=16k", "8", "conring_size=16k loses lines: ask for conring_size=1M"),
        ("conring_size=16384", "", "conring_size=16384 loses lines: ask for conring_size=1M"),
        ("conring_size=1M", "128", "conring_size=1M loses lines: ask for conring_size=4M"),
        ("xconring_size=1M conring_size=", "4", "conring_size is not set"),
    ],
)
def test_the_ring_that_is_asked_for(commandline: str, cpus: str, told: str) -> None:
    assert re.match(told, _rings(commandline, cpus))
