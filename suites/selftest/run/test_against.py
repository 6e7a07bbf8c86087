"""The same measured here and in another checkout: made-up checkouts whose programs say what they are told to."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from harness.base.errors import CommandFailed, LabError, UsageError
from harness.base.progress import PlainProgress
from harness.run import against
from harness.run.against import Yardstick, compare

SAYS = """\
import json, os, pathlib, sys
here = pathlib.Path(__file__).parents[2]
told = json.loads((here / "told.json").read_text())
with (here.parent / "order").open("a") as order:
    print(here.name, *sys.argv[1:2], file=order)
if sys.argv[1] == "bench":
    file = sys.argv[sys.argv.index("--json") + 1]
    pathlib.Path(file).write_text(json.dumps({"seconds": told["seconds"].pop(0)}))
else:
    results = pathlib.Path(sys.argv[sys.argv.index("--results") + 1])
    results.mkdir()
    if "scenarios" in told:
        (results / "results.json").write_text(json.dumps({"scenarios": told["scenarios"]}))
(here / "told.json").write_text(json.dumps(told))
sys.exit(told.get("status", 0))
"""


def checkout(folder: Path, **told: object) -> Path:
    cli = folder / "harness/cli"
    cli.mkdir(parents=True)
    (folder / "suites").mkdir()
    for package in (folder / "harness", cli):
        (package / "__init__.py").touch()
    (cli / "__main__.py").write_text(SAYS)
    (folder / "told.json").write_text(json.dumps(told))
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the code that compares seems to stand."""
    monkeypatch.setattr(against, "__file__", str(tmp_path / "here/harness/run/against.py"))
    return tmp_path / "here"


def test_turn_and_turn_about_with_medians(here: Path, tmp_path: Path) -> None:
    checkout(here, seconds=[{"boot": 9.0, "new": 1.0}, {"boot": 2.0, "new": 1.0}, {"boot": 3.0, "new": 1.0}])
    there = checkout(tmp_path / "there", seconds=[{"boot": 6.0}, {"boot": 8.0}, {"boot": 5.0}])
    found = compare(there, Yardstick.PHASES, 3, "trixie", "nvme", PlainProgress(io.StringIO()))
    assert (tmp_path / "order").read_text().split("\n")[:-1] == ["there bench", "here bench"] * 3
    assert found.here["boot"] == [9.0, 2.0, 3.0]
    assert [line.split() for line in found.table()[1:]] == [["boot", "3.0", "6.0", "0.50", "3"]]


def test_what_is_judged_in_another_way_is_said(here: Path, tmp_path: Path) -> None:
    new = {"id": "E1", "stock": {"judgement": {"verdict": "PASS"}}}
    same = {"id": "E2", "stock": {"judgement": {"verdict": "FAIL"}}}
    checkout(here, scenarios=[new, same], status=1)
    there = checkout(
        tmp_path / "there",
        scenarios=[{"id": "E1", "stock": {"verdict": "FAIL"}}, {"id": "E2", "stock": {"verdict": "FAIL"}}],
    )
    found = compare(there, Yardstick.CI, 1, "trixie", "nvme", PlainProgress(io.StringIO()))
    assert found.judged == ["E1: PASS here, FAIL there"]
    assert found.table()[-1] == "judged in another way: E1: PASS here, FAIL there"


def test_the_first_verdict_begins_with_nothing(here: Path, tmp_path: Path) -> None:
    """By each checkout's own first command, in a cache of its own that is gone afterwards."""
    there = checkout(tmp_path / "there")
    for one in (checkout(here), there):
        (one / "tools").mkdir()
        (one / "tools/maskall").write_text(
            '#!/bin/sh\nmkdir "$MASKALL_CACHE" || exit 3\n'
            'echo "$MASKALL_CACHE" "$2" >> ../caches\nPYTHONPATH=. exec python3 -S -m harness.cli "$@"\n'
        )
        (one / "tools/maskall").chmod(0o755)
    found = compare(there, Yardstick.FIRST, 2, "trixie", "virtio-rng", PlainProgress(io.StringIO()))
    (name,) = found.here
    assert name == "first verdict, nothing cached" and len(found.here[name]) == len(found.there[name]) == 2
    caches = [line.split() for line in (tmp_path / "caches").read_text().splitlines()]
    assert len({cache for cache, _ in caches}) == 4 and {row for _, row in caches} == {"E14-F1-hvm-virtio-rng"}
    assert not any(Path(cache).exists() for cache, _ in caches)


def test_what_fails_there_is_no_figure(here: Path, tmp_path: Path) -> None:
    checkout(here, seconds=[{"boot": 1.0}])
    there = checkout(tmp_path / "there", seconds=[{"boot": 1.0}], status=3)
    with pytest.raises(CommandFailed, match="exit status 3"):
        compare(there, Yardstick.PHASES, 1, "trixie", "nvme", PlainProgress(io.StringIO()))


def test_a_folder_that_is_no_checkout(here: Path, tmp_path: Path) -> None:
    checkout(here)
    with pytest.raises(UsageError, match="no checkout of maskall"):
        compare(tmp_path, Yardstick.PHASES, 1, "trixie", "nvme", PlainProgress(io.StringIO()))
    assert not (tmp_path / "order").exists()


def test_a_run_that_comes_to_no_result(here: Path, tmp_path: Path) -> None:
    checkout(here)
    with pytest.raises(LabError, match=r"no result in .*there"):
        compare(checkout(tmp_path / "there", status=3), Yardstick.CI, 1, "trixie", "nvme", PlainProgress(io.StringIO()))
