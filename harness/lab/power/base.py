"""What every way to switch a host promises: a model of the inventory, and the power control made of it."""

from __future__ import annotations

import enum
from abc import abstractmethod
from pathlib import Path
from typing import ClassVar, Protocol

from harness.base.deadline import Deadline, poll
from harness.base.errors import PowerFailed
from harness.base.strict import StrictModel

_EVERY = 0.5  # seconds between two looks at a controller


class PowerState(enum.StrEnum):
    ON = "on"
    OFF = "off"
    UNKNOWN = "unknown"  # the controller answers, but with neither


class Power(Protocol):
    """A host's power. Every state is read back; what was asked for and did not happen is PowerFailed."""

    @property
    def name(self) -> str:
        """Host and way, for messages: `xenbox1 (ipmi 192.0.2.20)`. No secret in it."""

    def state(self, deadline: Deadline) -> PowerState:
        """As the controller reports it now. PowerFailed when it does not answer."""

    def on(self, deadline: Deadline) -> None:
        """Switch on and see it on. Nothing happens to a host that is on."""

    def off(self, deadline: Deadline) -> None:
        """Switch off hard, without asking the operating system, and see it off."""

    def cycle(self, deadline: Deadline) -> None:
        """Off, seen off, on, seen on: a boot with cold devices. Not a warm reset, which leaves device state."""

    def reset(self, deadline: Deadline) -> None:
        """Warm reset: the machine boots again without losing power. PowerFailed where this way has none.

        That a controller accepted it proves nothing; the caller compares boot_id and says when it was no reset.
        """


class Switch(Power, Protocol):
    """The part that is the same for every way: asking, and seeing that it happened. Three verbs are left to the way."""

    @abstractmethod
    def _order(self, wanted: PowerState, deadline: Deadline) -> None:
        """Tell the controller to switch on or off. PowerFailed when it refuses."""

    def on(self, deadline: Deadline) -> None:
        self._switch(PowerState.ON, deadline)

    def off(self, deadline: Deadline) -> None:
        self._switch(PowerState.OFF, deadline)

    def cycle(self, deadline: Deadline) -> None:
        self.off(deadline)
        self.on(deadline)

    def _switch(self, wanted: PowerState, deadline: Deadline) -> None:
        if self.state(deadline) is wanted:
            return
        self._order(wanted, deadline)
        told = ""

        def switched() -> bool:
            nonlocal told
            try:
                now = self.state(deadline)
            except PowerFailed as error:  # a controller may be deaf for a moment while it switches
                told = told if deadline.expired else error.message
                return False
            told = f"it reads {now}"
            return now is wanted

        if not poll(switched, deadline, every=_EVERY):
            raise PowerFailed(
                f"{self.name}: told to switch {wanted}, did not: {told or 'it does not answer'}",
                hint="the controller accepted it; look at the machine",
            )


class PowerEntry(StrictModel):
    """How a host is switched, as the inventory says it. A way is a subclass in a file named as its `kind`."""

    kind: str

    asks: ClassVar[frozenset[str]] = frozenset()
    """The keys that say who asks and how; the others say which switch it is."""

    @property
    def switch(self) -> str:
        """Which switch it is, in words to compare: no two hosts may share one."""
        return self.model_dump_json(exclude=set(self.asks))

    @abstractmethod
    def control(self, host: str, base: Path) -> Power:
        """The power control of `host`; nothing is contacted yet. `base` is the folder of the inventory file.

        UsageError for a secret that is not there, LabError for a library that is not.
        """
