"""What the record of a try says of itself, held against the names of its own files and against its own time.

Which look is of which checkpoint, in which order, and that nothing was looked at and left out, is no raw byte's to
show; but every file has its place in the order of events in its name, as `Collector` gives it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from harness.evidence.observe import SECOND
from harness.model.observation import CONFIG, Checkpoint, RawRef, Reading
from harness.run.sidefile import SideFile
from harness.scenario.record import Action, Record
from harness.scenario.spec import Fate

OPENING = (Checkpoint.C0, Checkpoint.C1, Checkpoint.C2)
"""What tries that go on from the same frozen host have in common."""
_LOOK = re.compile(r"(?:second/)?([0-9]{2,})-(C[0-9]|end)")
_KEPT = re.compile(r"(?:second/)?([0-9]{2,})-([a-z_]+?)(?:-[a-z0-9]+)?\.txt")
_FAILED = re.compile(r"status [1-9]|signal ")
_PLANTED = re.compile(r"[0-9]{2,}-planted\.txt")


def disordered(file: SideFile, record: Record, folder: str) -> Iterator[str]:
    """How the record of a try, whose raw files are in `folder`, contradicts itself; a line each."""
    for part, prefix in ((record, ""), (record.second, SECOND)):
        if part is not None:
            yield from (f"{folder}: {line}" for line in _looks(part.readings, file, prefix))
    yield from (f"{folder}: {line}" for line in _deeds(file, record, folder))
    yield from (f"{folder}: {line}" for line in _claims(file, record, folder))


def _looks(readings: Sequence[Reading], file: SideFile, prefix: str) -> Iterator[str]:
    """Each has a folder of its own, named by its checkpoint, one after the other; and none was left out."""
    last, seconds = 0, 0.0
    for one in readings:
        named = _LOOK.fullmatch(one.folder)
        checkpoint = "end" if not one.shows_device else str(one.checkpoint)
        if named is None or named[2] != checkpoint or one.folder.startswith(SECOND) != bool(prefix):
            yield f"the look at {one.checkpoint} is told to be in {one.folder}"
            continue
        at = int(named[1])
        heard = number_of(one.guest.file) if one.guest and one.guest.file.startswith(SECOND) == bool(prefix) else None
        if at <= last or (heard is not None and not last < heard < at):
            yield f"{one.folder} or what its guest said is told out of its order"
        if one.seconds < seconds:
            yield f"{one.folder} is told to be of {one.seconds:.0f} s, and what went before it of {seconds:.0f} s"
        last, seconds = at, one.seconds
    told = {one.folder for one in readings}
    there = {name.rpartition("/")[0] for name in file.files if name.endswith((f"/{CONFIG}", "-end/xl_dmesg.txt"))}
    for name in sorted(there - told):
        if _LOOK.fullmatch(name) and name.startswith(SECOND) == bool(prefix):
            yield f"{name} is a look that the record leaves out"
    took = (file.ended - file.began).total_seconds()
    opened = max((one.seconds for one in readings if one.checkpoint in OPENING), default=0.0)
    since = seconds - (opened if file.record.opened is not None else 0.0)
    if since > took + 1:
        yield f"its looks are told to take {since:.0f} s, and it took {took:.0f} s"


def _deeds(file: SideFile, record: Record, folder: str) -> Iterator[str]:
    """Steps in the order of the scenario's checkpoints, which rounds begin anew; what was said to one belongs to it."""
    said = [(number_of(_name(one.raw, folder)) or 0, one) for one in record.actions if one.raw is not None]
    numbers = [number for number, _ in said]
    if numbers != sorted(set(numbers)):
        yield "the answers to its steps are told out of their order"
    if not record.scenario.follow.rounds:
        for earlier, later in pairwise(record.actions):
            if str(later.checkpoint) < str(earlier.checkpoint):
                told = f"{later.verb}, of {later.checkpoint}, is told to come after"
                yield f"{told} {earlier.verb}, of {earlier.checkpoint}"
        looks = [(number_of(one.folder) or 0, one) for one in record.readings if one.shows_device]
        for number, action in said:
            before, after = ([one for at, one in looks if (at > number) is late] for late in (False, True))
            yield from _misplaced(action, before, after)
    answers = {_name(action.raw, folder) for _, action in said}
    for name in sorted(set(file.files) - answers):
        found = _KEPT.fullmatch(name)
        if found is not None and found[2] in record.scenario.steps:
            yield f"{name} is the answer to a step that the record leaves out"


def _misplaced(action: Action, before: Sequence[Reading], after: Sequence[Reading]) -> Iterator[str]:
    """A look of its checkpoint comes after it, where there is one; and none of an earlier one."""
    seen, again = (any(one.checkpoint is action.checkpoint for one in looks) for looks in (before, after))
    if (seen and not again) or (after and str(after[0].checkpoint) < str(action.checkpoint)):
        near = (*after, *reversed(before))[0]
        yield f"{action.verb} is told to be before {action.checkpoint}, and {near.folder} is the look beside it"


def _claims(file: SideFile, record: Record, folder: str) -> Iterator[str]:
    """What would excuse a failure, and cannot be."""
    for action in record.actions:
        if action.ok and _FAILED.match(action.detail):
            yield f"{action.verb} is told to have been done, and ended with {action.detail.partition(':')[0]}"
        if action.seconds < 0:
            yield f"{action.verb} is told to take {action.seconds:.0f} s"
    for raw, what in ((record.host_console, "host_console"), (record.silence, "xl_dmesg_after_silence")):
        if raw is not None and not _name(raw, folder).endswith(f"-{what}.txt"):
            yield f"{_name(raw, folder)} is told to be {what}"
    if record.skipped and (record.begun or record.readings or file.files):
        yield f"it is told to be skipped ({record.skipped}), and was played"
    if record.opened is not None and record.opened > file.ended:
        yield f"it went on from guest A as of {record.opened}, which is after its end"
    if file.planted is not None and file.planted.name != file.hypervisor:
        yield f"it is told to be of {file.hypervisor}, and {file.planted.name} was planted"
    reboots = record.scenario.end.fate is Fate.REBOOTED
    for one in record.readings:
        if one.boot and not reboots:
            yield f"{one.folder} is told to begin with a boot of the host, which {record.scenario.ending} does not do"
    if record.planted is not None and not (reboots and _PLANTED.fullmatch(_name(record.planted, folder))):
        yield f"MASKALL is told to be set before Xen booted, which {_name(record.planted, folder)} does not show"
    domains = {f"d{domid}" for domid in record.guests.values()} | {"d0"}
    for one in record.readings:
        if one.guest is not None and one.guest.domain not in domains:
            yield f"{one.folder} is of {one.guest.domain}, which is none of its guests"


def _name(raw: RawRef | None, folder: str) -> str:
    return "" if raw is None else raw.path.removeprefix(f"{folder}/")


def number_of(name: str) -> int | None:
    """The place of a raw file in the order of events."""
    found = re.match(r"(?:second/)?([0-9]{2,})-", name)
    return int(found[1]) if found else None
