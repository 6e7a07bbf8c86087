"""Verifies a bundle layer by layer, without network and host. docs/bundle.md says what each layer proves."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from harness.base.errors import EvidenceError, UsageError
from harness.base.stored import from_json
from harness.evidence.sealed import read_inside
from harness.guest.exercise import challenge_in
from harness.host.stacks import OWN_XEN
from harness.judge.judgement import Outcome, Verdict, sentence
from harness.mutants import catalogue as mutants
from harness.mutants.catalogue import Mutant
from harness.mutants.code import Replaced
from harness.play.catalogue import catalogue
from harness.report.begun import KNOWN_ISSUES, NAME
from harness.report.bundle import bag
from harness.report.bundle.fidelity import fidelity, machine
from harness.report.bundle.layers import Layer, Verification, Word
from harness.report.bundle.signers import Signers
from harness.report.bundle.sshsig import parse_signature
from harness.report.bundle.statement import NAMESPACE, parse_statement
from harness.report.results import Control, RunResult
from harness.run import chain, sidefile
from harness.run.again import RunAgain, begun_in, judged_again
from harness.run.bundle import looks
from harness.run.comparison import compared
from harness.run.consistency import contradictions
from harness.run.environment import AFTER, BEFORE, FILES, sections
from harness.run.forpeople import JUNIT
from harness.run.opened import Read
from harness.run.options import CONTROL_XEN, DEFAULT_CONTROL
from harness.run.plan import STOCK
from harness.run.profiled import missing
from harness.run.resume import BROKEN_OFF
from harness.run.rules import this_tool
from harness.run.store import RESULTS
from harness.run.supplement import foreign
from harness.run.unpack import Unpacked, unpacked
from harness.scenario.repeats import gaps, times_of

_MOST_LINES = 12
_ENDED = re.compile(r"[0-9]{2,}-end/")  # what is read once a side is played to its end
_OF_GUEST = re.compile(r"-exercise-d[1-9][0-9]*\.txt$")


@dataclass(frozen=True)
class Wanted:
    """What the caller asks of a bundle. `now`: when the keys must be good; `signers` None: that is asked by others.

    `parent`: the bundle of the run that it supplements.
    """

    signers: Signers | None
    now: datetime
    challenge: str | None = None
    profile: str | None = None
    parent: Path | None = None


def verified(path: Path, wanted: Wanted, see: Callable[[Read], None] = lambda _: None) -> Verification:
    """Every layer as far as it can be looked at; `see` is shown the run while it is unpacked, once all were.

    UsageError when the file cannot be read or is no bundle of today.
    """
    if wanted.profile is not None:
        catalogue().profile(wanted.profile)
    parents = _parents(wanted)
    found = Verification()
    with tempfile.TemporaryDirectory(prefix="maskall-verify-") as folder:
        try:
            if (read := _look(unpacked(path, Path(folder)), wanted, found, parents)) is not None:
                see(read)
        except EvidenceError as error:
            name = "consistency" if found.layers else "container"
            found.layers.append(Layer(name, Word.FAILS, (error.message,)))
    found.cut()
    return found


@dataclass(frozen=True)
class _Parent:
    """A bundle that is said to be supplemented, and what is wrong with it."""

    read: Read | None
    wrong: tuple[str, ...]


def _parents(wanted: Wanted) -> _Parent | None:
    """Verified as the supplement is; that it may be one itself is asked of whoever verifies it."""
    if wanted.parent is None:
        return None
    seen: list[Read] = []
    found = verified(wanted.parent, replace(wanted, profile=None, parent=None), seen.append)
    wrong = [f"its parent does not hold: {one.name}: {(*one.said, one.word)[0]}" for one in found.failed]
    return _Parent(seen[0] if seen else None, tuple(wrong))


def _look(files: Unpacked, wanted: Wanted, found: Verification, parent: _Parent | None) -> Read | None:
    total = len(files.tags) + len(files.digests)
    size = f"{files.octets / 1e6:.1f} MB of evidence in {files.compressed / 1e6:.1f} MB"
    found.layers.append(Layer("container", Word.OK, (f"{total} files, {size}, written as maskall writes them",)))
    found.layers.append(_manifest(files))
    if found.failed:
        return None
    found.layers.append(_signature(files, wanted))
    statement = parse_statement(files.tags[bag.STATEMENT_NAME])
    root = files.root
    results = from_json(RunResult, read_inside(root, RESULTS), file=RESULTS)
    begun = begun_in(root)
    first = looks(root, results)
    shown = fidelity(first)
    of_run = {name.removeprefix(bag.DATA): sha for name, sha in files.digests.items()}
    try:
        comparison = compared(root, None)
    except UsageError as error:  # its schema is ours, so it is not for the caller to put right
        raise EvidenceError(error.message) from error
    read = Read(
        root,
        begun,
        results,
        statement,
        [machine(one) for one in first],
        shown,
        comparison,
        first,
        of_run[RESULTS],
        *(sections(root, name) for name in (BEFORE, AFTER)),
    )
    found.layers.append(_freshness(read, wanted))
    told = f"{NAME}, every try and {RESULTS} are those of {chain.NAME}, each with the SHA-256 of what went before it"
    found.layers.append(Layer.of("chain", _few(list(chain.broken(root, results, of_run, _made(read)))), [told]))
    told = "the statement, the results, junit.xml and each log say the same as the payload"
    found.layers.append(Layer.of("consistency", _few(list(contradictions(files, read, wanted.now))), [told]))
    played = read.comparison.again.sides_read
    tries = f"{played} sides, {results.emulator_faults} tries thrown away by the emulator"
    tests = f"{len(results.cases)} tests of the user's own, " if results.cases else ""
    again = sum(1 for times in times_of(begun.scenarios).values() if times > 1)
    repeats = f" of {len(times_of(begun.scenarios))} rows, {again} of them several times" if again else ""
    rows = f"{len(begun.scenarios)} of {len(begun.scenarios)} scenarios{repeats}, {tests}{tries}"
    asked = [rows] if wanted.profile is None else [f"{rows}; all of profile {wanted.profile}"]
    lacking = list(_rows(read))
    if wanted.profile is not None:
        together = [read] if parent is None or parent.read is None else [parent.read, read]
        lacking += missing(together, wanted.profile)
    lacking += [*_broken_off(files, read), *_strays(files, read)]
    found.layers.append(Layer.of("completeness", _few(lacking), asked))
    found.layers.append(_control(read))
    found.layers.append(_fidelity(read))
    found.layers.append(_rejudged(root, read))
    found.layers.append(_supplements(read, parent))
    found.notes += [*_notes(read), *_lost(files)]
    counts = ", ".join(f"{number} {word}" for word, number in results.counts.items())
    found.run = (
        f"run {results.run_id} on {results.host.name}, {shown.kind}: {counts}; exit status {results.exit_status:d}"
    )
    return read


def _made(read: Read) -> dict[str, datetime]:
    """When what the chain tells of was made at the earliest."""
    made = {NAME: read.begun.started, RESULTS: read.results.ended}
    for side in read.comparison.again.sides:
        made |= {raw.path: file.ended for raw, file in zip(side.raws, side.tries, strict=True)}
    return made


def _of_guests(read: Read) -> set[str]:
    """Files of what guests said when a device was exercised, by their names, and whatever a record takes for one."""
    files = (path.relative_to(read.root).as_posix() for path in (read.root / "raw").glob("*/*/*"))
    found = {name for name in files if _OF_GUEST.search(name)}
    records = [(side.side.raw_directory, [side.record.readings]) for side in read.comparison.again.sides]
    records += [(side.raw_directory, side.record.readings) for side in read.comparison.again.case_sides]
    for folder, devices in records:
        guests = (reading.guest for readings in devices for reading in readings)
        found |= {f"{folder}/{one.file}" for one in guests if one is not None and one.domain != "d0"}
    return found


def _few(lines: list[str]) -> list[str]:
    more = len(lines) - _MOST_LINES
    return lines if more <= 0 else [*lines[:_MOST_LINES], f"and {more} more"]


def _manifest(files: Unpacked) -> Layer:
    try:
        listed = bag.parse_manifest(files.tags[bag.MANIFEST_NAME])
    except EvidenceError as error:
        return Layer("manifest", Word.FAILS, (error.message,))
    wrong = [] if files.tags[bag.BAGIT_NAME] == bag.BAGIT else [f"{bag.BAGIT_NAME} is not that of BagIt 1.0"]
    wrong += [f"{name!r} is listed and not there" for name in listed if name not in files.digests]
    wrong += [f"{name!r} is not listed" for name in files.digests if name not in listed]
    wrong += [f"{name!r} was changed" for name, sha in files.digests.items() if listed.get(name, sha) != sha]
    return Layer.of("manifest", _few(wrong), [f"{len(listed)} files of the payload by their SHA-256"])


def _signature(files: Unpacked, wanted: Wanted) -> Layer:
    """Somebody who may must have signed, and no signature may be false; a stranger's counts for nothing."""
    message = files.tags[bag.STATEMENT_NAME]
    good, wrong, strangers = [], [], []
    for name, content in files.signatures.items():
        try:
            one = parse_signature(content)
            who = f"{name}: {one.key_type} {one.fingerprint}"
            if name != bag.SIGNATURES + one.file_name:
                wrong.append(f"{who}: the file is not named by its key")
            elif weak := one.weakness():
                wrong.append(f"{who}: {weak}")
            elif one.namespace != NAMESPACE:
                wrong.append(f"{who}: it is made for {one.namespace!r} and not for {NAMESPACE}")
            elif not one.verifies(message):
                wrong.append(f"{who}: it is not one of this statement")
            elif wanted.signers is None:
                good.append(f"{one.key_type} {one.fingerprint}")
            else:
                principals, why = wanted.signers.judge(one, NAMESPACE, wanted.now)
                if principals:
                    good.append(f"by {principals}: {one.key_type} {one.fingerprint}")
                elif why == "its key is not listed":
                    strangers.append(f"{who}: {why}")
                else:
                    wrong.append(f"{who}: {why}")
        except EvidenceError as error:
            wrong.append(f"{name}: {error.message}")
    if not files.signatures:
        return Layer("signature", Word.UNSIGNED, ("nobody vouches for this bundle",))
    if wanted.signers is None and not wrong:
        return Layer("signature", Word.NOT_ASKED, (f"who may sign is for others to say; by {', '.join(good)}",))
    if not good:
        wrong += strangers
    return Layer.of("signature", wrong, [*good, *strangers])


