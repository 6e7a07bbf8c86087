"""Where the files of a bundle contradict each other, although all of them are sealed and signed."""

from __future__ import annotations

import json
import shlex
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

from harness.base.errors import UsageError
from harness.evidence.sealed import Sealed, read_inside
from harness.evidence.store import digest
from harness.host.stacks import FACTS
from harness.lab.lease.claim_options import accepted
from harness.model.observation import CONFIG, Checkpoint
from harness.nested import devices as nested
from harness.report.begun import NAME
from harness.report.bundle import bag
from harness.report.bundle.fidelity import device_ids
from harness.report.bundle.statement import Evidence
from harness.report.differences import of_values
from harness.report.results import HostSummary
from harness.run import chain, sidefile
from harness.run.casestory import stories
from harness.run.forpeople import for_people
from harness.run.hostclock import backwards
from harness.run.leftout import fewer, files_of_looks, left_out
from harness.run.opened import Read
from harness.run.options import CONTROL_XEN, DEFAULT_TOOLSTACK, RunOptions
from harness.run.plan import STOCK
from harness.run.sequence import disordered
from harness.run.store import RESULTS
from harness.run.twins import answers_of_others, twins
from harness.run.unpack import Unpacked
from harness.run.witness import disagreeing
from harness.scenario.record import Record
from harness.scenario.repeats import row_of
from harness.scenario.spec import Next

_SAID_BY = {"xl": "Parsing config from ", "libvirt": '<domain type="xen"'}
_CLOCKS = timedelta(minutes=5)  # that two clocks may differ


def contradictions(files: Unpacked, read: Read, now: datetime) -> Iterator[str]:
    """One line each; nothing can be of later than `now`. EvidenceError for a file that cannot be read."""
    yield from _statement(files, read)
    yield from _one_reading(files, read.root)
    yield from _product(read)
    yield from _devices(read)
    yield from _times(read, now)
    yield from _asked(read)
    yield from _sequences(read)
    yield from _looks(read)
    yield from twins(read)
    yield from answers_of_others(read)
    yield from _for_people(read.root, read)
    yield from stories(read)


def _statement(files: Unpacked, read: Read) -> Iterator[str]:
    """The statement is about this payload and says nothing else than it."""
    statement, given = read.statement, read.statement.predicate
    if statement.subject[0].digest != {"sha256": digest(files.tags[bag.MANIFEST_NAME])}:
        yield "the statement is about another manifest"
    tool = given.bundled_by
    made = Evidence.of(read.begun, read.results, read.shown, tool, given.challenge, redacted=given.redacted)
    for one in of_values("statement", given.model_dump(mode="json"), made.model_dump(mode="json")):
        yield f"{one.where}: {one.what}: says {one.stored}, and the payload says {one.now}"
    if files.tags[bag.INFO_NAME] != bag.info(given.run.id, tool.version, files.octets, len(files.digests)):
        yield f"{bag.INFO_NAME} is not that of this run and payload"


def _product(read: Read) -> Iterator[str]:
    """What was tested is what the raw files show, the same on every side but on a hypervisor given as control."""
    host, facts = read.begun.host, read.begun.host.facts
    made = HostSummary.of(facts, host.packages)
    for name in ("name", "nested", "label"):
        if getattr(host, name) != getattr(made, name):
            yield f"{name} of the host is {getattr(host, name)!r}, and by its facts {getattr(made, name)!r}"
    if strange := [name for name in facts if name not in FACTS and not name.startswith("accepted ")]:
        yield f"no host tells of itself: {', '.join(map(repr, strange))}"
    yield from _toolstack(read)
    for one in read.machines:
        other = f"/{CONTROL_XEN}/" in one.folder
        if other and one.xen_build_id and one.xen_build_id == facts.get("xen_build_id"):
            yield f"{one.folder} shows the xen_build_id of the hypervisor under test"
        for name in ("kernel",) if other else ("xen_version", "xen_build_id", "kernel"):
            shown = getattr(one, name)
            if shown and shown != facts.get(name):
                yield f"{one.folder} shows {name} {shown!r}, and the run says {facts.get(name)!r}"
        claimed = facts.get("xen_commandline", "")[:900].strip()
        if claimed and one.xen_commandline not in ("", claimed) and not other:
            yield f"{one.folder} shows other options of Xen than the run says: {one.xen_commandline[:100]}"
    for name in ("dmi", "acpi") if read.begun.host.nested else ("dmi", "acpi", "cpu"):
        kinds = {getattr(one, name): one.folder for one in read.machines if getattr(one, name)}
        if len(kinds) > 1:
            told = "; ".join(f"{value!r} in {folder}" for value, folder in kinds.items())
            yield f"raw files of more than one machine: {told}"


