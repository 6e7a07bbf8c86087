"""Who has a device now, as Xen and xenstore say: asked before anything of it is taken back, and in the same shell."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from harness.base.deadline import Deadline
from harness.base.errors import DeviceTaken, ParseError
from harness.base.text import whole
from harness.model.address import Bdf
from harness.transport.base import Command, CommandResult, Script, Transport, quote
from harness.xen.keys.debugkeys import parse_pci_devices
from harness.xen.toolstack.xl import owner_note

_SECONDS = 30.0
_TAKEN = 96

# status 95: no Xen in this boot, and nobody but dom0 has a device
_ASK = """\
[ -e /sys/hypervisor/type ] || [ -e /proc/xen/capabilities ] || exit 95
xl debug-keys Q >/dev/null 2>&1 && xl dmesg 2>/dev/null
"""
_NO_XEN = 95

# libxl notes the domain that has a device, and makes a backend for it, whoever calls it. A note that outlived its
# domain is nobody's: that is a leak of ours, or not our business. But whether it did, xl must be able to tell.
_UNLESS_TAKEN = """\
{xenstore}for owner in $(xenstore-read {note} 2>/dev/null
  xenstore-ls -f /local/domain/0/backend/pci 2>/dev/null |
    sed -n 's#^/local/domain/0/backend/pci/\\([0-9]*\\)/.*/dev-[0-9]* = "{device}"$#\\1#p'); do
  case "{ours}" in *" $owner "*) continue;; esac
  xl list "$owner" >/dev/null 2>&1 || {{ xl list >/dev/null 2>&1 && continue; }}
  echo "domain $owner has it" >&2
  exit 96
done
"""
_XENSTORE_MUST_ANSWER = """\
xenstore-ls /local/domain/0 >/dev/null 2>&1 || {
  echo "who has it cannot be told: Xen's key Q is not readable, and xenstore is silent" >&2
  exit 96
}
"""


@dataclass(frozen=True)
class Owners:
    """What Xen said of each device, and which domains are ours."""

    by_device: Mapping[str, str]  # "d0", "d5", "DomIO"
    ours: frozenset[int]
    xen: bool = True  # this boot is one of Xen

    def refuse(self, device: str) -> None:
        """DeviceTaken when Xen has given it to a domain that is none of ours. Where Xen said nothing of it, xenstore
        must: `unless_taken`."""
        number = whole(self.by_device.get(device, "").removeprefix("d"))
        if number and number not in self.ours:
            raise _taken(device, f"domain {number} has it")

    def unless_taken(self, command: Command, device: str) -> Script:
        """`command`, which the shell runs only if no other domain has the device; `refuse_taken` reads its answer."""
        change = command.text if isinstance(command, Script) else f"exec {quote(command)}"
        asking = _UNLESS_TAKEN.format(
            xenstore=_XENSTORE_MUST_ANSWER if self.xen and device not in self.by_device else "",
            note=quote([owner_note(Bdf.parse(device))]),
            device=device,
            ours=f" {' '.join(map(str, sorted(self.ours)))} ",
        )
        return Script(asking + change)


def ask(transport: Transport, ours: Collection[int]) -> Owners:
    """Ask Xen. Where its ring is too small for the answer, xenstore's word has to do."""
    done = transport.run(Script(_ASK), deadline=Deadline.after(_SECONDS))
    try:
        rows = parse_pci_devices(done.text, file="xl dmesg")
    except ParseError:
        rows = ()
    return Owners({str(row.device): row.owner for row in rows}, frozenset(ours), xen=done.status != _NO_XEN)


def refuse_taken(done: CommandResult, device: str) -> CommandResult:
    """DeviceTaken when the shell found another owner."""
    if done.status == _TAKEN:
        raise _taken(device, done.complaint)
    return done


def _taken(device: str, told: str) -> DeviceTaken:
    hint = "it is not taken from them; when they are done with it: maskall restore HOST"
    return DeviceTaken(f"{device} is in use by others now: {told}", hint=hint)
