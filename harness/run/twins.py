"""Raw files of one side that stand for another, told by what no two of them share: times to the microsecond."""

from __future__ import annotations

import re
from collections.abc import Iterator

from harness.evidence.sealed import read_inside
from harness.evidence.store import digest
from harness.run import sidefile
from harness.run.opened import Read
from harness.run.sequence import OPENING

_LOG = "dom0_dmesg.txt"
_STAMPED = re.compile(rb"^\[ *[0-9]+\.[0-9]{6}\] ", re.MULTILINE)
_MOMENT = re.compile(rb"^\[ *[0-9]+\.(?!000000)[0-9]{6}\] .*$", re.MULTILINE)
_ANSWER = re.compile(r"[0-9]{2,}-exercise-(d[1-9][0-9]*)\.txt")


def twins(read: Read) -> Iterator[str]:
    """No two sides have the same lines of a log, which have the time in them.

    But at the first look, for nested hosts come from one snapshot; and until guest A runs on hosts frozen with it.
    """
    seen: dict[str, str] = {}
    told: set[tuple[str, str]] = set()
    for side in read.comparison.again.sides:
        for file, raw in zip(side.tries, side.raws, strict=True):
            folder = raw.path.removesuffix(f"/{sidefile.NAME}")
            common = OPENING if file.record.opened is not None else ()
            for name in (f"{one.folder}/{_LOG}" for one in file.record.readings[1:] if one.checkpoint not in common):
                other = seen.setdefault(file.files.get(name, folder), folder)
                if other == folder or (other, folder) in told:
                    continue
                if _STAMPED.search(read_inside(read.root, f"{folder}/{name}")):
                    told.add((other, folder))
                    yield f"{folder} has raw files of {other}: {name} is the same to the microsecond"


def answers_of_others(read: Read) -> Iterator[str]:
    """What a guest said has lines of its own kernel in it; no other guest has the same ones.

    But of hosts that went on from one that was frozen: the guests that ran in it are the same ones.
    """
    seen: dict[str, tuple[str, str]] = {}
    for side in read.comparison.again.sides:
        for file, raw in zip(side.tries, side.raws, strict=True):
            folder, record = raw.path.removesuffix(f"/{sidefile.NAME}"), file.record
            parts = [record, *([record.second] if record.second is not None else [])]
            looks = [one for part in parts for one in part.readings if one.checkpoint in OPENING and one.guest]
            frozen = {one.guest.domain for one in looks if one.guest} if record.opened is not None else set()
            for name in sorted(file.files):
                answer = _ANSWER.fullmatch(name)
                lines = _MOMENT.findall(read_inside(read.root, f"{folder}/{name}")) if answer else []
                if answer is None or not lines:
                    continue
                where = "" if answer[1] in frozen else folder
                other, domain = seen.setdefault(digest(b"\n".join(lines)), (where, answer[1]))
                if (other, domain) != (where, answer[1]):
                    told = f"in {other}" if other else "before its host was frozen"
                    yield f"{folder}/{name}: {answer[1]} says what {domain} said {told}, to the microsecond"
