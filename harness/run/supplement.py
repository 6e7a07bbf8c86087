"""A run that plays again what another one did not show: whether it is that one's, and of the same product."""

from __future__ import annotations

from collections.abc import Iterator

from harness.lab.environment import moved
from harness.report.results import Parent
from harness.run.opened import Read


def foreign(parent: Read, run: Read) -> Iterator[str]:
    """How `run` is no supplement of `parent`, a line each; nothing where it is one."""
    begun, earlier = run.begun, parent.begun
    told = begun.parent
    if told is None:
        yield f"run {begun.run_id} says of no run that it supplements it"
    else:
        yield from _named_otherwise(told, parent, run)
    if begun.started < parent.results.ended:
        yield f"run {begun.run_id} was begun before run {earlier.run_id} had ended"
    for what, then, there in (
        ("the device", "; ".join(parent.device_ids), "; ".join(run.device_ids)),
        ("the machine", parent.dmi, run.dmi),
        ("the hypervisor under test", earlier.under_test, begun.under_test),
    ):
        if then != there:
            yield f"{what} was {then or 'not read'}, and is {there or 'not read'} in the supplement"
    for kind in ("facts", "packages"):
        was, now = getattr(earlier.host, kind), getattr(begun.host, kind)
        for name in dict.fromkeys([*now, *was]):
            if was.get(name) != now.get(name):
                yield f"{name} was {was.get(name)}, and is {now.get(name)} in the supplement"
    if parent.after is not None and run.before is not None:
        yield from (f"{one} in the supplement" for one in moved(parent.after, run.before))


def _named_otherwise(told: Parent, parent: Read, run: Read) -> Iterator[str]:
    results = parent.results
    if told.results != parent.results_sha256:
        yield f"run {run.begun.run_id} is no supplement of run {results.run_id}: its parent's results are others"
    if (told.run_id, told.started) != (results.run_id, parent.begun.started):
        yield f"it supplements run {told.run_id} of {told.started}, and this is {results.run_id} of {results.started}"
    stands = {one.id: one.conclusion for one in results.scenarios if one.id not in run.begun.scenarios}
    for name in dict.fromkeys([*told.stands, *stands]):
        if told.stands.get(name) != stands.get(name):
            yield f"of {name} it says {told.stands.get(name, 'nothing')}, and it came to {stands.get(name, 'nothing')}"
