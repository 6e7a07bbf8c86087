"""How long a booting host says nothing: measured where the stack's own boots, held against one that a developer built.

A hypervisor that hangs would else be waited for until the longest boot that is believed in is over.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

FILE = "silence.json"
HANDED_OVER = "*** Serial input"  # Xen's last line before dom0 runs (switch_serial_input)
_TIMES = 10  # an emulated machine that others keep busy is several times slower than it was when it was measured
_LEAST = 20.0  # seconds


@dataclass(frozen=True)
class Silences:
    """The longest of a boot, in seconds: while Xen booted, and from then until dom0 answered."""

    xen: float
    dom0: float

    @classmethod
    def known(cls, snapshots: Iterable[Path]) -> Silences | None:
        """The longest of those that were measured when these snapshots were made; None: in none of them."""
        found = [one for path in snapshots if (one := cls._read(path / FILE)) is not None]
        return cls(max(one.xen for one in found), max(one.dom0 for one in found)) if found else None

    @classmethod
    def _read(cls, file: Path) -> Silences | None:
        """None for a snapshot without, one that is being removed, or one that is damaged: others know it too."""
        try:
            return cls(**{name: float(seconds) for name, seconds in json.loads(file.read_text()).items()})
        except (OSError, ValueError, TypeError, AttributeError):
            return None

    def store(self, snapshot: Path) -> None:
        (snapshot / FILE).write_text(json.dumps({"xen": round(self.xen, 1), "dom0": round(self.dom0, 1)}))


@dataclass
class Listener:
    """Measures a console as often as it is asked whether that hangs. Without `usual` nothing is a hang."""

    console: Path
    usual: Silences | None = None
    longest: Silences = Silences(0.0, 0.0)
    now: Callable[[], float] = time.monotonic
    hung: str = ""
    """What is told of a boot that hangs."""
    _size: int = -1
    _grew: float = 0.0

    def hangs(self) -> bool:
        """Whether it has been silent for so long that nothing more is to be expected."""
        if not self.console.exists():
            return False
        now, size = self.now(), self.console.stat().st_size
        if size != self._size:
            self._size, self._grew = size, now
        silent = now - self._grew
        booting = HANDED_OVER not in self.console.read_text(errors="replace")
        if booting:
            self.longest = Silences(max(self.longest.xen, silent), self.longest.dom0)
        else:
            self.longest = Silences(self.longest.xen, max(self.longest.dom0, silent))
        if self.usual is None:
            return False
        usual = self.usual.xen if booting else self.usual.dom0
        if silent > max(_LEAST, _TIMES * usual):
            who = "Xen" if booting else "dom0"
            self.hung = (
                f"hangs: {who} has said nothing for {silent:.0f} s, and the stock one never for {usual:.1f} s here"
            )
        return bool(self.hung)
