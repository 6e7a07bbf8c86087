"""The run that a pytest session carries: its lab, its progress on the screen, its results."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING

import pytest

from harness.base.errors import MaskallError
from harness.run.options import RunOptions

if TYPE_CHECKING:
    from pathlib import Path

    from harness.base.progress import PlainProgress, TerminalProgress
    from harness.host.host import Host, Lab
    from harness.report.results import RunResult, ScenarioResult
    from harness.run.session import Session
    from harness.scenario.spec import Scenario

Runner = Callable[["Scenario"], "ScenarioResult"]


class Running:
    """Made when the first test needs a host; every call may end by pytest.exit, for none can go on without a lab."""

    def __init__(self, options: RunOptions, config: pytest.Config, scenarios: list[Scenario]) -> None:
        self.options = options
        self._scenarios = scenarios or options.scenarios()
        self.result: RunResult | None = None
        self.interrupted = False
        self.error: BaseException | None = None
        """The first thing that went wrong outside any scenario: the lab, a full disk, or a bug of ours."""
        self._config = config
        self._kept_before: set[Path] = set()
        self._screen: TerminalProgress | PlainProgress | None = None

    @cached_property
    def lab(self) -> Lab:
        with self._live() as progress:
            lab = self.options.prepared_lab(self._scenarios, progress)
        self._kept_before = set(lab.kept())
        return lab

    @cached_property
    def session(self) -> Session:
        from harness.report.announce import announced
        from harness.run.session import Session

        lab = self.lab  # first: without a lab no results directory is made
        with self._live() as progress:
            plan = self.options.plan(self._scenarios)
            progress.note(f"results: {plan.results}")
            session = Session(lab, plan, progress)
            for line in announced({row.id: session.forecast(row) for row in self._scenarios}):
                progress.note(line)
            return session

    def run(self, scenario: Scenario) -> ScenarioResult:
        """Play one scenario with its phases on the screen, perhaps others meanwhile."""
        with self._guarded():
            session = self.session
            with self._live() as progress:
                result = session.run(scenario)
                control = f", control {result.control.verdict}" if result.control else ""
                place = f"{len(session.finished)} of {len(self._scenarios)}"
                progress.note(
                    f"{result.conclusion} {result.id}: expected {result.expected.verdict}, "
                    f"stock {result.stock.verdict}{control}, "
                    f"{result.seconds:.0f} s ({place})"
                )
            return result

    @contextlib.contextmanager
    def host(self) -> Iterator[Host]:
        """A fresh host with the first scenario's device."""
        with contextlib.ExitStack() as stack:
            with self._guarded(), self._live() as progress:
                host = stack.enter_context(self.lab.host(self._scenarios[0].devices, progress))
            yield host

    def finish(self) -> None:
        """Write results.json and junit.xml if a scenario was begun; safe to call once more."""
        session: Session | None = self.__dict__.get("session")  # not made if nothing has asked for it
        if session is not None:
            session.stop()
        broken_off = self.interrupted or self.error is not None
        if session is not None and self.result is None and (session.finished or not broken_off):
            try:
                self.result = session.finish()
            except MaskallError as error:
                self.error = self.error or error
        self._close()

    def _close(self) -> None:
        """Let go of the lab, if it was ever taken."""
        lab: Lab | None = self.__dict__.get("lab")
        if lab is not None:
            try:
                with self._live():
                    lab.close()
            except MaskallError as error:
                self.error = self.error or error

    @property
    def kept(self) -> list[Path]:
        """Hosts this run has left running."""
        return [path for path in self.lab.kept() if path not in self._kept_before] if self.options.keep else []

    def report(self, *, width: int, colour: bool, failures: bool) -> Iterator[str]:
        """The lines that end the run; `failures` adds what is not as expected, one paragraph each."""
        from rich.console import Console

        from harness.report.failure import failures as explained
        from harness.report.failure import remarks, skipped
        from harness.report.table import report

        if self.result is None:
            return
        yield ""
        console = Console(
            file=io.StringIO(), width=width, force_terminal=colour, color_system="standard" if colour else None
        )
        with console.capture() as captured:
            console.print(report(self.result, width=width))
        yield from (line.rstrip() for line in captured.get().splitlines())
        paragraphs = [*skipped(self.result), *remarks(self.result), *(explained(self.result) if failures else [])]
        if paragraphs:
            yield from ("", *paragraphs)
        yield f"results: {self.session.plan.results / 'results.json'}"
        for path in self.kept:
            yield f"left running: maskall shell {path.name}   (end it: maskall nested down {path.name})"

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """Errors that no scenario can carry end the whole pytest session, in one line."""
        try:
            yield
        except KeyboardInterrupt:
            self.interrupted = True
            raise pytest.exit.Exception("interrupted", returncode=pytest.ExitCode.INTERRUPTED) from None
        except MaskallError as error:
            self.error = self.error or error
            raise pytest.exit.Exception(f"maskall: {error}", returncode=int(error.exit_status)) from error
        except Exception as error:
            self.error = self.error or error
            raise

    @contextlib.contextmanager
    def _live(self) -> Iterator[TerminalProgress | PlainProgress]:
        """The progress, on the real screen: pytest's capture is off meanwhile."""
        from rich.console import Console

        from harness.base.progress import progress_for

        plugins = self._config.pluginmanager
        reporter, capture = plugins.get_plugin("terminalreporter"), plugins.get_plugin("capturemanager")
        if reporter is not None:
            reporter.ensure_newline()
        with capture.global_and_fixture_disabled() if capture is not None else contextlib.nullcontext():
            if self._screen is None:
                self._screen = progress_for(Console())
            with self._screen as progress:
                yield progress