def _freshness(read: Read, wanted: Wanted) -> Layer:
    """Who signed answers the challenge; and if guests were told it, every one of them says so in its raw file."""
    root, answer = read.root, read.statement.predicate.challenge
    has = f"the bundle answers {answer!r}" if answer is not None else "the bundle answers none"
    told = read.begun.challenge
    silent, heard = [], 0
    if told is not None:
        for name in sorted(_of_guests(read)):
            heard += 1
            if (said := challenge_in(read_inside(root, name).decode("utf-8", "replace"))) != told:
                silent.append(f"{name}: the guest was to answer {told!r}, and says {said!r}")
    if told is not None and (silent or not heard):
        return Layer("freshness", Word.FAILS, tuple(_few(silent or ["no guest shows that it was told the challenge"])))
    if wanted.challenge is None:
        return Layer("freshness", Word.NOT_ASKED, (f"no --challenge was given; {has}",))
    if answer != wanted.challenge:
        return Layer("freshness", Word.FAILS, (f"the challenge is {wanted.challenge!r}, and {has}",))
    if told is None:
        return Layer(
            "freshness", Word.OK, (f"it was signed for the challenge {answer!r}; when it was played, no guest says",)
        )
    if told != answer:
        return Layer("freshness", Word.FAILS, (f"it was signed for {answer!r}, and played for {told!r}",))
    return Layer(
        "freshness", Word.OK, (f"signed for the challenge {answer!r}, and {heard} raw files of guests say it",)
    )


