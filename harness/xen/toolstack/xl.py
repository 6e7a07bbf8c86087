"""What the scenarios ask of a toolstack, and xl's answer to it."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import Protocol

from harness.base.deadline import Deadline
from harness.base.errors import LabError
from harness.base.text import whole
from harness.model.address import Bdf
from harness.model.guestspec import GuestSpec
from harness.transport.base import CommandResult, Script, Stream, Transport, quote

REMOTE_RUN = "/run/maskall"


class Signal(enum.StrEnum):
    """What a device model may be sent."""

    KILL = "KILL"
    SEGV = "SEGV"
    ABRT = "ABRT"
    STOP = "STOP"

    @property
    def states(self) -> str:
        """The states of proc(5) that show it took effect, as a pattern of sh."""
        return "T|t" if self is Signal.STOP else "''|Z"


@dataclass(frozen=True)
class Signalled:
    """A signal that was sent; `pid` is the device model's, None when there is none."""

    result: CommandResult
    pid: int | None


@dataclass(frozen=True)
class Created:
    """A create that returned; a refusal is an observation, not an exception."""

    result: CommandResult
    domid: int | None


class Toolstack(Protocol):
    """Domains and the devices assigned to them. Every call is sent once; refusals come back as results."""

    quarantines: bool
    """Whether a device that was made assignable belongs to Xen's quarantine (DomIO) before any guest had it."""

    def create(self, spec: GuestSpec, deadline: Deadline) -> Created: ...

    def console(self, domid: int, deadline: Deadline) -> Stream: ...

    def destroy(self, domid: int, deadline: Deadline) -> CommandResult: ...

    def start_destroy(self, domid: int, deadline: Deadline) -> Stream:
        """Begin to destroy without waiting for the end."""
        ...

    def await_gone(self, domid: int, device: Bdf, deadline: Deadline) -> CommandResult:
        """Wait until neither the domain nor libxl's note that it owns the device is there. Status 0: both are gone."""
        ...

    def make_assignable(self, device: Bdf, deadline: Deadline, check: str = "") -> CommandResult:
        """From whatever driver has it to pciback. `check`: a program for sh to run before in the same shell."""
        ...

    def take_back(self, device: Bdf, deadline: Deadline, *, rebind: bool) -> CommandResult:
        """Off pciback, and with `rebind` back to the driver it had."""
        ...

    def attach(self, domid: int, device: Bdf, deadline: Deadline) -> CommandResult:
        """Hot-plug a device into a running domain."""
        ...

    def detach(self, domid: int, device: Bdf, deadline: Deadline, *, force: bool) -> CommandResult:
        """Hot-unplug; with `force` whether the guest lets go of it or not."""
        ...

    def save(self, domid: int, deadline: Deadline) -> CommandResult:
        """Save the domain to a file; of a domain with a device it must be refused."""
        ...

    def pause(self, domid: int, deadline: Deadline) -> CommandResult:
        """Its CPUs stand still."""
        ...

    def unpause(self, domid: int, deadline: Deadline) -> CommandResult: ...

    def domid(self, name: str, deadline: Deadline) -> int | None:
        """The domain that has this name now; None when there is none."""
        ...

    def signal_device_model(self, domid: int, signal: Signal, deadline: Deadline) -> Signalled:
        """Send a signal to the domain's qemu and see that it took effect."""
        ...

    def kill_process(self, pid: int, deadline: Deadline) -> CommandResult:
        """SIGKILL a device model whose domain is no more, and see it gone."""
        ...

    def close(self) -> None:
        """Let go of what is held for talking to the host. Safe to call twice; nothing on the host changes."""
        ...


def owner_note(device: Bdf) -> str:
    """The xenstore node in which libxl notes the domid that has a device (pci_info_xs_path)."""
    return f"/libxl/pci/{str(device).replace(':', '-').replace('.', '-')}/domid"


_CREATE = """\
mkdir -p {run}
cat > {run}/{name}.cfg || exit 1  # half a configuration is another domain
xl create {run}/{name}.cfg 2>&1
status=$?
domid=$(xl domid {name} 2>/dev/null) && echo "$domid" 2>/dev/null >>{run}/{name}.domids
echo "domid ${{domid:-none}}"
exit $status
"""

# by the clock, for how long one look takes depends on the host
_AWAIT_GONE = """\
now() {{ read -r up idle < /proc/uptime; echo "${{up%.*}}"; }}
end=$(($(now) + {seconds}))
while xl list {domid} >/dev/null 2>&1 || [ "$(xenstore-read {key} 2>/dev/null)" = {domid} ]; do
  if [ "$(now)" -ge "$end" ]; then xl list; xenstore-read {key}; exit 1; fi
  sleep 0.2
done
"""

# a stopped process has state T, one that ended none or Z; the name may hold blanks, so what follows its ')' is read
_SIGNAL = """\
pid={pid}
kill -{signal} "$pid" || exit 3
echo "pid $pid"
for attempt in $(seq 200); do
  state=$(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null | cut -c 1)
  case $state in {wanted}) exit 0;; esac
  sleep 0.05
done
echo "pid $pid is still in state $state" >&2; exit 4
"""
_DEVICE_MODEL_PID = "$(xenstore-read /local/domain/{domid}/image/device-model-pid) || exit 2"


