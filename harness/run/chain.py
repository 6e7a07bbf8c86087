"""run.jsonl: what happened in a run, an event a line, each with the SHA-256 of the line before it.

    begun         run.json      the first; once more where scenarios follow tests
    gone on       run.json      a run that was cut short, or had finished, is played on
    spoiled       a record      a try that was thrown away
    ended         a record      one that counts
    finished      results.json  the last, or somebody goes on

So no try, no retry and no interrupt can be taken out later without all that follows being written anew.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, TypeAdapter, ValidationError

from harness.base.errors import EvidenceError
from harness.base.text import inert
from harness.evidence.sealed import read_inside
from harness.evidence.store import digest
from harness.report.results import RunResult

NAME = "run.jsonl"
START = "0" * 64


@dataclass(frozen=True)
class Link:
    """`file` is the one that the event made, `sha256` its digest: run.json, a record.json, results.json."""

    previous: str
    at: AwareDatetime
    what: Literal["begun", "gone on", "ended", "spoiled", "finished"]
    file: str
    sha256: str


_LINK: TypeAdapter[Link] = TypeAdapter(Link)
_OF_RUN = {"begun": "run.json", "gone on": "run.json", "finished": "results.json"}


class Chain:
    """The chain of the run in `root`, to be added to; what is there already is gone on with. EvidenceError."""

    def __init__(self, root: Path) -> None:
        self._path = root / NAME
        whole = self._path.read_bytes() if self._path.exists() else b""
        content = whole[: whole.rfind(b"\n") + 1]  # a power cut may have left half a line
        if content != whole:
            os.truncate(self._path, len(content))
        self.events = events(content)

    def add(self, what: str, file: str, sha256: str) -> None:
        """Behind what is there by now, whoever wrote it: scenarios and tests of one run have the same chain."""
        try:
            with self._path.open("a+b") as stream:
                stream.seek(0)
                last = stream.read().splitlines(keepends=True)[-1:]
                line = _line(digest(last[0]) if last else START, datetime.now(UTC), what, file, sha256)
                stream.write(line)
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise EvidenceError(f"{self._path} could not be written: {error.strerror or error}") from error


def _line(previous: str, at: datetime, what: str, file: str, sha256: str) -> bytes:
    data = {"previous": previous, "at": at.isoformat(), "what": what, "file": file, "sha256": sha256}
    return json.dumps(data).encode() + b"\n"


def events(content: bytes) -> list[Link]:
    """EvidenceError, with the line, for one that is no event or does not follow the line before it.

    Accepted format: what `_line` writes, to the byte.
    """
    found: list[Link] = []
    previous = START
    for number, line in enumerate(content.splitlines(keepends=True), 1):
        try:
            event = _LINK.validate_json(line)
        except ValidationError as error:
            told = inert(error.errors(include_url=False)[0]["msg"])
            raise EvidenceError(f"{NAME}:{number}: {told}", hint="it is no event of a run") from error
        if event.previous != previous:
            raise EvidenceError(f"{NAME}:{number}: the line before it was changed, taken out or put in")
        if _line(event.previous, event.at, event.what, event.file, event.sha256) != line:
            raise EvidenceError(f"{NAME}:{number}: it is not written as maskall writes it")
        previous = digest(line)
        found.append(event)
    return found


def broken(root: Path, results: RunResult, digests: Mapping[str, str], made: Mapping[str, datetime]) -> Iterator[str]:
    """How the chain of the finished run in `root` does not fit its files, whose SHA-256 are `digests`, by name.

    `made`: before when there was no such file, by its own word.
    """
    try:
        chain = events(read_inside(root, NAME))
    except EvidenceError as error:
        yield error.message
        return
    if not chain or (chain[0].what, chain[0].file) != ("begun", "run.json"):
        yield f"{NAME} does not begin with run.json"
    elif (chain[-1].what, chain[-1].file) != ("finished", "results.json"):
        yield f"{NAME} does not end with results.json"
    for one in chain:
        if not (one.file.endswith("/record.json") if one.what not in _OF_RUN else one.file == _OF_RUN[one.what]):
            yield f"{one.what} {one.file!r} is no event of a run"
    for before, after in itertools.pairwise(chain):
        if before.what == "finished" and after.what != "gone on":
            yield f"{after.what} {after.file!r} came after the end, and nobody went on with the run"
        if after.what == "begun" and not results.cases:
            yield f"the run was begun once more at {after.at}"
    last = {one.file: one for one in chain}
    for name in ("run.json", "results.json"):
        if name in last and last[name].sha256 != digests.get(name):
            yield f"{name} is not the one of {NAME}"
    for before, after in itertools.pairwise(chain):
        if after.at < before.at:
            yield f"{after.what} {after.file} is of {after.at}, and what went before it of {before.at}"
    for one in last.values():  # run.json is written once more where scenarios follow tests
        if one.at < made.get(one.file, one.at):
            yield f"{one.what} {one.file} is of {one.at}, and the file says that it is of {made[one.file]}"
    tries = [one for one in chain if one.what in ("ended", "spoiled")]
    seen: set[str] = set()
    for one in tries:
        if one.file in seen:
            yield f"{one.file!r} was played twice"
        seen.add(one.file)
        if digests.get(one.file) != one.sha256:
            yield f"{one.file!r} is not the one that was {one.what} at {one.at}"
    stored = {name for name in digests if name.endswith("/record.json")}
    yield from (f"{name!r} is in no event of {NAME}" for name in sorted(stored - seen))
    counted = {side.stored.path for one in results.scenarios for _, side in one.sides if side.stored}
    counted |= {side.told for case in results.cases for _, side in case.sides if side.raw_directory}
    ended = {one.file for one in tries if one.what == "ended"}
    yield from (f"{name!r} counts, and {NAME} says that the try was spoiled" for name in sorted(counted - ended))
    yield from (f"{name!r} ended, and does not count" for name in sorted(ended - counted))
