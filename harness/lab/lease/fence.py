"""The link of a stay: what changes the host is checked against the claim in the very shell that makes the change.

A holder that was paused (SIGSTOP, suspend, a link that hung) and taken over meanwhile finds its change refused, however
long ago it was decided. And nothing is sent twice: who goes back waits until what was sent before has ended.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.base.deadline import Deadline
from harness.base.errors import HostHung, LabError, LockHeld
from harness.lab.lease.claim import Claim, script
from harness.transport import files
from harness.transport.base import Command, CommandResult, Script, Stream, Transport, quote

IDLE_SECONDS = 30
"""How long what was sent before may take to end, once somebody wants to go back."""

_REFUSED, _RUNNING = 97, 98

# Two locks. That of the folder is held while the claim is looked at, so that nobody takes the host between the look and
# the start of the change; `work` is held until the change has ended, by the shell alone: no daemon inherits it.
_FENCE = """\
refuse() {{ echo "{mark} $1" >&2; exit 97; }}
read -r boot </proc/sys/kernel/random/boot_id; [ "$boot" = {boot} ] || refuse rebooted
cd {run} 2>/dev/null || refuse lost
{{ command exec 9<.; }} 2>/dev/null && flock -s -w 10 9 || refuse busy
mine || refuse lost
{{ command exec 8>>work; }} 2>/dev/null && flock -s -w 10 8
exec 9<&-
cd /
( umask 022
{change}
) 8>&-
"""

_WAIT = """\
cd {run} 2>/dev/null || exit 0
[ -e work ] || exit 0
exec 8<work
flock -w {seconds} 8 && exit 0
exec 8<&-
for process in /proc/[0-9]*; do
  [ "$process/fd/8" -ef work ] && tr '\\0\\n' '  ' <"$process/cmdline" | cut -c 1-120
done 2>/dev/null | head -n 3
exit 98
"""


@dataclass
class Fenced:
    """`Transport` of a host that is claimed. `boot`: the boot_id in which it was claimed."""

    link: Transport
    claim: Claim
    boot: str

    @property
    def name(self) -> str:
        return self.link.name

    @property
    def connected(self) -> bool:
        return self.link.connected

    def connect(self, deadline: Deadline) -> None:
        self.link.connect(deadline)

    def close(self) -> None:
        self.link.close()

    def run(self, command: Command, *, deadline: Deadline, changes: bool = False, stdin: bytes = b"") -> CommandResult:
        """As `Transport.run`. LockHeld when the host is somebody else's, LabError when it has rebooted; then the
        change was not made."""
        if not changes:
            return self.link.run(command, deadline=deadline, stdin=stdin)
        done = self.link.run(self.fenced(command), deadline=deadline, changes=True, stdin=stdin)
        if done.status == _REFUSED:
            self._refuse(done.stderr)
        return done

    def open_stream(self, command: Command, *, deadline: Deadline, changes: bool = False) -> Stream:
        return self.link.open_stream(self.fenced(command) if changes else command, deadline=deadline, changes=changes)

    def put(self, data: bytes, path: str, mode: int, deadline: Deadline) -> None:
        files.put(self, data, path, mode, deadline)

    def get(self, path: str, deadline: Deadline) -> bytes:
        return self.link.get(path, deadline)

    def fenced(self, command: Command) -> Script:
        """The command behind the fence."""
        change = command.text if isinstance(command, Script) else quote(command)
        mark, boot = self._mark, quote([self.boot])
        return script(_FENCE, self.claim.run, self.claim.holder.token, mark=mark, boot=boot, change=change)

    def wait_idle(self) -> None:
        """Until every change that was sent over any link, by whoever had the host, has ended. LabError names those
        that do not."""
        program = script(_WAIT, self.claim.run, seconds=str(IDLE_SECONDS))
        done = self.link.run(program, deadline=Deadline.after(IDLE_SECONDS + 20))
        if done.status == _RUNNING:
            told = done.text.strip().replace("\n", "; ") or "unknown"
            raise HostHung(
                f"{self.name}: what was sent earlier still runs there: {told}",
                hint="nothing is sent a second time while it does",
            )

    @property
    def _mark(self) -> str:
        return f"maskall-{self.claim.holder.token}:"

    def _refuse(self, said: bytes) -> None:
        for line in said.splitlines():
            if line == f"{self._mark} rebooted".encode():
                raise LabError(f"{self.name} has rebooted by itself: boot_id is no longer {self.boot}")
            if line.startswith(self._mark.encode()):
                hint = "somebody used --take-over; see its claim; nothing was changed"
                raise LockHeld(f"{self.name} is no longer ours: its claim is gone or somebody else's", hint=hint)
