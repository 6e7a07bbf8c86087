"""The console by a console server's port."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from harness.base.errors import LabError
from harness.base.words import Address, Port
from harness.lab.console.base import Attached, ConsoleEntry, Descriptor, Source
from harness.lab.power.base import PowerEntry

_SECONDS = 15.0
# A console may be silent for hours: a console server that went away is noticed within half a minute (tcp(7)).
_KEEPALIVE = {socket.TCP_KEEPIDLE: 15, socket.TCP_KEEPINTVL: 5, socket.TCP_KEEPCNT: 3}


class TcpConsole(ConsoleEntry):
    """A console server: a TCP port that carries the bytes of the serial line."""

    kind: Literal["tcp"]
    address: Address = Field(description="Of the console server.")
    port: Port = Field(description="Of this host's line.")

    exclusive: ClassVar[bool] = True

    def source(self, power: PowerEntry | None) -> Source:
        return TcpSource(self)


class TcpSource:
    """A console server's port."""

    def __init__(self, entry: TcpConsole) -> None:
        self._address = (entry.address, entry.port)

    @property
    def name(self) -> str:
        return f"tcp {self._address[0]}:{self._address[1]}"

    @contextlib.contextmanager
    def attach(self) -> Iterator[Attached]:
        try:
            plug = socket.create_connection(self._address, timeout=_SECONDS)
        except (OSError, UnicodeError) as error:
            raise LabError(f"{self.name}: {getattr(error, 'strerror', None) or error}") from error
        with plug:
            plug.settimeout(None)
            for option, value in _KEEPALIVE.items():
                plug.setsockopt(socket.IPPROTO_TCP, option, value)
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            yield Descriptor(plug.fileno())
