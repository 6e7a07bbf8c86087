"""One command on an ssh connection: a channel, drained event by event and without a thread of its own."""

from __future__ import annotations

import contextlib
import threading
from typing import Any, cast

import paramiko
from paramiko.common import MSG_CHANNEL_REQUEST, cMSG_CHANNEL_REQUEST

from harness.base.deadline import Deadline
from harness.base.errors import HostHung, HostUnreachable
from harness.transport.base import CommandEnd

_CHUNK = 1 << 22


def _handle_request(channel: Any, message: paramiko.Message) -> None:  # noqa: ANN401  (gains an attribute below)
    """paramiko drops "exit-signal" (RFC 4254, 6.10); without it a killed command looks like a lost one."""
    if message.get_text() == "exit-signal":
        message.get_boolean()
        channel.exit_signal = message.get_text()
        return
    message.rewind()
    message.get_int()  # the channel number, which paramiko's own handler expects to be read already
    channel._handle_request(message)


class SshLink(paramiko.Transport):
    """The connection, with the one thing added that paramiko does not report."""

    _channel_handler_table = {  # noqa: RUF012  (overrides paramiko's, which is declared like this)
        **cast(Any, paramiko.Transport)._channel_handler_table,
        MSG_CHANNEL_REQUEST: _handle_request,
    }


class _Wake(threading.Event):
    """Set by a channel's two buffers when data or the end comes. Only the reader clears it: see `acknowledge`."""

    def clear(self) -> None:
        """A buffer found itself empty; the other may not be."""

    def acknowledge(self) -> None:
        super().clear()


class CommandChannel:
    """A started command. One thread may `wait` and `drain`, another `send`."""

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel
        self._wake = _Wake()
        channel.in_buffer.set_event(self._wake)
        channel.in_stderr_buffer.set_event(self._wake)

    @classmethod
    def start(
        cls, link: paramiko.Transport, host: str, line: bytes, deadline: Deadline, *, merge: bool
    ) -> CommandChannel:
        """Open a channel and send the command `line`, stdout and stderr merged if `merge`.

        HostHung if no channel opens in time, HostUnreachable if none can be opened: nothing was sent in both cases.
        EOFError, OSError or SSHException if the link breaks while the command is being sent.
        """
        try:
            channel = link.open_session(timeout=max(0.01, deadline.remaining))
        except (paramiko.SSHException, EOFError, OSError) as error:
            if link.is_active() and deadline.expired:
                raise HostHung(f"{host}: opened no channel in time") from error
            raise HostUnreachable(f"{host}: opened no channel: {error or type(error).__name__}") from error
        channel.set_combine_stderr(merge)
        started = cls(channel)
        # By hand and not by exec_command: that waits for the reply, a whole round trip, and without a deadline.
        # A refusal closes the channel (Channel._request_failed), which `finished` sees.
        request = paramiko.Message()
        request.add_byte(cMSG_CHANNEL_REQUEST)
        request.add_int(channel.remote_chanid)
        request.add_string("exec")
        request.add_boolean(True)
        request.add_string(line)
        cast(Any, link)._send_user_message(request)
        return started

    def wait(self, seconds: float | None = None) -> None:
        """Until there is something to drain, the command ended, the link broke, or `seconds` are over."""
        self._wake.wait(seconds)
        self._wake.acknowledge()

    def drain(self) -> tuple[bytes, bytes]:
        """What arrived on stdout and stderr, without waiting. Raises EOFError or OSError if the link breaks."""
        stdout, stderr = b"", b""
        while self._channel.recv_ready():
            stdout += self._channel.recv(_CHUNK)
        while self._channel.recv_stderr_ready():
            stderr += self._channel.recv_stderr(_CHUNK)
        return stdout, stderr

    @property
    def finished(self) -> bool:
        """Nothing more will arrive. Drain once more after this became true."""
        return self._channel.closed

    @property
    def link_alive(self) -> bool:
        return self._channel.get_transport().is_active()

    @property
    def ending(self) -> CommandEnd:
        """How it ended, once `finished`; lost when the output or the ending did not arrive completely."""
        # A living link means that the server closed the channel, after everything it had to say.
        if not self._channel.eof_received and not self.link_alive:
            return CommandEnd()
        if (signal := cast(str | None, getattr(self._channel, "exit_signal", None))) is not None:
            return CommandEnd(signal=signal)
        # paramiko's -1 stands for "none came"; a real status is unsigned.
        return CommandEnd() if self._channel.exit_status < 0 else CommandEnd(status=self._channel.exit_status)

    def send(self, data: bytes, deadline: Deadline) -> None:
        """All of `data`. TimeoutError if the program does not take it in time, OSError if it is gone."""
        rest = memoryview(data)
        while rest:
            self._channel.settimeout(max(0.01, deadline.remaining))
            rest = rest[self._channel.send(bytes(rest[: 1 << 15])) :]

    def send_end(self) -> None:
        """End of file on its input."""
        self._channel.shutdown_write()

    def feed(self, data: bytes, deadline: Deadline) -> None:
        """Its whole input, then end of file, from a thread if there is any: the output must be drained meanwhile."""

        def work() -> None:
            # Whatever goes wrong here ends the channel, or the deadline of the reader: reported there.
            with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
                self.send(data, deadline)
                self.send_end()

        if data:
            threading.Thread(target=work, name="ssh stdin", daemon=True).start()
        else:
            work()

    def close(self) -> None:
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            self._channel.close()
