"""The pytest side: options, the scenarios as parameters, the session they share, and the report at the end.

Loaded by every pytest that finds this package installed, so it imports nothing heavy, every option begins with
`--maskall-`, and no hook does anything for tests that do not ask for its fixtures.
"""

from __future__ import annotations

from dataclasses import Field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.base.errors import MaskallError
from harness.plugin.running import Runner, Running
from harness.run.options import RunOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.host.host import Host
    from harness.scenario.spec import Scenario

OPTIONS: pytest.StashKey[RunOptions] = pytest.StashKey()
RUNNING: pytest.StashKey[Running] = pytest.StashKey()

_HELP = {
    "scenario": "id or glob of scenarios, see 'maskall list'; may be repeated (default: the profile's)",
    "profile": "smoke, ci, certify or full",
    "inventory": "YAML file that describes the hosts (default: inventory/nested.yaml)",
    "host": "which host of the inventory; needed where there are several",
    "stack": "the Xen host to build, instead of the inventory's: trixie, bookworm or bullseye",
    "toolstack": "xl (default) or libvirt: who makes and ends the domains",
    "device": "target device, instead of the inventory's; may be repeated",
    "mutant": "the known-bad hypervisor to hold the scenarios against",
    "no_control": "run no control; with --maskall-mutant the mutant itself is the hypervisor under test",
    "mutants": "YAML file with mutants of your own",
    "known_issues": "YAML file with known issues of your own",
    "results": "directory for the results (default: results/<UTC time>)",
    "trace": "say who maps, binds, unbinds, unmaps and masks the device's interrupts, by breakpoints in the hypervisor",
    "keep": "leave host and guest running",
    "yes": "install missing packages through sudo when not root",
    "accept": "CHECK=REASON: accept one refusal of the safety gate of a lab host; may be repeated",
    "wait": "seconds to wait for a lab host that somebody else uses",
    "take_over": "take a lab host from whoever claims it; the reason, which is recorded",
    "rounds": "how many rounds a scenario has that has rounds (default: the catalogue's)",
    "cold": "play every scenario from its beginning, on no host that was frozen with guest A running",
    "workers": "hosts at a time (default: one for each processor, at most 2)",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("maskall", "MSI-X scenarios on a Xen host")
    for one in fields(RunOptions):
        name, text = f"--maskall-{one.name.replace('_', '-')}", _HELP[one.name]
        if one.default is False:
            group.addoption(name, dest=_destination(one.name), action="store_true", default=False, help=text)
        else:
            action = "append" if isinstance(one.default, tuple) else "store"
            group.addoption(name, dest=_destination(one.name), action=action, default=None, help=text)


def _destination(name: str) -> str:
    return f"maskall_{name}"


def options(config: pytest.Config) -> RunOptions:
    """What the command line asks for."""
    if OPTIONS not in config.stash:
        config.stash[OPTIONS] = RunOptions(
            **{one.name: _value(one, config.getoption(_destination(one.name))) for one in fields(RunOptions)}
        )
    return config.stash[OPTIONS]


def _value(field: Field[Any], given: Any) -> Any:  # noqa: ANN401 - whatever the field's type is
    """What was given, as the field wants it; its default when nothing was."""
    if given is None:
        return field.default
    if isinstance(field.default, tuple):
        return tuple(given)
    if isinstance(field.default, int) and not isinstance(field.default, bool):
        return int(given)
    return Path(given) if field.name in ("inventory", "mutants", "known_issues", "results") else given


def pytest_configure(config: pytest.Config) -> None:
    """Options that are wrong end here, before anything is collected. With none of ours given nothing is loaded."""
    if options(config) != RunOptions():
        try:
            options(config).scenarios()
        except MaskallError as error:
            raise pytest.UsageError(f"maskall: {error}") from None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "maskall_scenario" in metafunc.fixturenames:
        rows = options(metafunc.config).scenarios()
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
