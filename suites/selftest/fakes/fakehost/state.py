"""What a fake host comes to at a moment: what its files show of it."""

from __future__ import annotations

import time

from suites.selftest.fakes.fakehost.function import Function


class State:
    """Functions by BDF, loaded modules, pciback's slots, and the clock since it booted."""

    functions: dict[str, Function]
    modules: set[str]
    slots: set[str]
    boot_id: str
    _since: float
    _advanced: float

    @property
    def uptime(self) -> float:
        return time.monotonic() - self._since + self._advanced

    def irqs(self, function: Function) -> list[int]:
        """Of its vectors in use: one queue and one for the rest."""
        if (function.msix or 0) & 0x8000 == 0:
            return []
        place = list(self.functions).index(function.bdf) if function.bdf in self.functions else 0
        return [24 + 2 * place, 25 + 2 * place]
