"""What a host only ever counts up, held against the order in which its looks are told: time of its log, time of CPUs.

An earlier look in the place of a later one, and looks of two hosts that are told as one try, count down.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from harness.base.errors import ParseError
from harness.evidence.observe import console_file, lost_file
from harness.evidence.sealed import Sealed
from harness.model.observation import Reading
from harness.xen.keys.messages import Log
from harness.xen.keys.xl_output import parse_list

_LIST = "xl_list.txt"
_STAMP = re.compile(rb"^\[ *([0-9]{1,9}\.[0-9]{6})\] ", re.MULTILINE)
_LATE = 1.0  # seconds: a line may be printed behind one that is younger


def backwards(readings: Sequence[Reading], files: Sealed) -> Iterator[str]:
    """A line for each look that is of a time before the look that it is told to follow. EvidenceError."""
    newest = 0.0
    busy: dict[tuple[int, str], float] = {}
    for one in readings:
        below = files.below(one.folder)
        if one.boot:
            newest, busy = 0.0, {}
        if not {lost_file(Log.DOM0), console_file(Log.DOM0)} & {*one.files}:  # else it may be told once more
            stamps = [float(found[1]) for found in _STAMP.finditer(below.read(Log.DOM0)[1])]
            if stamps and min(stamps) < newest - _LATE:
                yield f"{one.folder}/{Log.DOM0} goes on at {min(stamps):.0f} s, and has been at {newest:.0f} s before"
            newest = max([newest, *stamps])
        if not one.shows_device:
            continue
        try:
            rows = parse_list(below.read(_LIST)[1].decode("utf-8", "replace"))
        except ParseError:  # told where it is judged
            continue
        for row in rows:
            before = busy.get((row.domid, row.name), 0.0)
            if row.seconds < before:
                told = f"d{row.domid} has used {row.seconds} s of CPU, and had used {before} s before"
                yield f"{one.folder}/{_LIST}: {told}"
            busy[row.domid, row.name] = row.seconds
