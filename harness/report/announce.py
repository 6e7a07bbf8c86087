"""What a run is expected to come to, said before it begins. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from harness.judge.forecast import Forecast
from harness.judge.judgement import Verdict

_NAMED = 4  # as many as this are named one by one


def announced(forecasts: Mapping[str, Forecast]) -> Iterator[str]:
    """Lines for a person: how many shall pass, and against which something is known, those of one reason together."""
    good = [name for name, forecast in forecasts.items() if forecast.verdict is Verdict.PASS]
    if good:
        yield f"expected: PASS of {len(good)} scenario{'' if len(good) == 1 else 's'}"
    together: dict[tuple[Verdict, str], list[str]] = {}
    for name, forecast in forecasts.items():
        if forecast.due:
            together.setdefault((forecast.verdict, forecast.because), []).append(name)
    for (verdict, because), names in together.items():
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        yield f"expected: {verdict} of {', '.join(names[:_NAMED])}{more}: {because}"
