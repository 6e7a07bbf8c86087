"""One user at a time for a lab host.

The claim is a file on the host, in its volatile /run: a reboot ends it together with everything it protected. Its age
is measured by the host's own uptime, so that no clock that jumps matters.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from harness.base.deadline import Deadline, poll
from harness.base.errors import HostUnreachable, LabError, LockHeld, OutcomeUnknown
from harness.base.text import inert
from harness.lab.lease.holder import Claimed, Holder, how_taken, parse, why_takeable
from harness.transport.base import CommandResult, Script, Stream, Transport, quote
from harness.xen.toolstack.xl import REMOTE_RUN

BEAT_SECONDS = 5.0
_SECONDS = 20.0
_POLL_SECONDS = 1.0
_HELD, _BUSY, _DIRTY = 3, 4, 5

# A local user must not be able to lock the folder, or read the token in it: it is nobody's but root's. On a full disk
# there is room for a symbolic link still (tmpfs keeps a short one in the inode), so a text may stand in one.
_TOOLS = """\
umask 077
say() {{ if [ -L "$1" ]; then readlink "$1"; else cat "$1"; fi 2>/dev/null; }}
link() {{ rm -f "$1"; ln -s "$3" "$1" && mv -f "$1" "$2"; }}
mine() {{
  line=
  if [ -L claim ]; then line=$(readlink claim); else IFS= read -r line <claim; fi 2>/dev/null
  case $line in *{token}*) return 0;; esac
  return 1
}}
"""

# Prints the claim that is there, its heartbeat, the host's uptime, the claim's SHA-256, and whether there is a journal
# that nobody has closed, one per line.
_LOOK = """\
cd {run} 2>/dev/null && {{ [ -e claim ] || [ -L claim ]; }} || exit 0
say claim | tr '\\n' ' '; echo
printf '%s\\n' "$(say heartbeat | head -n 1)"
cut -d ' ' -f 1 /proc/uptime
say claim | sha256sum | cut -c 1-64
[ ! -e journal.jsonl ] || echo journal
exit 0
"""

# flock(1) ends with the shell, however that ends. {old} is the SHA-256 of the claim to be replaced, or ""; {dead} holds
# only while its holder has not come back. The heartbeat comes first: nobody may find the new claim with the old one's.
_TAKE = """\
mkdir -p {run} && [ ! -L {run} ] && [ -O {run} ] && cd {run} && chmod 700 . || exit 1
exec 9<. && flock -w 10 9 || exit 4
[ . -ef {run} ] || exit 3  # who released it meanwhile has removed the empty directory
if say claim | grep -qs '[^[:space:]]' && ! mine; then
  [ "$(say claim | sha256sum | cut -c 1-64)" = {old} ] && {dead} || exit 3
fi
read -r up _ </proc/uptime
{{ echo "$up" >heartbeat.new && mv -f heartbeat.new heartbeat; }} 2>/dev/null ||
  link heartbeat.new heartbeat "$up" || exit 1
{{ cat >claim.new && mv -f claim.new claim; }} 2>/dev/null || link claim.new claim {short} || exit 1
: >>work
"""

_RELEASE = """\
cd {run} 2>/dev/null || exit 0
exec 9<. && flock -w 10 9 || exit 4
mine || exit 0
[ ! -e journal.jsonl ] || exit 5
rm -f claim heartbeat heartbeat.* work || exit 1
cd / && rmdir {run} 2>/dev/null
exit 0
"""

# Ends with the link. The claim stays: a holder whose link was cut comes back with its token. The heartbeat is replaced
# in one step: who looks in between must not find it empty and the holder dead. The lock: whoever releases the claim at
# the same time must not leave a heartbeat behind.
_BEAT = """\
cd {run} && exec 9<. || exit 1
while read -r _; do
  flock -s -w 10 9
  mine || {{ echo lost; exit 1; }}
  read -r up _ </proc/uptime
  {{ echo "$up" >heartbeat.{token} && mv -f heartbeat.{token} heartbeat; }} 2>/dev/null ||
    link heartbeat.{token} heartbeat "$up"
  flock -u 9
