"""The pytest side: options, the scenarios as parameters, the session they share, and the report at the end.

Loaded by every pytest that finds this package installed, so it imports nothing heavy, every option begins with
`--maskall-` and every key of an ini file with `maskall_`, and no hook does anything for tests that do not ask for its
fixtures.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from harness.base.errors import MaskallError
from harness.plugin.running import Runner, Running
from harness.run.option import Option, with_kind
from harness.run.options import TABLE, RunOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.host.host import Host
    from harness.scenario.spec import Scenario

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
    if OPTIONS not in config.stash and any(config.getoption(_destination(row)) is not None for row in TABLE):
        try:
            options(config).scenarios()
        except MaskallError as error:
            raise pytest.UsageError(f"maskall: {error}") from None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "maskall_scenario" in metafunc.fixturenames:
        try:
            rows = options(metafunc.config).scenarios()
        except MaskallError as error:  # of an ini file, or of an inventory
            raise pytest.Collector.CollectError(f"maskall: {error}") from None
        metafunc.parametrize("maskall_scenario", rows, ids=[row.id for row in rows], scope="session")


@pytest.fixture(scope="session")
def maskall_running(request: pytest.FixtureRequest) -> Running:
    """The run all scenarios of this pytest share; its lab is prepared when the first of them asks."""
    stash = request.config.stash
    if RUNNING not in stash:
        stash[RUNNING] = Running(options(request.config), request.config, _collected(request.session))
    return stash[RUNNING]


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


def pytest_report_teststatus(report: pytest.TestReport, config: pytest.Config) -> tuple[str, str, str] | None:
    """A scenario has a line of its own in the progress already: no dot, no letter behind it."""
    if config.stash.get(RUNNING, None) is None or "maskall_scenario" not in getattr(report, "keywords", {}):
        return None
    if report.when != "call" and report.passed:
        return "", "", ""
    outcome = "xfailed" if hasattr(report, "wasxfail") else report.outcome
    return outcome, "", outcome.upper()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the results of what was finished, also after Ctrl-C."""
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
