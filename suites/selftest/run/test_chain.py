"""The chain of a run's events: what ended counts, what counts has ended, and none of it was played twice."""

from __future__ import annotations

import hashlib
from pathlib import Path

from harness.report.results import RunResult
from harness.run import chain, store
from suites.selftest.fakes.badbundle import root

__all__ = ["root"]


def told(root: Path, results: RunResult) -> list[str]:
    digests = {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }
    return list(chain.broken(root, results, digests, {}))


def results_of(root: Path) -> RunResult:
    return store.load(root / store.RESULTS, RunResult)


def test_a_run_fits_its_chain(root: Path) -> None:
    assert told(root, results_of(root)) == []


def test_a_side_that_ended_is_not_left_out(root: Path) -> None:
    """Whoever does not like what a control came to takes it out of the results."""
    results = results_of(root)
    (one,) = results.scenarios
    assert one.control is not None and one.control.stored is not None
    without = results.model_copy(update={"scenarios": (one.model_copy(update={"control": None}),)})
    assert told(root, without) == [f"{one.control.stored.path!r} ended, and does not count"]


def test_a_try_that_was_spoiled_does_not_count(root: Path) -> None:
    book = root / chain.NAME
    results = results_of(root)
    (one,) = results.scenarios
    assert one.stock.stored is not None
    was = chain.events(book.read_bytes())
    book.unlink()
    made = chain.Chain(root)
    for event in was:
        made.add("spoiled" if event.file == one.stock.stored.path else event.what, event.file, event.sha256)
    assert told(root, results) == [f"{one.stock.stored.path!r} counts, and run.jsonl says that the try was spoiled"]