def _rows(read: Read) -> Iterator[str]:
    wanted, found = list(read.begun.scenarios), [one.id for one in read.results.scenarios]
    if len(set(wanted)) != len(wanted):
        yield f"{NAME} names a scenario twice"
    yield from gaps(wanted)
    for name in wanted:
        if name not in found:
            yield f"{name} was to be played, and has no result"
    yield from (f"{name} has a result, and {NAME} does not name it" for name in found if name not in wanted)
    if not read.results.played:
        yield "the run has no scenario and no test"
    elif found != wanted and sorted(found) == sorted(wanted):
        yield "the results are in another order than the run"
    for one in read.results.scenarios:
        sides = [side.hypervisor for _, side in one.sides]
        if sides != list(read.begun.hypervisors(one.stock.record.scenario)):
            yield f"{one.id} was played on {', '.join(sides)}, and another was promised"


def _strays(files: Unpacked, read: Read) -> Iterator[str]:
    """Every file is of the run, of a side or of one of its tries."""
    known = {*FILES, NAME, RESULTS, JUNIT, chain.NAME, *([KNOWN_ISSUES] if read.begun.known_issues else [])}
    for name, side in read.sides:
        known.add(side.log)
        for number in range(len(side.attempts) + 1):
            known.add(f"raw/{name}/{side.hypervisor}{f'-retry{number}' if number else ''}/record.json")
    for case in read.results.cases:
        for _, mine in case.sides:
            known |= {mine.log, mine.told, *(f"{mine.raw_directory}/{name}" for name in mine.files)}
    for one in read.comparison.again.sides:
        base = f"raw/{one.record.scenario.id}/{one.side.hypervisor}"
        for number, file in enumerate(one.tries):
            folder = f"{base}-retry{number}" if number else base
            known |= {f"{folder}/{name}" for name in file.files}
    for name in files.digests:
        if name.removeprefix(bag.DATA) not in known and not _of_broken_off(name):
            yield f"{name!r} is of no scenario, side or try of this run"


