"""What a try has among its raw files and its record does not name: the judge would read it, and does not see it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence

from harness.base.errors import EvidenceError, ParseError
from harness.evidence.observe import TABLE, config_space, console_file, exercised, lost_file, whole_file
from harness.evidence.sealed import Sealed
from harness.host.vectortable import table_address
from harness.model.observation import Exercised, Reading, RoundReading
from harness.run.sidefile import SideFile
from harness.scenario.record import Record
from harness.xen.keys.messages import Log

_ANSWER = re.compile(r"(?:second/)?[0-9]{2,}-exercise-d[0-9]+\.txt")
_NUMBER = re.compile(r"[0-9]+(?=-exercise-)")
_CONSOLE = re.compile(r"(?:second/)?[0-9]{2,}-host_console\.txt")
_NOW_AND_THEN = {of(log) for log in Log for of in (lost_file, whole_file, console_file)}
_UNNAMED = "attach"  # the verb that makes a driver work without a look: the interrupts that came are its answer


def left_out(file: SideFile, record: Record, files: Sealed) -> Iterator[str]:
    """A line for each raw file of the try, which are in `files`, that has no place in its record."""
    looks: list[Reading | RoundReading] = [*_looks(record), *record.rounds_read]
    yield from of_looks(looks, file.files)
    if record.host_console is None and (heard := sorted(filter(_CONSOLE.fullmatch, file.files))):
        yield f"{heard[0]}, what the host's console said, is left out"
    if record.broken is not None:  # it may have ended between what a driver did and the look behind it
        return
    told = {one.guest.file for one in looks if one.guest is not None}
    others = (name for name in sorted(file.files) if _ANSWER.fullmatch(name) and name not in told)
    answers = [name for name in others if not _asked_again(name, files)]
    if len(answers) > sum(one.verb == _UNNAMED for one in record.actions):
        yield f"{answers[-1]}, what a driver did that was made to work, is left out"


def _asked_again(answer: str, files: Sealed) -> bool:
    """Whether a console lost a line of it, so that the driver was made to work once more at once (`Guest.exercise`)."""
    following = _NUMBER.sub(lambda found: f"{int(found[0]) + 1:02d}", answer)
    if following not in files.digests:
        return False
    try:
        exercised(Exercised(answer.rpartition("-")[2].removesuffix(".txt"), answer), files)
    except ParseError:
        return True
    return False


def of_looks(looks: Sequence[Reading | RoundReading], files: Collection[str]) -> Iterator[str]:
    """A line for each of the `files` in the folder of a look that it does not name, and for what it names besides."""
    named = {f"{one.folder}/{name}" for one in looks for name in one.files}
    folders = tuple(f"{one.folder}/" for one in looks)
    yield from (f"{name} is named by its look, and not there" for name in sorted(named - {*files}))
    inside = [name for name in sorted(files) if name.startswith(folders)]
    yield from (f"{name} is left out of its look" for name in inside if name not in named)
    for one in looks:
        for log in Log:
            if whole_file(log) in one.files and not {lost_file(log), console_file(log)} & {*one.files}:
                yield f"{one.folder}/{whole_file(log)} is there, and not why: lines of it were lost"


def files_of_looks(looks: Iterable[Reading]) -> set[str]:
    """The files that looks at a device have on this host, whatever is seen there."""
    return {name for one in looks if one.shows_device for name in one.files} - _NOW_AND_THEN


def fewer(looks: Iterable[Reading], files: Sealed, wanted: set[str]) -> Iterator[str]:
    """A line for each of the `wanted` that a look of the try in `files` does not have, and could."""
    for one in looks:
        lacking = wanted - {*one.files} if one.shows_device else set()
        if TABLE in lacking and not _shows_table(files.below(one.folder)):
            lacking.remove(TABLE)
        yield from (f"{one.folder} has no {name}, and other looks of this run have one" for name in sorted(lacking))


def _shows_table(look: Sealed) -> bool:
    """A host whose memory is read shows the vector table each time that config space says where it is."""
    try:
        return table_address(config_space(look)) is not None
    except (EvidenceError, ParseError):  # whatever it is, it is told where it is judged
        return False


def _looks(record: Record) -> list[Reading]:
    return [*record.readings, *(record.second.readings if record.second is not None else ())]
