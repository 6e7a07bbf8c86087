"""A folder of ways: found by their names, loaded when they are asked for, and said what is wrong with one."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from pydantic import TypeAdapter, ValidationError

from harness.base import ways
from harness.base.errors import HarnessBug
from harness.base.strict import StrictModel

WAY = """
from typing import Literal
from harness.base.strict import StrictModel
class {name}Entry(StrictModel):
    kind: Literal["{name}"]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A package with the ways bell and lamp; a part of the latter and base.py, none of which may be loaded."""
    package = tmp_path / "somehow"
    package.mkdir()
    (package / "__init__.py").touch()
    for name in ("lamp", "bell"):
        (package / f"{name}.py").write_text(WAY.format(name=name))
    for name in ("lamp_oil", "base"):
        (package / f"{name}.py").write_text("raise AssertionError")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "somehow"]:
        monkeypatch.delitem(sys.modules, name)
    return importlib.import_module("somehow")


def test_the_files_are_the_ways_and_none_is_loaded_to_know_that(folder: ModuleType) -> None:
    assert ways.names(folder) == ("bell", "lamp")
    assert not [name for name in sys.modules if name.startswith("somehow.")]
    assert ways.load(folder, "lamp", StrictModel).__name__ == "lampEntry"
    assert "somehow.bell" not in sys.modules


def test_the_entries_are_told_apart_by_their_kind(folder: ModuleType) -> None:
    entry = TypeAdapter(ways.entries(folder, StrictModel))
    assert type(entry.validate_python({"kind": "bell"})).__name__ == "bellEntry"
    with pytest.raises(ValidationError, match="'bell', 'lamp'"):
        entry.validate_python({"kind": "horn"})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "horn.py: 0 classes are a StrictModel"),
        (WAY.format(name="horn") + WAY.format(name="tuba"), "horn.py: 2 classes are a StrictModel"),
        (WAY.format(name="tuba"), r"horn.py: tubaEntry is not of kind Literal\['horn'\]"),
        (WAY.format(name="horn").replace('Literal["horn"]', "str"), "hornEntry is not of kind"),
        ("from somehow.bell import bellEntry", "horn.py: 0 classes"),
    ],
)
def test_a_file_that_is_no_way_is_a_bug_of_ours(folder: ModuleType, tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "somehow" / "horn.py").write_text(text)
    with pytest.raises(HarnessBug, match=told):
        ways.entries(folder, StrictModel)


def test_an_inventory_is_read_without_the_libraries_of_its_ways() -> None:
    script = "import sys, harness.lab.inventory.models; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)  # noqa: S603
    loaded = set(done.stdout.split())
    assert "pydantic" in loaded
    assert not loaded & {"sushy", "libvirt", "qemu", "paramiko", "requests"}
