"""Runs what comes over ssh: plain calls of a modelled program at once, everything else by a real shell in the tree.

A modelled program inside a script is a small client in ROOT/bin that asks the model over a unix socket.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import paramiko

from suites.selftest.fakes.fakehost import programs
from suites.selftest.fakes.fakehost.machine import FakeHost
from suites.selftest.fakes.fakehost.rewriting import Rewriting
from suites.selftest.fakes.fakehost.traps import Lost
from suites.selftest.fakes.patience import FOREVER
from suites.selftest.fakes.sshserver import BROKEN, SshServer

_FRAME = struct.Struct(">I")
# perl starts in 3 ms, python3 in 12; every Debian has the former.
_PERL = r"""#!{perl}
my $name = $0; $name =~ s|.*/||;
local $/;
my $in = $name =~ /^(tee|sha512sum)$/ ? <STDIN> : '';
my $s;
socket($s, 1, 1, 0) && connect($s, pack('Sa108', 1, '{socket}')) or exit 125;
select((select($s), $| = 1)[0]);
print $s pack('N/a* N/a*', join("\0", $name, @ARGV), $in // '');
my $all = <$s>;
length $all or kill('KILL', $$);
my ($status, $out, $err) = unpack('N N/a* N/a*', $all);
print STDERR $err; print STDOUT $out;
exit $status;
"""
_PYTHON = r"""#!{python} -IS
import os, socket, struct, sys
name = os.path.basename(sys.argv[0])
data = sys.stdin.buffer.read() if name in ("tee", "sha512sum") else b""
call = b"\0".join([name.encode(), *map(os.fsencode, sys.argv[1:])])
link = socket.socket(socket.AF_UNIX)
link.connect("{socket}")
link.sendall(struct.pack(">I", len(call)) + call + struct.pack(">I", len(data)) + data)
answer = b""
while part := link.recv(65536):
    answer += part
answer or os.kill(os.getpid(), 9)
status, size = struct.unpack(">II", answer[:8])
os.write(2, answer[12 + size :])
rest = answer[8 : 8 + size]
while rest:
    rest = rest[os.write(1, rest) :]
sys.exit(status)
"""
_EVERYWHERE = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SUDO = """#!/bin/sh
while :; do case $1 in --) shift; break;; -*) shift;; *) break;; esac; done
exec "$@"
"""
_CONNECTION = "192.0.2.10 50000 192.0.2.1 22"  # client and server of an ssh session, as sshd tells it
_FULL = b"trap '' XFSZ; ulimit -f 0\n"  # writing any file fails: the nearest to ENOSPC without a file system of its own


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


class Executor:
    """Connects a model with an ssh server."""

    def __init__(self, host: FakeHost, server: SshServer) -> None:
        self._host, self._server = host, server
        self._rewriting = Rewriting(str(host.root))
        self._folder = Path(tempfile.mkdtemp(prefix="fh"))  # a socket's path must be short
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._folder / "s"))
        self._listener.listen(64)
        self._programs()
        self._env = {
            "PATH": f"{host.root}/bin:/usr/bin:/bin", "HOME": str(host.root), "SSH_CONNECTION": _CONNECTION,
            "LANG": "C", "USER": "root",
        }  # fmt: skip
        server.executor = self.execute
        host.on_reboot.append(self._down)
        host.on_timer = self._strike
        threading.Thread(target=self._serve, daemon=True).start()

    def _programs(self) -> None:
        folder = self._host.root / "bin"
        folder.mkdir()
        names = {"perl": shutil.which("perl"), "python": sys.executable, "socket": str(self._folder / "s")}
        text = _PERL if names["perl"] else _PYTHON
        for key, value in names.items():
            text = text.replace(f"{{{key}}}", str(value))
        for name, body in (
            (".client", text),
            ("sudo", _SUDO),
            ("busybox", "#!/bin/sh\n# a script is static, as far as ldd(1) is asked\n"),
            (".absent", '#!/bin/sh\necho "$0: not found" >&2\nexit 127\n'),
        ):
            (folder / name).write_text(body)
            (folder / name).chmod(0o755)
        for name in programs.names():
            (folder / name).symlink_to(".client")
        for name in programs.ABSENT:
            if shutil.which(name, path=_EVERYWHERE):  # else no shell finds it anyway, and scripts see that at once
                (folder / name).symlink_to(".absent")

    def stop(self) -> None:
        self._host.end()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    # -- a command over ssh ------------------------------------------------------------------------------------------

    def execute(self, channel: paramiko.Channel, command: bytes) -> None:
        host = self._host
        command = _handed_on(command)
        host.lines.append(_text(command))
        boot = host.boots
        host.strike()
        with host.lock:  # not while a reboot empties the tree
            host.tree.uptime()
        try:
            status = host.traps.around(_text(command), lambda: self._run(channel, command), changes=False, line=True)
        except Lost:
            status = None
        if host.boots != boot:  # the machine it ran on is no more
            with contextlib.suppress(*BROKEN):
                channel.get_transport().close()
            return
        self._server.answer(channel, status)
        with host.lock:
            later, host.later = host.later, []
        for act in later:
            act()

    def _run(self, channel: paramiko.Channel, command: bytes) -> int:
        words = _words(command)
        if words and programs.known(words[0]):
            stdin = b""
            if words[0] == "tee":
                while data := channel.recv(1 << 16):
                    stdin += data
            status, out, err = programs.run(self._host, tuple(words), stdin)
            with contextlib.suppress(*BROKEN):
                channel.sendall(out)
                channel.sendall_stderr(err)
            return status
        if words:
            argv = [self._rewriting.word(os.fsencode(word)) for word in words]
            if words[0] == "sh" or shutil.which(words[0]) is None or self._host.full:
                argv = [b"sh", b"-c", self._program(command)]
        else:
            argv = [b"sh", b"-c", self._program(command)]
        return self._server.run_process(channel, argv, env=self._env, edit=self._rewriting.back)

    def _program(self, text: bytes) -> bytes:
        return (_FULL if self._host.full else b"") + self._rewriting.program(text)

    # -- a program inside a script -----------------------------------------------------------------------------------

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                link = self._listener.accept()[0]
                threading.Thread(target=self._answer, args=(link,), daemon=True).start()

    def _answer(self, link: socket.socket) -> None:
        with contextlib.suppress(OSError, Lost, struct.error), link, link.makefile("rb") as stream:
            call, stdin = (stream.read(_FRAME.unpack(stream.read(4))[0]) for _ in range(2))
            boot = self._host.boots
            argv = tuple(_text(self._rewriting.back(word)) for word in call.split(b"\0"))
            with self._host.lock:  # a script that waits sees the time go by
                self._host.tree.uptime()
            status, out, err = programs.run(self._host, argv, self._rewriting.back(stdin))
            if self._host.boots == boot:
                link.sendall(struct.pack(">II", status, len(out)) + out + _FRAME.pack(len(err)) + err)

    # -- by itself ---------------------------------------------------------------------------------------------------

    def _strike(self, argv: tuple[str, ...]) -> None:
        """What a timer of systemd starts. A program in a file goes through the same rewriting as one over ssh."""
        if programs.known(argv[0]):
            with contextlib.suppress(Lost):
                programs.run(self._host, argv, b"")
            later, self._host.later = self._host.later, []
            for act in later:
                act()
            return
        words = [os.fsencode(word) for word in argv]
        if argv[0] in ("sh", "/bin/sh") and len(argv) > 1 and self._host.tree.real(argv[1]).is_file():
            text = self._program(self._host.tree.real(argv[1]).read_bytes())
            words = [b"sh", b"-c", text, *map(self._rewriting.word, words[1:])]
        elif argv[:2] in (("sh", "-c"), ("/bin/sh", "-c")):
            words = [b"sh", b"-c", self._program(words[2]), *words[3:]]
        subprocess.run(words, env=self._env, capture_output=True, timeout=FOREVER, check=False)  # noqa: S603

    def _down(self) -> None:
        """sshd of the old boot is gone; that of the new one listens after a while."""
        server = self._server
        server.refuses = True
        server.drop()

        def up() -> None:
            server.refuses = False

        threading.Timer(self._host.dead_seconds, up).start()


_ENVELOPE = re.compile(rb"""exec (.*)/bin/sh -c 'eval "shift; \$\(printf %b "\$1"\)"' sh '([^']*)'""")


def _handed_on(command: bytes) -> bytes:
    """What the login shell only hands on to sh(1), as sh gets to see it; anything else as it is."""
    match = _ENVELOPE.fullmatch(command)
    if match is None:
        return command
    text = re.sub(rb"\\0([0-7]{3})", lambda byte: bytes([int(byte[1], 8)]), match[2])
    return match[1] + b"sh -c " + shlex.quote(_text(text)).encode("utf-8", "surrogateescape") if match[1] else text


def _words(command: bytes) -> list[str] | None:
    """The words of `exec WORDS` as the transport sends an argv; None for a shell program."""
    text = _text(command)
    if not text.startswith("exec "):
        return None
    try:
        words = shlex.split(text[5:])
    except ValueError:
        return None
    return words if words and shlex.join(words) == text[5:] else None
