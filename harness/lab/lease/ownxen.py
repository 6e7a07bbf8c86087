"""A hypervisor of somebody's own, booted once on a lab host: what it leaves there, and taking that away.

Its file says by its name that it is ours and what it is, so that whoever comes after a run that died finds it, from
whatever controller: what lies in /boot, no reboot takes away.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from harness.base.deadline import Deadline
from harness.transport.base import Script, Transport, quote
from harness.xen.keys.xl_output import parse_info

ENTRY = "maskall-xen"
"""The id of its entry in GRUB's menu."""
CUSTOM = "/boot/grub/custom.cfg"
"""What grub-mkconfig's menu reads at its end (41_custom), and never writes."""
MARK = "# maskall: boots a hypervisor once, and is removed then"
"""The first line of a CUSTOM of ours."""
GRUBENV = "/boot/grub/grubenv"

_SECONDS = 60.0
_PATH = re.compile(r"/boot/maskall-xen-([0-9a-f]{16,64})\.gz")
_LEFT = Script("ls /boot/maskall-xen-*.gz 2>/dev/null; true")

# The file comes last: as long as there is anything of ours it says so.
_TAKE_AWAY = f"""\
if [ "$(head -n 1 {CUSTOM} 2>/dev/null)" = {quote([MARK])} ]; then rm -f {CUSTOM} || exit; fi
if grub-editenv {GRUBENV} list 2>/dev/null | grep -qx next_entry={ENTRY}; then
  grub-editenv {GRUBENV} unset next_entry; grub-editenv {GRUBENV} unset fallback
fi
rm -f /boot/maskall-xen-*.gz && sync -f /boot
"""


def path_of(build_id: str) -> str:
    """Where the hypervisor with this build-id is put; no name that update-grub looks for."""
    return f"/boot/maskall-xen-{build_id}.gz"


def build_ids(paths: Iterable[str]) -> frozenset[str]:
    """Of the hypervisors whose files these are."""
    return frozenset(match[1] for path in paths if (match := _PATH.fullmatch(path)))


def left(transport: Transport) -> frozenset[str]:
    """The build-ids of those that are there."""
    return build_ids(transport.run(_LEFT, deadline=Deadline.after(_SECONDS)).check().text.split())


def take_away(transport: Transport) -> None:
    """File and menu entry; the next boot is what is the default. The one that runs goes with a reboot."""
    transport.run(Script(_TAKE_AWAY), deadline=Deadline.after(_SECONDS), changes=True).check()


def running(transport: Transport) -> str:
    """The build-id of the hypervisor that runs; empty where xl does not answer."""
    said = transport.run(["xl", "info"], deadline=Deadline.after(_SECONDS))
    return parse_info(said.text, file="xl info").build_id if said.ok else ""
