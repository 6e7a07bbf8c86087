"""No test is judged by a clock, and no self-test waits for seconds that may be too few on a busy machine."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from suites.selftest.fakes.patience import MEANT_TO_PASS

SUITE = Path(__file__).parents[1]
STOPWATCHES = {"perf_counter", "process_time", "thread_time"}
"""Clocks that are good for nothing but to say how fast something was."""
CLOCKS = {"monotonic", "time"}
WAITS = {"wait", "join", "after", "settimeout", "Timer"}
FAKE_CLOCK = {
    "xen/test_xen_toolstack.py": "its fake host lets the deadline pass by itself",
    "xen/test_xen_callchain.py": "its replay ends, whatever the deadline",
}
"""Files whose deadlines nothing real runs against."""


def judged_by_a_clock(tree: ast.AST) -> Iterator[int]:
    """Lines of asserts that ask a clock, and of every stopwatch: whatever it reads ends in an assert somewhere."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _name(node.func) in STOPWATCHES:
            yield node.lineno
        if isinstance(node, ast.Assert):
            for part in ast.walk(node.test):
                if isinstance(part, ast.Call) and _name(part.func) in CLOCKS:
                    yield node.lineno


def too_few_seconds(tree: ast.AST) -> Iterator[int]:
    """Lines of waits with a number of seconds that a busy machine may need and a test may not have meant to pass."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            given = node.args[:1] if _name(node.func) in WAITS else []
            given += [word.value for word in node.keywords if word.arg == "timeout"]
            for value in given:
                seconds = value.value if isinstance(value, ast.Constant) else None
                if isinstance(seconds, int | float) and seconds > MEANT_TO_PASS:
                    yield node.lineno


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def test_the_rule_sees_what_it_forbids() -> None:
    assert list(judged_by_a_clock(ast.parse("assert time.monotonic() - began < 2"))) == [1]
    assert list(judged_by_a_clock(ast.parse("began = time.perf_counter()"))) == [1]
    for line in ("done.wait({})", "Deadline.after({})", "thread.join(timeout={})", "run(x, timeout={})"):
        assert list(too_few_seconds(ast.parse(line.format(9)))) == [1], line
    for line in ("done.wait(FOREVER)", "Deadline.after(0.05)", "soon()", "', '.join(words)"):
        assert not list(too_few_seconds(ast.parse(line))), line


@pytest.mark.parametrize("path", sorted(SUITE.rglob("*.py")), ids=lambda path: str(path.relative_to(SUITE)))
def test_no_clock(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not list(judged_by_a_clock(tree)), "wait for an event instead, with patience.soon()"
    if str(path.relative_to(SUITE)) not in FAKE_CLOCK:
        assert not list(too_few_seconds(tree)), f"seconds: patience.soon(), or at most {MEANT_TO_PASS:g} to pass"


def test_no_lane_is_judged_by_a_clock() -> None:
    paths = [path for path in SUITE.parent.rglob("*.py") if not path.is_relative_to(SUITE)]
    judged = [f"{path}:{line}" for path in paths for line in judged_by_a_clock(ast.parse(path.read_text("utf-8")))]
    assert len(paths) > 20 and not judged
