"""The same measured here and in another checkout, turn and turn about: machines are noisy, ratios are less so."""

from __future__ import annotations

import enum
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.base.deadline import Deadline
from harness.base.errors import LabError, UsageError
from harness.base.process import run
from harness.base.progress import Progress

_SECONDS = 3 * 3600.0


class Yardstick(enum.StrEnum):
    """What is measured."""

    PHASES = "phases"
    SCENARIO = "scenario"
    CI = "ci"
    SELF = "self"
    FIRST = "first"


@dataclass
class Paired:
    """Seconds by name, one for each turn."""

    here: dict[str, list[float]] = field(default_factory=dict)
    there: dict[str, list[float]] = field(default_factory=dict)
    judged: list[str] = field(default_factory=list)
    """Scenarios that the two checkouts judged in different ways."""

    def add(self, side: dict[str, list[float]], seconds: Mapping[str, float]) -> None:
        for name, value in seconds.items():
            side.setdefault(name, []).append(value)

    def table(self) -> list[str]:
        """Medians, and how many times as long it takes here as there."""
        lines = [f"{'median seconds':<32} {'here':>8} {'there':>8} {'ratio':>6}  turns"]
        for name, values in self.here.items():
            if name in self.there:
                ours, theirs = statistics.median(values), statistics.median(self.there[name])
                ratio = f"{ours / theirs:6.2f}" if theirs else "     -"
                lines.append(f"{name:<32} {ours:8.1f} {theirs:8.1f} {ratio}  {len(values)}")
        return [*lines, *(f"judged in another way: {one}" for one in self.judged)]


def compare(other: Path, what: Yardstick, turns: int, stack: str, device: str, progress: Progress) -> Paired:
    """Measure `what` in this checkout and in `other`, `turns` times each. UsageError, CommandFailed."""
    here = Path(__file__).parents[2]
    for checkout in (here, other):
        if not (checkout / "harness").is_dir() or not (checkout / "suites").is_dir():
            raise UsageError(f"{checkout} is no checkout of maskall", hint="--against takes the folder of a clone")
    measured = _MEASURES[what]
    comparison, verdicts = Paired(), {}
    for turn in range(1, turns + 1):
        for checkout, side in ((other.resolve(), comparison.there), (here, comparison.here)):
            with (
                tempfile.TemporaryDirectory(prefix="maskall-against-") as scratch,
                progress.phase(f"{what}, turn {turn} of {turns}, in {checkout}"),
            ):
                turned = _Turn(checkout, Path(scratch), stack, device)
                comparison.add(side, measured(turned))
                verdicts[checkout] = turned.verdicts
    ours, theirs = verdicts[here], verdicts[other.resolve()]
    comparison.judged = [
        f"{name}: {ours[name]} here, {theirs[name]} there"
        for name in ours.keys() & theirs
        if ours[name] != theirs[name]
    ]
    return comparison


@dataclass
class _Turn:
    checkout: Path
    scratch: Path
    stack: str
    device: str
    verdicts: dict[str, str] = field(default_factory=dict)

    def python(self, *arguments: str, check: bool = True) -> float:
        """Seconds that this Python took in the checkout, with the checkout's own code."""
        argv = [sys.executable, "-m", *arguments]
        env = {"PYTHONPATH": str(self.checkout)}
        log = self.scratch / "log"
        return run(argv, deadline=Deadline.after(_SECONDS), cwd=self.checkout, env=env, log=log, check=check).seconds


Measure = Callable[[_Turn], dict[str, float]]


def _phases(turn: _Turn) -> dict[str, float]:
    file = turn.scratch / "bench.json"
    turn.python("harness.cli", "bench", "--json", str(file), "--stack", turn.stack, "--device", turn.device)
    seconds: dict[str, float] = json.loads(file.read_text())["seconds"]
    return seconds


def _scenario(turn: _Turn) -> dict[str, float]:
    """As a run plays it, the control too. What the first turn has to build, later ones find."""
    return {"a scenario and its control": _played(turn, f"E14-F1-hvm-{turn.device}", "--device", turn.device)}


def _profile(turn: _Turn) -> dict[str, float]:
    return {"profile ci, with its controls": _played(turn, "--profile", "ci")}


def _played(turn: _Turn, *words: str) -> float:
    """Seconds of `maskall run`, every control played anew; what it comes to is kept."""
    results = turn.scratch / "results"
    fresh = ["--fresh-controls"] if (turn.checkout / "harness/run/proofs.py").exists() else []
    command = ["run", *words, "--stack", turn.stack, "--results", str(results), *fresh]
    seconds = turn.python("harness.cli", *command, check=False)  # a finding ends it with 1
    file = results / "results.json"
    if not file.exists():
        raise LabError(f"{' '.join(words)} came to no result in {turn.checkout}", hint="play it there by hand")
    for one in json.loads(file.read_text())["scenarios"]:
        stock = one["stock"]
        turn.verdicts[one["id"]] = stock.get("verdict") or stock["judgement"]["verdict"]  # older results: no judgement
    return seconds


def _first(turn: _Turn) -> dict[str, float]:
    """The first scenario ever of a checkout, with an empty cache; Debian's packages are installed already."""
    results = turn.scratch / "results"
    argv = [str(turn.checkout / "tools/maskall"), "run", f"E14-F1-hvm-{turn.device}", "--results", str(results)]
    env = {"MASKALL_CACHE": str(turn.scratch / "cache")}
    limit = Deadline.after(_SECONDS)
    seconds = run(argv, deadline=limit, cwd=turn.checkout, env=env, log=turn.scratch / "log").seconds
    return {"first verdict, nothing cached": seconds}


def _self_tests(turn: _Turn) -> dict[str, float]:
    return {"self-tests": turn.python("pytest", "-q", "-n", "2", "-m", "not whole", "suites/selftest")}


_MEASURES: dict[Yardstick, Measure] = {
    Yardstick.PHASES: _phases,
    Yardstick.SCENARIO: _scenario,
    Yardstick.CI: _profile,
    Yardstick.SELF: _self_tests,
    Yardstick.FIRST: _first,
}
