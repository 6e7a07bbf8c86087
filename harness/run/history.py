"""The book of many runs, `--history FILE`: a SQLite file that every run adds to, and what it says of one scenario."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.base.errors import UsageError
from harness.base.text import inert
from harness.base.yamlfile import nearest
from harness.judge.judgement import Conclusion
from harness.report.results import RunResult
from harness.report.soak import rate
from harness.report.table import duration

_VERSION = 1
_WAIT_SECONDS = 30.0  # for another run of the same lab that writes
_TIMES_OF = 5  # last runs, by which a scenario's time is foreseen
_SCHEMA = """
create table run (
    id integer primary key, run_id text not null, started text not null, host text not null, components text not null,
    tool text not null, exit_status integer not null, unique (run_id, started, host));
create table row (
    run integer not null references run on delete cascade, name text not null, conclusion text not null,
    reason text not null, seconds real not null, primary key (run, name));
"""


@dataclass(frozen=True)
class Played:
    """A scenario in one run. `components`: what was tested, by name."""

    run_id: str
    started: str
    host: str
    components: dict[str, str]
    conclusion: Conclusion
    reason: str
    seconds: float

    @property
    def good(self) -> bool:
        return self.conclusion.as_expected

    def __str__(self) -> str:
        return f"{self.started[:16].replace('T', ' ')}  {self.conclusion:11}  run {self.run_id} on {self.host}"


@contextlib.contextmanager
def _open(file: Path, *, make: bool = False) -> Iterator[sqlite3.Connection]:
    """Committed at the end, or not changed at all. UsageError for what is no such book."""
    if not make and not file.exists():
        raise UsageError(f"there is no {file}", hint="runs write it: maskall run --history FILE")
    try:
        with contextlib.closing(sqlite3.connect(file, timeout=_WAIT_SECONDS, isolation_level=None)) as book:
            book.execute("pragma foreign_keys = on")
            book.execute("begin immediate" if make else "begin")
            (version,) = book.execute("pragma user_version").fetchone()
            (tables,) = book.execute("select count(*) from sqlite_schema").fetchone()
            if make and not version and not tables:
                for statement in filter(str.strip, _SCHEMA.split(";")):
                    book.execute(statement)
                book.execute(f"pragma user_version = {_VERSION}")
            elif version != _VERSION:
                raise UsageError(f"{file} is no history, or one of another version", hint="give --history a new file")
            yield book
            book.execute("commit")
    except sqlite3.Error as error:
        raise UsageError(f"{file}: {error}", hint="--history wants a file that maskall made, or a new one") from error


def check(file: Path) -> None:
    """That a run may add to it, before the run begins; nothing is made. UsageError."""
    if file.exists() and file.stat().st_size:
        with _open(file):
            pass
    elif not file.parent.is_dir():
        raise UsageError(f"there is no directory {file.parent}", hint="give --history a file that can be made")


def add(file: Path, run: RunResult) -> None:
    """Add a run; one that went on takes the place of what it was. UsageError."""
    facts = {name: value for name, value in run.host.facts.items() if name != "host"}
    started = run.started.isoformat()
    with _open(file, make=True) as book:
        book.execute("delete from run where (run_id, started, host) = (?, ?, ?)", (run.run_id, started, run.host.name))
        cursor = book.execute(
            "insert into run (run_id, started, host, components, tool, exit_status) values (?, ?, ?, ?, ?, ?)",
            (run.run_id, started, run.host.name, json.dumps(facts), run.tool_version, int(run.exit_status)),
        )
        rows = [(one.id, one.conclusion.value, one.reason, one.seconds) for one in run.scenarios]
        rows += [(one.id, one.conclusion.value, one.stock.reason, one.seconds) for one in run.cases]
        book.executemany(
            "insert into row (run, name, conclusion, reason, seconds) values (?, ?, ?, ?, ?)",
            [(cursor.lastrowid, *row) for row in rows],
        )


def played(file: Path, name: str) -> list[Played]:
    """Every time a scenario was played, the earliest first. UsageError when it never was."""
    with _open(file) as book:
        rows = book.execute(
            "select run_id, started, host, components, conclusion, reason, seconds"
            " from run join row on row.run = run.id"
            " where name = ?1 or substr(name, 1, length(?1) + 1) = ?1 || '@' order by started, run.id, row.rowid",
            (name,),
        ).fetchall()
        known = [one for (one,) in book.execute("select distinct name from row order by name")]
    if not rows:
        raise UsageError(f"{name} was never played", hint=nearest(name, known) if known else "the history is empty")
    return [Played(a, b, c, json.loads(d), Conclusion(e), f, g) for a, b, c, d, e, f, g in rows]


def times(file: Path) -> dict[str, float]:
    """Seconds that each scenario took, the mean of its last runs."""
    with _open(file) as book:
        rows = book.execute(
            "select name, seconds from ("
            " select name, seconds, row_number() over (partition by name order by started desc) as age"
            " from run join row on row.run = run.id) where age <= ?",
            (_TIMES_OF,),
        ).fetchall()
    found: dict[str, list[float]] = {}
    for name, seconds in rows:
        found.setdefault(name, []).append(seconds)
    return {name: sum(one) / len(one) for name, one in found.items()}


def told(name: str, runs: list[Played]) -> Iterator[str]:
    """What the book says of a scenario: when it was last good, first bad and with what, and how often it flickers."""
    last = runs[-1]
    yield inert(f"{name}: {len(runs)} runs, the last {last.conclusion}, some {duration(last.seconds)}")
    good = max((number for number, one in enumerate(runs) if one.good), default=None)
    bad = next((one for one in runs[0 if good is None else good + 1 :] if not one.good), None)
    if good is not None:
        yield inert(f"last good   {runs[good]}")
    if bad is not None:
        yield inert(f"first bad   {bad}")
        yield inert(f"            {bad.reason}")
        yield from _moved(runs[good], bad) if good is not None else ("it was never good",)
    same = [one for one in runs if one.components == last.components]
    yield f"not as expected, with the components of today: {rate(sum(not one.good for one in same), len(same))} runs"
    if len(same) != len(runs):
        yield f"not as expected, in all: {rate(sum(not one.good for one in runs), len(runs))} runs"
    both = {one.good for one in same}
    if len(both) > 1:
        yield "it flickers: with the same components it was good, and it was not"


def _moved(good: Played, bad: Played) -> Iterator[str]:
    names = dict.fromkeys([*good.components, *bad.components])
    pairs = {name: (good.components.get(name), bad.components.get(name)) for name in names}
    moved = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    for name, (was, now) in moved.items():
        yield inert(f"            {name}: {was or 'not there'} was good, {now or 'not there'} is bad")
    if not moved:
        yield "            no component moved between them"
