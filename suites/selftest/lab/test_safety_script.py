"""The reading program of the safety gate: on any Linux it ends well, is understood, and writes nothing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import harness.lab.safety.facts.collect
from harness.lab.safety.facts.collect import RESTLESS
from harness.lab.safety.facts.facts import SECTIONS
from harness.lab.safety.facts.parse import parse_facts
from harness.transport.sections import split
from suites.selftest.fakes.patience import FOREVER

_PROGRAM = Path(harness.lab.safety.facts.collect.__file__).with_name("facts.sh")
_WRITERS = r"\b(?:tee|dd|rm|mv|cp|ln|mkdir|touch|install|truncate|mount|modprobe(?!\.d)|xenstore-(?:write|rm)|sed -i)\b"


def test_it_redirects_output_nowhere_and_calls_no_program_that_writes() -> None:
    text = "\n".join(line.partition("# ")[0] for line in _PROGRAM.read_text().splitlines())
    assert not re.search(r"O_(?:WRONLY|RDWR|CREAT|TRUNC)|\bopen\s*\(.*[\"'][>wa+]", text.replace("os.open", "")), (
        "reads only"
    )
    text = re.sub(r"'[^']*'", "''", text)  # programs of perl, python and sed, whose `>` is none of the shell's
    targets = set(re.findall(r">+\s*(&\d|[^\s;&|)]+)", text))
    assert targets == {"/dev/null", "&1"}
    assert not re.search(_WRITERS, text)


def test_every_section_is_known_to_the_parser_and_those_that_change_by_themselves_to_the_guard() -> None:
    text = _PROGRAM.read_text()
    assert set(re.findall(r"^ *section (\w+)", text, flags=re.MULTILINE)) == SECTIONS | {"end"}
    restless = text.split("!= stable")[1].split("\nfi\n")[0] + text.split("= stable ] && return 0")[1]
    assert set(re.findall(r"section (\w+)", restless)) == {*RESTLESS, "end"}


@pytest.mark.skipif(not (shutil.which("dash") and Path("/sys/bus/pci").exists()), reason="needs dash and PCI")
def test_it_is_understood_on_a_machine_without_xen() -> None:
    done = subprocess.run(["dash", str(_PROGRAM), "@facts"], capture_output=True, timeout=FOREVER)  # noqa: S603, S607
    assert done.returncode == 0, done.stderr
    sections = split(done.stdout, "@facts")
    assert "end" in sections
    facts = parse_facts(sections)
    assert {str(bdf) for bdf in facts.functions} == {path.name for path in Path("/sys/bus/pci/devices").iterdir()}
    assert set(facts.blocks) == {path.name for path in Path("/sys/class/block").iterdir()}
    assert not facts.missing("users")


@pytest.mark.parametrize("ends", ["exit 0", "exit 127", "kill -KILL $$"])
def test_a_search_for_open_devices_that_did_not_end_is_no_answer(tmp_path: Path, ends: str) -> None:
    """A file on a mount whose server is gone holds find(1) up: it is killed, and nobody knows who has what open."""
    timeout = tmp_path / "timeout"
    timeout.write_text(f"#!/bin/sh\necho block special file 8:0 /proc/1/fd/3\n{ends}\n")
    timeout.chmod(0o755)
    place = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", str(_PROGRAM), "@facts"], capture_output=True, timeout=FOREVER, env=place)  # noqa: S603, S607
    told = split(done.stdout, "@facts")["users"].decode().splitlines()
    assert len(told) == 2
    assert [line for line in told if line.startswith("missing ")]
