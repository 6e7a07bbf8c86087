"""Whether a lab host's hypervisor may be livepatched for a known-bad control. Pure: decided on what the host printed.

Unknown means no. The order of the findings carries nothing: all of them are told, and any one refuses.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from harness.base.errors import ParseError
from harness.lab.safety.checks.finding import Level
from harness.xen.keys.version import Answer, Version, parse_xen, reached

ALLOWED_MUTANTS = ("no-maskall-reset", "sticky-host-maskall", "maskall-not-refused")
"""What a lab host may be made: each acts at an assignment only, and harms nobody but the next owner of our device."""

_FIXED = (Version(4, 16, 4), Version(4, 17, 1))
"""From here on Xen writes into its text with CET's supervisor shadow stacks on; before, that is a double fault."""

_CET = re.compile(r"Enabling (Supervisor Shadow Stacks|Indirect Branch Tracking)")
_BOOT = re.compile(r"^(?:\(XEN\) )?(?:\[[^\]]*\] )?Xen version \d", re.MULTILINE)  # print_version, in every boot


@dataclass(frozen=True)
class Refusal:
    """Why not; LETHAL is what no option overrides."""

    level: Level
    text: str
    hint: str

    def __str__(self) -> str:
        return f"{self.level.name} {self.text} ({self.hint})"


@dataclass(frozen=True)
class Livepatching:
    """What is known of a host when somebody wants to livepatch it."""

    mutant: str
    allowed: bool  # the inventory's allow_livepatch
    xen_version: str  # of `xl info`
    console: str  # all that `xl dmesg` prints
    livepatches: Collection[str]  # applied or loaded, by name
    domains: Collection[str]  # all but dom0, by name
    ours: str = "maskall-"  # how the names of our own domains begin

    def refusals(self) -> Iterator[Refusal]:
        """Nothing when it may be done."""
        if not self.allowed:
            hint = "allow_livepatch: true in the inventory permits it, --no-control goes without"
            yield Refusal(Level.DENY, "the inventory does not allow to livepatch this host", hint)
        if self.mutant not in ALLOWED_MUTANTS:
            hint = f"there may be {', '.join(ALLOWED_MUTANTS)}"
            yield Refusal(Level.DENY, f"mutant {self.mutant} is none for a lab host", hint)
        if self.livepatches:
            names = ", ".join(sorted(self.livepatches))
            yield Refusal(Level.DENY, f"livepatches are there: {names}", "what is under test would not be stock")
        if others := sorted(name for name in self.domains if not name.startswith(self.ours)):
            hint = "a broken hypervisor is nothing for somebody else's guests"
            yield Refusal(Level.DENY, f"domains of others run: {', '.join(others)}", hint)
        yield from self._shadow_stacks()

    def _shadow_stacks(self) -> Iterator[Refusal]:
        try:
            version = parse_xen(self.xen_version)
        except ParseError:
            yield Refusal(Level.LETHAL, f"the version of Xen is unknown: {self.xen_version!r}", "see xl info")
            return
        if _writes_with_cet(version):
            return
        if not _BOOT.search(self.console):
            hint = "xl dmesg no longer has the boot: reboot with conring_size=1M on Xen's command line"
            yield Refusal(Level.LETHAL, f"Xen {version} may run with CET, and that cannot be told", hint)
        elif found := _CET.search(self.console):
            hint = "Xen 4.16.4, 4.17.1 and later can, or boot Xen with cet=0"
            yield Refusal(Level.LETHAL, f"Xen {version} dies of a livepatch with CET on: {found[0]}", hint)


def _writes_with_cet(version: Version) -> bool:
    """Whether this Xen has the fix; a version that does not tell has not."""
    if version.branch >= (4, 18):
        return True
    return any(one.branch == version.branch and reached(version, one) is Answer.YES for one in _FIXED)
