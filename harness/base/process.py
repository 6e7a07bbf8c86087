"""The one door to local subprocesses: list argv, one deadline, nothing left running."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from harness.base.deadline import Deadline
from harness.base.errors import CommandFailed, UsageError

MOST = 256 << 20
"""Bytes that a program may say where no log file takes them."""

_LOOK = 0.5
"""Seconds between two looks at how much a program has said."""

TAIL_LINES = 8
"""How many of the last lines of output an error repeats."""

KILL_GRACE = 10.0
"""Seconds a command gets after SIGTERM to remove what it half built (mmdebstrap: mounts, its chroot)."""

DEBIAN_PACKAGE = {
    "apt-get": "apt",
    "fakeroot": "fakeroot",
    "ipmi_sim": "openipmi",
    "mkfs.ext4": "e2fsprogs",
    "mmdebstrap": "mmdebstrap",
    "newuidmap": "uidmap",
    "qemu-system-x86_64": "qemu-system-x86",
    "ssh": "openssh-client",
    "tar": "tar",
}
"""Program -> Debian package that brings it; a program not named here has its package's own name."""

# A guard of our own in the child's process group: the kernel sends it SIGTERM when the harness dies (even by
# SIGKILL), and it then ends the whole group. A background job would read /dev/null: hence the detour of stdin over 3.
# `$!`, not a variable of ours: a signal that came before its assignment would find nobody to wait for.
_GUARD = """
stop() {
    trap '' TERM
    kill -TERM 0
    for _ in $(seq 100); do kill -0 "$!" 2>/dev/null || exit 143; sleep 0.1; done
    kill -KILL 0
}
trap stop TERM
exec 3<&0
"$@" <&3 3<&- &
wait "$!"
"""


@dataclass(frozen=True)
class Completed:
    """A command that ended. `stdout` and `stderr` are empty when a log file took the output."""

    argv: tuple[str, ...]
    status: int
    stdout: str
    stderr: str
    seconds: float
    log: Path | None = None


_running: set[subprocess.Popen[bytes]] = set()
_withheld: set[str] = set()


def withhold(name: str) -> None:
    """From now on no program that is started gets this variable of our environment: it holds a secret."""
    _withheld.add(name)


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a program that is started gets to see: our environment without secrets, and `more`."""
    return {**{name: value for name, value in os.environ.items() if name not in _withheld}, **(more or {})}


def pasteable(argv: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """One line that a person can paste into a shell to do the same by hand."""
    words = [f"{name}={shlex.quote(value)}" for name, value in (env or {}).items()]
    line = " ".join([*words, shlex.join(argv)])
    return f"cd {shlex.quote(str(cwd))} && {line}" if cwd else line


def package_of(program: str) -> str:
    """The Debian package that brings `program`."""
    return DEBIAN_PACKAGE.get(program, program)


def find(program: str) -> str:
    """The path of `program`, also in the sbin folders a user's PATH lacks. Raises UsageError naming the package."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])
    found = shutil.which(program, path=path)
    if found is None:
        raise UsageError(
            f"the program '{program}' is missing on this machine",
            hint=f"install the Debian package {package_of(Path(program).name)}",
        )
    return found


def run(
    argv: Sequence[str],
    *,
    deadline: Deadline,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str | bytes | None = None,
    log: Path | None = None,
    check: bool = True,
) -> Completed:
    """Run `argv` to its end and return what it said.

    `env` is added to the harness's own environment. With `log` the pasteable command line and the merged output are
    appended to that file while the command runs; without it both streams are kept in memory. `check=False`
    returns a non-zero status instead of raising.

    Raises UsageError for a missing program or folder, CommandFailed for a non-zero status or an expired deadline. On
    the deadline, on Ctrl-C and on any other exception the command's process group is ended before this returns; if the
    harness itself is killed the group ends by itself.
    """
    program = find(argv[0])
    line = pasteable(argv, cwd=cwd, env=env)
    guarded = [find("setpriv"), "--pdeathsig", "TERM", "--", "/bin/sh", "-c", _GUARD, "guard", program, *argv[1:]]
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(_in_memory("stdin"))
        source.write(stdin.encode() if isinstance(stdin, str) else stdin or b"")
        source.seek(0)
        # Files instead of pipes: no reader to starve, and a stray grandchild cannot keep us waiting for EOF.
        out, err = _outputs(stack, log, line)
        try:
            process = subprocess.Popen(  # noqa: S603 - list argv, never a shell line
                guarded,
                stdin=source,
                stdout=out,
                stderr=err,
                cwd=cwd,
                env=environment(env),
                start_new_session=True,
            )
        except OSError as error:
            raise UsageError(f"cannot start: {line}: {error.strerror or error}") from error
        _running.add(process)
        try:
            status = _ended(process, deadline, () if log else (out, err))
            if status is None:
                end_group(process)
                waited = time.monotonic() - started
                raise CommandFailed(f"no end after {waited:.0f} s: {line}{_tail(err)}", hint=_where(log))
        except BaseException:
            end_group(process)
            raise
        finally:
            _running.discard(process)
        if not log and _says_too_much((out, err)):
            raise CommandFailed(f"{argv[0]} says more than {MOST >> 20} MiB")
        done = Completed(
            argv=tuple(argv),
            status=status,
            stdout="" if log else _text(out),
            stderr="" if log else _text(err),
            seconds=time.monotonic() - started,
            log=log,
        )
        if check and status != 0:
            raise CommandFailed(f"exit status {status}: {line}{_tail(err)}", hint=_where(log))
        return done


def end_all() -> None:
    """End what other threads wait for in `run`, which fails there. For a Ctrl-C, which only the main thread hears."""
    for process in list(_running):
        end_group(process)


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End the process group led by `process`: SIGTERM, a grace to clean up, SIGKILL."""
    for number, grace in ((signal.SIGTERM, KILL_GRACE + 1), (signal.SIGKILL, KILL_GRACE)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=grace)
            break
    # The leader is gone; a member that ignores SIGTERM is not spared.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _ended(process: subprocess.Popen[bytes], deadline: Deadline, outputs: Sequence[IO[bytes]]) -> int | None:
    """Its status; None at the deadline. One that says too much is ended at once, and whoever looks hears so."""
    while not deadline.expired:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(timeout=min(deadline.remaining, _LOOK))
        if _says_too_much(outputs):
            end_group(process)
    return process.poll()


def _says_too_much(outputs: Sequence[IO[bytes]]) -> bool:
    return any(os.fstat(file.fileno()).st_size > MOST for file in outputs)


def _in_memory(name: str) -> IO[bytes]:
    """What is in it may be a password, which no disk is to see; and no full disk is in its way."""
    return os.fdopen(os.memfd_create(name, os.MFD_CLOEXEC), "w+b")


def _outputs(stack: contextlib.ExitStack, log: Path | None, line: str) -> tuple[IO[bytes], IO[bytes]]:
    if log is None:
        return stack.enter_context(_in_memory("stdout")), stack.enter_context(_in_memory("stderr"))
    log.parent.mkdir(parents=True, exist_ok=True)
    file = stack.enter_context(log.open("a+b"))
    file.write(f"$ {line}\n".encode())
    file.flush()
    return file, file


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def _tail(file: IO[bytes]) -> str:
    lines = [line for line in _text(file).splitlines() if line.strip()][-TAIL_LINES:]
    return "".join(f"\n    {line}" for line in lines)


def _where(log: Path | None) -> str:
    return f"all of its output: {log}" if log else ""
