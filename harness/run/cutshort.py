"""What `maskall report` says of a run that was not played to its end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness.base.errors import ExitStatus
from harness.base.text import inert
from harness.report.begun import NAME
from harness.report.results import RunResult
from harness.run.again import RunAgain, begun_in, judged_again
from harness.run.store import under_way


def cut_short(root: Path) -> tuple[RunResult, list[str]] | None:
    """A run without results: what its finished sides come to, judged from their raw files, and what is missing.

    A failure is one, whatever is missing; nothing else is decided.

    None when the directory is that of no run at all.
    """
    if not (root / NAME).exists():
        return None
    again = judged_again(root)
    lines = _cut(root, len(again.finished), len(again.begun.scenarios), [f"  {one}" for one in _missing(again)])
    failed = again.result().exit_status is ExitStatus.FAILED
    return again.result(ExitStatus.FAILED if failed else ExitStatus.UNDECIDED), lines


def left_out(results: Path, result: RunResult) -> tuple[RunResult, list[str]]:
    """A run with results, and what it has not played; nothing for one that came to its end, else it decides nothing."""
    root = results if results.is_dir() else results.parent
    begun = begun_in(root) if (root / NAME).exists() else None
    played = {one.id for one in result.scenarios}
    missing = [one for one in begun.scenarios if one not in played] if begun else []
    if not missing:
        return result, []
    if result.exit_status is ExitStatus.OK:
        result = result.model_copy(update={"exit_status": ExitStatus.UNDECIDED})
    return result, _cut(root, len(played), len(played) + len(missing), [f"  {one}: not played" for one in missing])


def _cut(root: Path, played: int, wanted: int, missing: list[str]) -> list[str]:
    count = f"{played} of {wanted} scenarios were played to their end"
    if under_way(root):
        return [f"UNDER WAY: so far {count}", *missing]
    return [f"CUT SHORT: {count}", *missing, inert(f"go on with: maskall run --resume {root}")]


def _missing(again: RunAgain) -> Iterator[str]:
    for name in again.begun.scenarios:
        if name in again.unreadable:
            yield from (inert(f"{name}: {line}") for line in again.unreadable[name])
        elif name in again.parts:
            sides = "; ".join(f"{side.hypervisor} {side.verdict}: {side.reason}" for side in again.parts[name])
            yield inert(f"{name}: {f'one side ended: {sides}' if sides else 'no side ended'}")
