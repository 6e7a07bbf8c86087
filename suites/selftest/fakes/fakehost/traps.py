"""What shall go wrong on the fake host, and in the middle of which program."""

from __future__ import annotations

import enum
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


class Lost(Exception):
    """The program was not run, and nobody will be told."""


class Moment(enum.Enum):
    """Where in a program or command a trap strikes."""

    LOST = "it arrived, is not run, and no answer is sent"
    BEFORE = "before it has its effect, which it then has"
    AFTER = "after its effect, before its answer"


@dataclass
class Trap:
    act: Callable[[], object]
    moment: Moment
    nth: int
    program: str | None
    line: str | None


@dataclass
class Traps:
    """Those that are set. `boots` counts how often the machine has booted: who is in a program then is lost."""

    boots: Callable[[], int]
    pending: list[Trap] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def _struck(self, text: str, *, changes: bool, line: bool) -> list[Trap]:
        struck = []
        with self._lock:
            for trap in list(self.pending):
                pattern = trap.line if line else trap.program
                other = trap.program if line else trap.line
                if other is not None or not (changes if pattern is None else re.search(pattern, text)):
                    continue
                trap.nth -= 1
                if trap.nth == 0:
                    self.pending.remove(trap)
                    struck.append(trap)
        return struck

    def around(self, text: str, effect: Callable[[], Any], *, changes: bool, line: bool) -> Any:  # noqa: ANN401
        """`effect()` with the traps that are set for this program, or `line` of ssh, around it. Lost."""
        struck, boot = self._struck(text, changes=changes, line=line), self.boots()
        for trap in struck:
            if trap.moment is not Moment.AFTER:
                trap.act()
                if trap.moment is Moment.LOST or self.boots() != boot:
                    raise Lost
        result = effect()
        for trap in struck:
            if trap.moment is Moment.AFTER:
                trap.act()
                if self.boots() != boot:
                    raise Lost
        return result
