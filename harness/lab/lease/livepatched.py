"""A known-bad control on a lab host: its hypervisor livepatched, by leave of the inventory and of the gate.

On record before it is made, so that the next run and `maskall restore` take it away; a timer on the host does, should
nobody come; a reboot does in any case.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from harness.base.deadline import Deadline
from harness.base.errors import SafetyRefusal
from harness.lab.safety.livepatch_gate import Livepatching
from harness.model.change import Change, ChangeKind, Ledger
from harness.mutants.livepatching import COMPARISON, NAME, Livepatches
from harness.transport.base import Script, Transport, quote
from harness.xen.keys.xl_output import parse_info, parse_list
from harness.xen.toolstack.xl import REMOTE_RUN

_SECONDS = 60.0
TIMER_SECONDS = 3600
"""Longer than the longest control takes on the slowest host."""

# unlink(2) succeeds once: either somebody has taken the livepatch away, or this does
_STRIKE = """\
rm {armed} 2>/dev/null || exit 0
echo "maskall: dead-man timer: taking livepatch {name} away" >/dev/kmsg
xen-livepatch revert {name}; xen-livepatch unload {name}
"""
_ARM = """\
umask 077
mkdir -p {run} && : >{armed} || exit 1
set -- /bin/sh -c {strike}
if [ -d /run/systemd/system ] && command -v systemd-run >/dev/null; then
  exec systemd-run --quiet --collect --on-active={seconds} "$@"
fi
command -v setsid >/dev/null || {{ echo "neither systemd-run nor setsid is there" >&2; exit 1; }}
setsid sh -c 'sleep "$0"; exec "$@"' {seconds} "$@" </dev/null >/dev/null 2>&1 &
"""
_ARMED = f"{REMOTE_RUN}/livepatch.armed-"
"""Begins the name of a file that each arming has for itself, so that no timer strikes at a later control."""


@dataclass(frozen=True)
class LivepatchLeave:
    """Asked before a lab host's hypervisor is livepatched. `allowed`: what the inventory says."""

    transport: Transport
    ledger: Ledger
    allowed: bool
    seconds: int = TIMER_SECONDS

    def __call__(self, mutant: str) -> None:
        """SafetyRefusal with every reason; else it is on record, and the timer runs."""
        refusals = list(self._seen(mutant).refusals())
        if refusals:
            told = "; ".join(f"{one.level.name} {one.text}" for one in refusals)
            raise SafetyRefusal(f"{self.transport.name} is not livepatched: {told}", hint=refusals[0].hint)
        undo = "xen-livepatch revert and unload; a reboot"
        self.ledger.about_to(Change(ChangeKind.LIVEPATCH, NAME, f"livepatch the hypervisor with mutant {mutant}", undo))
        armed = f"{_ARMED}{secrets.token_hex(4)}"
        strike = quote([_STRIKE.format(armed=armed, name=NAME)])
        script = _ARM.format(run=REMOTE_RUN, armed=armed, strike=strike, seconds=self.seconds)
        self.transport.run(Script(script), deadline=Deadline.after(_SECONDS), changes=True).check()

    def _seen(self, mutant: str) -> Livepatching:
        rows = parse_list(self._said("xl", "list"), file="xl list")
        return Livepatching(
            mutant=mutant,
            allowed=self.allowed,
            xen_version=parse_info(self._said("xl", "info"), file="xl info").facts.get("xen_version", ""),
            console=self._said("xl", "dmesg"),
            livepatches=sorted(Livepatches(self.transport).there()),
            domains=[row.name for row in rows if row.domid],
        )

    def _said(self, *words: str) -> str:
        return self.transport.run(list(words), deadline=Deadline.after(_SECONDS)).check().text


def take_away(transport: Transport) -> None:
    """Our livepatches, if they are there, and what arms a timer. LabError when one stays: a reboot forgets it."""
    patches = Livepatches(transport)
    for name in (NAME, COMPARISON):
        patches.remove(name)
    transport.run(Script(f"rm -f {_ARMED}*"), deadline=Deadline.after(_SECONDS), changes=True).check()