done
"""


def script(program: str, run: str, token: str = "", **more: str) -> Script:
    """A program of this module: words of `more` are quoted already. Without a token nothing is anybody's."""
    return Script((_TOOLS + program).format(run=quote([run]), token=token or "'no token'", **more))


def asked_twice(transport: Transport, send: Callable[[], CommandResult]) -> CommandResult:
    """What a program says that does the same however often it runs: over a new link where the first one breaks."""
    try:
        return send()
    except (OutcomeUnknown, HostUnreachable):
        transport.connect(Deadline.after(_SECONDS))
        return send()


def owner_of(environment: Mapping[str, str]) -> str:
    """Who claims: a CI job is the same owner in each of its runs, so that a cancelled one needs no human."""
    for job, project in (
        ("CI_JOB_NAME", "CI_PROJECT_PATH"),  # GitLab
        ("GITHUB_JOB", "GITHUB_REPOSITORY"),
        ("JOB_NAME", "JENKINS_URL"),
    ):
        if environment.get(job):
            return f"{environment.get(project, 'ci')}:{environment[job]}"
    return f"{environment.get('SUDO_USER') or environment.get('USER') or f'uid{os.getuid()}'}@{socket.gethostname()}"


def look(transport: Transport, run: str = REMOTE_RUN) -> Claimed | None:
    """Who has the host now; changes nothing."""
    return parse(transport.run(script(_LOOK, run), deadline=Deadline.after(_SECONDS)).check().text)


