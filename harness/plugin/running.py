"""The run that a pytest session carries: its lab, its progress on the screen, its results."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest

from harness.base.errors import MaskallError
from harness.run.options import RunOptions

if TYPE_CHECKING:
    from harness.base.progress import PlainProgress, TerminalProgress
    from harness.host.host import Host, Lab
    from harness.mutants.catalogue import Mutant
    from harness.report.results import HostSummary, RunResult, ScenarioResult
    from harness.run.cases import CasePlayed
    from harness.run.session import Session
    from harness.scenario.spec import Scenario

Runner = Callable[["Scenario"], "ScenarioResult"]
RESULTS = "maskall_results"
"""Of what a process of pytest-xdist is told: the directory that all of them share."""
_PLACE_SECONDS = 24 * 3600.0


class Running:
    """Made when the first test needs a host; every call may end by pytest.exit, for none can go on without a lab.

    `scenarios` are what the catalogue's test shall play, `devices` what other tests borrow; None: there are none.
    """

    def __init__(
        self,
        options: RunOptions,
        config: pytest.Config,
        scenarios: list[Scenario],
        devices: Iterable[str] | None = None,
    ) -> None:
        self.options = options
        self._borrowed = devices
        self._scenarios = scenarios
        self.played: list[CasePlayed] = []
        """What other tests came to, in this process or in those of pytest-xdist."""
        self.under_way: Callable[[], CasePlayed] | None = None
        """What came by now of a test of this process that no report has ended: in the end, one that was broken off."""
        self._began = datetime.now(UTC)
        self.result: RunResult | None = None
        self.interrupted = False
        self.error: BaseException | None = None
        """The first thing that went wrong outside any scenario: the lab, a full disk, or a bug of ours."""
        self._config = config
        self._kept_before: set[Path] = set()
        self._screen: TerminalProgress | PlainProgress | None = None

    @cached_property
    def _devices(self) -> list[str]:
        """Of all tests; where only the host is looked at, what the first scenario of the options would borrow."""
        from harness.run.selection import chosen

        if not self._scenarios and self._borrowed is None:
            return list(chosen(self.options)[0].devices)
        return [*(name for row in self._scenarios for name in row.devices), *(self._borrowed or ())]

    @cached_property
    def lab(self) -> Lab:
        from harness.run.prepare import lab_for

        with self._live() as progress:
            lab = lab_for(self.options, self._devices, progress)
        self._kept_before = set(lab.kept())
        return lab

    @cached_property
    def session(self) -> Session:
        from harness.nested.cache import Cache
        from harness.report.announce import announced
        from harness.run.plan import Plan
        from harness.run.prepare import controls_for
        from harness.run.session import Session

        lab = self.lab  # first: without a lab no results directory is made
        with self._live() as progress:
            plan = Plan.of(self.options, self._scenarios, results=self.results)
            progress.note(f"results: {plan.results}")
            controls = controls_for(self.options, self._devices, progress)
            session = Session(lab, plan, progress, cache=Cache(), controls_lab=controls, started=self._began)
            if self.options.resume is not None:
                session.go_on()
                left, all_ = len(self._scenarios) - len(session.finished), len(self._scenarios)
                progress.note(f"going on with {plan.results}: {left} of {all_} scenarios are left")
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
                    f"{result.told} {result.id}: expected {result.expected.verdict}, "
                    f"stock {result.stock.verdict}{control}, "
                    f"{result.seconds:.0f} s ({place})"
                )
            return result

    @contextlib.contextmanager
    def host(self) -> Iterator[Host]:
        """A fresh host with the first scenario's device."""
        with contextlib.ExitStack() as stack:
            with self._guarded(), self._live() as progress:
                first = self._scenarios[0].devices if self._scenarios else self._devices[:1]
                host = stack.enter_context(self.lab.host(first, progress))
            yield host

    # -- for tests that somebody wrote ---------------------------------------------------------------------------------

    @cached_property
    def results(self) -> Path:
        """The directory of this run, made; every process of pytest-xdist has the same."""
        given = getattr(self._config, "workerinput", {}).get(RESULTS) or self.__dict__.get("shared_results")
        if given is None:
            return self.options.results_directory()
        folder = Path(given)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @cached_property
    def shared_results(self) -> Path:
        """The directory that all processes of pytest-xdist will share; made by the first that needs it."""
        return self.options.results_directory(make=False)

    @property
    def lab_for_tests(self) -> Lab:
        """The lab; without one the whole pytest session ends in one line."""
        with self._guarded():
            return self.lab

    @cached_property
    def mutants(self) -> dict[str, Mutant]:
        return self.options.known_mutants()

    @property
    def stack_of_tests(self) -> str | None:
        """The nested host's; None for a lab host."""
        return None if self.options.in_lab else self.options.stack_name

    @cached_property
    def host_summary(self) -> HostSummary:
        from harness.report.results import HostSummary

        toolstack = str(self.options.toolstack_name())
        return HostSummary.of({**self.lab.facts(), "toolstack": toolstack}, self.lab.packages())

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """A place for one host: processes of pytest-xdist wait here, for there are no more hosts than places."""
        if not hasattr(self._config, "workerinput"):
            yield
            return
        from harness.base.deadline import Deadline, poll

        files = [self.results / f".place-{number}" for number in range(self.options.hosts_at_a_time)]
        handles = [file.open("w") for file in files]
        try:
            poll(lambda: any(map(_taken, handles)), Deadline.after(_PLACE_SECONDS), every=0.2)
            yield
        finally:
            for handle in handles:
                handle.close()

    def add(self, report: str) -> None:
        """What a test came to, as its report tells it."""
        from harness.run.cases import CasePlayed

        with self._guarded():
            self._ended(CasePlayed.model_validate_json(report))

    def _ended(self, one: CasePlayed) -> None:
        from harness.run.cases import ended

        self.played.append(one)
        ended(one, self.results, self._began, self.options.challenge)

    def finish(self) -> None:
        """Write results.json and junit.xml if a scenario was begun; safe to call once more."""
        from harness.run import cases
        from harness.run.resume import set_aside_tests

        session: Session | None = self.__dict__.get("session")  # not made if nothing has asked for it
        if session is not None:
            session.stop()
        broken_off = self.interrupted or self.error is not None
        try:
            if self.under_way is not None:
                self._ended(self.under_way())
                self.under_way = None
            if session is not None and self.result is None and (session.finished or not broken_off):
                planted = [control for one in self.played for control in one.planted]
                self.result = session.finish(cases.results(self.played), planted)
            elif self.played and self.result is None:
                set_aside_tests(self.results)
                self.result = cases.finish(self.played, self.results, self._began, datetime.now(UTC))
            if self.result is not None and self.options.history is not None:
                from harness.run import history

                history.add(self.options.history, self.result)
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
        lab: Lab | None = self.__dict__.get("lab")
        if lab is None or not self.options.keep:
            return []
        return [path for path in lab.kept() if path not in self._kept_before]

    @property
    def may_go_on(self) -> bool:
        """Whether scenarios are left of a run that was begun."""
        session: Session | None = self.__dict__.get("session")
        return session is not None and session.begun and len(session.finished) < len(self._scenarios)

    def report(self, *, width: int, colour: bool, failures: bool) -> Iterator[str]:
        """The lines that end the run; `failures` adds what is not as expected, one paragraph each."""
        from rich.console import Console

        from harness.report.case import cases
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
        told = [*cases(self.result), *skipped(self.result), *remarks(self.result)]
        paragraphs = [*told, *(explained(self.result) if failures else [])]
        if paragraphs:
            yield from ("", *paragraphs)
        yield f"results: {self.results / 'results.json'}"
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


def _taken(handle: IO[str]) -> bool:
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
