"""Power by programs of the lab's own: a switched socket, a relay, a script of the rack's owner."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from harness.base.deadline import Deadline
from harness.base.errors import CommandFailed, PowerFailed, UsageError
from harness.base.process import run
from harness.base.text import inert
from harness.base.words import Program
from harness.lab.power.base import Power, PowerEntry, PowerState, Switch

_BY_HAND = "run it by hand to see why"


class CommandPower(PowerEntry):
    """Programs of the lab's own: a switched socket, a relay. `status` prints `on` or `off` on its last line."""

    kind: Literal["command"]
    on: Program = Field(
        description="Switches on; no harm if it is on. The key in quotes, 'on': the bare word is a truth value."
    )
    off: Program = Field(description="Switches off; no harm if it is off. The key in quotes, as 'on'.")
    status: Program = Field(description="Prints `on` or `off` on its last line.")
    reset: Program | None = Field(None, description="Resets; without it there is no warm reset.")

    def control(self, host: str, base: Path) -> Power:
        return CommandSwitch(host, self)


class CommandSwitch(Switch):
    """`Power` by command."""

    def __init__(self, host: str, entry: CommandPower) -> None:
        self._host = host
        self._entry = entry

    @property
    def name(self) -> str:
        return f"{self._host} (command {self._entry.status[0]})"

    def state(self, deadline: Deadline) -> PowerState:
        """`on` or `off` on the last line that `status` prints."""
        lines = self._run(self._entry.status, deadline).strip().splitlines()
        word = lines[-1].strip() if lines else ""
        return PowerState(word) if word in (PowerState.ON, PowerState.OFF) else PowerState.UNKNOWN

    def reset(self, deadline: Deadline) -> None:
        if self._entry.reset is None:
            raise PowerFailed(f"{self.name}: there is no warm reset", hint="give `reset` in the inventory, or cycle")
        self._run(self._entry.reset, deadline)

    def _order(self, wanted: PowerState, deadline: Deadline) -> None:
        self._run(self._entry.on if wanted is PowerState.ON else self._entry.off, deadline)

    def _run(self, argv: Sequence[str], deadline: Deadline) -> str:
        try:
            done = run(argv, deadline=deadline, check=False)
        except (CommandFailed, UsageError) as error:
            # from None, and without the arguments and what it said: passwords have been seen in both
            told = "did not end in time" if isinstance(error, CommandFailed) else "cannot be started"
            hint = error.hint if isinstance(error, UsageError) else _BY_HAND
            raise PowerFailed(f"{self.name}: {inert(argv[0])} {told}", hint=hint) from None
        if done.status != 0:
            raise PowerFailed(f"{self.name}: {inert(argv[0])} ended with status {done.status}", hint=_BY_HAND)
        return done.stdout
