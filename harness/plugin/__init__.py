"""The pytest side: options, the scenarios as parameters, the session they share, and the report at the end.

Loaded by every pytest that finds this package installed, so it imports nothing heavy, every option begins with
`--maskall-` and every key of an ini file with `maskall_`, and no hook does anything for tests that do not ask for its
fixtures; but --maskall-for, which is asked for by whoever calls, is for all.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from harness.base.errors import MaskallError, UsageError
from harness.plugin.fixtures import (
    checkpoint,
    make_guest,
    maskall_hypervisor,
    maskall_trial,
    pci_device,
    pci_devices,
    toolstack,
    xen_host,
)
from harness.plugin.marks import MARKS
from harness.plugin.running import RESULTS, Runner, Running
from harness.run.option import Option, with_kind
from harness.run.options import TABLE, RunOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from harness.host.host import Host
    from harness.plugin.asked import Asked
    from harness.scenario.spec import Scenario

__all__ = [
    "checkpoint",
    "make_guest",
    "maskall_hypervisor",
    "maskall_trial",
    "pci_device",
    "pci_devices",
    "toolstack",
    "xen_host",
]
OPTIONS: pytest.StashKey[RunOptions] = pytest.StashKey()
RUNNING: pytest.StashKey[Running] = pytest.StashKey()


class Given:
    """A plugin for whoever calls pytest.main with the options at hand; `running` is what became of them."""

    running: Running | None = None

    def __init__(self, options: RunOptions) -> None:
        self._options = options

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        config.stash[OPTIONS] = self._options

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self, config: pytest.Config) -> None:
        self.running = config.stash.get(RUNNING, None)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("maskall", "MSI-X scenarios on a Xen host")
    for row in TABLE:
        name, text = f"--maskall-{row.flag.removeprefix('--')}", with_kind(row)
        if row.is_switch:
            group.addoption(name, dest=_destination(row), action="store_true", default=None, help=text)
        else:
            action = "append" if row.several else "store"
            group.addoption(
                name, dest=_destination(row), action=action, type=_reader(row), metavar=row.metavar, help=text
            )
        if row.ini:
            kind: Literal["bool", "linelist", "string"] = (
                "bool" if row.is_switch else "linelist" if row.several else "string"
            )
            parser.addini(_destination(row), text, type=kind, default=None)


def _destination(row: Option) -> str:
    """What the option is called in pytest's own namespace, and in an ini file."""
    return f"maskall_{row.name}"


def _reader(row: Option) -> Callable[[str], object]:
    def read(text: str) -> object:
        try:
            return row.read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


def options(config: pytest.Config) -> RunOptions:
    """What is asked for: by the command line, else by the ini file."""
    if OPTIONS not in config.stash:
        values = {row.name: _value(row, config) for row in TABLE}
        config.stash[OPTIONS] = RunOptions(**values)
    return config.stash[OPTIONS]


def _value(row: Option, config: pytest.Config) -> Any:  # noqa: ANN401 - whatever the option's type is
    given = config.getoption(_destination(row))
    if given is None and row.ini:
        given = _from_ini(row, config)
    return row.stored(given)


def _from_ini(row: Option, config: pytest.Config) -> Any:  # noqa: ANN401
    """Its value there; a path is relative to the file it stands in. None when it says nothing."""
    written = config.getini(_destination(row))
    if not isinstance(written, str):
        return written
    try:
        value = row.read(written)
    except ValueError as error:
        raise pytest.UsageError(f"{config.inipath}: {_destination(row)}: {error}") from None
    return config.inipath.parent / value if isinstance(value, Path) and config.inipath is not None else value


def pytest_configure(config: pytest.Config) -> None:
    """Options that are wrong end here, before anything is collected. With none of ours given nothing is loaded."""
    for mark in MARKS.values():
        config.addinivalue_line("markers", mark)
    config.pluginmanager.register(_Ended(config), "maskall-ended")
    if OPTIONS not in config.stash and any(config.getoption(_destination(row)) is not None for row in TABLE):
        from harness.run.selection import refuse_mistakes

        try:
            given = options(config)
            if given.goes_on:  # what this loads is needed by no other run before it plays
                from harness.run.resume import settled

                given = settled(given)
            config.stash[OPTIONS] = given
            refuse_mistakes(given)
        except MaskallError as error:
            raise pytest.UsageError(f"maskall: {error}") from None