def _of_broken_off(name: str) -> bool:
    """What a side left behind that was broken off: it has no record, and counts for nothing."""
    folder, rest = _parted(name)
    return bool(BROKEN_OFF.search(folder)) and rest != sidefile.NAME


def _parted(name: str) -> tuple[str, str]:
    """The folder of a side, and the file in it."""
    parts = name.removeprefix(bag.DATA).split("/", 3)
    return "/".join(parts[:3]), "".join(parts[3:])


def _broken_off(files: Unpacked, read: Read) -> Iterator[str]:
    """Somebody went on with a run of which a side was broken off; tests of the user's own are told by their process."""
    left = dict.fromkeys(folder for folder, _ in map(_parted, files.digests) if BROKEN_OFF.search(folder))
    if left and not read.results.cases and b'"gone on"' not in read_inside(read.root, chain.NAME):
        yield f"{next(iter(left))} was broken off, and nobody went on with the run"


def _lost(files: Unpacked) -> Iterator[str]:
    """Sides that had been seen to their end, and were broken off before that was on record: while all was put back."""
    ended = dict.fromkeys(folder for folder, rest in map(_parted, files.digests) if _ENDED.match(rest))
    for folder in ended:
        if BROKEN_OFF.search(folder):
            yield f"{folder} was broken off when it had been played to its end, and was played again: ask why"


