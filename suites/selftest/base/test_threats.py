"""docs/threats.md: each line of what is defended names the tests that hold it, and they are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "threats.md").read_text(encoding="utf-8")
ROWS = [row for row in re.findall(r"^\| (.*) \|$", TEXT, re.MULTILINE) if not row.startswith("danger |")]


def files() -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in (ROOT / "suites").rglob("test_*.py"):
        found.setdefault(path.name, []).append(path)
    return found


FILES = files()


def named(row: str) -> list[tuple[str, list[str]]]:
    """Each file of tests that a line names, with the classes and functions behind it."""
    found = []
    for name, more in re.findall(r"`(test_\w+\.py)`((?:: `\w+`(?:, `\w+`)*)?)", row):
        found.append((name, re.findall(r"`(\w+)`", more)))
    return found


def missing(row: str) -> list[str]:
    """What a line lacks, in words."""
    tests = named(row)
    told = [] if tests else ["no test is named"]
    for name, parts in tests:
        paths = FILES.get(name, [])
        if len(paths) != 1:
            told.append(f"{name}: {len(paths)} files of this name")
            continue
        tree = ast.parse(paths[0].read_text(encoding="utf-8"))
        there = {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef | ast.FunctionDef)}
        if not any(one.lower().startswith("test") for one in there):
            told.append(f"{name}: no test in it")
        told += [f"{name}: no {part}" for part in parts if part not in there]
    return told


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.partition(" |")[0][:60])
def test_every_line_is_held(row: str) -> None:
    assert missing(row) == []


def test_there_are_lines_and_the_rule_sees_what_is_missing() -> None:
    assert len(ROWS) > 30
    assert missing("a danger | nothing") == ["no test is named"]
    assert missing("a | b (`test_no_such.py`)") == ["test_no_such.py: 0 files of this name"]
    assert missing("a | b (`test_undo.py`: `TestNothing`)") == ["test_undo.py: no TestNothing"]


def test_whatever_else_is_named_is_there() -> None:
    for place in re.findall(r"`(suites/[\w/]+)`", TEXT):
        assert (ROOT / place).exists(), place