@pytest.hookimpl(trylast=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The catalogue's rows, or a test's hypervisors; the last, so that both sides of a test stand side by side."""
    if "maskall_scenario" in metafunc.fixturenames:
        from harness.run.selection import chosen

        try:
            rows = chosen(options(metafunc.config))
        except MaskallError as error:  # of an ini file, or of an inventory
            raise pytest.Collector.CollectError(f"maskall: {error}") from None
        metafunc.parametrize("maskall_scenario", rows, ids=[row.id for row in rows], scope="session")
    if "maskall_hypervisor" in metafunc.fixturenames:
        names = _hypervisors(metafunc)
        if names != ("stock",):
            metafunc.parametrize("maskall_hypervisor", names, ids=names, indirect=True)


def _hypervisors(metafunc: pytest.Metafunc) -> tuple[str, ...]:
    """What the test is played on, once all that it asks for was checked."""
    from harness.plugin.asked import asked, where

    config, definition = metafunc.config, metafunc.definition
    try:
        wanted = asked(definition, options(config))
        workers = getattr(config, "workerinput", {}).get("workercount", 1)
        if workers > 1 and options(config).in_lab:
            raise UsageError(f"-n {workers}: a lab host plays one test at a time", hint="leave -n out, or take -n 0")
    except MaskallError as error:
        raise pytest.Collector.CollectError(f"maskall: {where(definition)}: {error}") from None
    return wanted.hypervisors


@pytest.fixture(scope="session")
def maskall_running(request: pytest.FixtureRequest) -> Running:
    """The run all scenarios of this pytest share; its lab is prepared when the first of them asks."""
    stash = request.config.stash
    if RUNNING not in stash:
        given = options(request.config)
        tests = _asked(request.session, given)
        borrowed = [name for test in tests for name in test.devices] if tests else None
        stash[RUNNING] = Running(on_their_stack(given, tests), request.config, _collected(request.session), borrowed)
    return stash[RUNNING]


def _asked(session: pytest.Session, given: RunOptions) -> list[Asked]:
    """What the tests which were collected and use our fixtures ask for."""
    from harness.plugin.asked import asked

    ours = [item for item in session.items if "maskall_hypervisor" in getattr(item, "fixturenames", ())]
    return [asked(item, given) for item in ours]


def on_their_stack(given: RunOptions, tests: Sequence[Asked]) -> RunOptions:
    """Where no option names a stack and the usual one is for none of the tests that do: the first that suits them."""
    named = [test.stacks for test in tests if test.stacks]
    if not named or given.stack is not None or given.in_lab or any(given.stack_name in one for one in named):
        return given
    common = [name for name in named[0] if all(name in one for one in named)]
    return replace(given, stack=(common or named[0])[0])


def _collected(session: pytest.Session) -> list[Scenario]:
    """The scenarios that are left of the options' after `-k` and its like."""
    from harness.scenario.spec import Scenario

    calls = [item.callspec for item in session.items if isinstance(item, pytest.Function) and hasattr(item, "callspec")]
    given = [call.params.get("maskall_scenario") for call in calls]
    return [row for row in given if isinstance(row, Scenario)]


@pytest.fixture(scope="session")
def maskall_run(maskall_running: Running) -> Runner:
    """Plays one scenario and returns its result; takes a scenario as maskall_scenario gives them."""
    return maskall_running.run


@pytest.fixture(scope="module")
def maskall_host(maskall_running: Running) -> Iterator[Host]:
    """A fresh host of the lab, with the first of the wanted devices in it; gone before other modules want the CPU."""
    with maskall_running.host() as host:
        yield host


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave a test out, by --maskall-for. Scenarios may have been played by now: the run itself leaves them out."""
    given = item.config.stash.get(OPTIONS, None)
    if given is None or given.last_begin is None or "maskall_scenario" in getattr(item, "fixturenames", ()):
        return
    if given.last_begin.expired:
        pytest.skip(given.left_out)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What an item with our fixtures comes to; that of any other passes as it is."""
    if "maskall_trial" not in getattr(item, "fixturenames", ()):
        return (yield)
    from harness.plugin.case import CASE, shorten

    if not item.config.getoption("fulltrace"):
        shorten(call)
    report = yield
    case = item.stash.get(CASE, None)
    if case is not None:
        {"setup": case.set_up, "call": case.called, "teardown": case.torn_down}[call.when](report, call)
    return report


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """What differs between two values of ours that can tell it; any others are pytest's."""
    told_apart = getattr(left, "told_apart", None) if op == "==" and type(left) is type(right) else None
    return told_apart(right) if told_apart is not None and type(left).__module__.startswith("harness.") else None


class _Ended:
    """Hears of every test that ended, in this process or in one of pytest-xdist's."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        payload = getattr(report, "maskall_case", None)
        if payload is None or hasattr(self._config, "workerinput"):
            return
        stash = self._config.stash
        if RUNNING not in stash:
            stash[RUNNING] = Running(options(self._config), self._config, [])
        stash[RUNNING].add(payload)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:  # noqa: ANN401 - xdist's WorkerController
        """All processes of pytest-xdist keep their evidence in one place."""
        if RUNNING not in self._config.stash:
            self._config.stash[RUNNING] = Running(options(self._config), self._config, [])
        node.workerinput[RESULTS] = str(self._config.stash[RUNNING].shared_results)


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report: pytest.TestReport, config: pytest.Config) -> tuple[str, str, str] | None:
    """A control that failed as it must says so; a scenario has a line of its own already, and needs no letter."""
    if getattr(report, "maskall_noticed", None) is not None and report.when == "call":
        return "noticed", "n", "NOTICED"
    if config.stash.get(RUNNING, None) is None or "maskall_scenario" not in getattr(report, "keywords", {}):
        return None
    if report.when != "call" and report.passed:
        return "", "", ""
    outcome = "xfailed" if hasattr(report, "wasxfail") else report.outcome
    return outcome, "", outcome.upper()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the results of what was finished, also after Ctrl-C; by now pytest has torn down what was under way."""
    running = session.config.stash.get(RUNNING, None)
    if running is not None:
        running.finish()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    running = config.stash.get(RUNNING, None)
    if running is not None and running.result is not None:
        # With --tb=no nobody else has told yet why a scenario failed.
        for line in running.report(
            width=terminalreporter._tw.fullwidth,
            colour=terminalreporter.hasmarkup,
            failures=config.getoption("tbstyle") == "no",
        ):
            terminalreporter.write_line(line)
