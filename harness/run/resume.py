"""Going on with a run in its own directory (`--resume`), and playing again what was not as expected (`--failed`)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from harness.base.errors import EvidenceError, UsageError
from harness.evidence.sealed import read_inside
from harness.evidence.store import digest
from harness.report.begun import KNOWN_ISSUES, NAME, Begun
from harness.report.results import HostSummary, Parent, RunResult
from harness.run import sidefile, store
from harness.run.again import RunAgain, begun_in, judged_again
from harness.run.chain import NAME as CHAIN
from harness.run.chain import events
from harness.run.cutshort import cut_short
from harness.run.options import TABLE, RunOptions
from harness.run.store import RESULTS
from harness.scenario.repeats import row_of
from harness.scenario.spec import devices_of

_FREE = frozenset({"resume", "failed", "results", "history", "workers", "for_", "mirror", "yes", "wait", "take_over"})
"""Options that change nothing of what is proven, so they may be others than the first time."""


def settled(options: RunOptions) -> RunOptions:
    """The options with all that --resume or --failed stands for; the same where neither was given.

    --failed plays again what was not as expected, or the scenarios that are named.

    UsageError for a run that cannot be gone on with, and for an option that says something else than the run's.
    """
    if not options.goes_on:
        return options
    if options.resume is not None and options.failed is not None:
        raise UsageError("--resume and --failed are two things", hint="--resume goes on, --failed plays again")
    root = options.resume or options.failed
    flag = "--resume" if options.resume else "--failed"
    try:
        begun = begun_in(Path(str(root)))
    except EvidenceError as error:
        raise UsageError(f"{root}: {error.message}", hint=f"{flag} wants the directory of a run") from error
    try:
        rows = begun.scenarios if options.resume else options.scenario or _not_as_expected(Path(str(root)), begun)
        tests = _tests(Path(str(root)), begun) if options.resume or not rows else 0
    except EvidenceError as error:
        raise UsageError(error.message, hint=f"{flag} wants the directory of a run") from error
    if tests:
        told = f"{root} has tests of your own ({tests} ended), and {flag} plays scenarios alone"
        raise UsageError(told, hint="begin a new run with pytest; 'pytest --last-failed' plays what failed")
    if not rows:
        raise UsageError(f"{root}: every scenario was as expected", hint="there is nothing to play again")
    was = RunOptions.of_words(begun.repeat_options)
    if begun.known_issues:  # as they were then
        was = replace(was, known_issues=Path(str(root)) / KNOWN_ISSUES)
    exact = all(map(devices_of, rows))  # and no globs
    devices = dict.fromkeys(name for row in (rows if exact else begun.scenarios) for name in devices_of(row))
    was = replace(was, scenario=tuple(rows), device=tuple(devices))
    same = [row for row in TABLE if row.name not in _FREE]
    for row in same:
        if getattr(options, row.name) not in (row.default, getattr(was, row.name)):
            raise UsageError(f"{row.flag} cannot be changed by {flag}", hint="leave it out, or begin a new run")
    given = {row.name: getattr(was, row.name) for row in same}
    return replace(options, **given)


def _tests(root: Path, begun: Begun) -> int:
    """How many tests have ended in this run, as its chain has them."""
    chain = events(read_inside(root, CHAIN)) if (root / CHAIN).exists() else []
    ended = [Path(one.file).parent.parent.name for one in chain if one.what == "ended"]
    return sum(one not in begun.scenarios for one in ended)


def _results(root: Path) -> RunResult:
    """As far as they came."""
    if not (root / RESULTS).exists():
        partly = cut_short(root)
        if partly is None:
            raise EvidenceError(f"{root} has no {NAME}")
        return partly[0]
    return store.load(root / RESULTS, RunResult)


def _not_as_expected(root: Path, begun: Begun) -> list[str]:
    """Every time that a row is played, if it was not as expected once: the better time alone proves nothing."""
    good = {one.id for one in _results(root).scenarios if one.conclusion.as_expected}
    wrong = {row_of(one) for one in begun.scenarios if one not in good}
    return [one for one in begun.scenarios if row_of(one) in wrong]


def parent(root: Path, rows: Iterable[str]) -> Parent:
    """The run in `root`, of which `rows` are played again. UsageError when it was cut short."""
    begun, again = begun_in(root), set(rows)
    if not (root / RESULTS).exists():
        raise UsageError(f"{root} was cut short", hint=f"first go on with it: maskall run --resume {root}")
    stands = {one.id: one.conclusion for one in _results(root).scenarios if one.id not in again}
    sha256 = digest(read_inside(root, RESULTS))
    return Parent(run_id=begun.run_id, started=begun.started, results=sha256, stands=stands)


def gone_on(root: Path, host: HostSummary) -> RunAgain:
    """What of the run in `root` has ended, once it is sure that it goes on where it began.

    UsageError when the host is another by now, or a file was changed.
    """
    again = judged_again(root)
    begun = again.begun.host
    for name in dict.fromkeys([*begun.facts, *host.facts]):
        was, now = begun.facts.get(name), host.facts.get(name)
        if was != now:
            raise UsageError(f"the run was begun with {name} {was}, here it is {now}", hint="begin a new run")
    for name, lines in again.unreadable.items():
        raise UsageError(f"{name}: {lines[0]}", hint="what was changed is no evidence: begin a new run")
    return again


def set_aside(root: Path, again: RunAgain) -> None:
    """What sides left behind that were broken off stays, under another name, for it is evidence too."""
    kept = {
        f"raw/{one.record.scenario.id}/{one.side.hypervisor}{f'-retry{number}' if number else ''}"
        for one in again.sides
        for number in range(len(one.tries))
    }
    for folder in sorted(root.glob("raw/*/*")):
        name = folder.relative_to(root).as_posix()
        if folder.is_dir() and name not in kept:
            _aside(folder)


def set_aside_tests(root: Path) -> None:
    """The same of tests, once all of them have ended: those whose process was killed have no record."""
    for folder in sorted(root.glob("raw/*/*")):
        if folder.is_dir() and not (folder / sidefile.NAME).exists():
            _aside(folder)


def _aside(folder: Path) -> None:
    if not BROKEN_OFF.search(folder.name):
        numbers = (folder.with_name(f"{folder.name}.before-{number}") for number in range(1, 1000))
        folder.rename(next(one for one in numbers if not one.exists()))


BROKEN_OFF = re.compile(r"\.before-[0-9]+$")
"""Ends the name of a folder of raw files that a side left behind when it was broken off."""
