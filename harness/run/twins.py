"""Raw files of one side that stand for another, told by what no two of them share: times to the microsecond."""

from __future__ import annotations

import re
from collections.abc import Iterator

from harness.evidence.store import digest
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
    for one in read.tries:
        folder, common = one.folder, OPENING if one.opened else ()
        looks = [look for _, readings in one.devices[:1] for look in readings[1:] if look.checkpoint not in common]
        for name in (f"{look.folder}/{_LOG}" for look in looks):
            other = seen.setdefault(one.files.digests.get(name, folder), folder)
            if other == folder or (other, folder) in told:
                continue
            if _STAMPED.search(one.files.read(name)[1]):
                told.add((other, folder))
                yield f"{folder} has raw files of {other}: {name} is the same to the microsecond"


def answers_of_others(read: Read) -> Iterator[str]:
    """What a guest said has lines of its own kernel in it; no other guest has the same ones.

    But of hosts that went on from one that was frozen: the guests that ran in it are the same ones.
    """
    seen: dict[str, tuple[str, str]] = {}
    for one in read.tries:
        guests = [(look.checkpoint, look.guest) for _, readings in one.devices for look in readings]
        frozen = {guest.domain for at, guest in guests if guest and at in OPENING} if one.opened else set()
        for name in sorted(one.files.digests):
            answer = _ANSWER.fullmatch(name)
            lines = _MOMENT.findall(one.files.read(name)[1]) if answer else []
            if answer is None or not lines:
                continue
            where = "" if answer[1] in frozen else one.folder
            other, domain = seen.setdefault(digest(b"\n".join(lines)), (where, answer[1]))
            if (other, domain) != (where, answer[1]):
                told = f"in {other}" if other else "before its host was frozen"
                yield f"{one.folder}/{name}: {answer[1]} says what {domain} said {told}, to the microsecond"
