"""What the records of tests that somebody wrote say of themselves, held against their raw files and each other.

Whether a test passed is the word of its assertions; what it looked at, in which order and for how long, is not.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterator, Sequence

from harness.base.text import inert
from harness.evidence.observe import CUT_SHORT
from harness.evidence.sealed import Sealed
from harness.judge.judgement import Verdict
from harness.model.observation import Reading
from harness.play.trial import END
from harness.report.differences import of_values
from harness.report.results import CaseSide
from harness.run import cases
from harness.run.leftout import of_looks
from harness.run.opened import Read
from harness.run.sequence import number_of
from harness.run.store import RESULTS
from harness.scenario.case import folder_name

_LAST = "xl_dmesg.txt"  # of the sections of a look
_HEARD = re.compile(r"[0-9]{2,}-host_console\.txt")
_LOOK = re.compile(r"([0-9a-f-]+\.[0-7]/)([0-9]{2,})-([A-Za-z0-9-]+)")


def stories(read: Read) -> Iterator[str]:
    """A line for each way in which a test is told otherwise than it was."""
    played = {(told.id, told.side.hypervisor): told for _, _, told in read.tests}
    if len(played) != len(read.tests):
        yield f"{RESULTS} has a test twice on one hypervisor"
    made = {one.id: one for one in cases.results(played.values())}
    for case in read.results.cases:
        if case.id not in made:
            yield f"{case.id} has no record"
            continue
        for one in of_values(case.id, case.model_dump(mode="json"), made[case.id].model_dump(mode="json")):
            yield f"{one.where}: {one.what}: {RESULTS} says {one.stored}, and its records {one.now}"
        if not _plain(case.command_to_repeat):
            yield f"{case.id} is to be repeated with {case.command_to_repeat!r}, which is no command of its run"
    for case, side, told in read.tests:
        if (told.id, told.side, told.host) != (case.id, side, read.begun.host) or any(
            one not in read.results.controls for one in told.planted
        ):
            yield f"{side.told} tells otherwise of {case.id} than {RESULTS}"
        if told.tested != read.begun.under_test:
            yield f"{side.told} is of a test of {told.tested}, and the run is of {read.begun.under_test}"
        if side.hypervisor not in (told.tested, told.control):
            yield f"{side.told} was played on {side.hypervisor}, which the test does not ask for"
        files = Sealed(read.root, side.raw_directory, side.files)
        yield from (f"{side.raw_directory}: {line}" for line in _of_side(side, files))
    yield from _time(read)


def _plain(command: str) -> bool:
    """What somebody pastes into a shell: pytest, one test, options of maskall, each word quoted."""
    try:
        words = shlex.split(command)
    except ValueError:
        return False
    program, *others = words or [""]
    options = (one for one in others if one.startswith("-"))
    return (
        shlex.join(words) == command
        and program == "pytest"
        and "::" in "".join(others[:1])
        and all(one.startswith("--maskall-") for one in options)
    )


def _of_side(side: CaseSide, files: Sealed) -> Iterator[str]:
    record = side.record
    if (side.verdict is Verdict.PASS) is not (side.reason == ""):
        yield f"it is told to be {side.verdict}, because of {side.reason.partition(chr(10))[0]!r}"
    crash = next((marker for marker, _ in record.markers if marker.kind.is_host_crash), None)
    if crash is not None and side.verdict not in (Verdict.CRASH, Verdict.UNDECIDED):
        yield f"it is told to be {side.verdict}, and the host died: {inert(crash.text)}"
    heard = sorted(filter(_HEARD.fullmatch, side.files))
    if record.console is not None and files.name_of(record.console) not in heard:
        yield f"{files.name_of(record.console)} is told to be the host's console"
    if record.console is None and heard:
        yield f"{heard[0]}, what the host's console said, is left out"
    yield from of_looks([one for readings in record.readings for one in readings], side.files)
    told = {one.folder for readings in record.readings for one in readings}
    broken = {name.rpartition("/")[0] for name in side.files if name.endswith(f"/{CUT_SHORT}")}
    if side.verdict is Verdict.PASS:
        broken = {name for name in broken if _fails_nobody(name, told)}
    there = {name.rpartition("/")[0] for name in side.files if name.endswith(f"/{_LAST}") and _LOOK.match(name)}
    yield from (f"{name} is a look that the record leaves out" for name in sorted(there - told - broken))
    for readings in record.readings:
        yield from _in_order(readings, side.seconds)
    for seen in record.seen:
        for one in seen.observations:
            folder = files.name_of(one.hardware.raw).rpartition("/")[0] if one.hardware else ""
            if (named := _LOOK.fullmatch(folder)) and named[3] != folder_name(seen.name):
                yield f"the checkpoint {inert(seen.name)!r} is told to be in {folder}"
    yield from _deeds(side, files)


def _fails_nobody(look: str, told: Collection[str]) -> bool:
    """Whether a test may pass though this look broke off: it is the last, and the logs were read behind it."""
    named, others = _LOOK.fullmatch(look), filter(None, map(_LOOK.fullmatch, told))
    return (
        named is not None
        and named[3] == END
        and any(one[1] == named[1] and int(one[2]) > int(named[2]) for one in others)
    )


def _in_order(readings: Sequence[Reading], took: float) -> Iterator[str]:
    """The looks at one device, each in a folder of its own."""
    last, seconds, device = 0, 0.0, ""
    for one in readings:
        named = _LOOK.fullmatch(one.folder)
        if named is None or int(named[2]) <= last or device not in ("", named[1]):
            yield f"{one.folder} is told out of its order"
            return
        if one.seconds < seconds:
            yield f"{one.folder} is told to be of {one.seconds:.0f} s, and what went before it of {seconds:.0f} s"
        device, last, seconds = named[1], int(named[2]), one.seconds
    if seconds > took + 1:
        yield f"its looks are told to take {seconds:.0f} s, and it took {took:.0f} s"


def _deeds(side: CaseSide, files: Sealed) -> Iterator[str]:
    """What was said to a step is in the order of the steps, and none is left out."""
    actions = side.record.actions
    answers = [files.name_of(one.raw) for one in actions if one.raw is not None]
    numbers = [number_of(name) or 0 for name in answers]
    if numbers != sorted(set(numbers)):
        yield "the answers to its steps are told out of their order"
    verbs = {one.verb for one in actions}
    for name in sorted({*side.files} - {*answers}):
        if number_of(name) is not None and name.partition("-")[2].removesuffix(".txt") in verbs:
            yield f"{name} is the answer to a step that the record leaves out"


def _time(read: Read) -> Iterator[str]:
    """A test takes no longer than its run; on a lab host nor do all of them, which are played one after the other."""
    took = read.results.seconds + 1
    sides = [side for _, side, _ in read.tests]
    yield from (
        f"{one.raw_directory} is told to take {one.seconds:.0f} s, and the run took {took:.0f} s"
        for one in sides
        if one.seconds > took
    )
    total = sum(one.seconds for one in sides)
    if total > took and not read.begun.host.nested:
        yield f"its tests are told to take {total:.0f} s on one host, and the run took {took:.0f} s"
