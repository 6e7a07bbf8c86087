"""What changed from one run to another, ordered by what makes somebody act. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

from harness.base.text import inert
from harness.report.results import CaseResult, RunResult, ScenarioResult
from harness.report.table import duration

_SLOWER = 0.10
_LEAST_SECONDS = 2.0  # of a difference in time that means anything
_MOST_TIMES = 12
_MOST_PACKAGES = 20


@dataclass(frozen=True)
class Changes:
    """Lines of each kind; all of them empty after a quiet night. `flipped` has what got worse first."""

    before: str
    after: str
    rows: int
    moved: tuple[str, ...]
    flipped: tuple[str, ...]
    lost: tuple[str, ...]
    gained: tuple[str, ...]
    times: tuple[str, ...]

    @property
    def status(self) -> int:
        """1 where a verdict is another or a row is lost: somebody must look."""
        return 1 if self.flipped or self.lost else 0

    @property
    def lines(self) -> Iterator[str]:
        kinds = {
            "components that moved": self.moved,
            "verdicts that flipped": self.flipped,
            "rows lost": self.lost,
            "rows gained": self.gained,
            "times beyond 10 %": self.times,
        }
        if not any(kinds.values()):
            yield inert(f"nothing changed from {self.before} to {self.after}: {self.rows} rows")
            return
        yield inert(f"from {self.before} to {self.after}")
        for title, lines in kinds.items():
            if lines:
                yield f"{title}:"
                yield from (inert(f"  {line}") for line in lines)

    @property
    def as_json(self) -> dict[str, object]:
        return {**asdict(self), "exit_status": self.status}


def changes(before: RunResult, after: RunResult) -> Changes:
    """From `before` to `after`."""
    old, new = _rows(before), _rows(after)
    both = [name for name in new if name in old]
    flips = [(name, old[name], new[name]) for name in both if _told(old[name]) != _told(new[name])]
    flips.sort(key=lambda flip: flip[2].conclusion.as_expected)
    return Changes(
        before=f"{before.run_id} ({before.started:%F})",
        after=f"{after.run_id} ({after.started:%F})",
        rows=len(new),
        moved=tuple(_moved(before, after)),
        flipped=tuple(f"{name}: was {_told(one)}, is {_told(other)}{_why(other)}" for name, one, other in flips),
        lost=tuple(f"{name}: was {_told(one)}" for name, one in old.items() if name not in new),
        gained=tuple(f"{name}: {_told(one)}" for name, one in new.items() if name not in old),
        times=tuple(_times({name: (old[name].seconds, new[name].seconds) for name in both})),
    )


def _rows(run: RunResult) -> dict[str, ScenarioResult | CaseResult]:
    scenarios: dict[str, ScenarioResult | CaseResult] = {one.id: one for one in run.scenarios}
    return scenarios | {one.id: one for one in run.cases}


def _told(one: ScenarioResult | CaseResult) -> str:
    control = f", control {one.control.verdict}" if one.control else ""
    return f"{one.conclusion} (stock {one.stock.verdict}{control})"


def _why(one: ScenarioResult | CaseResult) -> str:
    reason = one.reason if isinstance(one, ScenarioResult) else one.stock.reason
    return "" if one.conclusion.as_expected else f": {reason}"


def _moved(before: RunResult, after: RunResult) -> Iterator[str]:
    """Facts of the host first, then packages, then the harness itself."""
    yield from _differ("", before.host.facts, after.host.facts)
    packages = list(_differ("package ", before.host.packages, after.host.packages))
    if before.host.packages and after.host.packages:
        yield from packages[:_MOST_PACKAGES]
        if len(packages) > _MOST_PACKAGES:
            yield f"and {len(packages) - _MOST_PACKAGES} more packages"
    elif packages:
        yield f"packages: not told by {before.run_id if not before.host.packages else after.run_id}"
    ours = [{"maskall": run.tool_version, "host": run.host.name} for run in (before, after)]
    yield from _differ("", *ours)


def _differ(what: str, before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    for name in dict.fromkeys([*before, *after]):
        was, now = before.get(name), after.get(name)
        if was is None or now is None:
            yield f"{what}{name}: {'is new' if was is None else 'is gone'}: {was if now is None else now}"
        elif was != now:
            yield f"{what}{name}: was {was}, is {now}"


def _times(seconds: Mapping[str, tuple[float, float]]) -> Iterator[str]:
    """The largest differences first."""
    far = {
        name: (was, now) for name, (was, now) in seconds.items() if abs(now - was) > max(_LEAST_SECONDS, _SLOWER * was)
    }
    ordered = sorted(far.items(), key=lambda one: abs(one[1][1] - one[1][0]), reverse=True)
    for name, (was, now) in ordered[:_MOST_TIMES]:
        share = f", {100 * (now - was) / was:+.0f} %" if was else ""
        yield f"{name}: {duration(was)}, now {duration(now)}{share}"
    if len(ordered) > _MOST_TIMES:
        yield f"and {len(ordered) - _MOST_TIMES} more"
