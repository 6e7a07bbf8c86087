"""Logs as other people's hosts and programs give them: stamps in any language, quoting, entities, old versions of Xen.

`data/pasted.txt` has them, each behind a line with its name, the exit status, and what of this class is in it; that was
decided from the sources before it was tried. A new case is a piece of that file.
"""

from __future__ import annotations

import re

import pytest

from suites.selftest.fakes.hostile import CAPTURED
from suites.selftest.report.test_explain import Found, found, told

_HEAD = re.compile(rb"^=== (.+) \| ([0-3]) \| ?(.*)\n", re.MULTILINE)


def _cases() -> dict[str, tuple[bytes, int, Found]]:
    parts = _HEAD.split((CAPTURED.parent / "pasted.txt").read_bytes())
    cases = {}
    for name, status, shown, text in zip(*(parts[place::4] for place in range(1, 5)), strict=True):
        words = [one.split() for one in shown.decode().split(",") if one.strip()]
        cases[name.decode()] = text, int(status), {(device.strip("-"), what) for device, what in words}
    return cases


CASES = _cases()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("block", [1 << 20, 3])
def test_as_it_was_pasted(name: str, block: int) -> None:
    text, status, expected = CASES[name]
    explanation = told(text, block=block)
    assert found(explanation) == expected, explanation.reasons
    assert explanation.verdict == status, explanation.reasons


def test_there_are_cases() -> None:
    assert len(CASES) > 180