@dataclass
class Claim:
    """A host that is ours, kept so by a heartbeat until `release`."""

    transport: Transport
    holder: Holder
    extra: Mapping[str, object]
    run: str = REMOTE_RUN
    heard: Callable[[Claimed | None], None] = lambda _: None
    """Told of each claim of somebody else's that is found, and None once the host is ours."""
    notice: Callable[[str], None] = lambda _: None
    _stream: Stream | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    @classmethod
    def take(
        cls,
        transport: Transport,
        *,
        owner: str,
        reason: str,
        wait: float = 0.0,
        take_over: str | None = None,
        notice: Callable[[str], None] = lambda _: None,
        run: str = REMOTE_RUN,
        heard: Callable[[Claimed | None], None] = lambda _: None,
    ) -> Claim:
        """Take the host. LockHeld when somebody else has it, which names who, why, since when and whether they live.

        A stale claim of the same owner is taken without asking; any other only with `take_over`, a reason that is kept
        in the new claim.
        """
        deadline = Deadline.after(wait)
        told = False

        def attempt() -> Claim | None:
            nonlocal told
            there = look(transport, run)
            extra: dict[str, object] = {}
            if there is not None:
                if there.holder.owner != owner:
                    heard(there)
                why = why_takeable(there, owner, take_over)
                if why is None:
                    if not told:
                        notice(f"{transport.name} is used by {there.told}" + ("; waiting" if wait else ""))
                        told = True
                    return None
                notice(f"taking {transport.name} from {there.told}: {why}")
                extra = {"taken_from": there.holder.owner, "taken_because": why}
            since = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
            holder = Holder(owner, reason, since, secrets.token_hex(8))
            claim = cls(transport, holder, extra, run, heard, notice)
            try:
                return claim if claim._put(there, even_alive=bool(take_over)) else None
            except BaseException:  # it may be there nevertheless
                claim.release()
                raise

        got = poll(attempt, deadline, every=_POLL_SECONDS)
        if got is None:
            there = look(transport, run)
            whom = there.told if there is not None else "somebody who came a moment earlier"
            hint = how_taken(there, transport.name)
            raise LockHeld(f"{transport.name} is used by {whom}", hint=hint)
        heard(None)
        try:
            got._beat()
        except BaseException:
            got.release()
            raise
        return got

    def _put(self, there: Claimed | None = None, *, even_alive: bool = False) -> bool:
        """Write the claim in place of the one that was seen. False: another one stands there by now, or it beats again.

        Sent again after a lost link: it succeeds where the claim is there already.
        """
        heartbeat = there.heartbeat if there is not None else ""
        take = script(
            _TAKE,
            self.run,
            self.holder.token,
            old=quote([there.digest if there is not None else ""]),
            dead="true" if even_alive else f'[ "$(say heartbeat | head -n 1)" = {quote([heartbeat])} ]',
            short=quote([self.holder.short]),
        )

        def send() -> CommandResult:
            return self.transport.run(
                take, deadline=Deadline.after(_SECONDS), changes=True, stdin=self.holder.as_json(**self.extra)
            )

        done = asked_twice(self.transport, send)
        if done.status in (_HELD, _BUSY):
            return False
        done.check()
        return True

    def _beat(self) -> None:
        self._stop = stop = threading.Event()
        program = script(_BEAT, self.run, self.holder.token)
        stream = self.transport.open_stream(program, deadline=Deadline.after(_SECONDS))
        self._stream = stream

        def beat() -> None:
            while not stop.wait(BEAT_SECONDS):
                try:
                    stream.write(b"\n", Deadline.after(BEAT_SECONDS))
                except LabError:  # the link is gone; whoever works over it hears so, and `renew` begins anew
                    return

        stream.write(b"\n", Deadline.after(BEAT_SECONDS))
        self._thread = threading.Thread(target=beat, name=f"claim on {self.transport.name}", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """LockHeld when the claim is somebody else's by now. A heartbeat that a cut link has ended begins anew."""
        if self._stream is None:
            return
        if b"lost" in self._stream.received:
            if self.transport.connected and (there := look(self.transport, self.run)) is not None:
                self.heard(there)
            raise LockHeld(f"{self.transport.name} was taken from us", hint="somebody used --take-over; see its claim")
        if not self.beating:
            if not self.transport.connected:
                self.transport.connect(Deadline.after(_SECONDS))
            if look(self.transport, self.run) is None:  # and which machine answers by now is not for us to ask
                raise LabError(f"{self.transport.name} has no claim of ours any more: has it rebooted?")
            self.renew()

    def renew(self) -> None:
        """After a reboot of the host or a cut link: the same claim again. LockHeld when somebody else has it now."""
        self._quiet()
        there = look(self.transport, self.run)
        if there is not None and there.holder.token != self.holder.token:
            self.heard(there)
            raise LockHeld(f"{self.transport.name} was taken by {there.told} meanwhile")
        if there is None and not self._put():
            raise LockHeld(f"{self.transport.name} was taken by somebody else meanwhile")
        self._beat()

    @property
    def beating(self) -> bool:
        """The heartbeat goes on: its stream is alive, and so is who writes to it."""
        alive = self._thread is not None and self._thread.is_alive()
        return alive and self._stream is not None and not self._stream.ended

    def let_go(self, why: str) -> None:
        """End the heartbeat and leave the claim, which says why from now on: the host stays ours to whoever asks, until
        it grows stale. A host that has booted anew has no claim."""
        self._quiet()
        self.holder = replace(self.holder, reason=inert(why))
        with self._telling("stays, and cannot say why"):
            if not self.transport.connected:
                raise HostUnreachable("there is no connection")
            there = look(self.transport, self.run)
            if there is not None and there.holder.token == self.holder.token:
                self._put(there)

    def release(self) -> None:
        """Give the host free; one with a journal that nobody has closed stays claimed, and the claim says so."""
        self._quiet()
        program = script(_RELEASE, self.run, self.holder.token)

        def send() -> CommandResult:
            return self.transport.run(program, deadline=Deadline.after(_SECONDS), changes=True)

        with self._telling("could not be taken away, and grows stale there"):
            done = asked_twice(self.transport, send)
            if done.status == _DIRTY:
                return self.let_go("what a run has changed there is not undone")
            done.check()

    @contextlib.contextmanager
    def _telling(self, what: str) -> Iterator[None]:
        """No claim stays without a word: neither there nor here."""
        told = "it was broken off"
        try:
            yield
            told = ""
        except LabError as error:
            told = error.message
        finally:
            if told:
                self.notice(f"our claim on {self.transport.name} {what}: {told}")

    def _quiet(self) -> None:
        self._stop.set()
        if self._stream is not None:
            self._stream.close()
        self._stream = None
