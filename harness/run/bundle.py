"""Makes a bundle of a run that has come to its end. docs/bundle.md has the layout."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from harness.base.deadline import Deadline
from harness.base.errors import EvidenceError, UsageError
from harness.base.private import sync_folder
from harness.base.process import run
from harness.base.stored import from_json
from harness.evidence.sealed import chunks_inside, digest_inside, read_inside
from harness.evidence.store import digest
from harness.model.observation import Reading
from harness.report.begun import KNOWN_ISSUES, NAME, Begun
from harness.report.bundle import bag
from harness.report.bundle.container import Writer, good_name
from harness.report.bundle.fidelity import Fidelity, Look, fidelity
from harness.report.bundle.redact import Redaction
from harness.report.bundle.sshsig import parse_signature
from harness.report.bundle.statement import NAMESPACE, Evidence, Statement
from harness.report.results import RunResult
from harness.run import chain
from harness.run.again import begun_in
from harness.run.challenge import answerable
from harness.run.forpeople import JUNIT
from harness.run.redacted import redacted_copy
from harness.run.rules import this_tool
from harness.run.store import FOLDERS, RESULTS, spare_evidence, under_way

_SIGN_SECONDS = 120.0  # somebody types a passphrase, or touches a key


@dataclass(frozen=True)
class Bundled:
    """A bundle that was written. `signers`: the fingerprints of its keys."""

    path: Path
    files: int
    octets: int
    signers: tuple[str, ...]
    fidelity: Fidelity


def redacted_bundle(
    root: Path, output: Path, key: bytes, *, keys: Sequence[Path] = (), challenge: str | None = None
) -> tuple[Bundled, Redaction]:
    """The bundle of the run without names and addresses, by the lab's `key`. As `bundle`, and as `redacted_copy`."""
    with tempfile.TemporaryDirectory(prefix="maskall-redacted-") as made:
        copy = Path(made) / root.resolve().name
        copy.mkdir()
        try:
            _results(root)
            redaction = redacted_copy(root, dict(_files(root, begun_in(root))), copy, key)
        except EvidenceError as error:
            raise UsageError(error.message, hint=error.hint) from error
        return bundle(copy, output, keys=keys, challenge=challenge, redacted=True), redaction


def bundle(
    root: Path, output: Path, *, keys: Sequence[Path] = (), challenge: str | None = None, redacted: bool = False
) -> Bundled:
    """Write the bundle of the run in `root` to `output`, whole or not at all.

    UsageError for a run that has not come to its end, is of another schema or has files that no run has, and for a
    key that does not sign; EvidenceError when the disk refuses.
    """
    try:
        if not (root / NAME).exists():
            raise UsageError(f"{root} has no {NAME}: it is no run", hint="give the directory that 'results: ...' named")
        results = _results(root)
        if under_way(root):  # one that is gone on with has results of the time before
            raise UsageError(f"{root}: the run is still under way", hint="wait for its end")
        begun = begun_in(root)
        sizes = dict(_files(root, begun))
        digests = {bag.DATA + name: digest_inside(root, name) for name in sizes}
        manifest = bag.manifest(digests)
        shown = fidelity(looks(root, results))
    except EvidenceError as error:
        raise UsageError(error.message, hint=error.hint) from error
    answer = begun.challenge if challenge is None else answerable(challenge)
    said = Evidence.of(begun, results, shown, this_tool(), answer, redacted=redacted)
    statement = Statement.of(digest(manifest), said).content
    signatures = [signed(statement, key) for key in keys]
    named = {bag.SIGNATURES + parse_signature(one).file_name: one for one in signatures}
    octets = sum(sizes.values())
    tags = {
        bag.BAGIT_NAME: bag.BAGIT,
        bag.INFO_NAME: bag.info(results.run_id, this_tool().version, octets, len(sizes)),
        bag.MANIFEST_NAME: manifest,
        bag.STATEMENT_NAME: statement,
        **dict(sorted(named.items())),
    }
    with _written(output) as stream:
        writer = Writer(stream)
        for name, content in tags.items():
            writer.add(name, len(content), [content])
        for name, size in sizes.items():
            writer.add(bag.DATA + name, size, _unchanged(root, name, digests[bag.DATA + name]))
        writer.close()
    signers = tuple(parse_signature(one).fingerprint for one in signatures)
    return Bundled(output, len(sizes), octets, signers, shown)