def _toolstack(read: Read) -> Iterator[str]:
    """What a toolstack says when it makes a domain is its own; and whether it quarantines a device is known of it."""
    told = read.begun.host.facts.get("toolstack", DEFAULT_TOOLSTACK)  # there was no other before it was told
    for side in read.comparison.again.sides:
        for record in side.records:
            for action in record.actions:
                found = next((name for name, mark in _SAID_BY.items() if mark in action.said), told)
                if action.raw is not None and found != told:
                    yield f"{action.raw.path} is what {found} says, and the run is told to be through {told}"
            if record.readings and told in _SAID_BY and record.quarantines is not (told == "xl"):
                folder = side.side.raw_directory
                yield f"{folder} is told to be with{'' if record.quarantines else 'out'} quarantine, unlike {told}"


def _devices(read: Read) -> Iterator[str]:
    """A device is the same at every look, on every side."""
    shown: dict[str, dict[str, str]] = defaultdict(dict)
    for one in read.tries:
        for name, readings in one.devices:
            for reading in readings:
                if reading.shows_device:
                    path = f"{one.folder}/{reading.folder}/{CONFIG}"
                    if ids := device_ids(read_inside(read.root, path).decode("ascii", "replace")):
                        shown[name].setdefault(ids, path)
    for name, kinds in shown.items():
        if len(kinds) > 1:
            yield f"{name} is more than one device: " + "; ".join(f"{ids} in {path}" for ids, path in kinds.items())


def _times(read: Read, now: datetime) -> Iterator[str]:
    """Every side is of this run, but for controls that were proven in an earlier one, which no lab host keeps."""
    begun, results = read.begun, read.results
    if begun.started != results.started or results.ended < results.started:
        yield f"{RESULTS} is of {results.started} to {results.ended}, and {NAME} of {begun.started}"
    if results.ended > now + _CLOCKS:
        yield f"it ended at {results.ended}, which is still to come"
    for one in read.events[-1:]:
        if one.at > now + _CLOCKS:
            yield f"{chain.NAME} ends at {one.at}, which is still to come"
    told = {(name, side.hypervisor): side.began for name, side in read.sides}
    for side in read.comparison.again.sides:
        name, last = side.record.scenario.id, side.tries[-1]
        if told.get((name, last.hypervisor)) not in (None, last.began):
            yield f"{name} on {last.hypervisor} is told to be of another time than its record"
        kept = side.side.kept is not None and last.hypervisor != begun.under_test and begun.host.nested
        for file in () if kept else side.tries:
            if not begun.started <= file.began <= file.ended <= results.ended:
                where = f"{file.record.scenario.id} on {file.hypervisor}"
                yield f"{where} was played from {file.began} to {file.ended}, and the run was not"

    if not begun.host.nested:
        yield from _at_once(read)


def _at_once(read: Read) -> Iterator[str]:
    """A lab host plays one side at a time, and none goes on from a host that was frozen."""
    tries = [
        (file, raw) for side in read.comparison.again.sides for file, raw in zip(side.tries, side.raws, strict=True)
    ]
    tries.sort(key=lambda one: one[0].began)
    for (before, first), (after, second) in pairwise(tries):
        if after.began < before.ended:
            yield f"{second.path} began at {after.began}, and {first.path} ended at {before.ended}: on one host"
    for file, raw in tries:
        if file.record.opened is not None:
            yield f"{raw.path} went on from a frozen host, which a lab host is not"


def _asked(read: Read) -> Iterator[str]:
    """The command that repeats the run asks for what was played; tests alone are pytest's to repeat."""
    begun = read.begun
    if not begun.scenarios:
        return
    try:
        asked = RunOptions.of_words(begun.repeat_options)
        accepted_ = accepted(asked.accept)
    except (UsageError, ValueError) as error:
        yield f"{NAME}: what it says to repeat it with is no command: {error}"
        return
    told = {
        name.removeprefix("accepted "): why for name, why in begun.host.facts.items() if name.startswith("accepted ")
    }
    strict = {
        side.record.strict_messages
        for _, side in read.sides
        if side.hypervisor == begun.under_test and side.record.begun
    }
    pairs: list[tuple[str, object, object]] = [
        ("--challenge", asked.challenge, begun.challenge),
        ("--toolstack", asked.toolstack, begun.host.facts.get("toolstack", asked.toolstack)),
        ("--accept", accepted_, told),
        ("--no-control --mutant", asked.under_test or STOCK, begun.under_test),
        ("--known-issues", asked.known_issues is not None, begun.known_issues is not None),
        ("lines that nobody can explain fail a side", {asked.strict_messages}, strict or {asked.strict_messages}),
    ]
    for what, wanted, played in pairs:
        if wanted != played:
            yield f"{NAME} is to be repeated with {what} {wanted}, and was played with {played}"
    yield from _pasted(read)


