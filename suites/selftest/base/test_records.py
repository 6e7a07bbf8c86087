"""Log records with a host's words in them."""

from __future__ import annotations

import ast
import io
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

import harness
from harness.base.records import logger

HOSTILE = "maskall\x1b]0;owned\x07\r\n2026 ERROR all is well\u202e"
OF_OTHERS = {"sushy", "qemu.qmp", "asyncio"}  # libraries' own, silenced


@pytest.fixture
def heard() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logging.getLogger().addHandler(handler)
    yield stream
    logging.getLogger().removeHandler(handler)


def test_what_a_host_said_stays_on_its_line(heard: io.StringIO) -> None:
    logger("harness.some.where").warning("%s: %s", "box", HOSTILE)
    assert heard.getvalue() == "box: maskall\\x1b]0;owned\\x07\\x0d\\x0a2026 ERROR all is well\\u202e\n"


def test_a_percent_sign_is_no_place_for_a_value(heard: io.StringIO) -> None:
    logger("harness.some.where").warning("%s: 100%% of %s", "box", "50 % done %d")
    assert heard.getvalue() == "box: 100% of 50 % done %d\n"


def test_every_module_takes_its_logger_so() -> None:
    told = []
    for path in sorted(Path(harness.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not ast.unparse(node.func).endswith("getLogger"):
                continue
            given = node.args[0] if node.args else None
            silenced = isinstance(given, ast.Constant) and given.value in OF_OTHERS
            if not silenced and path.name != "records.py" and ast.unparse(node) != "logging.getLogger(_LIBRARY_LOG)":
                told.append(f"{path}:{node.lineno}")
    assert told == []