def _control(read: Read) -> Layer:
    """The mutant is one of ours, and on every side that was played on it, its bytes were read back."""
    begun, ours = read.begun, mutants.catalogue()
    own = dict.fromkeys([*begun.own_controls.values(), *(side.hypervisor for _, side, _ in read.tests)])
    names = [one for one in dict.fromkeys([begun.under_test, begun.control, *own]) if one not in (None, STOCK)]
    if not names and not any(made for _, _, made in _planted(read)):
        return Layer("control", Word.NOT_ASKED, ("the run has no known-bad control: it proves nothing beyond stock",))
    wrong = [f"{name} is no mutant of this maskall" for name in names if name not in (*ours, CONTROL_XEN)]
    control = ours.get(DEFAULT_CONTROL if begun.control == CONTROL_XEN else begun.control or "")
    if control is not None and begun.notices != control.notices:
        wrong.append(f"{begun.control} has to be noticed by {', '.join(control.notices)}, and the run says otherwise")
    strangers = [name for name in begun.own_controls if name not in begun.scenarios]
    wrong += [f"{name} has a control of its own, and {NAME} does not name it" for name in strangers]
    for one in read.results.scenarios:
        name = begun.own_controls.get(one.id)
        if name is not None and catalogue().control_of(one.ending) != name:
            wrong.append(f"{one.id} was held against {name}, and the catalogue says otherwise")
    planted, given = 0, dict[str, None]()
    for name, hypervisor, made in _planted(read):
        mutant = ours.get(hypervisor)
        if hypervisor == STOCK and made is not None:
            wrong.append(f"{name} on {STOCK}: {made.name} was planted")
        if hypervisor not in (*ours, CONTROL_XEN):
            continue
        where = f"{name} on {hypervisor}"
        if made is None:
            wrong.append(f"{where}: nothing was planted")
            continue
        if mutant is None:  # a hypervisor of their own
            given[made.stands_for] = None
            continue
        planted += 1
        if (made.name, made.layer) != (hypervisor, mutant.layer):
            wrong.append(f"{where}: another mutant was planted: {made.name}")
        if told := _misplanted(mutant, made.changes, begun.host.facts):
            wrong.append(f"{where}: {told}")
    tested = begun.host.facts.get(OWN_XEN)
    wrong += [f"{one} is the one under test" for one in given if tested and one.endswith(tested.split()[-1])]
    by_us = " and ".join(name for name in map(str, names) if name != CONTROL_XEN)
    right = [f"{by_us}, planted and read back on {planted} sides"] if by_us else []
    right += [f"{one}: what it lacks is on the run's word" for one in given]
    return Layer.of("control", _few(wrong), right)


def _planted(read: Read) -> Iterator[tuple[str, str, Control | None]]:
    """Every try in which a device was looked at: of what, on which hypervisor, and what was planted for it."""
    for side in read.comparison.again.sides:
        yield from ((one.record.scenario.id, one.hypervisor, one.planted) for one in side.tries if one.record.readings)
    for case, mine, told in read.tests:
        if mine.record.readings:
            yield case.id, mine.hypervisor, next(iter(told.planted), None)


def _misplanted(mutant: Mutant, made: tuple[Replaced, ...], facts: Mapping[str, str]) -> str:
    """How the bytes that were written differ from the mutant's; empty: not at all."""
    changes = mutants.changes_on(mutant, facts)
    if not made or len(made) != len(changes):
        return f"{len(made)} changes were made, and the mutant has {len(changes)}"
    for change, one in zip(changes, made, strict=True):
        if one.after == one.before:
            return f"the change at {one.place} changes nothing"
        symbol = getattr(change, "symbol", one.place.where)
        if len(one.before) != change.length or one.after != change.applied_to(one.before) or symbol != one.place.where:
            return f"{one} is not what the mutant does"
    return ""


def _fidelity(read: Read) -> Layer:
    host, kind = read.begun.host, read.shown.kind
    facts = [f"{one.path}:{one.line}: {one.shows}" for one in read.shown.facts]
    if host.nested != ("nested" in host.facts):
        return Layer("fidelity", Word.FAILS, ("the run says of its host that it is nested, and that it is not",))
    if kind == "unknown":
        return Layer("fidelity", Word.UNKNOWN, ("no raw file of some side shows what machine it was", *facts))
    if kind == "emulated" and not host.nested:
        return Layer(
            "fidelity", Word.FAILS, ("the run claims hardware, and its raw files show an emulator", *_few(facts))
        )
    if kind == "hardware" and host.nested:
        return Layer(
            "fidelity", Word.FAILS, ("the run claims a nested host, and its raw files show a machine", *_few(facts))
        )
    missing = [name for name in ("xen_version", "kernel") if not any(getattr(one, name) for one in read.machines)]
    if missing:
        return Layer("fidelity", Word.UNKNOWN, (f"no raw file shows {' and '.join(missing)}", *_few(facts)))
    return Layer("fidelity", Word.OK, (f"{kind}: {host.label or 'no sign of an emulator'}", *_few(facts)))


