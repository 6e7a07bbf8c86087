"""Notice a peer that is gone without a goodbye, even in the middle of a silent command.

paramiko's set_keepalive sends requests that want no reply, and TCP alone gives up after many minutes. Here a request
that *does* want a reply goes out when the peer was silent for a quarter of the time allowed; any byte counts as life.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any

import paramiko

from harness.base.records import logger

log = logger(__name__)

_TICKS = 8  # in the time allowed
_ASK_AFTER = 2  # ticks of silence


class HeardSocket(socket.socket):
    """A socket that counts how often something arrived. `failed`: what connect(2) said at once, an errno or 0."""

    heard = 0
    failed = 0
    loopback = False

    def recv(self, *arguments: Any, **named: Any) -> bytes:  # noqa: ANN401  (passed through)
        data = super().recv(*arguments, **named)
        self.heard += 1
        return data


class PeerWatch:
    """Closes `link` when its peer stays silent for about `seconds` although it was asked.

    Ticks are counted, not clock time: a controller that was itself stopped or starved counts as one tick of silence.
    Two threads, because sending can block for as long as the peer is dead and the judge must not.
    """

    def __init__(self, name: str, link: paramiko.Transport, heard: HeardSocket, seconds: float) -> None:
        self.verdict = ""  # why the link was closed, once it was
        self._name = name
        self._link = link
        self._heard = heard
        self._seconds = seconds
        self._stopped = threading.Event()
        self._ask = threading.Event()
        for work in (self._judge, self._asker):
            threading.Thread(target=work, name=f"ssh watch {name}", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()
        self._ask.set()

    def _judge(self) -> None:
        silent, before = 0, self._heard.heard
        while not self._stopped.wait(self._seconds / _TICKS) and self._link.is_active():
            now = self._heard.heard
            silent = silent + 1 if now == before else 0
            before = now
            if silent == _ASK_AFTER:
                self._ask.set()
            elif silent == _TICKS:
                self.verdict = f"no sign of life for {self._seconds:g} s"
                log.warning("%s: %s, dropping the link", self._name, self.verdict)
                self._link.close()
        self.stop()

    def _asker(self) -> None:
        while self._ask.wait() and not self._stopped.is_set():
            self._ask.clear()
            with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
                # OpenSSH's own name; every server must answer a request it does not know with a failure (RFC 4254, 4).
                self._link.global_request("keepalive@openssh.com", wait=True)
