"""The tool that plants small changes: repeatable, and every change is one that Python reads another way."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.whole

TOOL = Path(__file__).parents[3] / "tools" / "small-changes"

SOURCE = b'''\
def f(x, y: int = 3) -> bool:
    """Doc."""
    known = {"one": 1, "two": 2}
    if x == 1 and not y or "two words" == x:
        x.append(known)
    return (x, y) == known
'''


@pytest.fixture(scope="module")
def tool() -> Iterator[ModuleType]:
    loader = SourceFileLoader("small_changes", str(TOOL))
    spec = spec_from_loader("small_changes", loader)
    assert spec is not None
    module = module_from_spec(spec)
    sys.modules["small_changes"] = module  # dataclasses ask for it
    loader.exec_module(module)
    yield module
    del sys.modules["small_changes"]


def tree(folder: Path, tool: ModuleType) -> object:
    (folder / "a.py").write_bytes(SOURCE)
    (folder / "suites/selftest").mkdir(parents=True)
    return tool.Part(("*.py",), ("test_*.py",))


def test_each_kind_is_planted_and_prose_is_left_alone(tool: ModuleType, tmp_path: Path) -> None:
    found = tool.changes(tree(tmp_path, tool), tmp_path)
    assert {one.kind for one in found} == {
        "flipped comparison",
        "and/or swapped",
        "operand left out",
        "not left out",
        "changed constant",
        "element left out",
        "dropped statement",
    }
    made = [one.made(SOURCE).decode() for one in found]
    assert len(set(made)) == len(made)
    assert all(ast.dump(ast.parse(text)) != ast.dump(ast.parse(SOURCE)) for text in made)
    assert all('"""Doc."""' in text and "y: int" in text and "-> bool" in text for text in made)


def test_a_second_more_of_patience_is_none(tool: ModuleType) -> None:
    waits = b"_SECONDS = 20\nseconds: float = 1.5\nlink.run(Deadline.after(_SECONDS + 5), most=3)\n"
    made = [one.made(waits).decode() for one in tool.Finder("a.py", waits).all() if one.kind != "dropped statement"]
    assert made == [waits.decode().replace("most=3", "most=4")]


def test_words_of_an_error_are_prose_and_those_of_a_check_are_not(tool: ModuleType) -> None:
    source = b'ParseError("a b", file="x")\nLabError("a b", hint="y")\nCheck(expected="on", file="z")\n'
    found = [one for one in tool.Finder("a.py", source).all() if one.kind == "changed constant"]
    assert [one.new for one in found] == ["'on~'", "'z~'"]


def test_the_same_seed_chooses_the_same(tool: ModuleType, tmp_path: Path) -> None:
    part = tree(tmp_path, tool)
    assert tool.chosen(part, "7", 5, tmp_path) == tool.chosen(part, "7", 5, tmp_path)
    assert tool.chosen(part, "7", 5, tmp_path) != tool.chosen(part, "8", 5, tmp_path)


def test_a_change_is_noticed_or_survives_and_the_source_is_as_it_was(tool: ModuleType, tmp_path: Path) -> None:
    part = tree(tmp_path, tool)
    source = "ONE = 1\ndef two():\n    return 2\n\ndef three():\n    return 3\n"
    (tmp_path / "a.py").write_text(source)
    test = "import a\n\ndef test_one():\n    assert a.ONE == 1\n\ndef test_two():\n    assert a.two() == 2\n"
    (tmp_path / "suites/selftest/test_a.py").write_text(test + "\ndef test_three():\n    a.three()\n")
    reach = tool.Reach(tmp_path, part, 3600.0)
    names = [name.partition("::")[2] for name in reach.tests(tmp_path / "a.py", 3)]
    assert names == ["test_two"]
    found = list(tool.Finder("a.py", (tmp_path / "a.py").read_bytes()).all())
    constants = [reach.noticed(change) for change in found if change.kind == "changed constant"]
    assert constants == [True, True, False]
    assert (tmp_path / "a.py").read_text() == source


@pytest.mark.parametrize("name", ["judge", "keys", "gate", "lease"])
def test_each_part_has_sources_and_tests(tool: ModuleType, name: str) -> None:
    part = tool.PARTS[name]
    assert all(list(tool.ROOT.glob(pattern)) for pattern in part.sources)
    assert all(list((tool.ROOT / tool.TESTS).glob(pattern)) for pattern in part.tests)
