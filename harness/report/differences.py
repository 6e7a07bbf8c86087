"""What differs between two results of a scenario or a test: checks by their subject, the rest by its path. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from harness.base.text import inert
from harness.report.results import CaseResult, ScenarioResult

_NOT_JUDGED = frozenset({"began", "phases", "log", "stored", "command_to_repeat"})
"""What a clock said, or where something is written."""
_WORDS = 200


@dataclass(frozen=True)
class Difference:
    """`where`: stock, control or the scenario; `what` differs; how it is stored, and how it is now (empty: not)."""

    where: str
    what: str
    stored: str
    now: str
    raw: str = ""  # file and line of what is there now, else of what was

    def __str__(self) -> str:
        place = f" ({self.raw})" if self.raw else ""
        match bool(self.stored), bool(self.now):
            case True, False:
                told = f"is no more, was {self.stored}"
            case False, True:
                told = f"is new: {self.now}"
            case _:
                told = f"was {self.stored}, is {self.now}"
        return inert(f"{self.where}: {self.what}: {told}{place}")

    @property
    def as_json(self) -> dict[str, str]:
        return asdict(self)


def of_scenario(stored: ScenarioResult, now: ScenarioResult) -> list[Difference]:
    """All that a judge says of a scenario: verdicts, checks, hazards, what was seen, what was expected, conclusion."""
    before, after = stored.model_dump(mode="json"), now.model_dump(mode="json")
    found: list[Difference] = []
    for side in ("stock", "control"):
        one, other = before.pop(side), after.pop(side)
        if one is None or other is None:
            if one != other:
                words = ("" if one is None else "played", "" if other is None else "played")
                found.append(Difference(side, "side", *words))
            continue
        for attempt in (*one["attempts"], *other["attempts"]):
            attempt.pop("seconds")
        for told in (one, other):
            told |= told.pop("judgement")
        first, second = one.pop("checks"), other.pop("checks")
        found += _of_values(side, "", one, other)
        found += _of_checks(side, first, second)
    before.pop("seconds"), after.pop("seconds")
    return [*_of_values("scenario", "", before, after), *found]


def of_case(stored: CaseResult, now: CaseResult) -> list[Difference]:
    """What was seen at its checkpoints, what Xen and dom0 said, and the conclusion of its verdicts."""
    before, after = stored.model_dump(mode="json"), now.model_dump(mode="json")
    found = [one for side in ("stock", "control") for one in _of_values(side, "", before.pop(side), after.pop(side))]
    return [*_of_values("test", "", before, after), *found]


def of_values(where: str, stored: object, now: object) -> list[Difference]:
    """Of anything that is made of mappings, lists and plain values."""
    return list(_of_values(where, "", stored, now))


def _of_values(where: str, path: str, stored: Any, now: Any) -> Iterator[Difference]:  # noqa: ANN401 - JSON
    if stored == now:
        return
    if isinstance(stored, Mapping) and isinstance(now, Mapping):
        for name in dict.fromkeys([*stored, *now]):
            if name not in _NOT_JUDGED:
                yield from _of_values(where, f"{path}.{name}" if path else name, stored.get(name), now.get(name))
    elif isinstance(stored, list) and isinstance(now, list) and len(stored) == len(now):
        for place, (one, other) in enumerate(zip(stored, now, strict=True)):
            yield from _of_values(where, f"{path}[{place}]", one, other)
    elif isinstance(stored, list) and isinstance(now, list):
        yield Difference(where, path, f"{len(stored)} of them", f"{len(now)} of them")
    else:
        yield Difference(where, path or "value", _shown(stored), _shown(now))


def _shown(value: object) -> str:
    text = "null" if value is None else str(value)
    return text if len(text) <= _WORDS else f"{text[:_WORDS]}..."


def _of_checks(where: str, stored: list[Any], now: list[Any]) -> Iterator[Difference]:
    """By moment, view, subject and expectation; the same more than once is told apart by its place among them."""
    before, after = _named(stored), _named(now)
    for key in dict.fromkeys([*before, *after]):
        one, other = before.get(key), after.get(key)
        if one == other:
            continue
        at, view, subject, expected, number = key
        again = f" ({number + 1}.)" if number else ""
        was, now_is = _outcome(one), _outcome(other)
        if was == now_is and one and other:
            was, now_is = f"read in {_place(one['raw'])}", f"read in {_place(other['raw'])}"
        what = f"check {at} {view}: {subject}: expected {expected}{again}"
        yield Difference(where, what, was, now_is, _place((other or one or {}).get("raw")))
    if list(before) != list(after) and before == after:
        yield Difference(where, "order of the checks", "another", "another")


def _named(checks: list[Any]) -> dict[tuple[str, str, str, str, int], Any]:
    times: Counter[tuple[str, ...]] = Counter()
    found = {}
    for one in checks:
        about = (one["checkpoint"], one["view"], one["subject"], one["expected"])
        found[(*about, times[about])] = one
        times[about] += 1
    return found


def _outcome(check: Any) -> str:  # noqa: ANN401 - JSON
    return "" if check is None else f"{check['outcome']}, seen {check['seen']}"


def _place(raw: Any) -> str:  # noqa: ANN401 - JSON
    if not raw:
        return ""
    file = raw.get("path", raw.get("file"))
    return f"{file}:{raw['line']}" if raw.get("line") else str(file)
