"""The door of the `maskall` command: signals, and errors told in one line. Never a traceback."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from types import FrameType

import typer

from harness.base.errors import ExitStatus, MaskallError
from harness.base.text import inert
from harness.cli.app import app

# typer brings a click of its own or uses the installed one, by its version; the base class of its errors is the
# one name that both have.
_CLICK_ERROR: type[Exception] = next(
    base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException" and issubclass(base, Exception)
)
# With --bisect, what ended early: git bisect reads 2, 3 and 5 as a bad commit, 125 as one to skip, 129 as an end of all
_FOR_GIT: dict[int, int] = {ExitStatus.USAGE: 129, ExitStatus.NOTHING_RAN: 129, ExitStatus.UNDECIDED: 125}
_SIGNALLED = 128  # what a shell adds to the number of the signal that ended a command
_INTERRUPTED = _SIGNALLED + signal.SIGINT
_CLEANED_UP = "interrupted; everything was cleaned up"


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP, made to clean up as Ctrl-C does."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line (default: this process's) and return the exit status."""
    _open_what_is_closed()
    # what is written is for its user to read and change, and for nobody else to change, whatever the shell was told
    os.umask((os.umask(0o022) | 0o022) & 0o077)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a guest's bytes must not break a terminal that cannot show them
            stream.reconfigure(errors="backslashreplace")
    # asyncio prints the traceback of a task that Ctrl-C cut off, although whoever waited for it has the error.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    received = _clean_up_on_signals()
    status = _told(lambda: app(args=arguments, prog_name="maskall", standalone_mode=False))
    if "--bisect" in (arguments if arguments is not None else sys.argv[1:]):
        status = _FOR_GIT.get(status, status)
    # Whoever swallowed the interrupt in order to clean up: the caller still hears how the command ended.
    return _SIGNALLED + received[0] if received and status == _INTERRUPTED else status


def _open_what_is_closed() -> None:
    """Streams that a shell has closed (`>&-`) go nowhere; else the next file that is opened takes the place of one."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest that is free: this one
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 - for as long as the process lives
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def _clean_up_on_signals() -> list[int]:
    """From now on SIGTERM and SIGHUP raise; the list holds those that came."""
    received: list[int] = []

    def raised(number: int, _: FrameType | None) -> None:
        received.append(number)
        if len(received) == 1:  # a second one would interrupt the cleaning up
            raise Terminated

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup(1)
            with contextlib.suppress(ValueError):  # not in the main thread: somebody else's process
                signal.signal(number, raised)
    return received


def _told(command: Callable[[], object]) -> int:
    """The command's exit status, whatever became of it told in one line."""
    try:
        return _ended(command)
    except (BrokenPipeError, SystemExit):  # click makes the latter of the former
        # The reader has seen enough (`maskall list | head`).
        _give_up_on_stdout()
        return _SIGNALLED + signal.SIGPIPE


def _give_up_on_stdout() -> None:
    """Python must not complain of it when it closes stdout."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _stdout_refuses() -> str:
    """Why nothing can be printed; empty: it can. Python forgets what it could not write, so one byte more is tried."""
    try:
        print(flush=True)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _ended(command: Callable[[], object]) -> int:
    try:
        status = command()
        sys.stdout.flush()
        if status == _INTERRUPTED:  # some versions of typer make a status of Ctrl-C, others an exception
            _say(_CLEANED_UP)
        return status if isinstance(status, int) else ExitStatus.OK
    except MaskallError as error:
        _say(error.message, error.hint)
        return error.exit_status
    except typer.Exit as ended:
        return ended.exit_code
    except _CLICK_ERROR as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # `maskall` alone: its message is the help
            print(error, flush=True)
            return ExitStatus.USAGE
        _say(str(getattr(error, "format_message", error.__str__)()).rstrip("."), "see --help")
        return ExitStatus.USAGE
    except (KeyboardInterrupt, typer.Abort):
        _say(_CLEANED_UP)
        return _INTERRUPTED
    except BrokenPipeError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and (why := _stdout_refuses()):
            _say(f"standard output could not be written: {why}")
            _give_up_on_stdout()
            return ExitStatus.UNDECIDED
        _say(f"this is a bug in maskall: {type(error).__name__}: {error} (traceback in {_written(error)})")
        return ExitStatus.UNDECIDED


def _say(message: str, hint: str = "") -> None:
    told = message if "\n    " in message else " ".join(message.split())
    lines = [*f"maskall: {told}".split("\n"), *([f"hint: {hint}"] if hint else [])]
    lines = [inert(line) for line in lines]  # a host's words may be among them
    with contextlib.suppress(OSError):
        print("\n".join(lines), file=sys.stderr, flush=True)


def _written(error: BaseException) -> str:
    """The file that holds the traceback."""
    try:
        handle, name = tempfile.mkstemp(prefix="maskall-bug-", suffix=".txt")
        with os.fdopen(handle, "w", errors="backslashreplace") as file:
            traceback.print_exception(error, file=file)
    except OSError as failure:
        return f"no file: {failure}"
    return name
