"""libvirt's own connection to a host, carried by the one link the harness has to it.

libvirt would start an ssh of its own, with its own idea of keys. Instead it is given a unix socket in a private
directory; what it says there goes through a stream of the transport to virt-ssh-helper(1), which is what libvirt itself
runs on the far side, and which finds the socket of libvirtd or virtxend there.
"""

from __future__ import annotations

import contextlib
import re
import socket
import tempfile
import threading
from pathlib import Path
from typing import Any

from harness.base.deadline import Deadline
from harness.base.errors import CommandFailed, HostHung, HostUnreachable, LabError
from harness.transport.base import Script, Stream, Transport
from harness.transport.libvirt import library, told

_URI = "xen:///system"
_CHUNK = 1 << 16
_WHATEVER_COMES = re.compile(rb".+", re.DOTALL)
_DAY = 86400.0  # longer than any run: the stream's end, not a deadline, ends the wait for its next bytes

# A message of the helper between the bytes of the protocol would end the connection without a word: it goes elsewhere.
_HELPER = Script(f"exec virt-ssh-helper {_URI} 2>/run/maskall-virt-ssh-helper.log")
_READY = Script("""\
command -v virt-ssh-helper >/dev/null || { echo 'virt-ssh-helper is not installed' >&2; exit 127; }
for name in virtxend-sock libvirt-sock; do [ -S "/run/libvirt/$name" ] && exit 0; done
echo 'neither libvirtd nor virtxend listens' >&2; exit 1
""")


class LibvirtLink:
    """One connection. Made by `opened`; `close` ends it and removes its socket."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._directory = tempfile.TemporaryDirectory(prefix="maskall-libvirt-")  # mode 0700
        self._stream: Stream | None = None
        self._near: socket.socket | None = None
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._path))
        self._listener.listen(1)
        self.connection: Any = None  # virConnect: libvirt-python has no types

    @property
    def _path(self) -> Path:
        return Path(self._directory.name) / "socket"

    @classmethod
    def opened(cls, transport: Transport, deadline: Deadline) -> LibvirtLink:
        """LabError when libvirt is missing here or there, or its Xen driver does not answer; HostUnreachable."""
        libvirt = library()
        ready = transport.run(_READY, deadline=deadline)
        if not ready.ok:
            raise LabError(
                f"{transport.name}: {ready.stderr.decode('utf-8', 'replace').strip()}",
                hint="on the host: apt-get install libvirt-daemon-system libvirt-daemon-driver-xen",
            )
        link = cls(transport)
        try:
            link._stream = transport.open_stream(_HELPER, deadline=deadline)
            threading.Thread(target=link._serve, name=f"libvirt {transport.name}", daemon=True).start()
            watchdog = threading.Timer(deadline.remaining, link.close)
            watchdog.start()
            try:
                link.connection = libvirt.open(f"xen+unix:///system?socket={link._path}")
            finally:
                watchdog.cancel()
        except libvirt.libvirtError as error:
            link.close()
            raise LabError(
                f"{transport.name}: libvirt's Xen driver does not answer: {told(error)}",
                hint="on the host: journalctl -u libvirtd -u virtxend",
            ) from error
        except BaseException:
            link.close()
            raise
        return link

    @property
    def alive(self) -> bool:
        """Nobody noticed it broken: whichever side ends it ends the stream."""
        return self._stream is not None and not self._stream.ended

    def _serve(self) -> None:
        """Down here, up in a thread of its own. Whatever breaks ends both, and with them libvirt's connection."""
        assert self._stream is not None  # noqa: S101 - opened
        with contextlib.suppress(OSError, LabError):
            self._near, _ = self._listener.accept()
            threading.Thread(target=self._up, name="libvirt up", daemon=True).start()
            while True:
                self._near.sendall(self._stream.read_until(_WHATEVER_COMES, Deadline.after(_DAY)))
        self._hang_up()

    def _up(self) -> None:
        assert self._near is not None and self._stream is not None  # noqa: S101 - _serve
        with contextlib.suppress(OSError, CommandFailed, HostHung, HostUnreachable):
            while data := self._near.recv(_CHUNK):
                self._stream.write(data)
        self._stream.close()

    def _hang_up(self) -> None:
        for end in (self._near, self._listener):
            if end is not None:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Also ends a call that libvirt still waits in. Safe to call twice.

        virConnectClose(3) is left to the last one who holds the connection: under a call it frees what that works with.
        """
        self._hang_up()
        if self._stream is not None:
            self._stream.close()
        self.connection = None
        self._listener.close()
        self._directory.cleanup()