def _rejudged(root: Path, read: Read) -> Layer:
    comparison = read.comparison
    wrong = [line.strip() for one in comparison.parts if one.word != "SAME" for line in one.lines]
    wrong += [line for one in comparison.again.sides for line in one.hidden]
    if read.begun.known_issues:
        wrong += _only_by_own_issues(judged_again(root, stored=read.results, own_issues=False), read.results)
    if redefined := comparison.redefined:
        wrong.append(f"judged by a definition that is not that of this maskall's catalogue: {', '.join(redefined)}")
    again = comparison.again
    right = f"{len(comparison.parts)} SAME: {again.sides_read} sides from {again.raw_files} raw files"
    said = ", ".join(f"{number} {what}" for what, number in comparison.words.items())
    return Layer.of(
        "rejudged", _few(wrong), [right, f"on the harness's word, for no raw byte shows it: {said or 'nothing'}"]
    )


def _supplements(read: Read, parent: _Parent | None) -> Layer:
    """The run that it plays again is the one that it names, by its digest and by what it came to."""
    told = read.begun.parent
    if told is None and parent is None:
        return Layer("parent", Word.OK, ("it supplements no other run",))
    if told is None or parent is None:
        of = f"run {told.run_id} with the results {told.results[:16]}" if told else "none"
        word = Word.NOT_ASKED if parent is None else Word.FAILS
        why = "give its bundle with --parent" if parent is None else "--parent was given"
        return Layer("parent", word, (f"it supplements {of}; {why}",))
    wrong = [*parent.wrong, *(foreign(parent.read, read) if parent.read is not None else ())]
    stands = f"{len(told.stands)} scenarios stand as they were there" if told.stands else "none of it stands"
    right = f"run {told.run_id} holds and is the one that it supplements; {stands}"
    return Layer.of("parent", _few(wrong), [right])


def _only_by_own_issues(ours: RunAgain, stored: RunResult) -> Iterator[str]:
    """Conclusions that rest on known issues which the bundle brings along."""
    for one in stored.scenarios:
        now = ours.finished.get(one.id)
        if now is not None and now.conclusion != one.conclusion:
            yield f"{one.id} is {one.conclusion} by the run's own known issues alone, and {now.conclusion} by ours"


def _notes(read: Read) -> Iterator[str]:
    given, ours = read.statement.predicate.bundled_by, this_tool()
    if given.sha256 != ours.sha256:
        yield f"bundled by an unknown build: maskall {given.version}, {given.sha256[:16]}; this is {ours.sha256[:16]}"
        changed = [name for name, sha in ours.rules.items() if given.rules.get(name) != sha]
        if changed:
            yield f"  whose rules are others than ours: {', '.join(changed)}"
    if read.statement.predicate.redacted:
        yield "redacted: names of hosts and users, addresses, UUIDs and serial numbers are pseudonyms"
    for one in read.comparison.again.sides:
        shown = next((check for check in one.side.judgement.violations if check.outcome is Outcome.VIOLATED), None)
        if one.record.broken is not None and shown is not None:
            yield f"{one.side.raw_directory} ended by {one.record.broken.kind}, and shows: {sentence(shown)}"
    if times := [one.at for one in read.events if one.what == "gone on"]:
        often = "once" if len(times) == 1 else f"{len(times)} times, the last"
        yield f"it was broken off or ended, and gone on with, {often} at {times[-1]:%F %T %Z}"
    for case, side, _ in read.tests:
        if side.expected is Verdict.FAIL:
            yield f"{case.id} on {side.hypervisor} is marked by whoever wrote it as one that fails"
    versions = {file.tool_version for side in read.comparison.again.sides for file in side.tries}
    if versions - {read.begun.tool_version}:
        yield f"begun with maskall {read.begun.tool_version}, and played with {', '.join(sorted(versions))}"
    if kept := [side.kept for _, side in read.sides if side.kept]:
        yield f"{len(kept)} controls are kept proofs of earlier runs, the first of {min(kept):%Y-%m-%d %H:%M}"
    yield from (
        f"accepted by whoever ran it: {name.removeprefix('accepted ')}: {why}"
        for name, why in read.begun.host.facts.items()
        if name.startswith("accepted ")
    )