# xenconsole(1) takes no input unless it has a terminal, so the pty that xenconsoled serves is opened directly.
# The reader ends with its input: one that stayed would take the next reader's lines. Descriptor 3: a shell gives what
# it runs in the background nothing to read, and dash does so before it looks at `<&0`.
_CONSOLE = """\
for attempt in $(seq 50); do
  tty=$(xenstore-read /local/domain/{domid}/console/tty 2>/dev/null) && [ -n "$tty" ] && break
  sleep 0.1
done
stty -F "$tty" raw -echo || exit 1
exec 3<&0
{{ cat > "$tty"; kill $$; }} <&3 >/dev/null 2>&1 &
exec cat "$tty"
"""


class OnHost:
    """What no toolstack does and every one needs: consoles, the device model's process, the wait for a domain's end."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @staticmethod
    def refuse_odd(name: str) -> None:
        """LabError for a name that a shell or XML could read as something else."""
        if not re.fullmatch(r"[a-z0-9-]+", name):
            raise LabError(f"{name!r} is no name for a guest of ours")

    def console(self, domid: int, deadline: Deadline) -> Stream:
        return self._transport.open_stream(Script(_CONSOLE.format(domid=domid)), deadline=deadline)

    def await_gone(self, domid: int, device: Bdf, deadline: Deadline) -> CommandResult:
        script = Script(
            _AWAIT_GONE.format(domid=domid, key=owner_note(device), seconds=max(1, round(deadline.remaining)))
        )
        return self._transport.run(script, deadline=Deadline.after(deadline.remaining + 30))

    def signal_device_model(self, domid: int, signal: Signal, deadline: Deadline) -> Signalled:
        result = self._signal(_DEVICE_MODEL_PID.format(domid=domid), signal, deadline)
        pid = re.search(r"^pid (\d+)$", result.text, re.MULTILINE)
        return Signalled(result, int(pid[1]) if pid else None)

    def kill_process(self, pid: int, deadline: Deadline) -> CommandResult:
        return self._signal(str(pid), Signal.KILL, deadline)

    def _signal(self, pid: str, signal: Signal, deadline: Deadline) -> CommandResult:
        script = Script(_SIGNAL.format(pid=pid, signal=signal, wanted=signal.states))
        return self._transport.run(script, deadline=deadline, changes=True)


class XlToolstack(OnHost):
    """`Toolstack` by the xl command over a transport."""

    quarantines = True

    def create(self, spec: GuestSpec, deadline: Deadline) -> Created:
        self.refuse_odd(spec.name)
        script = Script(_CREATE.format(run=REMOTE_RUN, name=spec.name))
        result = self._transport.run(script, deadline=deadline, changes=True, stdin=spec.xl_config().encode())
        domid = re.search(r"^domid (\d+)$", result.text, re.MULTILINE)
        return Created(result, int(domid[1]) if domid else None)

    def destroy(self, domid: int, deadline: Deadline) -> CommandResult:
        return self._change(["xl", "destroy", str(domid)], deadline)

    def start_destroy(self, domid: int, deadline: Deadline) -> Stream:
        return self._transport.open_stream(["xl", "destroy", str(domid)], deadline=deadline, changes=True)

    def make_assignable(self, device: Bdf, deadline: Deadline, check: str = "") -> CommandResult:
        command = ["xl", "pci-assignable-add", str(device)]
        if not check:
            return self._change(command, deadline)
        return self._transport.run(Script(f"{check}\nexec {quote(command)}"), deadline=deadline, changes=True)

    def take_back(self, device: Bdf, deadline: Deadline, *, rebind: bool) -> CommandResult:
        option = ["-r"] if rebind else []
        return self._change(["xl", "pci-assignable-remove", *option, str(device)], deadline)

    def attach(self, domid: int, device: Bdf, deadline: Deadline) -> CommandResult:
        return self._change(["xl", "pci-attach", str(domid), str(device)], deadline)

    def detach(self, domid: int, device: Bdf, deadline: Deadline, *, force: bool) -> CommandResult:
        option = ["-f"] if force else []
        return self._change(["xl", "pci-detach", *option, str(domid), str(device)], deadline)

    def save(self, domid: int, deadline: Deadline) -> CommandResult:
        return self._change(["xl", "save", str(domid), f"{REMOTE_RUN}/saved"], deadline)

    def pause(self, domid: int, deadline: Deadline) -> CommandResult:
        return self._change(["xl", "pause", str(domid)], deadline)

    def unpause(self, domid: int, deadline: Deadline) -> CommandResult:
        return self._change(["xl", "unpause", str(domid)], deadline)

    def domid(self, name: str, deadline: Deadline) -> int | None:
        found = self._transport.run(["xl", "domid", name], deadline=deadline)
        return whole(found.text.strip()) if found.ok else None

    def close(self) -> None:
        """Nothing is held."""

    def _change(self, command: list[str], deadline: Deadline) -> CommandResult:
        return self._transport.run(command, deadline=deadline, changes=True)