def looks(root: Path, results: RunResult) -> list[Look]:
    """The first reading of every side that came so far. EvidenceError when a file of it is not there."""
    first = [(side.raw_directory, side.record.readings[:1]) for one in results.scenarios for _, side in one.sides]
    first += [
        (side.raw_directory, readings[:1])
        for case in results.cases
        for _, side in case.sides
        for readings in side.record.readings[:1]
    ]
    return [_look(root, folder, one) for folder, readings in first for one in readings]


def _look(root: Path, side: str, reading: Reading) -> Look:
    folder = f"{side}/{reading.folder}"
    texts = (
        read_inside(root, f"{folder}/{name}").decode("utf-8", "replace") if name in reading.files else ""
        for name in ("dom0_dmesg.txt", "xl_dmesg.txt", "config.hex")
    )
    return Look(folder, *texts)


def _results(root: Path) -> RunResult:
    if not (root / RESULTS).exists():
        if under_way(root):
            raise UsageError(f"{root}: the run is still under way", hint="wait for its end")
        raise UsageError(
            f"{root} has no {RESULTS}: the run was cut short", hint=f"go on with it: maskall run --resume {root}"
        )
    return from_json(RunResult, read_inside(root, RESULTS), file=str(root / RESULTS))


def _files(root: Path, begun: Begun) -> Iterator[tuple[str, int]]:
    """What goes into the bundle, in the order of the names, with its size. UsageError for what is no ordinary file."""
    top = [NAME, RESULTS, JUNIT, chain.NAME, *([KNOWN_ISSUES] if begun.known_issues else [])]
    found = [root / name for name in top]
    for folder in FOLDERS:
        found += (path for path in (root / folder).rglob("*") if path.is_symlink() or not path.is_dir())
    for path in sorted(found, key=lambda one: one.relative_to(root).as_posix()):
        name = path.relative_to(root).as_posix()
        try:
            status = path.lstat()
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}") from error
        if not stat.S_ISREG(status.st_mode) or not good_name(name):
            raise UsageError(f"{str(path)!r} is no file of a run", hint="an ordinary file, of letters, digits, ._+=,@-")
        yield name, status.st_size


def _unchanged(root: Path, name: str, wanted: str) -> Iterator[bytes]:
    found = sha256()
    for chunk in chunks_inside(root, name):
        found.update(chunk)
        yield chunk
    if found.hexdigest() != wanted:
        raise EvidenceError(f"{root / name} changed while it was read", hint="is the run still under way?")


def signed(statement: bytes, key: Path, namespace: str = NAMESPACE) -> bytes:
    """The signature of ssh-keygen. UsageError for a key that does not sign, or whose signature counts for nothing."""
    argv = ["ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-f", str(key)]
    if not key.is_file():
        raise UsageError(f"there is no key {key}", hint="a private key, or the .pub of one that ssh-agent holds")
    done = run(argv, deadline=Deadline.after(_SIGN_SECONDS), stdin=statement, check=False)
    if done.status != 0:
        said = " ".join(done.stderr.split()) or f"exit status {done.status}"
        raise UsageError(f"{key} did not sign: {said}", hint="one with a passphrase signs through ssh-agent")
    made = done.stdout.encode()
    if weak := parse_signature(made).weakness():
        raise UsageError(f"{key} signs for nobody: {weak}", hint="make one: ssh-keygen -t ed25519")
    return made


@contextlib.contextmanager
def _written(path: Path) -> Iterator[BinaryIO]:
    """A file that takes its name when it is whole, and of which nothing is left otherwise. EvidenceError.

    UsageError for what is no ordinary file, which is not ours to replace.
    """
    temporary: Path | None = None
    spare_evidence(path)
    if path.is_symlink() or (path.exists() and not path.is_file() and not path.is_dir()):
        raise UsageError(f"{path} is no ordinary file", hint="give --output a new one")
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        temporary = Path(name)
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o644)
        temporary.rename(path)
        temporary = None
        sync_folder(path.parent)
    except OSError as error:
        raise EvidenceError(f"{path} could not be written: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
