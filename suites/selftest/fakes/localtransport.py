"""Commands on the controller itself, under the same contract as on a host."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import subprocess
import threading
import time

from harness.base.deadline import Deadline
from harness.base.errors import CommandFailed, HostHung, HostUnreachable
from harness.transport import files
from harness.transport.base import Command, CommandEnd, CommandResult, Script, briefly, quote, shown
from harness.transport.received import ReadStream

log = logging.getLogger(__name__)

_WRITE_SECONDS = 10.0


def _words(command: Command) -> list[bytes]:
    words = ["sh", "-c", command.text] if isinstance(command, Script) else list(command)
    quote(words)  # for its refusals
    return [word.encode("utf-8", "surrogateescape") for word in words]


def _ending(code: int) -> CommandEnd:
    """Popen.returncode: a negative number is the signal that killed it."""
    return CommandEnd(status=code) if code >= 0 else CommandEnd(signal=signal.Signals(-code).name.removeprefix("SIG"))


def _kill(process: subprocess.Popen[bytes]) -> None:
    """The whole group: a shell's children too."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _abandon(process: subprocess.Popen[bytes]) -> None:
    """Kill it and let go of its pipes, which a grandchild in a group of its own may still hold."""
    _kill(process)
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        with contextlib.suppress(OSError):
            if pipe:
                pipe.close()


class LocalStream(ReadStream):
    """`Stream` to a child process."""

    def __init__(self, process: subprocess.Popen[bytes], who: str) -> None:
        self._process = process
        super().__init__(who)
        assert process.stdin and process.stdout
        self._input, self._output = process.stdin, process.stdout
        os.set_blocking(self._input.fileno(), False)
        threading.Thread(target=self._pump, name=f"stream {who}", daemon=True).start()

    def _pump(self) -> None:
        while data := os.read(self._output.fileno(), 65536):
            self._received.feed(data)
        self._output.close()
        self._received.end(_ending(self._process.wait()))

    def write(self, data: bytes, deadline: Deadline | None = None) -> None:
        deadline = deadline or Deadline.after(_WRITE_SECONDS)
        rest = memoryview(data)
        while rest:
            if not select.select([], [self._input], [], deadline.remaining)[1]:
                raise HostHung(f"{self._who}: does not read its input")
            try:
                rest = rest[os.write(self._input.fileno(), rest[: select.PIPE_BUF]) :]
            except BrokenPipeError as error:
                raise CommandFailed(f"{self._who}: its input is closed") from error

    def close(self) -> None:
        if not self._input.closed:
            self._input.close()
        if not self.ended:
            _kill(self._process)


class LocalTransport:
    """`Transport` to this machine as the current user."""

    def __init__(self, name: str = "localhost") -> None:
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    @property
    def connected(self) -> bool:
        return True

    def connect(self, deadline: Deadline) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""

    def run(self, command: Command, *, deadline: Deadline, changes: bool = False, stdin: bytes = b"") -> CommandResult:
        line = shown(command)
        log.info("%s: %s", self._name, line)
        started = time.monotonic()
        try:
            process = self._start(command, stderr=subprocess.PIPE)
        except OSError as error:  # what a shell says and answers in this case
            status = 127 if isinstance(error, FileNotFoundError) else 126
            problem = "not found" if status == 127 else error.strerror
            return CommandResult(line, b"", f"{briefly(line)}: {problem}\n".encode(), status, None, 0.0, self._name)
        try:
            stdout, stderr = process.communicate(stdin, timeout=deadline.remaining)
        except subprocess.TimeoutExpired:
            raise HostHung(f"{self._name}: not ended in time and killed: {briefly(line)}") from None
        finally:
            if process.returncode is None:
                _abandon(process)
        ending = _ending(process.returncode)
        seconds = time.monotonic() - started
        log.debug("%s: %s after %.2f s", self._name, ending, seconds)
        return CommandResult(line, stdout, stderr, ending.status, ending.signal, seconds, self._name)

    def open_stream(self, command: Command, *, deadline: Deadline, changes: bool = False) -> LocalStream:
        line = shown(command)
        log.info("%s: %s", self._name, line)
        try:
            process = self._start(command, stderr=subprocess.STDOUT)
        except OSError as error:
            raise HostUnreachable(f"{self._name}: cannot start {briefly(line)}: {error.strerror}") from error
        return LocalStream(process, f"{self._name}: {briefly(line)}")

    @staticmethod
    def _start(command: Command, *, stderr: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603  (list argv: no shell reads it)
            _words(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, start_new_session=True
        )

    def put(self, data: bytes, path: str, mode: int, deadline: Deadline) -> None:
        files.put(self, data, path, mode, deadline)

    def get(self, path: str, deadline: Deadline) -> bytes:
        return files.get(self, path, deadline)
