"""A host over ssh: one connection, every command a channel on it, the host key pinned."""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path

import paramiko

from harness.base.deadline import Deadline
from harness.base.errors import CommandFailed, HostHung, HostUnreachable, LabError
from harness.base.records import logger
from harness.transport import files
from harness.transport.base import MOST, Command, CommandEnd, CommandResult, Script, briefly, lost_link, quote, shown
from harness.transport.received import ReadStream
from harness.transport.ssh_channel import CommandChannel, SshLink
from harness.transport.ssh_connect import Endpoint, HostKey, load_key
from harness.transport.ssh_watch import PeerWatch

log = logger(__name__)

_BROKEN = (OSError, EOFError, paramiko.SSHException)  # what paramiko raises when the link breaks under a call
_WRITE_SECONDS = 10.0


# sudo(8) empties the environment; env(1) carries over the one variable that says through which address we came.
_SUDO = 'sudo -n -- env SSH_CONNECTION="$SSH_CONNECTION" '

# The words of a command that every login shell hands on as they are: sh, ksh, zsh, fish and csh.
_PLAIN = re.compile(r"[A-Za-z0-9_./-][A-Za-z0-9_@%+=:,./-]*")
# In single quotes every shell hands these on as they are; csh looks for `!` there, fish for `\`. The rest are escapes
# of printf(1)'s %b. $1 goes before the program begins: its `$@` is its own.
_ESCAPED = re.compile(rb"[^ -~]|['\\!]")
_SHELL = """/bin/sh -c 'eval "shift; $(printf %%b "$1")"' sh '%s'"""


def line_for(command: Command, *, sudo: bool, posix: bool) -> bytes:
    """What the login shell is given. A Script it runs itself where it is known to be a POSIX `posix` shell; else it
    only hands it on to sh(1). Words replace it, or a signal would come as a status."""
    if isinstance(command, Script):
        text = command.text
    elif all(_PLAIN.fullmatch(word) for word in command) and command:
        return f"exec {_SUDO if sudo else ''}{quote(command)}".encode()
    else:
        text = f"exec {quote(command)}"
    raw = text.encode("utf-8", "surrogateescape")
    if posix and not sudo:
        return raw
    escaped = _ESCAPED.sub(lambda found: b"\\0%03o" % ord(found[0]), raw)
    return f"exec {_SUDO if sudo else ''}{_SHELL % escaped.decode()}".encode()


class SshStream(ReadStream):
    """`Stream` over one channel, pumped by one thread."""

    def __init__(self, channel: CommandChannel, who: str) -> None:
        self._channel = channel
        super().__init__(who)
        threading.Thread(target=self._pump, name=f"stream {who}", daemon=True).start()

    def _pump(self) -> None:
        try:
            finished = False
            while not finished:
                self._channel.wait()
                finished = self._channel.finished
                if not self._received.feed(self._channel.drain()[0]):
                    self._channel.close()
                    return
            self._received.end(self._channel.ending)
        except _BROKEN:
            self._received.end(CommandEnd())

    def write(self, data: bytes, deadline: Deadline | None = None) -> None:
        try:
            self._channel.send(data, deadline or Deadline.after(_WRITE_SECONDS))
        except TimeoutError as error:
            raise HostHung(f"{self._who}: does not read its input") from error
        except _BROKEN as error:
            if self._channel.link_alive:
                raise CommandFailed(f"{self._who}: its input is closed") from error
            raise HostUnreachable(f"{self._who}: link lost") from error

    def close(self) -> None:
        self._channel.close()


