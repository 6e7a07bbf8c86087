"""How the nouns of a host do things: announced in the ledger, then done, timed, kept as evidence and noted."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from harness.base.errors import CommandFailed, HarnessBug
from harness.base.text import inert
from harness.model.change import Change, Ledger
from harness.model.observation import Checkpoint, RawRef
from harness.scenario.record import Action
from harness.transport.base import CommandResult

Keep = Callable[[str, bytes], RawRef]
"""Stores raw evidence under a name, in the order of events."""


def forgotten(name: str, data: bytes) -> RawRef:
    """For a host whose evidence nobody asked for."""
    return RawRef(name, hashlib.sha256(data).hexdigest())


@dataclass(frozen=True)
class Done:
    """How a deed went. True when the product did what it was asked; a refusal is an observation, not an exception."""

    name: str
    ok: bool
    detail: str  # exit status and last message, or what was waited for
    output: bytes = b""  # all that the product said

    def __bool__(self) -> bool:
        return self.ok

    def __repr__(self) -> str:
        """What an assertion that failed shows of it."""
        return f"<{self.name.replace('_', ' ')}: {'' if self.ok else 'not done, '}{inert(self.detail)}>"

    @property
    def said(self) -> str:
        return self.output.decode("utf-8", "replace")

    def check(self) -> Done:
        """Itself when it succeeded, else CommandFailed with its last message."""
        if not self.ok:
            raise CommandFailed(f"{self.name.replace('_', ' ')}: {self.detail}")
        return self


class Doing:
    """A deed that is being done. Its end is what its body says, else that of the last deed inside it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._done: Done | None = None

    def end(self, ok: bool, detail: str, output: bytes = b"") -> Done:
        self._done = Done(self.name, ok, detail, output)
        return self._done

    def by(self, result: CommandResult) -> Done:
        """It ends as this command did."""
        return self.end(result.ok, outcome(result), result.stdout + result.stderr)

    @property
    def done(self) -> Done:
        if self._done is None:
            raise HarnessBug(f"nobody said how '{self.name}' went")
        return self._done


@dataclass
class Deeds:
    """What is done on one host. Used by one thread at a time."""

    ledger: Ledger
    keep: Keep = forgotten
    note: Callable[[Action], None] = lambda _: None
    """Told of every action once it has ended: one that is not ok may be raised there."""
    phase: Callable[[str], AbstractContextManager[object]] = contextlib.nullcontext
    at: Checkpoint = Checkpoint.C0
    """The checkpoint that follows what is done now."""
    _outer: Doing | None = field(default=None, init=False)
    _name: str | None = field(default=None, init=False)
    _aside: bool = field(default=False, init=False)

    @contextlib.contextmanager
    def doing(self, name: str, *changes: Change) -> Iterator[Doing]:
        """One deed: `changes` go on record first. The body ends what it is given; a deed inside another is part of it.

        LabError when a change cannot be put on record: nothing was done.
        """
        for change in changes:
            self.ledger.about_to(change)
        doing, outer, called = Doing(name), self._outer, self._name or name
        noted = outer is None and not self._aside
        with self.phase(called.replace("_", " ")) if noted else contextlib.nullcontext():
            begun = time.monotonic()
            self._outer = doing
            try:
                yield doing
            finally:
                self._outer = outer
            done, seconds = doing.done, time.monotonic() - begun
            raw = self.keep(f"{called}.txt", done.output) if noted and done.output else None
        if outer is not None:
            outer.end(done.ok, done.detail, done.output)
        elif noted:
            self.note(Action(called, self.at, done.ok, done.detail, seconds, raw, done.said))

    def one(self, name: str, deed: Callable[[], CommandResult], *changes: Change) -> Done:
        """A deed that is one command: it succeeds when the command does."""
        with self.doing(name, *changes) as act:
            act.by(deed())
        return act.done

    @contextlib.contextmanager
    def called(self, name: str, at: Checkpoint) -> Iterator[None]:
        """Actions are noted under this name and checkpoint meanwhile: that of the verb whose deeds they are."""
        before = self._name, self.at
        self._name, self.at = name, at
        try:
            yield
        finally:
            self._name, self.at = before

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Deeds go on record meanwhile, but are no actions of what is being tried: they prepare it or tidy up."""
        before, self._aside = self._aside, True
        try:
            yield
        finally:
            self._aside = before


def outcome(result: CommandResult) -> str:
    """Exit status and last message, for a check's text."""
    if result.ok:
        return "status 0"
    lines = (result.stdout + result.stderr).decode("utf-8", "replace").strip().splitlines()
    told = [line for line in lines if not line.startswith("domid ")]
    status = f"signal {result.signal}" if result.signal else f"status {result.status}"
    return f"{status}: {told[-1]}" if told else status
