"""The console of a domain of libvirt, as `virsh console` reads it."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

from harness.deadline import Deadline, poll
from harness.errors import LabError
from harness.lab.console.sources import WAIT, Attached
from harness.lab.inventory import LibvirtPower
from harness.lab.power.libvirt import library
from harness.report.inert import inert

_CHUNK = 1 << 16
_EVERY = 0.02  # seconds between two looks for bytes
_OFF_EVERY = 0.2  # and for a domain that is switched on: what its firmware says before is lost
_ALIVE = (5, 3)  # a libvirtd far away is given up when it is silent for 5 seconds 3 times (virConnectSetKeepAlive)


class LibvirtSource:
    """virDomainOpenConsole(3): the domain's first console. Stays attached to a domain that is off, and waits."""

    def __init__(self, entry: LibvirtPower) -> None:
        self._entry = entry
        library()  # a missing one is told before anything is done

    @property
    def name(self) -> str:
        return f"libvirt {self._entry.domain} at {self._entry.uri}"

    @contextlib.contextmanager
    def attach(self) -> Iterator[Attached]:
        """LabError without libvirt or the domain, or when somebody else reads its console: he is not thrown out."""
        libvirt = library()
        _run_events()
        with contextlib.ExitStack() as stack:
            try:
                connection = libvirt.open(self._entry.uri)
                stack.callback(_quietly, connection.close)
                connection.setKeepAlive(*_ALIVE)
                attached = _Console(connection, connection.lookupByName(self._entry.domain))
                stack.callback(attached.close)
                attached.open()
            except libvirt.libvirtError as error:
                raise LabError(f"{self.name}: {inert(' '.join(str(error).split()))}") from error
            yield attached


class _Console:
    """`Attached` to a stream of libvirt."""

    def __init__(self, connection: Any, domain: Any) -> None:  # noqa: ANN401 - libvirt-python has no types
        self._connection = connection
        self._domain = domain
        self._stream: Any = None

    def open(self) -> bool:
        """Whether the domain is on and its console open. libvirtError."""
        libvirt = library()
        if self._stream is None and self._domain.isActive():
            stream = self._connection.newStream(libvirt.VIR_STREAM_NONBLOCK)
            self._domain.openConsole(None, stream, libvirt.VIR_DOMAIN_CONSOLE_SAFE)
            self._stream = stream
        return self._stream is not None

    def read(self) -> bytes | None:
        try:
            if not poll(self.open, Deadline.after(WAIT), every=_OFF_EVERY):
                return b""
            data = poll(self._received, Deadline.after(WAIT), every=_EVERY)
        except library().libvirtError:  # the domain was switched off, or libvirtd is gone
            return None
        return b"" if data is None else data[0] or None

    def _received(self) -> tuple[bytes] | None:
        """What is there; an empty one at the end. virStreamRecv(3): -2 is nothing yet."""
        data = self._stream.recv(_CHUNK)
        return (data,) if isinstance(data, bytes) else None

    def close(self) -> None:
        if self._stream is not None:
            _quietly(self._stream.abort)


def _quietly(end: Callable[[], object]) -> None:
    with contextlib.suppress(library().libvirtError):  # it is being thrown away, and may be broken
        end()


@functools.cache
def _run_events() -> None:
    """A stream that does not block, and keep-alive, want libvirt's event loop: one for the process, before a connection
    is opened (virEventRegisterDefaultImpl(3))."""
    libvirt = library()
    libvirt.virEventRegisterDefaultImpl()

    def run() -> None:
        while True:
            libvirt.virEventRunDefaultImpl()

    threading.Thread(target=run, name="libvirt events", daemon=True).start()
