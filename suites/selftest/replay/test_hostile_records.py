"""What stands in stored files is nobody's friend: paths lead nowhere, nonsense is one line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.base.errors import EvidenceError
from harness.run.again import judged_again
from suites.selftest.replay.recording import unpacked


class TestHostile:
    """Paths in stored files lead nowhere but into the run's directory."""

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        (tmp_path / "secret").write_text("secret")
        return unpacked("proven", tmp_path / "run")

    @pytest.mark.parametrize(
        "path", ["../../../secret", "/etc/passwd", "13-C6/../../../../../secret", "", ".", "13-C6//config.hex", "a\0b"]
    )
    def test_names_of_raw_files(self, root: Path, path: str) -> None:
        self.edit(root, lambda side: side["files"].update({path: "00" * 32}))
        (lines,) = judged_again(root).unreadable.values()
        assert len(lines) == 1 and "is no file of the run" in lines[0]

    @pytest.mark.parametrize("path", ["../../../secret", "/etc/passwd"])
    def test_references(self, root: Path, path: str) -> None:
        self.edit(root, lambda side: side["record"]["actions"][0]["raw"].update(path=path))
        (lines,) = judged_again(root).unreadable.values()
        assert "is not among the files of the record" in lines[0]
        self.edit(root, lambda side: side["record"]["readings"][0].update(folder="../../.."))
        (lines,) = judged_again(root).unreadable.values()
        assert "is not among the files of the record" in lines[0]

    def test_links(self, root: Path, tmp_path: Path) -> None:
        side = root / "raw/E14-F1-hvm-virtio-rng/stock"
        file = side / "13-C6/xl_list.txt"
        (tmp_path / "outside").write_bytes(file.read_bytes())
        file.unlink()
        file.symlink_to(tmp_path / "outside")
        (lines,) = judged_again(root).unreadable.values()
        assert "links are not followed" in lines[0], "though its content is right"
        side.rename(tmp_path / "elsewhere")
        side.symlink_to(tmp_path / "elsewhere")
        (lines,) = judged_again(root).unreadable.values()
        assert "record.json' cannot be read" in lines[0] and "links are not followed" in lines[0]

    @pytest.mark.parametrize("name", ["../../elsewhere", "/etc", "..", "E14-F1-hvm-virtio-rng/stock/.."])
    def test_scenarios(self, root: Path, name: str) -> None:
        path = root / "run.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"scenarios": [name]}))
        again = judged_again(root)
        assert again.finished == {}

    def test_a_record_of_something_else(self, root: Path) -> None:
        self.edit(root, lambda side: side.update(hypervisor="no-maskall-reset"))
        (lines,) = judged_again(root).unreadable.values()
        assert "is of E14-F1-hvm-virtio-rng on no-maskall-reset" in lines[0]

    @pytest.mark.parametrize("version", ["2", 1, None])
    def test_a_record_of_another_version(self, root: Path, version: object) -> None:
        self.edit(root, lambda side: side.update(version=version))
        (lines,) = judged_again(root).unreadable.values()
        assert f"is of version {version!r}" in lines[0]

    def test_a_fifo_does_not_hold_us_up(self, root: Path) -> None:
        file = root / "raw/E14-F1-hvm-virtio-rng/stock/13-C6/xl_list.txt"
        file.unlink()
        os.mkfifo(file)
        (lines,) = judged_again(root).unreadable.values()
        assert "no ordinary file" in lines[0]

    def edit(self, root: Path, change: Callable[[dict[str, object]], object]) -> None:
        path = root / "raw/E14-F1-hvm-virtio-rng/stock/record.json"
        side = json.loads(path.read_text())
        change(side)
        path.write_text(json.dumps(side))


def _spots(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:  # noqa: ANN401 - JSON
    """The path to every value in it."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, one in inner:
        yield (*path, name)
        yield from _spots(one, (*path, name))


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose only side is that on stock."""
    root = unpacked("proven", tmp_path_factory.mktemp("run"))
    run = json.loads((root / "run.json").read_text()) | {"control": None}
    (root / "run.json").write_text(json.dumps(run))
    return root


NONSENSE = st.sampled_from(
    [None, "", "x", "C9", "../x", "\ud800", -1, 0, 10**18, 1.5, True, [], ["a"], {}, {"a": 1}, "0" * 70000]
)


@pytest.mark.parametrize("name", ["run.json", "raw/E14-F1-hvm-virtio-rng/stock/record.json"])
@settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)
@given(data=st.data())
def test_nonsense_anywhere_is_told_in_one_line(stock: Path, name: str, data: st.DataObject) -> None:
    whole = (stock / name).read_text()
    read = json.loads(whole)
    *above, last = data.draw(st.sampled_from([spot for spot in _spots(read) if spot[0] != "files"]))
    place = read
    for one in above:
        place = place[one]
    if data.draw(st.booleans()):
        place[last] = data.draw(NONSENSE)
    else:
        del place[last]
    try:
        (stock / name).write_text(json.dumps(read))
        again = judged_again(stock)
        assert all("\n" not in line for lines in again.unreadable.values() for line in lines)
    except EvidenceError as error:
        assert name == "run.json" and "\n" not in str(error)
    finally:
        (stock / name).write_text(whole)
