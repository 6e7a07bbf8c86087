"""Power of a host that is itself a domain of libvirt, through the library libvirt-python."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field

from harness.base.deadline import Deadline
from harness.base.errors import PowerFailed
from harness.base.words import LibvirtUri, Word
from harness.lab.power.base import Power, PowerEntry, PowerState, Switch
from harness.transport.libvirt import library, told

_ONCE = 15.0  # seconds for one call


class LibvirtPower(PowerEntry):
    """The host is itself a domain of libvirt."""

    kind: Literal["libvirt"]
    uri: LibvirtUri = Field(description="As for `virsh -c`.")
    domain: Word = Field(description="Name of the domain.")

    def control(self, host: str, base: Path) -> Power:
        return Libvirt(host, self)


T = TypeVar("T")


@contextlib.contextmanager
def domain(entry: LibvirtPower) -> Iterator[Any]:
    """The domain over a connection of its own: libvirtd may have been restarted since the last. libvirtError."""
    connection = library().open(entry.uri)
    try:
        yield connection.lookupByName(entry.domain)
    finally:
        connection.close()


class Libvirt(Switch):
    """`Power` by libvirt."""

    def __init__(self, host: str, entry: LibvirtPower) -> None:
        self._host = host
        self._entry = entry
        library()  # a missing one is told before anything is done

    @property
    def name(self) -> str:
        return f"{self._host} (libvirt {self._entry.domain} at {self._entry.uri})"

    def state(self, deadline: Deadline) -> PowerState:
        """virDomainGetState(3): whatever has a process is on, also when paused or crashed into preservation."""
        libvirt = library()
        states = {
            libvirt.VIR_DOMAIN_RUNNING: PowerState.ON,
            libvirt.VIR_DOMAIN_BLOCKED: PowerState.ON,
            libvirt.VIR_DOMAIN_PAUSED: PowerState.ON,
            libvirt.VIR_DOMAIN_PMSUSPENDED: PowerState.ON,
            libvirt.VIR_DOMAIN_SHUTDOWN: PowerState.ON,  # on its way
            libvirt.VIR_DOMAIN_SHUTOFF: PowerState.OFF,
        }
        number, _ = self._asked("state", lambda one: one.state(), deadline)
        return states.get(number, PowerState.UNKNOWN)

    def reset(self, deadline: Deadline) -> None:
        """As the reset button does (virDomainReset)."""
        self._asked("reset", lambda one: one.reset(), deadline)

    def _order(self, wanted: PowerState, deadline: Deadline) -> None:
        if wanted is PowerState.ON:
            self._asked("create", lambda one: one.create(), deadline)
        else:
            self._asked("destroy", lambda one: one.destroy(), deadline)

    def _asked(self, what: str, ask: Callable[[Any], T], deadline: Deadline) -> T:
        """In a thread of its own: the library knows no deadline. PowerFailed with libvirt's words."""
        libvirt = library()
        answers: list[T] = []
        refusals: list[str] = []

        def call() -> None:
            try:
                with domain(self._entry) as one:
                    answers.append(ask(one))
            except libvirt.libvirtError as error:
                refusals.append(told(error))

        asking = threading.Thread(target=call, name=f"libvirt {what}", daemon=True)
        asking.start()
        asking.join(deadline.sooner(_ONCE).remaining)
        if not answers:
            why = refusals[0] if refusals else "did not answer in time"
            hint = f"virsh -c {self._entry.uri} dominfo {self._entry.domain}"
            raise PowerFailed(f"{self.name}: {what}: {why}", hint=hint)
        return answers[0]