class SshTransport:
    """`Transport` over ssh.

    `host_key` is the only key accepted, as "ssh-ed25519 AAAA..." or a paramiko key; `key_file` the private key to
    log in with. No agent, no ~/.ssh. `sudo`: every command runs as root by `sudo -n`. `dead_after`: seconds of
    silence, although asked, after which the peer counts as gone; longer than any pause of the host that is meant
    (a snapshot, a stop in a debugger). `posix_shell`: the login shell is known to be one of the POSIX kind.
    """

    def __init__(
        self,
        name: str,
        address: str,
        *,
        host_key: str | paramiko.PKey,
        key_file: Path,
        port: int = 22,
        user: str = "root",
        sudo: bool = False,
        dead_after: float = 15.0,
        posix_shell: bool = False,
    ) -> None:
        self._endpoint = Endpoint(name, address, port, user, load_key(key_file), HostKey.parse(host_key))
        self._sudo = sudo
        self._posix_shell = posix_shell
        self._dead_after = dead_after
        self._link: SshLink | None = None
        self._watch: PeerWatch | None = None

    @property
    def name(self) -> str:
        return self._endpoint.name

    @property
    def connected(self) -> bool:
        return self._link is not None and self._link.is_active()

    def connect(self, deadline: Deadline) -> None:
        """A new connection if there is none alive. HostKeyMismatch, HostUnreachable."""
        if self.connected:
            return
        self.close()
        started = time.monotonic()
        self._link, heard = self._endpoint.connect(deadline)
        self._watch = PeerWatch(self.name, self._link, heard, self._dead_after)
        log.info("%s: connected after %.2f s", self.name, time.monotonic() - started)

    def close(self) -> None:
        if self._watch:
            self._watch.stop()
        if self._link:
            self._link.close()
        self._link = self._watch = None

    def run(self, command: Command, *, deadline: Deadline, changes: bool = False, stdin: bytes = b"") -> CommandResult:
        """As `Transport.run`. At the deadline the channel is closed; sshd does not kill what runs on the host."""
        line, started = shown(command), time.monotonic()
        stdout, stderr, size = [], [], 0
        channel = self._start(command, deadline, changes=changes, merge=False)
        try:
            channel.feed(stdin, deadline)
            finished = False
            while not finished:
                if deadline.expired:
                    # In a thread: it sends a message, and to a host that reads nothing this can block.
                    threading.Thread(target=channel.close, name="ssh close", daemon=True).start()
                    raise HostHung(f"{self.name}: not ended in time: {briefly(line)}")
                channel.wait(deadline.remaining)
                finished = channel.finished
                out, err = channel.drain()
                stdout.append(out)
                stderr.append(err)
                size += len(out) + len(err)
                if size > MOST:
                    threading.Thread(target=channel.close, name="ssh close", daemon=True).start()
                    raise LabError(f"{self.name}: says more than {MOST >> 20} MiB: {briefly(line)}")
        except _BROKEN as error:
            raise lost_link(self.name, line, self._why(error), changes=changes) from error
        ending = channel.ending
        if ending.lost:
            raise lost_link(self.name, line, self._why(), changes=changes)
        seconds = time.monotonic() - started
        log.debug("%s: %s after %.2f s", self.name, ending, seconds)
        return CommandResult(line, b"".join(stdout), b"".join(stderr), ending.status, ending.signal, seconds, self.name)

    def open_stream(self, command: Command, *, deadline: Deadline, changes: bool = False) -> SshStream:
        return SshStream(
            self._start(command, deadline, changes=changes, merge=True), f"{self.name}: {briefly(shown(command))}"
        )

    def _start(self, command: Command, deadline: Deadline, *, changes: bool, merge: bool) -> CommandChannel:
        line = shown(command)
        link = self._link
        if link is None or not link.is_active():
            raise HostUnreachable(f"{self.name}: {self._why()}, not sent: {briefly(line)}")
        log.info("%s: %s", self.name, line)
        try:
            sent = line_for(command, sudo=self._sudo, posix=self._posix_shell)
            return CommandChannel.start(link, self.name, sent, deadline, merge=merge)
        except _BROKEN as error:
            raise lost_link(self.name, line, self._why(error), changes=changes) from error

    def _why(self, error: BaseException | None = None) -> str:
        if self._link is None:
            return "not connected"
        if self._watch and self._watch.verdict:
            return self._watch.verdict
        if self._link.is_active() and error is None:
            return "the host closed the channel without an exit status"
        return f"link lost ({error})" if error and str(error) else "link lost"

    def put(self, data: bytes, path: str, mode: int, deadline: Deadline) -> None:
        files.put(self, data, path, mode, deadline)

    def get(self, path: str, deadline: Deadline) -> bytes:
        return files.get(self, path, deadline)
