"""Several scenarios at a time, for a machine with more processors than one scenario keeps busy."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property

from harness.report.results import ScenarioResult
from harness.run.session import Session
from harness.scenario.spec import Scenario


class Ahead:
    """Plays a session's scenarios in the order of its plan, `workers` at a time, ahead of whoever asks for the next."""

    def __init__(self, session: Session, workers: int) -> None:
        self._session = session
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="scenario")

    @cached_property
    def _results(self) -> dict[str, Future[ScenarioResult]]:
        return {row.id: self._pool.submit(self._session.run, row) for row in self._session.plan.scenarios}

    def run(self, scenario: Scenario) -> ScenarioResult:
        """The result of one of the plan's scenarios, once there is one; whatever ended it ends all others too."""
        try:
            return self._results[scenario.id].result()
        except BaseException:  # Ctrl-C above all: leaving the pool waits for its threads
            self.stop()
            raise

    def stop(self) -> None:
        """Begin nothing more, and end what is under way."""
        unfinished = not all(future.done() for future in self._results.values())
        self._pool.shutdown(wait=False, cancel_futures=True)
        if unfinished:
            self._session.broken_off = True
            self._session.lab.abort()
        self._pool.shutdown(wait=True)
