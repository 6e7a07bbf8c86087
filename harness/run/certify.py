"""A certificate made of bundles, and its countersignature: whoever has the bundles comes to the same."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from harness.base.errors import EvidenceError, UsageError
from harness.base.text import inert
from harness.evidence.sealed import read_inside
from harness.evidence.store import digest
from harness.lab.environment import examined, of_another_host
from harness.report.bundle.certificate import NAME, PROFILE, BundleOf, Certificate, Question, RunShown, text
from harness.report.bundle.fidelity import Kind
from harness.report.bundle.layers import Verification, Word
from harness.report.bundle.statement import TYPE
from harness.run import store
from harness.run.bundle import signed
from harness.run.chain import NAME as CHAIN
from harness.run.opened import Read
from harness.run.profiled import missing
from harness.run.rules import this_tool
from harness.run.verify import Wanted, verified
from harness.scenario.spec import Fate
from harness.xen.keys.messages import Log

TEXT = "certificate.txt"
SVR = "certificate.svr.json"
SVR_TYPE = "https://in-toto.io/attestation/svr/v0.1"
NAMESPACE = "maskall-certificate@v1"


_TAINTS = re.compile(rb"^.*taint(?:s|ing) kernel.*$", re.MULTILINE)  # kernel/module/main.c, signing.c


def tainted(read: Read) -> Iterator[str]:
    """The first line of dom0's logs that says what dom0 does not say of itself."""
    for one in read.tries:
        for look in one.looks:
            if Log.DOM0 in look.files and (found := _TAINTS.search(one.files.below(look.folder).read(Log.DOM0)[1])):
                yield f"dom0's log has, {one.folder}/{look.folder}: {inert(found[0].decode('utf-8', 'replace'))}"
                return


@dataclass
class _Run:
    """What one bundle shows."""

    verification: Verification | None = None
    questions: list[Question] = field(default_factory=list)
    read: Read | None = None
    firmware: tuple[str, ...] = ()

    def see(self, read: Read) -> None:
        self.read, results = read, read.results
        reboots = any(one.stock.record.scenario.end.fate is Fate.REBOOTED for one in results.scenarios)
        reboots |= b'"gone on"' in read_inside(read.root, CHAIN)
        found = examined(read.before, read.after, results.started, results.ended, reboots=reboots)
        self.questions = [Question(name=one.name, good=one.good, seen=one.seen) for one in found]
        host = read.begun.host
        told = [one for one in (read.before, read.after) if one is not None]
        wrong = [
            line
            for one in told
            for line in of_another_host(one, host.facts, host.packages, read.dmi, read.dom0_commandline)
        ]
        wrong += tainted(read)
        if wrong:
            self.questions.append(Question(name="of this run", good=False, seen="; ".join(dict.fromkeys(wrong))))
        devices = {one.device for one in results.scenarios}
        lines = (read.after or {}).get("firmware", b"").decode("utf-8", "replace").split("\n")
        self.firmware = tuple(
            line for line in lines if line.startswith(("bios", "sys", "product", "microcode", *devices)) and " " in line
        )

    @property
    def played(self) -> RunShown:
        results = _read(self).results
        return RunShown(results.run_id, tuple((one.id, one.conclusion, one.reason) for one in results.scenarios))


def certificate(folder: Path, bundles: Sequence[Path], wanted: Wanted) -> tuple[Certificate, list[Verification]]:
    """What the bundles show, each after the first a supplement of the one before it; their paths as from `folder`.

    Who signed them stands in the verifications and not in the certificate. UsageError for what are no such bundles.
    """
    if not bundles:
        raise UsageError("the certificate names no bundle", hint="so there is nothing that it rests on")
    runs: list[_Run] = []
    for number, path in enumerate(bundles):
        run = _Run()
        run.verification = verified(path, replace(wanted, parent=bundles[number - 1] if number else None), run.see)
        runs.append(run)
        if run.read is None:
            failed = run.verification.failed[0]
            raise UsageError(f"{path}: {failed.name}: {failed.said[0] if failed.said else failed.word}")
    doubts = [line for number, run in enumerate(runs) for line in _doubts(run, supplement=number > 0)]
    if (parent := _read(runs[0]).begun.parent) is not None:
        doubts.append(f"parent: the first bundle supplements run {parent.run_id}, which is not among them")
    if any(_read(run).statement.predicate.redacted for run in runs):
        doubts.append("redacted: who and where it was are pseudonyms, so nobody can tell what was certified")
    doubts += [f"completeness: {line}" for line in missing([_read(run) for run in runs], PROFILE)]
    first, last = _read(runs[0]), _read(runs[-1])
    kinds: set[Kind] = {_read(run).shown.kind for run in runs}
    kind: Kind = "emulated" if "emulated" in kinds else "unknown" if "unknown" in kinds else "hardware"
    questions = [*runs[0].questions, *(one for run in runs[1:] for one in run.questions if not one.good)]
    made = Certificate.of(
        runs=[run.played for run in runs],
        doubts=tuple(dict.fromkeys(doubts)),
        fidelity=kind,
        environment=questions,
        device=", ".join(sorted({one.device_kind for one in first.results.scenarios})) or "none",
        device_ids=first.device_ids,
        firmware=runs[-1].firmware,
        machine=first.dmi,
        stack={name: value for name, value in first.begun.host.facts.items() if not name.startswith("accepted ")},
        packages=first.begun.host.packages,
        played_from=first.results.started,
        played_to=last.results.ended,
        bundles=tuple(
            BundleOf(
                file=os.path.relpath(path, folder),
                sha256=digest(path.read_bytes()),
                run_id=_read(run).results.run_id,
                challenge=_read(run).statement.predicate.challenge,
            )
            for path, run in zip(bundles, runs, strict=True)
        ),
        judged_by=this_tool(),
    )
    return made, [run.verification for run in runs if run.verification is not None]


