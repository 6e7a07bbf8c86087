"""Real runs, judged anew from their raw bytes, come to exactly what they came to when they were recorded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.judge.judgement import Conclusion, Verdict
from harness.run.again import RunAgain, judged_again
from suites.selftest.replay.recording import FOLDER, recordings, told, unpacked

pytestmark = pytest.mark.whole

COMES_TO = {
    "back-to-dom0": (Conclusion.UNPROVEN, Verdict.PASS),
    "crash": (Conclusion.REGRESSION, Verdict.CRASH),
    "known-forced-detach": (Conclusion.KNOWN, Verdict.FAIL),
    "known-late-teardown": (Conclusion.KNOWN, Verdict.FAIL),
    "known-pv-keeps-msix": (Conclusion.KNOWN, Verdict.FAIL),
    "known-save": (Conclusion.KNOWN, Verdict.FAIL),
    "known-stopped-device-model": (Conclusion.KNOWN, Verdict.FAIL),
    "lab-error": (Conclusion.UNDECIDED, Verdict.ERROR),
    "lab-host": (Conclusion.UNPROVEN, Verdict.PASS),
    "libvirt-known-quarantine": (Conclusion.KNOWN, Verdict.FAIL),
    "libvirt-pass": (Conclusion.UNPROVEN, Verdict.PASS),
    "no-op-reset": (Conclusion.UNPROVEN, Verdict.PASS),
    "proven": (Conclusion.PROVEN, Verdict.PASS, Verdict.FAIL),
    "pv-pass": (Conclusion.UNPROVEN, Verdict.PASS),
    "rounds": (Conclusion.UNPROVEN, Verdict.PASS),
    "two-devices": (Conclusion.UNPROVEN, Verdict.PASS),
}


@pytest.fixture
def replayed(tmp_path: Path) -> Callable[[str], RunAgain]:
    return lambda name: judged_again(unpacked(name, tmp_path / name))


@pytest.mark.parametrize("name", recordings())
def test_every_verdict_and_every_check_is_the_same(name: str, replayed: Callable[[str], RunAgain]) -> None:
    again = replayed(name)
    assert (again.unreadable, again.parts) == ({}, {})
    assert told(again) == (FOLDER / f"{name}.txt").read_text()


def test_what_the_recordings_come_to(replayed: Callable[[str], RunAgain]) -> None:
    """By hand, for the texts are written by a program."""
    found = {}
    for name in recordings():
        (one,) = replayed(name).finished.values()
        found[name] = (one.conclusion, *(side.verdict for _, side in one.sides))
    assert found == COMES_TO


def test_they_are_small() -> None:
    sizes = [path.stat().st_size for path in FOLDER.glob("*.tar.xz")]
    assert max(sizes) < 150 << 10 and sum(sizes) < 1 << 20
