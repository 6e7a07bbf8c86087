"""The journal of one stay on a host: on the controller first, then on the host, and only then the change is made."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from harness.base import private
from harness.base.deadline import Deadline
from harness.base.errors import (
    CommandFailed,
    JournalDamaged,
    LabError,
    LockHeld,
    NotRecorded,
)
from harness.base.records import logger
from harness.base.text import inert
from harness.lab.lease.claim import asked_twice, script
from harness.lab.lease.entry import (
    FIRST,
    JournalLine,
    MachineIdentity,
    What,
    merge,
    of_machine,
    open_part,
    parse,
    problem,
    read_line,
)
from harness.lab.lease.fields import words
from harness.lab.lease.state import HostState, append_durably
from harness.model.change import Change
from harness.transport.base import CommandResult, Script, Transport, quote
from harness.xen.toolstack.xl import REMOTE_RUN

log = logger(__name__)

_SECONDS = 20.0
_LOST, _REBOOTED, _OTHER = 7, 8, 9

_MOST = 32 << 20
"""Bytes of a journal. A run writes some hundred lines."""

# Appends the lines on stdin unless they are there already; the last line must be the one before them, else its hash is
# printed. The claim is looked at in the same breath, and nobody takes the host before this has ended. A new file takes
# the place of the old one, so that a full disk leaves no half line. Nothing is synced: /run is memory, and what the
# journal describes is lost together with it.
_APPEND = """\
read -r boot </proc/sys/kernel/random/boot_id && [ "$boot" = {boot_id} ] || exit 8
[ -d {run} ] || {{ [ -z {need} ] || exit 7; mkdir -p {run}; }}
cd {run} && exec 9<. && flock -s -w 10 9 || exit 1
[ -z {need} ] || mine || exit 7
true >>journal.jsonl || exit 1
last=; while IFS= read -r line || [ -n "$line" ]; do last=$line; done <journal.jsonl
last=${{last##*'"hash":"'}}; last=${{last%%'"'*}}; last=${{last:-{first}}}
[ "$last" = {this} ] && exit 0
[ "$last" = {prev} ] || {{ echo "$last"; exit 9; }}
cat journal.jsonl - > journal.new && mv -f journal.new journal.jsonl || {{ rm -f journal.new; exit 1; }}
"""

# A run that is closed leaves a name, no data, so that there is room for it on a full disk, and nothing replays a copy
# of its journal in this boot. A symbolic link in its place would let others choose where names appear.
_CLOSE = """\
umask 077
mkdir -p {closed} && [ ! -L {closed} ] && [ -O {closed} ] && : >{closed}/{name} || exit 1
cd {run} 2>/dev/null || exit 0
rm -rf guest ./*.cfg ./*.domids saved journal.jsonl journal.new deadman*
[ ! -e journal.jsonl ]
"""

_MACHINE = """\
for file in /etc/machine-id /sys/class/dmi/id/product_uuid; do
  [ ! -e "$file" ] || cat "$file" || exit 1
  echo
done
"""


def machine(transport: Transport, host_key: str) -> MachineIdentity:
    """Which machine answers, `host_key` being the fingerprint of the key it has proven to have. What it has not is
    empty; what is no such thing at all is too. CommandFailed when what it has cannot be read: that is not nothing."""
    done = transport.run(Script(_MACHINE), deadline=Deadline.after(_SECONDS)).check()
    lines = done.text.lower().split("\n")
    found = [line.strip() for line in lines if line.strip()]
    machine_id = next((line for line in found if re.fullmatch("[0-9a-f]{32}", line)), "")
    product = next((line for line in found if re.fullmatch("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", line)), "")
    return MachineIdentity(host_key, machine_id, product)


def boot_id(transport: Transport) -> str:
    """Which boot of the host this is (random(4)). LabError when it says more: a login that prints something itself."""
    command = ["cat", "/proc/sys/kernel/random/boot_id"]
    said = transport.run(command, deadline=Deadline.after(_SECONDS)).check().text.strip()
    if not words("boot")(said):
        told = f"{transport.name}: its boot_id is one line, and it says: {inert(said)[:80]}"
        raise LabError(told, hint="does the login print something there? It must not without a terminal (~/.bashrc)")
    return said


@dataclass
class HostJournal:
    """`Ledger` of a lab host. `trace` hears the name of every point between two writes: tests stop there.

    `still_ours` raises when the claim on the host was lost meanwhile; `token` is what the claim there must hold at each
    write, empty: none is needed, or `transport` is fenced.
    """

    transport: Transport
    state: HostState
    run: str
    boot_id: str
    entries: list[JournalLine] = field(default_factory=list)
    remote: str = REMOTE_RUN
    still_ours: Callable[[], None] = lambda: None
    trace: Callable[[str], None] = lambda _: None
    token: str = ""
    local_token: str = ""  # what the state on this controller must be held with; empty: it could not be written there

    def about_to(self, change: Change) -> None:
        """Returns once the change is on record on both machines. LabError: do not make it."""
        self.still_ours()
        said = {"subject": change.subject, "text": change.text, "undo": change.undo}
        self.record(What.INTENT, {"kind": str(change.kind), **{name: inert(word) for name, word in said.items()}})

    def record(self, what: What, payload: Mapping[str, object]) -> None:
        """Write one line on both machines. NotRecorded when either could not be written."""
        prev = self.entries[-1].hash if self.entries else FIRST
        now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        entry = JournalLine(len(self.entries) + 1, now, self.boot_id, self.run, what, payload, prev)
        odd = problem(entry)
        if odd:
            told = f"{self.transport.name}: a journal cannot hold this: {odd}"
            raise NotRecorded(told, hint="the change was not made")
        self.trace(f"before controller {what} {entry.seq}")
        try:
            with self.state.ours(self.local_token):
                size = sum(len(one.line) for one in self.entries)
                append_durably(self.state.journal, entry.line, size, f'"run":"{self.run}"'.encode())
        except OSError as error:
            hint = "free some space on this controller; the change was not made"
            raise NotRecorded(
                f"the journal {self.state.journal} cannot be written: {error.strerror}", hint=hint
            ) from error
        self.entries.append(entry)
        self.trace(f"between controller and host {what} {entry.seq}")
        self._send()
        self.trace(f"after host {what} {entry.seq}")

    def _send(self) -> None:
        """The new line; those before it too that the host lacks: an earlier one may have found its disk full."""
        done = self._add(self.entries[-1:])
        before, last = [entry.prev for entry in self.entries], done.text.strip()
        if last in before:
            done = self._add(self.entries[before.index(last) :])
        self._refuse(done)

    def _add(self, new: Sequence[JournalLine]) -> CommandResult:
        """The script adds them once, however often it is called, so a lost link is answered by asking again."""
        program = script(
            _APPEND,
            self.remote,
            self.token,
            boot_id=quote([self.boot_id]),
            this=new[-1].hash,
            prev=new[0].prev,
            first=FIRST,
            need=quote([self.token]),
        )
        lines = b"".join(entry.line for entry in new)

        def send() -> CommandResult:
            return self.transport.run(program, deadline=Deadline.after(_SECONDS), changes=True, stdin=lines)

        return asked_twice(self.transport, send)

    def _refuse(self, done: CommandResult) -> None:
        name = self.transport.name
        if done.status == _LOST:
            raise LockHeld(f"{name} is no longer ours: its claim is gone or somebody else's")
        if done.status == _REBOOTED:
            raise LabError(f"{name} has rebooted by itself: boot_id is no longer {self.boot_id}")
        if done.status == _OTHER:
            raise JournalDamaged(f"{name}: somebody else wrote into {self.remote}/journal.jsonl")
        if not done.ok:
            hint = "free some space on the host; the change was not made"
            file = f"{self.remote}/journal.jsonl"
            raise NotRecorded(f"{name}: the journal {file} cannot be written: {done.complaint}", hint=hint)

    def settle(self) -> None:
        """Make both copies the same again, in a new boot of the host for instance. NotRecorded."""
        adopt(tuple(self.entries), self.transport, self.state, self.remote, self.local_token)

    def close(self) -> list[str]:
        """After a verified undo: close it on the host, remove what else of ours is there, put the controller's copy
        aside. What this controller's disk did not take is returned, a line each: it does no harm."""
        self.trace("before closing")
        close_remote(self.transport, self.entries[0].run, self.remote)
        self.trace("between closing host and controller")
        self.entries.clear()
        try:
            with self.state.ours(self.local_token):
                put_aside(self.state)
        except LabError as error:
            return [f"{error.message}: its copy stays, and is told from one that counts by what the host says"]
        return []


def close_remote(transport: Transport, run: str, remote: str = REMOTE_RUN) -> None:
    """A name that says so, and everything of ours on the host but the claim removed. LabError."""
    program = script(_CLOSE, remote, closed=quote([_closed(remote)]), name=quote([run]))

    def send() -> CommandResult:
        return transport.run(program, deadline=Deadline.after(_SECONDS), changes=True)

    asked_twice(transport, send).check()


def _closed(remote: str) -> str:
    """The folder with the names of the runs that were closed in this boot."""
    return f"{remote}-closed"


@dataclass(frozen=True)
class Found:
    """What earlier runs left. `entries`: to be undone; `past`: of an earlier boot, which has undone it.

    `stale`: this controller's copy is not the one that counts: what became of it, in a word; empty when it is, or there
    is none. `closed`: the run of a journal on the host that is closed, and only has to be cleared away.
    """

    entries: tuple[JournalLine, ...] = ()
    past: tuple[JournalLine, ...] = ()
    stale: str = ""
    closed: str = ""


def found(
    transport: Transport,
    state: HostState,
    remote: str = REMOTE_RUN,
    which: str = "",
    now: MachineIdentity | None = None,
) -> Found:
    """The journal that an earlier run left on either machine. JournalDamaged, AnotherMachine; nothing is changed.

    `which`: "host" or "controller" where one copy was chosen by hand, so that the other need not be whole. `now`: the
    machine that answers; None where only the copies are compared. The host's copy counts: it goes with what it
    describes, at every reboot. Ours only adds what never arrived there, or stands in for it where it is gone.
    """
    ours = local(state) if which != "host" else ()
    theirs = _remote(transport, remote) if which != "controller" else ()
    if now is not None:
        ours = of_machine(ours, now, str(state.journal))
        theirs = of_machine(theirs, now, f"{transport.name}:{remote}/journal.jsonl")
    if not ours and not theirs:
        return Found()
    if not theirs:
        if not open_part(ours) or (not which and _is_closed(transport, ours, remote)):
            return Found(stale="closed")
        if ours[-1].boot_id != boot_id(transport):
            return Found(past=ours, stale="rebooted")
        return Found(ours)
    entries, stale = theirs, ""
    if ours:
        another = ours[0] != theirs[0]
        gone = ours[-1].boot_id != theirs[0].boot_id or not open_part(ours) or _is_closed(transport, ours, remote)
        if another and gone:
            stale = "superseded"
        else:
            entries = merge(ours, theirs)
    return Found(open_part(entries), stale=stale, closed="" if open_part(entries) else entries[0].run)


def _is_closed(transport: Transport, entries: Sequence[JournalLine], remote: str) -> bool:
    path = f"{_closed(remote)}/{entries[0].run}"
    return transport.run(["test", "-e", path], deadline=Deadline.after(_SECONDS)).ok


def is_dirty(transport: Transport, remote: str = REMOTE_RUN) -> bool:
    """A journal is on the host, whole or not; also when it does not say."""
    try:
        seen = transport.run(["test", "!", "-e", f"{remote}/journal.jsonl"], deadline=Deadline.after(_SECONDS))
    except LabError:
        return True
    return not seen.ok


def adopt(
    entries: tuple[JournalLine, ...], transport: Transport, state: HostState, remote: str = REMOTE_RUN, token: str = ""
) -> list[str]:
    """Make both copies the same whole lines, so that the journal can be continued from here.

    Another story that this controller still had, of an earlier boot, is put aside. What a disk did not take is
    returned, a line each: going back does not need it.
    """
    data = b"".join(entry.line for entry in entries)
    left: list[str] = []
    try:
        with state.ours(token):
            _keep(data, state)
    except NotRecorded as error:
        left.append(error.message)
    deadline = Deadline.after(_SECONDS)
    path = f"{remote}/journal.jsonl"
    there = transport.run(["cat", path], deadline=deadline)
    if there.stdout == data:
        return left
    try:
        transport.run(["mkdir", "-p", remote], deadline=deadline, changes=True).check()
        transport.put(data, path, 0o600, deadline)
    except CommandFailed as error:
        left.append(error.message)
    return left


def _keep(data: bytes, state: HostState) -> None:
    try:
        try:
            raw = private.read_own(state.journal) if state.journal.exists() else b""
        except PermissionError:
            raw = b"somebody else's\n"
        if raw == data:
            return
        whole, _, _torn = raw.rpartition(b"\n")
        if not data.startswith(whole):
            put_aside(state, "superseded")
        private.write_durably(state.journal, data)
    except OSError as error:
        raise NotRecorded(f"the journal {state.journal} cannot be written: {error.strerror}") from error


def put_aside(state: HostState, why: str = "") -> None:
    """This controller's copy, which may be damaged, under the name of its run. NotRecorded."""
    entry = None
    with contextlib.suppress(OSError):
        first, *_ = private.read_own(state.journal).split(b"\n")
        entry = read_line(first)
    run = entry.run if entry is not None else "damaged"
    state.archive(f"{run}-{why}" if why else run)


def local(state: HostState) -> tuple[JournalLine, ...]:
    """This controller's copy, whatever became of it. JournalDamaged, LabError where it cannot be read."""
    try:
        data = private.read_own(state.journal)
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except OSError as error:
        told = f"the journal {state.journal} cannot be read: {error.strerror}"
        raise LabError(told, hint="maskall restore HOST --journal host goes by the host's copy alone") from error
    return _parsed(data, str(state.journal))


def _remote(transport: Transport, remote: str) -> tuple[JournalLine, ...]:
    path = f"{remote}/journal.jsonl"
    try:
        data = transport.get(path, Deadline.after(_SECONDS))
    except CommandFailed:
        if transport.run(["test", "-e", path], deadline=Deadline.after(_SECONDS)).ok:
            raise
        return ()
    return _parsed(data, f"{transport.name}:{path}")


def _parsed(data: bytes, file: str) -> tuple[JournalLine, ...]:
    if len(data) > _MOST:
        raise JournalDamaged(f"{file}: {len(data)} bytes, more than any journal has")
    if data and not data.endswith(b"\n"):
        log.warning("%s: its last line was being written when its writer died; it is left out", file)
    return parse(data, file)
