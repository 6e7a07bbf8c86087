"""What the scenarios ask of a toolstack, and xl's answer to it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from harness.deadline import Deadline
from harness.errors import LabError
from harness.guest.spec import GuestSpec
from harness.lab.transport.base import CommandResult, Script, Stream, Transport
from harness.pci.address import Bdf

REMOTE_RUN = "/run/maskall"


@dataclass(frozen=True)
class Created:
    """A create that returned; a refusal is an observation, not an exception."""

    result: CommandResult
    domid: int | None


class Toolstack(Protocol):
    """Domains and the devices assigned to them. Every call is sent once; refusals come back as results."""

    def create(self, spec: GuestSpec, deadline: Deadline) -> Created: ...

    def console(self, domid: int, deadline: Deadline) -> Stream: ...

    def destroy(self, domid: int, deadline: Deadline) -> CommandResult: ...

    def start_destroy(self, domid: int, deadline: Deadline) -> Stream:
        """Begin to destroy without waiting for the end."""
        ...

    def await_gone(self, domid: int, device: Bdf, deadline: Deadline) -> CommandResult:
        """Wait until neither the domain nor libxl's note that it owns the device is there. Status 0: both are gone."""
        ...

    def make_assignable(self, device: Bdf, deadline: Deadline) -> CommandResult: ...

    def take_back(self, device: Bdf, deadline: Deadline, *, rebind: bool) -> CommandResult:
        """Off pciback, and with `rebind` back to the driver it had."""
        ...

    def kill_device_model(self, domid: int, deadline: Deadline) -> CommandResult:
        """SIGKILL the domain's qemu and see it gone."""
        ...


_CREATE = """\
mkdir -p {run}
cat > {run}/{name}.cfg
xl create {run}/{name}.cfg 2>&1
status=$?
printf 'domid '; xl domid {name} 2>/dev/null || echo none
exit $status
"""

_AWAIT_GONE = """\
for attempt in $(seq {attempts}); do
  if ! xl list {domid} >/dev/null 2>&1 && [ "$(xenstore-read {key} 2>/dev/null)" != {domid} ]; then exit 0; fi
  sleep 0.2
done
xl list; xenstore-read {key}; exit 1
"""

_KILL_DEVICE_MODEL = """\
pid=$(xenstore-read /local/domain/{domid}/image/device-model-pid) || exit 2
kill -KILL "$pid" || exit 3
for attempt in $(seq 100); do
  case $(cut -d ' ' -f 3 "/proc/$pid/stat" 2>/dev/null) in ''|Z) echo "killed $pid"; exit 0;; esac
  sleep 0.05
done
echo "pid $pid survives" >&2; exit 4
"""


# xenconsole(1) takes no input unless it has a terminal, so the pty that xenconsoled serves is opened directly.
_CONSOLE = """\
for attempt in $(seq 50); do
  tty=$(xenstore-read /local/domain/{domid}/console/tty 2>/dev/null) && [ -n "$tty" ] && break
  sleep 0.1
done
stty -F "$tty" raw -echo || exit 1
cat > "$tty" <&0 2>/dev/null &
exec cat "$tty"
"""


class XlToolstack:
    """`Toolstack` by the xl command over a transport."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, spec: GuestSpec, deadline: Deadline) -> Created:
        if not re.fullmatch(r"[a-z0-9-]+", spec.name):
            raise LabError(f"{spec.name!r} is no name for a guest of ours")
        script = Script(_CREATE.format(run=REMOTE_RUN, name=spec.name))
        result = self._transport.run(script, deadline=deadline, changes=True, stdin=spec.xl_config().encode())
        domid = re.search(r"^domid (\d+)$", result.text, re.MULTILINE)
        return Created(result, int(domid[1]) if domid else None)

    def console(self, domid: int, deadline: Deadline) -> Stream:
        return self._transport.open_stream(Script(_CONSOLE.format(domid=domid)), deadline=deadline)

    def destroy(self, domid: int, deadline: Deadline) -> CommandResult:
        return self._transport.run(["xl", "destroy", str(domid)], deadline=deadline, changes=True)

    def start_destroy(self, domid: int, deadline: Deadline) -> Stream:
        return self._transport.open_stream(["xl", "destroy", str(domid)], deadline=deadline)

    def await_gone(self, domid: int, device: Bdf, deadline: Deadline) -> CommandResult:
        key = f"/libxl/pci/{str(device).replace(':', '-').replace('.', '-')}/domid"
        attempts = max(1, int(deadline.remaining * 3))
        script = Script(_AWAIT_GONE.format(domid=domid, key=key, attempts=attempts))
        return self._transport.run(script, deadline=Deadline.after(deadline.remaining + 30))

    def make_assignable(self, device: Bdf, deadline: Deadline) -> CommandResult:
        return self._transport.run(["xl", "pci-assignable-add", str(device)], deadline=deadline, changes=True)

    def take_back(self, device: Bdf, deadline: Deadline, *, rebind: bool) -> CommandResult:
        option = ["-r"] if rebind else []
        return self._transport.run(
            ["xl", "pci-assignable-remove", *option, str(device)], deadline=deadline, changes=True
        )

    def kill_device_model(self, domid: int, deadline: Deadline) -> CommandResult:
        script = Script(_KILL_DEVICE_MODEL.format(domid=domid))
        return self._transport.run(script, deadline=deadline, changes=True)
