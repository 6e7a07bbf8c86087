"""The console of a domain of libvirt, as `virsh console` reads it."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Literal

from harness.base.deadline import Deadline, poll
from harness.base.errors import LabError
from harness.lab.console.base import WAIT, Attached, ConsoleEntry, Source
from harness.lab.power.base import PowerEntry
from harness.lab.power.libvirt import LibvirtPower
from harness.transport.libvirt import library, told

_CHUNK = 1 << 16
_EVERY = 0.02  # seconds between two looks for bytes
_STARTING_SECONDS = 3.0  # that a domain may be active without a console
_OFF_EVERY = 0.1  # and for a domain that is switched on: what its firmware says before is lost
_ALIVE = (5, 3)  # a libvirtd far away is given up when it is silent for 5 seconds 3 times (virConnectSetKeepAlive)


class LibvirtConsole(ConsoleEntry):
    """The console of the domain named under `power`, which then must be of kind libvirt."""

    kind: Literal["libvirt"]

    power_kind: ClassVar[str] = "libvirt"

    def source(self, power: PowerEntry | None) -> Source:
        assert isinstance(power, LibvirtPower)  # noqa: S101 - power_kind
        return LibvirtSource(power)


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
        """LabError without libvirt or the domain; from `read` when the console of a domain that is on cannot be opened.

        Somebody else who reads it is not thrown out.
        """
        libvirt = library()
        _run_events()
        with contextlib.ExitStack() as stack:
            try:
                connection = libvirt.open(self._entry.uri)
                stack.callback(_quietly, connection.close)
                connection.setKeepAlive(*_ALIVE)
                attached = _Console(self.name, connection, connection.lookupByName(self._entry.domain))
                stack.callback(attached.close)
            except libvirt.libvirtError as error:
                raise LabError(f"{self.name}: {told(error)}") from error
            yield attached


class _Console:
    """`Attached` to a stream of libvirt."""

    def __init__(self, name: str, connection: Any, domain: Any) -> None:  # noqa: ANN401 - libvirt-python has no types
        self._name = name
        self._patience: Deadline | None = None  # with an active domain whose console cannot be opened
        self._connection = connection
        self._domain = domain
        self._stream: Any = None

    def read(self) -> bytes | None:
        if not poll(self._opened, Deadline.after(WAIT), every=_OFF_EVERY):
            return b""
        try:
            data = poll(self._received, Deadline.after(WAIT), every=_EVERY)
        except library().libvirtError:  # the domain was switched off, or libvirtd is gone
            return None
        return b"" if data is None else data[0] or None

    def _opened(self) -> bool:
        """Whether the domain is on and its console open. LabError when that does not come about."""
        libvirt = library()
        if self._stream is not None:
            return True
        try:
            if not self._domain.isActive():
                self._patience = None
                return False
            stream = self._connection.newStream(libvirt.VIR_STREAM_NONBLOCK)
            self._domain.openConsole(None, stream, libvirt.VIR_DOMAIN_CONSOLE_SAFE)
        except libvirt.libvirtError as error:
            self._patience = self._patience or Deadline.after(_STARTING_SECONDS)
            if self._patience.expired:
                raise LabError(f"{self._name}: {told(error)}") from error
            return False  # a domain that is being started is active before its console can be opened
        self._stream = stream
        return True

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
