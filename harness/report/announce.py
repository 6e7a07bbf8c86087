"""What a run is expected to come to, said before it begins. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from harness.scenario.forecast import Forecast
from harness.scenario.verdict import Verdict


def announced(forecasts: Mapping[str, Forecast]) -> Iterator[str]:
    """Lines for a person: how many shall pass, and one for each scenario against which something is known."""
    good = [name for name, forecast in forecasts.items() if forecast.verdict is Verdict.PASS]
    if good:
        yield f"expected: PASS of {len(good)} scenario{'' if len(good) == 1 else 's'}"
    for name, forecast in forecasts.items():
        if forecast.due:
            yield f"expected: {forecast.verdict} of {name}: {forecast.because}"
