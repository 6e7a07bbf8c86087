"""Reading on in a host's logs: what they have gained since, from the rings or from the host's recorded console."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Protocol

from harness.base.deadline import Deadline, poll
from harness.transport.base import Script, Transport
from harness.xen.keys.messages import Log
from harness.xen.keys.ring import BEGINS, COMMANDS, Recorded, advice, gained, marks, recorded

_LATE_SECONDS = 3.0  # that a recorder may be behind
_SECONDS = 30.0
# Xen drops what a serial line is too slow for, unless it waits (serial.c, __serial_putc); of dom0's kernel a console
# gets what is above its level, 7 being the lowest (printk.c, console_printk)
_WHOLE = """\
xl info xen_commandline
echo "printk: $(cat /proc/sys/kernel/printk) $(cat /sys/module/printk/parameters/ignore_loglevel)"
"""
_SYNC = re.compile(rb"^(?:.*\s)?sync_console(?:=(?:1|on|yes|true|enable))?(?:\s|$)", re.MULTILINE)
_ALL_LEVELS = re.compile(rb"^printk: (?:(?:[89]|[1-9][0-9]+)\s.*|.* Y)$", re.MULTILINE)


class Console(Protocol):
    """The host's console as recorded from before power-on."""

    def text(self) -> bytes: ...

    @property
    def breaks(self) -> Collection[int]:
        """Where in `text` something may be missing, because it was not recorded for a while."""


@dataclass(frozen=True)
class Mark:
    """A moment in both logs of a host: what they held then."""

    xen: bytes = field(repr=False)
    dom0: bytes = field(repr=False)


@dataclass(frozen=True)
class News:
    """What a log has gained. `lost`: why lines of it may be missing; `console`: those that the console alone has."""

    data: bytes
    lost: str = ""
    console: Recorded | None = None


def read_on(
    log: Log,
    before: bytes | None,
    now: bytes,
    transport: Transport,
    console: Console | None,
    *,
    least: int = 0,
    boot: bool = False,
) -> News:
    """What `now` has gained since `before`; where the ring has lost lines, from the console, if that has them all.

    `least`: how many lines must be in it that can stand in a log only once; `boot`: it must begin with the boot.
    HostHung, HostUnreachable.
    """
    gain = gained(log, before, now)
    why = gain.lost
    if boot and not BEGINS[log].search(now):
        why = "the beginning of the boot has dropped out of it"
    elif len(marks(log, gain.data)) < least:
        why = "what the debug keys print does not fit"
    if not why:
        return News(gain.data)
    shown = _on_console(log, before, now, transport, console) if console is not None and not boot else None
    if shown is not None:
        return News(shown.data, console=shown)
    return News(gain.data, f"{' '.join(COMMANDS[log])}: {why}; {advice(log, now, gain.data)}")


def _on_console(log: Log, before: bytes | None, now: bytes, link: Transport, console: Console) -> Recorded | None:
    """None where it is not there, and where the console may lose lines itself."""
    said = link.run(Script(_WHOLE), deadline=Deadline.after(_SECONDS)).stdout
    if not _SYNC.search(said) or (log is Log.DOM0 and not _ALL_LEVELS.search(said)):
        return None
    return poll(
        lambda: recorded(log, before, now, console.text(), console.breaks), Deadline.after(_LATE_SECONDS), every=0.5
    )
