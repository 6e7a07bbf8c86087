"""The journal of one stay on a host: on the controller first, then on the host, and only then the change is made."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from harness.base.deadline import Deadline
from harness.base.errors import CommandFailed, HostUnreachable, JournalDamaged, LabError, LockHeld, OutcomeUnknown
from harness.lab.lease.entry import FIRST, Entry, What, merge, parse
from harness.lab.lease.state import HostState, append_durably, write_durably
from harness.model.change import Change
from harness.transport.base import CommandResult, Script, Transport, quote
from harness.xen.toolstack.xl import REMOTE_RUN

log = logging.getLogger(__name__)

_SECONDS = 20.0
_LOST, _REBOOTED, _OTHER = 7, 8, 9

# Appends the lines on stdin unless they are there already; the last line must be the one before them, else its hash is
# printed. The claim is looked at in the same breath: its holder's heartbeat hears of a loss only seconds later. A new
# file takes the place of the old one, so that a full disk leaves no half line. Nothing is synced: /run is memory, and
# what the journal describes is lost together with it.
_APPEND = """\
read -r boot </proc/sys/kernel/random/boot_id && [ "$boot" = {boot_id} ] || exit 8
[ -d {run} ] || mkdir -p {run}
cd {run} || exit 1
[ -z {token} ] || grep -qsF -- {token} claim || exit 7
true >>journal.jsonl || exit 1
last=$(tail -n 1 journal.jsonl); last=${{last##*'"hash":"'}}; last=${{last%%'"'*}}
[ "$last" = {this} ] && exit 0
[ "${{last:-{first}}}" = {prev} ] || {{ echo "$last"; exit 9; }}
cat journal.jsonl - > journal.new && mv -f journal.new journal.jsonl || {{ rm -f journal.new; exit 1; }}
"""

Trace = Callable[[str], None]


def boot_id(transport: Transport) -> str:
    """Which boot of the host this is (random(4))."""
    command = ["cat", "/proc/sys/kernel/random/boot_id"]
    return transport.run(command, deadline=Deadline.after(_SECONDS)).check().text.strip()


@dataclass
class HostJournal:
    """`Ledger` of a lab host. `trace` hears the name of every point between two writes: tests stop there.

    `still_ours` raises when the claim on the host was lost meanwhile; `token` is what the claim there must hold at each
    write, empty: none is needed.
    """

    transport: Transport
    state: HostState
    run: str
    boot_id: str
    entries: list[Entry] = field(default_factory=list)
    remote: str = REMOTE_RUN
    still_ours: Callable[[], None] = lambda: None
    trace: Trace = lambda _: None
    token: str = ""
    _there: int = 0  # how many lines the host is known to have

    def __post_init__(self) -> None:
        self._there = len(self.entries)

    def about_to(self, change: Change) -> None:
        """Returns once the change is on record on both machines. LabError: do not make it."""
        self.still_ours()
        payload = {"kind": str(change.kind), "subject": change.subject, "text": change.text, "undo": change.undo}
        self.record(What.INTENT, payload)

    def record(self, what: What, payload: Mapping[str, object]) -> None:
        """Write one line on both machines. LabError when either could not be written."""
        prev = self.entries[-1].hash if self.entries else FIRST
        now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        entry = Entry(len(self.entries) + 1, now, self.boot_id, self.run, what, payload, prev)
        self.trace(f"before controller {what} {entry.seq}")
        try:
            append_durably(self.state.journal, entry.line, at=sum(len(one.line) for one in self.entries))
        except OSError as error:
            hint = "free some space on this controller; the change was not made"
            raise LabError(
                f"the journal {self.state.journal} cannot be written: {error.strerror}", hint=hint
            ) from error
        self.entries.append(entry)
        self.trace(f"between controller and host {what} {entry.seq}")
        self._send()
        self.trace(f"after host {what} {entry.seq}")

    def _send(self) -> None:
        """All lines that the host may lack: an earlier one may have found its disk full, or its answer was lost."""
        done = self._add(self.entries[self._there :])
        last = done.text.strip()
        ahead = [entry.seq for entry in self.entries[self._there : -1] if entry.hash == last]
        if done.status == _OTHER and ahead:
            done = self._add(self.entries[ahead[0] :])
        self._refuse(done)
        self._there = len(self.entries)

    def _add(self, new: Sequence[Entry]) -> CommandResult:
        """The script adds them once, however often it is called, so a lost link is answered by asking again."""
        script = Script(
            _APPEND.format(
                boot_id=quote([self.boot_id]),
                run=quote([self.remote]),
                this=new[-1].hash,
                prev=new[0].prev,
                first=FIRST,
                token=quote([self.token]),
            )
        )
        lines = b"".join(entry.line for entry in new)

        def send() -> CommandResult:
            return self.transport.run(script, deadline=Deadline.after(_SECONDS), changes=True, stdin=lines)

        try:
            return send()
        except (OutcomeUnknown, HostUnreachable):
            self.transport.connect(Deadline.after(_SECONDS))
            return send()

    def _refuse(self, done: CommandResult) -> None:
        name = self.transport.name
        if done.status == _LOST:
            raise LockHeld(f"{name} is no longer ours: its claim is gone or somebody else's")
        if done.status == _REBOOTED:
            raise LabError(f"{name} has rebooted by itself: boot_id is no longer {self.boot_id}")
        if done.status == _OTHER:
            raise JournalDamaged(f"{name}: somebody else wrote into {self.remote}/journal.jsonl")
        if not done.ok:
            told = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or [f"status {done.status}"]
            hint = "free some space on the host; the change was not made"
            raise LabError(f"{name}: the journal {self.remote}/journal.jsonl cannot be written: {told[0]}", hint=hint)

    def settle(self) -> None:
        """Make both copies the same again, in a new boot of the host for instance."""
        adopt(tuple(self.entries), self.transport, self.state, self.remote)
        self._there = len(self.entries)

    def close(self) -> None:
        """After a verified undo: put the controller's copy aside, remove the host's and what else of ours is there."""
        self.trace("before closing")
        remove_remote(self.transport, self.remote)
        self.trace("between closing host and controller")
        self.state.archive(self.run)
        self.entries.clear()
        self._there = 0


def remove_remote(transport: Transport, remote: str = REMOTE_RUN) -> None:
    """Everything of ours on the host but the claim."""
    script = Script(
        f"cd {quote([remote])} 2>/dev/null || exit 0\nrm -rf guest ./*.cfg journal.jsonl journal.new deadman*"
    )
    try:
        done = transport.run(script, deadline=Deadline.after(_SECONDS), changes=True)
    except (OutcomeUnknown, HostUnreachable):  # removing twice is removing once
        transport.connect(Deadline.after(_SECONDS))
        done = transport.run(script, deadline=Deadline.after(_SECONDS), changes=True)
    done.check()


def found(transport: Transport, state: HostState, remote: str = REMOTE_RUN) -> tuple[Entry, ...]:
    """The journal that an earlier run left on either machine; empty when there is none. JournalDamaged."""
    ours, theirs = _local(state), _remote(transport, remote)
    if theirs and (not ours or ours[0] != theirs[0]):
        if ours and ours[-1].boot_id == theirs[0].boot_id:
            return merge(ours, theirs)  # raises: two stories of one boot
        return theirs  # another controller's: it is the one that says what was done in this boot
    return merge(ours, theirs)


def adopt(entries: tuple[Entry, ...], transport: Transport, state: HostState, remote: str = REMOTE_RUN) -> None:
    """Make both copies the same whole lines, so that the journal can be continued from here.

    Another story that this controller still had, of an earlier boot, is put aside.
    """
    data = b"".join(entry.line for entry in entries)
    old = _local(state)
    if old != entries[: len(old)]:
        state.archive(f"{old[0].run}-superseded")
    try:
        state.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_durably(state.journal, data)
    except OSError as error:
        raise LabError(f"the journal {state.journal} cannot be written: {error.strerror}") from error
    deadline = Deadline.after(_SECONDS)
    transport.run(["mkdir", "-p", remote], deadline=deadline, changes=True).check()
    transport.put(data, f"{remote}/journal.jsonl", 0o600, deadline)


def _local(state: HostState) -> tuple[Entry, ...]:
    try:
        data = state.journal.read_bytes()
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise LabError(f"the journal {state.journal} cannot be read: {error.strerror}") from error
    return _parsed(data, str(state.journal))


def _remote(transport: Transport, remote: str) -> tuple[Entry, ...]:
    path = f"{remote}/journal.jsonl"
    try:
        data = transport.get(path, Deadline.after(_SECONDS))
    except CommandFailed:
        if transport.run(["test", "-e", path], deadline=Deadline.after(_SECONDS)).ok:
            raise
        return ()
    return _parsed(data, f"{transport.name}:{path}")


def _parsed(data: bytes, file: str) -> tuple[Entry, ...]:
    if data and not data.endswith(b"\n"):
        log.warning("%s: its last line was being written when its writer died; it is left out", file)
    return parse(data, file)
