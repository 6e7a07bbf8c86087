"""Whether runs that supplement each other have all rows of a profile, each as often as the profile wants it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.nested import devices as nested
from harness.play.catalogue import catalogue
from harness.run.opened import Read
from harness.run.options import DEFAULT_CONTROL
from harness.run.plan import STOCK
from harness.scenario.choose import Candidate, select, why_not_through
from harness.scenario.repeats import times_of


def missing(runs: Sequence[Read], name: str) -> Iterator[str]:
    """What the profile wants for the devices of the runs and they have not: rows, times, a control, stock itself."""
    profile = catalogue().profile(name)
    times: dict[str, int] = {}
    last: dict[str, Read] = {}
    for read in runs:
        times |= times_of(read.begun.scenarios)  # what is played again counts in place of what it was
        last |= dict.fromkeys(times_of(read.begun.scenarios), read)
    for read in runs:
        if read not in last.values():
            continue
        if read.begun.under_test != STOCK:
            yield f"the hypervisor under test is the mutant {read.begun.under_test}"
        if read.begun.control is None:
            yield "there is no known-bad control"
        elif read.begun.control != DEFAULT_CONTROL:
            yield f"it is held against {read.begun.control}, and the profile is against {DEFAULT_CONTROL}"
        if profile.strict_messages:
            yield from (
                f"{row} was played without a look at lines that nobody can explain"
                for row, side in read.sides
                if side.hypervisor == STOCK and side.record.begun and not side.record.strict_messages
            )
            yield from (f"{row} was played by an earlier run" for row, side in read.sides if side.kept)
    devices = {one.name: one for read in runs for one in _candidates(read)}
    rows = select(catalogue(), list(devices.values()), [], name) if devices else []
    toolstack = runs[0].begun.host.facts.get("toolstack", "")
    playable = [row for row in rows if why_not_through(row, toolstack) is None]
    if gone := [row.id for row in playable if row.id not in times]:
        yield f"of profile {name}, {len(gone)} were not played: {', '.join(gone)}"
    for row in playable:
        if 0 < times.get(row.id, 0) < (wanted := profile.times(row)):
            yield f"profile {name} plays {row.id} {wanted} times, and {times[row.id]} were planned"


def _candidates(read: Read) -> Iterator[Candidate]:
    """The devices of the run, each of which has to suffer every ending."""
    ours = {one.name: one for one in nested.candidates(nested.catalogue())}
    found: set[str] = set()
    for _, side in read.sides:
        record = side.record
        names = record.scenario.device.split("+")
        for name, part in zip(names, (record, record.second), strict=False):
            if read.begun.host.nested and name in ours:
                found.add(name)
                yield ours[name]
            elif part is not None and name not in found:
                found.add(name)
                yield Candidate(name, part.dom0_driver or name, reset_effective=part.reset_effective)
