"""An honest stand-in for a power switch: obeys, or lies and hangs where a test asks for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from harness.base.deadline import Deadline
from harness.base.errors import PowerFailed
from harness.lab.power.base import PowerState, Switch


@dataclass
class FakePower(Switch):
    """`changed` hears what happened to the machine: on, off, reset. `obeys` False: accepts everything, does nothing."""

    host: str = "fake"
    now: PowerState = PowerState.ON
    obeys: bool = True
    answers: bool = True
    resets: bool = True
    changed: Callable[[str], None] = lambda _: None
    orders: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.host} (fake)"

    def state(self, deadline: Deadline) -> PowerState:
        if not self.answers:
            raise PowerFailed(f"{self.name}: does not answer")
        return self.now

    def reset(self, deadline: Deadline) -> None:
        self.state(deadline)
        if not self.resets:
            raise PowerFailed(f"{self.name}: there is no warm reset")
        self._done("reset")

    def _order(self, wanted: PowerState, deadline: Deadline) -> None:
        if self.obeys:
            self.now = wanted
        self._done(str(wanted))

    def _done(self, what: str) -> None:
        self.orders.append(what)
        if self.obeys:
            self.changed(what)
