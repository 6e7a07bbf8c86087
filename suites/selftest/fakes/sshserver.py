"""A real ssh server in this process that runs what it is asked on this machine, and a wire to it that can be cut."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence

import paramiko
from paramiko.common import AUTH_FAILED, AUTH_SUCCESSFUL, OPEN_SUCCEEDED, cMSG_CHANNEL_REQUEST

BROKEN = (OSError, EOFError, paramiko.SSHException)  # what paramiko raises where a link is broken


def listening() -> socket.socket:
    """A TCP socket on a free port of this machine."""
    return socket.create_server(("127.0.0.1", 0))


def _nodelay(plug: socket.socket) -> socket.socket:
    plug.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return plug


class _Session(paramiko.ServerInterface):
    """One connection."""

    def __init__(self, server: SshServer) -> None:
        self._server = server

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        known = key == self._server.user_key
        return AUTH_SUCCESSFUL if known else AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        self._server.commands.append(command)
        execute = self._server.executor or self._server.execute
        threading.Thread(target=execute, args=(channel, command), daemon=True).start()
        return True


class SshServer:
    """Accepts the one user key. `commands` is everything it was asked to run, `processes` what it started for that.
    `before_answer` runs once a command ended and its exit status was not sent yet; with `answers` False none is sent.
    `kex` restricts the key exchanges. `executor` replaces `execute`; it uses `run_process` and `answer`. With `refuses`
    nobody gets as far as a banner. Not `up` it has its port and nobody listens there, until `come_up`."""

    def __init__(self, host_key: paramiko.PKey, user_key: paramiko.PKey, *, up: bool = True) -> None:
        self.host_key = host_key
        self.user_key = user_key
        self.commands: list[bytes] = []
        self.before_answer: Callable[[], None] | None = None
        self.answers = True
        self.kex: tuple[str, ...] = ()
        self.executor: Callable[[paramiko.Channel, bytes], None] | None = None
        self.refuses = False
        self._links: list[paramiko.Transport] = []
        self.processes: list[subprocess.Popen[bytes]] = []
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        if up:
            self.come_up()

    def come_up(self) -> None:
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                plug = _nodelay(self._listener.accept()[0])
                if self.refuses:
                    plug.close()
                    continue
                link = paramiko.Transport(plug)
                link.set_log_channel("paramiko.server")
                link.add_server_key(self.host_key)
                if self.kex:
                    link.get_security_options().kex = self.kex
                self._links.append(link)
                link.start_server(event=threading.Event(), server=_Session(self))

    def execute(self, channel: paramiko.Channel, command: bytes) -> None:
        self.answer(channel, self.run_process(channel, [b"sh", b"-c", command]))

    def run_process(
        self,
        channel: paramiko.Channel,
        argv: Sequence[bytes],
        *,
        env: Mapping[str, str] | None = None,
        edit: Callable[[bytes], bytes] = bytes,
    ) -> int:
        """Run it with the channel as its three streams, what it prints passed through `edit`. As Popen.returncode."""
        pipe = subprocess.PIPE
        process = subprocess.Popen(  # noqa: S603  (executing what it is asked is its purpose)
            argv, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True, env=env
        )
        self.processes.append(process)
        assert process.stdin and process.stdout and process.stderr

        def pump_in(target: int = process.stdin.fileno()) -> None:
            with contextlib.suppress(*BROKEN):
                while data := channel.recv(1 << 16):
                    while data:
                        data = data[os.write(target, data) :]
            process.stdin.close()  # type: ignore[union-attr]

        def pump_out(source: int, send: Callable[[bytes], None]) -> None:
            with contextlib.suppress(*BROKEN):
                while data := os.read(source, 1 << 16):
                    send(edit(data))

        threading.Thread(target=pump_in, daemon=True).start()
        out = threading.Thread(target=pump_out, args=(process.stdout.fileno(), channel.sendall), daemon=True)
        out.start()
        pump_out(process.stderr.fileno(), channel.sendall_stderr)
        out.join()
        status = process.wait()
        process.stdout.close()
        process.stderr.close()
        return status

    def answer(self, channel: paramiko.Channel, status: int | None) -> None:
        """The end of a command: its status, that of the signal -status, or with None no status at all."""
        if self.before_answer:
            self.before_answer()
        with contextlib.suppress(*BROKEN):
            if status is None or not self.answers:
                pass
            elif status >= 0:
                channel.send_exit_status(status)
            else:
                _send_exit_signal(channel, signal.Signals(-status).name.removeprefix("SIG"))
            channel.close()

    @property
    def idle(self) -> bool:
        """Everything it started has ended."""
        return all(process.poll() is not None for process in self.processes)

    @property
    def connections(self) -> int:
        """How many were ever made to it."""
        return len(self._links)

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop()

    def drop(self) -> None:
        """End every connection and everything it started, as when the machine goes down."""
        for link in self._links:
            link.close()
        for process in self.processes:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


def _send_exit_signal(channel: paramiko.Channel, name: str) -> None:
    """RFC 4254, 6.10. paramiko has a method for the status only."""
    message = paramiko.Message()
    message.add_byte(cMSG_CHANNEL_REQUEST)
    message.add_int(channel.remote_chanid)
    message.add_string("exit-signal")
    message.add_boolean(False)
    message.add_string(name)
    message.add_boolean(False)
    message.add_string("")
    message.add_string("")
    channel.get_transport()._send_user_message(message)  # type: ignore[attr-defined]


class Wire:
    """A TCP proxy before a port. `freeze` swallows everything and says nothing; `cut` closes both sides.

    `cut_after` bytes of one direction cuts it in the middle of whatever goes through, at the same place every time.
    """

    cut_after: int | None = None

    def __init__(self, target: int) -> None:
        self._target = target
        self._thawed = threading.Event()
        self._thawed.set()
        self._plugs: list[socket.socket] = []
        self._listener = listening()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # so that a frozen wire is soon full
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near = _nodelay(self._listener.accept()[0])
                far = _nodelay(socket.create_connection(("127.0.0.1", self._target)))
                self._plugs += [near, far]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._forward, args=(source, sink), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            passed = 0
            while data := source.recv(1 << 16):
                self._thawed.wait()
                sink.sendall(data)
                passed += len(data)
                if self.cut_after is not None and passed >= self.cut_after:
                    self.cut()
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def freeze(self) -> None:
        self._thawed.clear()

    @property
    def frozen(self) -> bool:
        return not self._thawed.is_set()

    def thaw(self) -> None:
        """After a freeze: what hung on the wire is lost, new connections go through."""
        self.cut()
        self._thawed.set()

    def cut(self) -> None:
        for plug in self._plugs:
            with contextlib.suppress(OSError):
                plug.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        self.cut()
        self._thawed.set()
        for plug in self._plugs:
            plug.close()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