def _read(run: _Run) -> Read:
    assert run.read is not None  # noqa: S101 - asked when it was looked at
    return run.read


def _doubts(run: _Run, *, supplement: bool) -> Iterator[str]:
    """Layers that do not hold. Of the signature and the machine the certificate and its signers say more."""
    if run.verification is None:
        return
    for one in run.verification.failed:
        if one.name not in ("signature", "fidelity"):
            yield from (f"{one.name} of the {'supplement' if supplement else 'bundle'}: {line}" for line in one.said)
    if any(one.name == "control" and one.word is Word.NOT_ASKED for one in run.verification.layers):
        yield "control: none was played, so nothing shows that a defect would have been seen"


def store_certificate(made: Certificate, folder: Path) -> None:
    store.write_atomically(folder / NAME, content_of(made))
    store.write_atomically(folder / TEXT, text(made).encode())


def content_of(made: Certificate) -> bytes:
    """certificate.json, byte for byte."""
    return made.model_dump_json(indent=1).encode() + b"\n"


def load_certificate(path: Path) -> Certificate:
    """UsageError when it cannot be read or is none of this version."""
    try:
        return store.load(path, Certificate, hint="'maskall certify' makes it")
    except EvidenceError as error:
        raise UsageError(error.message, hint=error.hint) from error


@dataclass(frozen=True)
class Countersigned:
    """What was looked at; `svr` is the file that says so, None when nothing was signed."""

    certificate: Certificate
    verifications: list[Verification]
    wrong: list[str]
    svr: Path | None


def countersign(path: Path, wanted: Wanted, key: Path | None, verifier: str) -> Countersigned:
    """Make the certificate `path` again from its bundles and, if it is the same and they are signed, sign that it is.

    An in-toto Statement (Simple Verification Result) about certificate.json and the bundles, by `key`. UsageError.
    """
    stored = load_certificate(path)
    folder = path.parent
    made, verifications = certificate(folder, [folder / one.file for one in stored.bundles], wanted)
    wrong = [
        f"{name}: says {_short(getattr(stored, name))}, and the bundles say {_short(getattr(made, name))}"
        for name in type(made).model_fields
        if name != "judged_by" and getattr(stored, name) != getattr(made, name)
    ]
    wrong += _written_otherwise(path, stored)
    if stored.judged_by != made.judged_by:
        wrong.append(f"judged by maskall {stored.judged_by.sha256[:16]}, and this is {made.judged_by.sha256[:16]}")
    for one in verifications:
        wrong += [
            f"{layer.name}: {layer.said[0] if layer.said else layer.word}"
            for layer in one.failed
            if layer.name in ("signature", "freshness")
        ]
    if wrong or key is None:
        return Countersigned(made, verifications, wrong, None)
    subject = [{"name": path.name, "digest": {"sha256": digest(path.read_bytes())}}]
    subject += [{"name": one.file, "digest": {"sha256": one.sha256}} for one in made.bundles]
    shown = [{layer.name for layer in one.layers if layer.word is Word.OK} for one in verifications]
    properties = [
        f"MASKALL_{one.name.upper()}" for one in verifications[0].layers if all(one.name in each for each in shown)
    ]
    predicate = {
        "verifier": {"id": verifier, "maskall": {"version": made.judged_by.version, "sha256": made.judged_by.sha256}},
        "timeCreated": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "properties": [*properties, f"MASKALL_{made.result.replace(' ', '_')}"],
    }
    statement = {"_type": TYPE, "subject": subject, "predicateType": SVR_TYPE, "predicate": predicate}
    content = json.dumps(statement, indent=1).encode() + b"\n"
    signature = signed(content, key, NAMESPACE)
    store.write_atomically(folder / SVR, content)
    store.write_atomically(folder / f"{SVR}.sig", signature)
    return Countersigned(made, verifications, wrong, folder / SVR)


def _written_otherwise(path: Path, stored: Certificate) -> Iterator[str]:
    """A certificate is signed as a file: what another program, or a person, reads in it is what this one does."""
    if path.read_bytes() != content_of(stored):
        yield f"{path.name} is not written as maskall writes it"
    told = path.with_name(TEXT)
    if told.exists() and read_inside(path.parent, TEXT) != text(stored).encode():
        yield f"{TEXT} is not what {path.name} says"


def _short(value: object) -> str:
    told = str(value)
    return told if len(told) < 100 else f"{told[:100]}..."


def nobody() -> Wanted:
    """For whoever makes the certificate: who may sign is for others to say."""
    return Wanted(None, datetime.now(UTC))
