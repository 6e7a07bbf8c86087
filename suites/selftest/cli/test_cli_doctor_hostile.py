"""`maskall doctor --facts FILE` on whatever a file may hold: a decision, or one clear line; never a traceback."""

from __future__ import annotations

import contextlib
import io
import os
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.base.errors import ExitStatus
from harness.cli import main
from suites.selftest.lab.test_topologies import FOLDER, NAMES

pytestmark = pytest.mark.whole

SEEN = [(FOLDER / f"{name}.facts").read_bytes() for name in NAMES[:: len(NAMES) // 20]]
GOOD = (FOLDER / "plain-idle-card.facts").read_bytes()
ODD = [
    *(b"@@ pci\n", b"@@ end\n", b"@@ \n", b"@@ ../../etc/passwd\n", b"@@ program\nversion 2\n", b"version 99\n"),
    *(
        b"\x1b[2J\x1b]0;owned\x07",
        b"\x00",
        b"\xff\xfe",
        b"\r",
        b"\xe2\x80\xae",
        b"A" * 5000,
        b"\n" * 50,
        b"missing x\n",
    ),
    *(b"\n0000:41:00.0 class 0xzzzzzz\n", b"\n0000:41:00.0 realpath /\n", b"\n10000:e1:00.0 vendor 0x8086\n"),
]
WORDS = ["0000:41:00.0", "8086:1521", "02:00:5e:00:00:41", "SER0", "\x1b[31m", "a/b"]


def asked(data: bytes, words: list[str]) -> tuple[int, str, str]:
    """Exit status, output and errors."""
    out, err = io.StringIO(), io.StringIO()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        path = Path(folder) / "facts.txt"
        path.write_bytes(data)
        status = main(["doctor", "--facts", str(path), *(part for word in words for part in ("--device", word))])
    return status, out.getvalue(), err.getvalue()


def clear(status: int, out: str, err: str) -> None:
    """Nothing for a terminal to obey; refused in one line and its hint, or decided with a count at the end."""
    assert not re.search(r"[^\n -~\u00a0-\U0010ffff]", out + err), (out, err)
    assert "Traceback" not in err
    if status == ExitStatus.USAGE:
        assert not out and len(err.splitlines()) <= 2 and "facts.txt: " in err, err
    else:
        assert status in (ExitStatus.OK, ExitStatus.FAILED)
        assert re.search(r"facts\.txt: \d+ of \d+ devices may be borrowed\n$", out), out
        assert all(line.startswith("note: ") for line in err.splitlines()), err
        assert (status == ExitStatus.OK) is bool(re.search(r": (\d+) of \1 devices may", out))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_facts_are_decided_or_refused_in_one_line(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(SEEN))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        cut = data.draw(st.sampled_from([0, 0, 1, 40, 2000]))
        text = text[:at] + data.draw(st.sampled_from(ODD) | st.binary(max_size=30)) + text[at + cut :]
    clear(*asked(text, data.draw(st.lists(st.sampled_from(WORDS), max_size=2, unique=True))))


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=300) | st.lists(st.sampled_from(ODD), max_size=6).map(b"".join))
def test_what_are_no_facts_is_refused(text: bytes) -> None:
    status, out, err = asked(text, [])
    clear(status, out, err)
    assert status == ExitStatus.USAGE


@pytest.mark.parametrize("told", [b"version 1", b"version 7", b"version", b"version two", b"version \x1b[2J", b""])
def test_the_program_of_another_version_is_not_guessed_at(told: bytes) -> None:
    status, out, err = asked(re.sub(rb"\bversion \d\n", lambda _: told + b"\n", GOOD, count=1), WORDS[:1])
    clear(status, out, err)
    assert status == ExitStatus.USAGE and "version" in err


def test_a_file_without_an_end_is_given_up_in_time(tmp_path: Path) -> None:
    """/dev/zero has no size to be warned by, and a hole of 100 MB has no bytes."""
    for path in (Path("/dev/zero"), tmp_path / "hole"):
        if not path.exists():
            path.touch()
            os.truncate(path, 100 << 20)
        err = io.StringIO()
        with contextlib.redirect_stderr(err):
            assert main(["doctor", "--facts", str(path)]) == ExitStatus.USAGE
        assert "more than 67108864 bytes are no facts of a host" in err.getvalue()


def test_many_sections_and_functions_take_no_time_beyond_their_number() -> None:
    """Work that grows by the square of what a file holds would not end."""
    sections = b"".join(b"@@ s%d\n" % number for number in range(60_000))
    status, out, err = asked(GOOD.replace(b"@@ end\n", sections + b"@@ end\n"), WORDS[:1])
    clear(status, out, err)
    place = b"/sys/devices/pci0000:40"
    lines = b"".join(
        b"%s realpath %s/%s\n" % (name, place, name)
        for name in (b"0000:%02x:%02x.%x" % (n >> 8, n >> 3 & 31, n & 7) for n in range(0x4200, 0xC000))
    )
    clear(*asked(GOOD.replace(b"\n@@ drivers\n", b"\n" + lines + b"\n@@ drivers\n"), WORDS[:1]))
