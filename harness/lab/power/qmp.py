"""Power of a host that is a QEMU whose monitor listens on a unix socket (QMP): it can be ended and reset."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from harness.base.deadline import Deadline
from harness.base.errors import LabError, PowerFailed
from harness.base.text import inert
from harness.base.words import LocalPath, beside
from harness.lab.power.base import Power, PowerEntry, PowerState, Switch

_ONCE = 10.0  # seconds for one command
_LEAST = 0.2  # seconds that a command gets even when the deadline is over
_HINT = "a monitor serves one client at a time: is another one connected?"

# Without a handler the library's errors would go to the terminal besides being raised.
logging.getLogger("qemu.qmp").addHandler(logging.NullHandler())


class QmpPower(PowerEntry):
    """The host is a QEMU whose monitor listens on a unix socket; it can be stopped and reset, not switched on."""

    kind: Literal["qmp"]
    socket: LocalPath = Field(description="Unix socket of the monitor.")

    def control(self, host: str, base: Path) -> Power:
        return Qmp(host, self, base)


class _Gone(PowerFailed):
    """Nobody listens at the monitor's socket."""


class Qmp(Switch):
    """`Power` by QMP. A connection for each command: the monitor serves one client, and others may want it."""

    def __init__(self, host: str, entry: QmpPower, base: Path) -> None:
        self._host = host
        self._socket = beside(base, entry.socket)

    @property
    def name(self) -> str:
        return f"{self._host} (qmp {self._socket})"

    def state(self, deadline: Deadline) -> PowerState:
        """OFF when nobody listens. A stopped machine (`paused`) has power; one that has shut down has not."""
        try:
            answer = self._command("query-status", deadline)
        except _Gone:
            return PowerState.OFF
        status = answer.get("status") if isinstance(answer, dict) else None
        if not isinstance(status, str):
            return PowerState.UNKNOWN
        return PowerState.OFF if status == "shutdown" else PowerState.ON

    def reset(self, deadline: Deadline) -> None:
        self._command("system_reset", deadline)

    def cycle(self, deadline: Deadline) -> None:
        """Refused at once: switched off first, it would stay so."""
        self._order(PowerState.ON, deadline)

    def _order(self, wanted: PowerState, deadline: Deadline) -> None:
        if wanted is PowerState.ON:
            raise PowerFailed(
                f"{self.name}: a QEMU cannot be started over its monitor", hint="start it by hand, or use reset"
            )
        self._command("quit", deadline)

    def _command(self, command: str, deadline: Deadline) -> object:
        """PowerFailed; _Gone when nobody listens."""
        seconds = max(_LEAST, deadline.sooner(_ONCE).remaining)
        qmp = _library()
        loop = asyncio.new_event_loop()  # of our own: the caller's thread may have one that is not ours to use
        try:
            return loop.run_until_complete(asyncio.wait_for(self._talk(command), seconds))
        except TimeoutError:
            raise PowerFailed(f"{self.name}: {command}: did not answer in time", hint=_HINT) from None
        except qmp.protocol.ConnectError as error:
            kind = _Gone if isinstance(error.exc, FileNotFoundError | ConnectionRefusedError) else PowerFailed
            raise kind(f"{self.name}: {command}: {_told(error)}") from error
        except (qmp.QMPError, OSError, EOFError) as error:
            raise PowerFailed(f"{self.name}: {command}: {_told(error)}") from error
        finally:
            loop.close()

    async def _talk(self, command: str) -> object:
        qmp = _library()
        client = qmp.QMPClient()
        await client.connect(str(self._socket))
        try:
            return await client.execute(command)
        except qmp.qmp_client.ExecInterruptedError:
            if command == "quit":  # it went faster than its answer; state() tells
                return None
            raise
        finally:
            with contextlib.suppress(qmp.QMPError, OSError, EOFError):  # what cut the connection was raised above
                await client.disconnect()


def _told(error: Exception) -> str:
    return inert(" ".join(str(error).split())) or type(error).__name__


def _library() -> Any:  # noqa: ANN401 - a package
    """QEMU's own client, loaded only for a host that needs it."""
    try:
        import qemu.qmp
        import qemu.qmp.protocol
        import qemu.qmp.qmp_client
    except ImportError as error:
        raise LabError(f"the Python package qemu.qmp cannot be loaded: {error}", hint="pip install qemu.qmp") from error
    return qemu.qmp
