"""A boot that hangs is told from a slow one by how silent the stack's own was."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.nested.silence import FILE, HANDED_OVER, Listener, Silences

XEN = "(XEN) Xen version 4.20.4\n"
DOM0 = f"{XEN}(XEN) {HANDED_OVER} to DOM0 (type 'CTRL-a' three times to switch input)\n"


def heard(folder: Path, text: str, usual: Silences | None, *silences: float) -> Listener:
    """A console that says `text`, asked at once and after each of these seconds of silence."""
    console = folder / "console.log"
    console.write_text(text)
    listener = Listener(console, usual)
    for seconds in (0.0, *silences):
        asked(listener, 100 + seconds)
    return listener


def asked(listener: Listener, now: float) -> bool:
    listener.now = lambda: now
    return listener.hangs()


@pytest.mark.parametrize(
    ("text", "usual", "silent", "hangs"),
    [
        (XEN, Silences(0.5, 9), 19, False),  # never sooner than 20 s
        (XEN, Silences(0.5, 9), 21, True),
        (XEN, Silences(4, 9), 39, False),  # ten times the usual
        (XEN, Silences(4, 9), 41, True),
        (DOM0, Silences(0.5, 9), 89, False),  # dom0's silences are others
        (DOM0, Silences(0.5, 9), 91, True),
        (XEN, None, 1000, False),  # nothing was measured here
    ],
)
def test_a_hang_is_many_times_the_usual_silence(
    tmp_path: Path, text: str, usual: Silences | None, silent: float, hangs: bool
) -> None:
    assert bool(heard(tmp_path, text, usual, 1, silent).hung) is hangs


def test_what_is_measured(tmp_path: Path) -> None:
    assert heard(tmp_path, XEN, None, 0.5, 3, 2).longest == Silences(3, 0)
    listener = heard(tmp_path, DOM0, None, 7, 1)
    assert listener.longest == Silences(0, 7)
    listener.longest.store(tmp_path)
    (tmp_path / "other").mkdir()
    Silences(2.5, 1).store(tmp_path / "other")
    assert Silences.known([tmp_path, tmp_path / "other", tmp_path / "none"]) == Silences(2.5, 7)
    assert Silences.known([tmp_path / "none"]) is None
    for damaged in ("", "[]", '{"xen": 1}', '{"xen": "long", "dom0": 1}'):
        (tmp_path / FILE).write_text(damaged)
        assert Silences.known([tmp_path]) is None


def test_any_byte_ends_a_silence_and_no_clock_does(tmp_path: Path) -> None:
    listener = heard(tmp_path, XEN, Silences(0.5, 9), 19)
    with listener.console.open("a") as console:
        console.write("(")
    os.utime(listener.console, (0, 0))
    assert not asked(listener, 138), "it spoke at 119 at the earliest"
    assert not asked(listener, 157)
    os.utime(listener.console)
    assert asked(listener, 159)
    assert listener.longest == Silences(21, 0)


def test_a_machine_that_has_not_said_a_word_yet(tmp_path: Path) -> None:
    assert not Listener(tmp_path / "console.log", Silences(1, 1)).hangs()
