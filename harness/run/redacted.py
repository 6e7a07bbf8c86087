"""A copy of a run without names and addresses, which comes to the same judgement."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterable
from pathlib import Path

from harness.base import private
from harness.base.errors import EvidenceError, UsageError
from harness.evidence.sealed import read_inside
from harness.evidence.store import digest
from harness.lab.lease.state import root as state_root
from harness.report.begun import NAME
from harness.report.bundle.redact import Redaction, with_digests
from harness.report.results import RunResult
from harness.run import chain, sidefile, store
from harness.run.again import begun_in
from harness.run.comparison import compared
from harness.run.forpeople import for_people
from harness.run.store import RESULTS

_LAST = (sidefile.NAME, "known_issues.yaml", NAME, RESULTS, chain.NAME)
"""Files that have the digests of others, each after those that it names."""


def own_key() -> bytes:
    """The key of whoever runs this, made when it is first wanted: a lab's bundles have the same pseudonyms."""
    path = state_root() / "redaction.key"
    try:
        private.folder(path.parent)
        with contextlib.suppress(FileExistsError):
            private.new_file(path, secrets.token_bytes(32))
        key = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read or made: {error.strerror}") from error
    if len(key) < 16:
        raise UsageError(f"{path} holds no key", hint="remove it: another is made, with other pseudonyms")
    return key


def redacted_copy(root: Path, names: Iterable[str], folder: Path, key: bytes) -> Redaction:
    """The files `names` of the finished run in `root`, redacted, in the empty directory `folder`.

    UsageError when the copy does not come to the judgement of the run; EvidenceError when the disk refuses.
    """
    begun = begun_in(root)
    host = begun.host
    redaction = Redaction(key, frozenset([*host.facts.values(), *host.packages.values()]))
    if not host.nested:
        redaction.know("host", {host.name, host.facts.get("host", host.name)})
    order = sorted(names, key=lambda name: (_place(name), name))
    for name in order:
        redaction.learn(_text(root, name))
    digests: dict[str, str] = {}
    for name in order:
        text = _text(root, name)
        made = _chain(text, redaction, digests) if name == chain.NAME else _made(text, redaction, digests)
        content = made.encode("latin-1")
        digests[digest(text.encode("latin-1"))] = digest(content)
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        except OSError as error:
            raise EvidenceError(f"{path} could not be written: {error.strerror}") from error
    again = compared(folder, None)
    if again.status:
        told = next(line for one in again.parts if one.word != "SAME" for line in one.lines)
        raise UsageError(f"redacted, the run comes to another judgement: {told}", hint="bundle it without --redact")
    made_anew = for_people(store.load(folder / RESULTS, RunResult))  # where a text is cut, so may be a name in it
    for name in made_anew.keys() & {*order}:
        store.write_atomically(folder / name, made_anew[name])
    return redaction


def _place(name: str) -> int:
    last = name.rsplit("/", 1)[-1]
    return _LAST.index(last) + 1 if last in _LAST else 0


def _text(root: Path, name: str) -> str:
    """Whatever bytes there are, each as one letter."""
    return read_inside(root, name).decode("latin-1")


def _made(text: str, redaction: Redaction, digests: dict[str, str]) -> str:
    return with_digests(redaction.redacted(text), digests)


def _chain(text: str, redaction: Redaction, digests: dict[str, str]) -> str:
    """Line by line, for each has the digest of the one before it."""
    lines = []
    for line in text.splitlines(keepends=True):
        made = _made(line, redaction, digests)
        digests[digest(line.encode("latin-1"))] = digest(made.encode("latin-1"))
        lines.append(made)
    return "".join(lines)
