"""Which boot of a host it is, and waiting for the next: by boot_id, never by what a controller says."""

from __future__ import annotations

from harness.base.deadline import Deadline, poll
from harness.base.errors import HostHung, HostUnreachable, LabError
from harness.transport.base import Transport

_ASK_SECONDS = 10.0


def boot_id(transport: Transport, deadline: Deadline) -> str:
    """The boot that answers now, as its kernel calls it. HostUnreachable, HostHung."""
    command = ["cat", "/proc/sys/kernel/random/boot_id"]
    return transport.run(command, deadline=deadline.sooner(_ASK_SECONDS)).check().text.strip()


def await_boot(transport: Transport, before: str, leave: Deadline, deadline: Deadline) -> str | None:
    """The boot that answers a new connection; None when none does. The transport is connected to it.

    `before` may still answer until `leave` is over; a host that is that boot even then has not been rebooted.
    """
    if transport.connected:
        # an old connection into a machine that goes down tells so first; into one that was reset it never will
        poll(lambda: not _answers(transport, before), leave, every=0.2)
    return poll(lambda: _next_boot(transport, before, leave, deadline), deadline, every=0.2)


def _next_boot(transport: Transport, before: str, leave: Deadline, deadline: Deadline) -> str | None:
    """The boot that answers a new connection; the old one only when it had its time to leave."""
    transport.close()
    transport.connect(deadline)
    try:
        now = boot_id(transport, deadline)
    except (HostUnreachable, HostHung):  # it went down while it was asked
        return None
    return now if now != before or leave.expired else None


def _answers(transport: Transport, before: str) -> bool:
    """Whether the boot that shall end still answers."""
    try:
        return transport.connected and boot_id(transport, Deadline.after(2)) == before
    except LabError:
        return False
