"""What a check says. Pure."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from harness.lab.safety.facts.facts import FactLine, Function
from harness.model.address import Bdf


class Level(enum.IntEnum):
    """How bad. Only DENY can be accepted by a person; LETHAL never is."""

    OK = 0
    WARN = 1
    DENY = 2
    LETHAL = 3

    @property
    def overridable(self) -> bool:
        return self is not Level.LETHAL


@dataclass(frozen=True)
class Finding:
    """One check's answer about one device, and the lines of the host that it rests on."""

    check: str
    level: Level
    reason: str
    evidence: tuple[FactLine, ...] = ()


@dataclass(frozen=True)
class Lending:
    """`ours`: devices our open journal answers for; `lent`: where the devices of the inventory are."""

    ours: frozenset[Bdf] = frozenset()
    lent: frozenset[Bdf] = frozenset()

    def holds(self, function: Function) -> bool:
        """Whether we have taken it from dom0's driver: then what it was used for is known from before."""
        return function.bdf in self.ours and function.driver in (None, "pciback", "xen-pciback")


@dataclass(frozen=True)
class Decision:
    """All findings about one device; `bdf` is None when it was not found."""

    name: str
    bdf: Bdf | None
    findings: tuple[Finding, ...]

    @property
    def level(self) -> Level:
        """The worst."""
        return max((finding.level for finding in self.findings), default=Level.LETHAL)

    def allowed(self, accepted: Mapping[str, str]) -> bool:
        """Whether it may be touched; `accepted`: names of checks whose DENY a person accepts, with the reason."""
        return (
            self.bdf is not None
            and bool(self.findings)
            and all(
                finding.level < Level.DENY or (finding.level.overridable and bool(accepted.get(finding.check)))
                for finding in self.findings
            )
        )
