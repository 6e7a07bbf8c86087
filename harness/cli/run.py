"""`maskall run`, `test` and `report`."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
import typer

from harness.base.errors import ExitStatus, HarnessBug, UsageError
from harness.plugin import RUNNING
from harness.plugin.running import Running
from harness.run.options import RunOptions

_QUIETLY = ("-p", "no:terminal", "-p", "no:cacheprovider")
"""pytest's own reporter is left out: phases, table and failures are ours, and one voice is enough."""


class _Receiver:
    """A pytest plugin that hands the configuration, and with it our run, to the caller of pytest.main."""

    config: pytest.Config | None = None

    def pytest_configure(self, config: pytest.Config) -> None:
        self.config = config

    @property
    def running(self) -> Running | None:
        return self.config.stash.get(RUNNING, None) if self.config is not None else None


def run_scenarios(options: RunOptions, mirror: str | None) -> int:
    """Play them; the exit status is the verdicts', not pytest's."""
    options.scenarios()  # whatever is wrong with the options is said before pytest starts
    use_mirror(mirror)
    running = play(options)
    status = running.result.exit_status if running.result is not None else ExitStatus.NOTHING_RAN
    if running.error is not None and status is not ExitStatus.FAILED:
        raise running.error
    return status


def play(options: RunOptions) -> Running:
    """Play scenarios through pytest and print what they came to. KeyboardInterrupt when it was interrupted."""
    suite = checkout() / "suites" / "msix"
    receiver = _Receiver()
    ended = pytest.main([str(suite), *_QUIETLY, *options.arguments()], plugins=[receiver])
    running = receiver.running
    if running is None:
        raise HarnessBug(f"pytest ended with {int(ended)} before any scenario", hint=f"see: pytest {suite}")
    width, colour = shutil.get_terminal_size().columns, sys.stdout.isatty() and "NO_COLOR" not in os.environ
    for line in running.report(width=width, colour=colour, failures=True):
        typer.echo(line)
    if running.interrupted:
        raise KeyboardInterrupt
    return running


def use_mirror(mirror: str | None) -> None:
    """Let the image be built from this mirror. UsageError when it is none."""
    from harness.nested.mirror import VARIABLE, from_option

    if mirror is not None:
        from_option(mirror)
        os.environ[VARIABLE] = mirror


def run_tox(arguments: list[str]) -> int:
    """Everything in tox.ini, with the Python that runs this. Replaces this process."""
    root = checkout()
    try:
        import tox  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise UsageError("tox is not installed", hint="call ./tools/maskall test, which installs it") from error
    os.chdir(root)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "tox", *arguments])  # noqa: S606 - list argv, our own interpreter


def report_again(path: Path) -> int:
    """The table and the failures of stored results, or the table of several stacks' results."""
    from harness.cli import stacks
    from harness.report.failure import failures, remarks, skipped
    from harness.report.table import plain
    from harness.run.store import load

    if path.is_dir() and not (path / "results.json").exists() and (runs := stacks.stored(path)):
        stacks.told(runs)
        return stacks.worst([run.exit_status for run in runs.values()])
    result = load(path / "results.json" if path.is_dir() else path)
    typer.echo(plain(result, width=shutil.get_terminal_size().columns), nl=False)
    paragraphs = [*skipped(result), *remarks(result), *failures(result)]
    if paragraphs:
        typer.echo("\n".join(["", *paragraphs]))
    return result.exit_status


def checkout() -> Path:
    """The source checkout this package runs from. Raises UsageError when it was installed without one."""
    root = Path(__file__).resolve().parents[2]
    if not (root / "suites" / "msix").is_dir():
        raise UsageError(
            f"the scenarios are not there: {root} is not a source checkout of maskall",
            hint="clone the repository and call ./tools/maskall in it",
        )
    return root
