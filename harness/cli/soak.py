"""`maskall soak`: how often does a stock hypervisor look guilty?"""

from __future__ import annotations

import importlib.metadata
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import typer
from rich.console import Console

from harness.base.errors import UsageError
from harness.base.progress import progress_for
from harness.report.soak import Soak, summary
from harness.run.options import RunOptions
from harness.run.soak import Soaking, load
from harness.scenario.spec import Scenario

DEFAULT_RUNS = 100
DEFAULT_PROFILE = "ci"
_DURATION = re.compile(r"(?:([0-9]{1,4})h)?(?:([0-9]{1,5})m)?(?:([0-9]{1,6})s)?")
_SAME = ("xen_version", "kernel", "qemu")  # facts that make runs comparable


def seconds_of(text: str) -> float:
    """`2h`, `90m`, `1h30m`, `45s` in seconds. UsageError for anything else, and for nothing at all."""
    match = _DURATION.fullmatch(text)
    hours, minutes, seconds = (int(part or 0) for part in match.groups()) if match else (0, 0, 0)
    total = hours * 3600 + minutes * 60 + seconds
    if not total:
        raise UsageError(f"--for {text!r} is no duration", hint="write it as 2h, 90m, 1h30m or 45s")
    return total


def begin(options: RunOptions, *, runs: int | None, duration: str | None) -> int:
    """A new soak of the scenarios of the profile that take the hazard."""
    limit = seconds_of(duration) if duration else None
    chosen = [row for row in options.scenarios() if row.end.hazard]
    if not chosen:
        raise UsageError(
            f"no scenario of profile {options.profile} takes the hazard", hint=f"take --profile {DEFAULT_PROFILE}"
        )
    begun = Soak(
        tool_version=importlib.metadata.version("maskall"),
        started=datetime.now(UTC),
        stack=options.stack_name,
        profile=options.profile,
        devices=tuple(options.device_names),
        scenarios=tuple(row.id for row in chosen),
        wanted=runs or DEFAULT_RUNS,
        facts={},
    )
    return _soaked(begun, options, chosen, limit)


def resume(folder: Path, *, runs: int | None, duration: str | None, workers: int) -> int:
    """Go on with a soak that was broken off, or add runs to one that was not."""
    limit = seconds_of(duration) if duration else None
    begun = load(folder)
    if runs is not None and runs < len(begun.runs):
        raise UsageError(f"--runs {runs}: {len(begun.runs)} are done already", hint="leave it out, or give more")
    begun = begun.model_copy(update={"wanted": runs or begun.wanted})
    options = RunOptions(
        scenario=begun.scenarios, stack=begun.stack, device=begun.devices, no_control=True, workers=workers
    )
    chosen = options.scenarios()
    return _soaked(begun, replace(options, results=folder), chosen, limit)


def _soaked(begun: Soak, options: RunOptions, chosen: Sequence[Scenario], limit: float | None) -> int:
    began = time.monotonic()
    with progress_for(Console()) as progress:
        lab = options.prepared_lab(chosen, progress)
        try:
            facts = lab.facts()
            other = [name for name in _SAME if begun.facts and begun.facts.get(name) != facts.get(name)]
            if other:
                was, now = begun.facts.get(other[0]), facts.get(other[0])
                raise UsageError(f"the soak was begun with {other[0]} {was}, here is {now}", hint="begin a new one")
            plan = replace(options.plan(chosen), cold=True)  # no run may hang on the guest A of another
            progress.note(f"results: {plan.results}")
            soaking = Soaking(
                lab,
                begun.model_copy(update={"facts": facts}),
                plan,
                {row.id: row for row in chosen},
                progress,
                options.hosts_at_a_time,
                began + limit if limit else None,
            )
            try:
                soaking.run()
            except KeyboardInterrupt:
                progress.note(f"go on with: maskall soak --resume {plan.results}")
                raise
        finally:
            lab.close()
    typer.echo("\n".join(["", *summary(soaking.soak), f"results: {plan.results}"]))
    return soaking.soak.exit_status