def _pasted(read: Read) -> Iterator[str]:
    """What somebody pastes into a shell is the command of a run, each word quoted, and asks for what was played."""
    options = shlex.split(read.begun.repeat_options)
    if shlex.join(options) != read.begun.repeat_options.strip(" "):
        yield f"{NAME}: what it says to repeat it with is not quoted as maskall does: {read.begun.repeat_options!r}"
    for one in read.results.scenarios:
        try:
            words = shlex.split(one.command_to_repeat)
        except ValueError:
            words = []
        plain = shlex.join(words) == one.command_to_repeat
        if words[3:4] == ["--repeat"]:
            del words[3:5]
        allowed = (["./tools/maskall", "run", name, *options] for name in (one.id, row_of(one.id)))
        if not plain or words not in allowed:
            yield f"{one.id} is to be repeated with {one.command_to_repeat!r}, which is not what was played"


def _sequences(read: Read) -> Iterator[str]:
    """Every try is in its own order, and of the device that the other tries are of."""
    traits: dict[str, dict[tuple[object, ...], str]] = defaultdict(dict)
    traffic: dict[str, dict[bool, str]] = defaultdict(dict)
    for side in read.comparison.again.sides:
        for file, record, raw in zip(side.tries, side.records, side.raws, strict=True):
            folder = raw.path.removesuffix(f"/{sidefile.NAME}")
            yield from disordered(file, record, folder)
            for name, part in zip(record.scenario.devices, (record, record.second), strict=False):
                if part is not None and part.readings:
                    of = (str(part.device), part.reset_effective, part.dom0_driver)
                    traits[name].setdefault(of, folder)
                    if record.scenario.follow.next is Next.BACK_TO_DOM0:
                        traffic[name].setdefault(part.dom0_traffic, folder)
                    yield from (f"{folder}: {line}" for line in _of_dom0(part))
    known = nested.candidates(nested.catalogue()) if read.begun.host.nested else []
    ours = {one.name: one for one in known}
    for name, kinds in traits.items():
        if len(kinds) > 1:
            yield f"what is known of {name} is not the same: {'; '.join(f'{one} in {at}' for one, at in kinds.items())}"
        if len(traffic[name]) > 1:
            yield f"dom0's driver of {name} is exercised in {traffic[name][True]}, and not in {traffic[name][False]}"
        for _, reset_effective, *_ in kinds:
            if name in ours and ours[name].reset_effective is not reset_effective:
                yield f"{name} is told to have a reset that {'works' if reset_effective else 'does nothing'}: not so"


def _of_dom0(part: Record) -> Iterator[str]:
    """dom0's driver is the one that had the device first, and works only where the device comes back to it."""
    seen = part.at(Checkpoint.C0)
    if seen is not None and seen.hardware is not None and seen.hardware.driver != part.dom0_driver:
        yield f"dom0's driver is told to be {part.dom0_driver}, and was {seen.hardware.driver}"
    if part.dom0_traffic and part.scenario.follow.next is not Next.BACK_TO_DOM0:
        yield f"dom0's driver is told to be exercised, and {part.scenario.id} does not"


def _looks(read: Read) -> Iterator[str]:
    """Nothing that was looked at is left out, each look says one thing, and no look is of before the one before it."""
    for side in read.comparison.again.sides:
        for file, record, raw in zip(side.tries, side.records, side.raws, strict=True):
            folder = raw.path.removesuffix(f"/{sidefile.NAME}")
            yield from (f"{folder}: {line}" for line in left_out(file, record, Sealed(read.root, folder, file.files)))
    wanted: dict[bool, set[str]] = {True: set(), False: set()}
    for one in read.tries:
        wanted[one.of_test] |= files_of_looks(one.looks)
    for one in read.tries:
        found = list(fewer(one.looks, one.files, wanted[one.of_test]))
        for _, readings in one.devices:
            found += [*disagreeing(readings, one.files), *backwards(readings, one.files)]
        yield from (f"{one.folder}: {line}" for line in found)


def _one_reading(files: Unpacked, root: Path) -> Iterator[str]:
    """A key that is there twice is one thing to this program and another to the next."""

    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) != len(pairs):
            twice = next(name for number, (name, _) in enumerate(pairs) if name in dict(pairs[:number]))
            raise ValueError(f"{twice!r} is there twice")
        return found

    texts: dict[str, list[bytes]] = {}
    for name in (one.removeprefix(bag.DATA) for one in files.digests):
        if name in (NAME, RESULTS) or name.endswith(f"/{sidefile.NAME}"):
            texts[name] = [read_inside(root, name)]
        elif name == chain.NAME:
            texts[name] = read_inside(root, name).splitlines()
    for name, parts in texts.items():
        try:
            for text in parts:
                json.loads(text, object_pairs_hook=once)
        except (ValueError, RecursionError) as error:
            yield f"{name}: {error}"


def _for_people(root: Path, read: Read) -> Iterator[str]:
    """junit.xml and the logs: what programs and people go by is made of the results."""
    for name, content in for_people(read.results).items():
        if read_inside(root, name) != content:
            yield f"{name} is not what {RESULTS} says"
