"""What apt-get says it would do, before it does it. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.base.errors import ParseError

_LINE = re.compile(r"(Inst|Remv|Purg) ([a-z0-9][a-z0-9+.-]*)(?::[a-z0-9-]+)?(?: \[([^\]]*)\])?(?: .*)?")


@dataclass(frozen=True)
class Simulation:
    """Names of packages."""

    new: tuple[str, ...] = ()
    upgraded: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    @property
    def harmful(self) -> str:
        """In a few words what it would do that cannot be taken back; "" when nothing."""
        told = []
        if self.removed:
            told.append(f"remove {', '.join(self.removed)}")
        if self.upgraded:
            told.append(f"upgrade {', '.join(self.upgraded)}")
        return " and ".join(told)


def parse_simulation(text: str) -> Simulation:
    """Accepted format: `apt-get --simulate` (apt-get(8)): `Inst NAME [OLD] (NEW ...)`, `Remv NAME`, `Purg NAME`.

    All other lines are passed over: there are many kinds, none of which names a package that would change.
    """
    new: list[str] = []
    upgraded: list[str] = []
    removed: list[str] = []
    for line in text.splitlines():
        match = _LINE.fullmatch(line.rstrip())
        if match is None:
            if line.startswith(("Inst ", "Remv ", "Purg ")):
                raise ParseError(f"{line!r}", file="apt-get --simulate", expected="a verb and a package")
            continue
        verb, name, old = match.groups()
        if verb == "Inst":
            (upgraded if old is not None else new).append(name)
        else:
            removed.append(name)
    return Simulation(tuple(new), tuple(upgraded), tuple(dict.fromkeys(removed)))
