"""A program that runs on the host by itself: a cut link does not end it, and it never runs twice.

It is a unit of systemd. Its folder on the host tells what became of it: `started`, then `log`, then `status`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from harness.base.deadline import Deadline, poll
from harness.base.errors import CommandFailed, HostHung, HostUnreachable, LabError, OutcomeUnknown
from harness.base.text import inert
from harness.lab.lease.lease import Lease
from harness.transport.base import Script, quote

BASE = "/var/lib/maskall/provision"
EVERY = 2.0
"""Seconds between two questions."""

TELL_EVERY = 10.0
"""Seconds between two lines of a log that are worth telling."""

_SECONDS = 60.0  # one question to a host that is busy unpacking

# mkdir is the guard: whoever comes second does nothing.
_PROGRAM = """\
cd {folder} && mkdir started || exit 0
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C DEBIAN_FRONTEND=noninteractive
export PATH LC_ALL DEBIAN_FRONTEND
( {program} ) >log 2>&1 </dev/null
echo $? >status.new
sync
mv status.new status
"""

_ASK = """\
cd {folder} 2>/dev/null || {{ echo absent; exit 0; }}
if [ -f status ]; then echo "ended $(cat status)"
elif systemctl is-active --quiet {unit}; then echo running
elif [ -d started ]; then if [ -f status ]; then echo "ended $(cat status)"; else echo died; fi
else echo absent; fi
tail -n 1 log 2>/dev/null
exit 0
"""


@dataclass(frozen=True)
class Job:
    """`program` is a fixed shell program, its values quoted by whoever made it."""

    name: str
    program: str
    base: str = BASE

    @classmethod
    def fresh(cls, what: str, program: str, base: str = BASE) -> Job:
        """Under a name that was never used before."""
        return cls(f"{what}-{secrets.token_hex(4)}", program, base)

    @property
    def folder(self) -> str:
        return f"{self.base}/jobs/{self.name}"

    @property
    def unit(self) -> str:
        return f"maskall-{self.name}.service"

    @property
    def ask(self) -> Script:
        """Prints `absent`, `running`, `died` or `ended STATUS`, then the last line of the log."""
        return Script(_ASK.format(folder=quote([self.folder]), unit=quote([self.unit])))


def run_job(visit: Lease, job: Job, deadline: Deadline, tell: Callable[[str], None]) -> str:
    """Start it, follow it to its end over however many links, and return its log. `tell` hears its last line.

    CommandFailed with the last line when it ends with another status than 0; LabError when it died or at the deadline.
    """
    _start(visit, job, deadline)
    last, quiet = "", Deadline.after(0)

    def ended() -> str | None:
        nonlocal last, quiet
        state, line = _ask(visit, job, deadline)
        if line != last and quiet.expired:
            last, quiet = line, Deadline.after(TELL_EVERY)
            tell(inert(line)[:120])
        return None if state == "running" else state

    state = poll(ended, deadline, every=EVERY)
    if state is None:
        hint = f"it goes on by itself; see {job.folder}/log on the host, then call again"
        raise LabError(f"{visit.site.name}: {job.name} has not ended in time", hint=hint)
    if state == "absent":
        raise LabError(f"{visit.site.name}: {job.name} could not be started", hint="is systemd-run there?")
    if state == "died":
        raise LabError(f"{visit.site.name}: {job.name} was killed", hint="see `dpkg --audit` there, then call again")
    log = visit.transport.get(f"{job.folder}/log", deadline.sooner(_SECONDS)).decode("utf-8", "replace")
    if state != "ended 0":
        told = next(
            (line for line in reversed(log.splitlines()) if line.startswith("E: ")), (log.splitlines() or [""])[-1]
        )
        raise CommandFailed(
            f"{visit.site.name}: {job.name} {state}: {inert(told)[:200]}", hint=f"{job.folder}/log on the host"
        )
    return log


def _start(visit: Lease, job: Job, deadline: Deadline) -> None:
    folder = quote([job.folder])
    put = Script(f"umask 077; mkdir -p {folder}")
    visit.transport.run(put, deadline=deadline.sooner(_SECONDS), changes=True).check()
    program = _PROGRAM.format(folder=folder, program=job.program)
    visit.transport.put(program.encode(), f"{job.folder}/program", 0o600, deadline.sooner(_SECONDS))
    begin = ["systemd-run", "--quiet", "--collect", f"--unit={job.unit}", "/bin/sh", f"{job.folder}/program"]
    try:
        visit.transport.run(begin, deadline=deadline.sooner(_SECONDS), changes=True).check()
    except (OutcomeUnknown, HostUnreachable, HostHung):
        if _ask(visit, job, deadline)[0] == "absent":  # asked, not guessed; and a second one would do nothing
            visit.transport.run(begin, deadline=deadline.sooner(_SECONDS), changes=True)  # refused if it runs after all


def _ask(visit: Lease, job: Job, deadline: Deadline) -> tuple[str, str]:
    """What became of it, and the last line of its log; over a new link where the old one is cut."""

    def answer() -> tuple[str, str] | None:
        try:
            visit.meet_again()
            lines = visit.transport.run(job.ask, deadline=Deadline.after(_SECONDS)).check().text.splitlines()
        except (HostUnreachable, HostHung, OutcomeUnknown) as error:
            if deadline.expired:
                raise
            visit.notice(f"{visit.site.name}: {error.message}; asking again")
            return None
        return (lines[0] if lines else "absent"), (lines[1] if len(lines) > 1 else "")

    found = poll(answer, deadline, every=EVERY)
    if found is None:
        raise HostUnreachable(f"{visit.site.name}: nobody could be asked what became of {job.name}")
    return found
