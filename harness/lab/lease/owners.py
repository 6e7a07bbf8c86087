"""Who has a device now, as Xen and xenstore say: asked before anything of it is taken back, and in the same shell."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from harness.base.deadline import Deadline
from harness.base.errors import DeviceTaken, ParseError
from harness.model.address import Bdf
from harness.transport.base import Command, CommandResult, Script, Transport, quote
from harness.xen.keys.debugkeys import parse_pci_devices
from harness.xen.toolstack.xl import owner_note

_SECONDS = 30.0
_TAKEN = 96

# libxl notes the domain that has a device, and makes a backend for it, whoever calls it. A note that outlived its
# domain is nobody's: that is a leak of ours, or not our business.
_UNLESS_TAKEN = """\
for owner in $(xenstore-read {note} 2>/dev/null
  xenstore-ls -f /local/domain/0/backend/pci 2>/dev/null |
    sed -n 's#^/local/domain/0/backend/pci/\\([0-9]*\\)/.*/dev-[0-9]* = "{device}"$#\\1#p'); do
  case "{ours}" in *" $owner "*) continue;; esac
  xl list "$owner" >/dev/null 2>&1 || continue
  echo "domain $owner has it" >&2
  exit 96
done
"""


@dataclass(frozen=True)
class Owners:
    """What Xen said of each device, and which domains are ours."""

    by_device: Mapping[str, str]  # "d0", "d5", "DomIO"; a device that is not named here was not asked about
    ours: frozenset[int]

    def refuse(self, device: str) -> None:
        """DeviceTaken when Xen has given it to a domain that is none of ours."""
        owner = self.by_device.get(device, "d0")
        number = owner.removeprefix("d")
        if number.isdecimal() and int(number) != 0 and int(number) not in self.ours:
            raise _taken(device, f"domain {number} has it")


def ask(transport: Transport, ours: Collection[int]) -> Owners:
    """Ask Xen. In a boot without it nobody but dom0 has a device, and where its ring is too small for the answer
    xenstore's word has to do."""
    program = Script("xl debug-keys Q >/dev/null 2>&1 && xl dmesg 2>/dev/null")
    said = transport.run(program, deadline=Deadline.after(_SECONDS)).text
    try:
        rows = parse_pci_devices(said, file="xl dmesg")
    except ParseError:
        rows = ()
    return Owners({str(row.device): row.owner for row in rows}, frozenset(ours))


def unless_taken(command: Command, device: str, ours: Collection[int]) -> Script:
    """`command`, which the shell runs only if no other domain has the device; `refuse_taken` reads its answer."""
    change = command.text if isinstance(command, Script) else f"exec {quote(command)}"
    known = f" {' '.join(map(str, sorted(ours)))} "
    return Script(_UNLESS_TAKEN.format(note=quote([owner_note(Bdf.parse(device))]), device=device, ours=known) + change)


def refuse_taken(done: CommandResult, device: str) -> CommandResult:
    """DeviceTaken when the shell found another owner."""
    if done.status == _TAKEN:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise _taken(device, lines[-1] if lines else "another domain has it")
    return done


def _taken(device: str, told: str) -> DeviceTaken:
    hint = "it is not taken from them; when they are done with it: maskall restore HOST"
    return DeviceTaken(f"{device} is in use by others now: {told}", hint=hint)
