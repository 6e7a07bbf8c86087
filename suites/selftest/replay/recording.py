"""Recorded runs as small archives: one scenario of a real run, and what it came to as text that people can read.

NAME.tar.xz holds run.json and the scenario's record.json with those raw files that are read; NAME.txt every verdict and
check of it. A recording is made by tools/record-replay and, like any run, judged by `maskall judge`.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from harness.base.errors import MaskallError, UsageError
from harness.evidence.observe import observed
from harness.evidence.sealed import Sealed, read_inside
from harness.model.guestspec import GuestType
from harness.model.observation import RawRef
from harness.play.catalogue import catalogue
from harness.report.begun import KNOWN_ISSUES
from harness.report.begun import NAME as RUN
from harness.report.differences import of_scenario
from harness.report.messages import counts
from harness.report.results import ScenarioResult
from harness.run import sidefile
from harness.run.again import RunAgain, judged_again
from harness.run.sidefile import load_side
from harness.scenario.spec import Scenario

FOLDER = Path(__file__).parent


def recordings() -> list[str]:
    """The names of all recordings."""
    return sorted(path.name.removesuffix(".tar.xz") for path in FOLDER.glob("*.tar.xz"))


def unpacked(name: str, folder: Path) -> Path:
    """The directory of a recorded run, unpacked into `folder`. Its looks name the files that it has."""
    with tarfile.open(FOLDER / f"{name}.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    for path in folder.glob(f"raw/*/*/{sidefile.NAME}"):
        side = json.loads(path.read_text())
        for part in (side["record"], side["record"]["second"] or {}):
            for look in [*part.get("readings", ()), *part.get("rounds_read", ())]:
                look["files"] = [one for one in look["files"] if f"{look['folder']}/{one}" in side["files"]]
        path.write_text(json.dumps(side, indent=1) + "\n")
    return folder


def told(again: RunAgain) -> str:
    """Everything that is judged, as text: what was expected, verdicts, hazards, every check with its place."""
    return "".join(f"{line}\n" for result in again.finished.values() for line in _told(result))


def _told(result: ScenarioResult) -> Iterator[str]:
    yield f"{result.id}: {result.conclusion}, control {result.control_role}"
    yield f"expected {result.expected.verdict}: {result.expected.because}"
    yield f"remark: {result.remark or 'none'}"
    for name, side in result.sides:
        hazard, said = side.judgement.hazard, side.record.messages

        def place(raw: object, folder: str = f"{side.raw_directory}/") -> str:
            return str(raw).removeprefix(folder) if raw else "-"

        yield ""
        yield f"{name}, {side.hypervisor}: {side.verdict}: {side.reason}"
        yield f"  hazard promised {hazard.promised}, taken {hazard.taken}: {hazard.how or '-'} ({place(hazard.raw)})"
        yield from (f"  try again after: {one.reason}" for one in side.attempts)
        for one in side.judgement.checks:
            subject = f"{one.checkpoint} {one.view}: {one.subject}: expected {one.expected}, seen {one.seen}"
            yield f"  {one.outcome:8} {subject} ({place(one.raw)})"
        yield f"  lines of Xen and dom0: {'not read to their end' if said is None else counts(said)}"


@dataclass
class _Reading:
    """Files that note which of them were read."""

    sealed: Sealed
    read_names: set[str] = field(default_factory=set)

    def below(self, *names: str) -> _Reading:
        return _Reading(self.sealed.below(*names), self.read_names)

    def read(self, name: str) -> tuple[RawRef, bytes]:
        self.read_names.add(self.sealed.prefix + name)
        return self.sealed.read(name)

    def name_of(self, raw: RawRef) -> str:
        return self.sealed.name_of(raw)


def record(root: Path, scenario: str, name: str, folder: Path = FOLDER) -> Path:
    """Make a recording of one scenario of the run in `root`; its verdicts are those of the whole evidence."""
    (whole,) = _only(judged_again(root, scenario))
    with tempfile.TemporaryDirectory() as made:
        small = Path(made)
        begun = json.loads(read_inside(root, RUN)) | {"scenarios": [scenario]}
        begun["host"]["packages"] = {}  # hundreds of lines that no verdict rests on
        (small / RUN).write_text(json.dumps(begun, indent=1))
        if begun["known_issues"]:
            (small / KNOWN_ISSUES).write_bytes(read_inside(root, KNOWN_ISSUES))
        for path in sorted((root / "raw" / scenario).glob(f"*/{sidefile.NAME}")):
            _cut(root, f"raw/{scenario}/{path.parent.name}", small)
        again = judged_again(small)
        (result,) = _only(again)
        if differences := of_scenario(whole, result):
            raise UsageError(f"what was cut away was needed: {differences[0]}")
        (folder / f"{name}.txt").write_text(told(again))
        return _packed(small, folder / f"{name}.tar.xz")


def _only(again: RunAgain) -> list[ScenarioResult]:
    if len(again.finished) != 1:
        said = [line for lines in again.unreadable.values() for line in lines]
        raise UsageError(f"{len(again.finished)} scenarios can be judged", hint="; ".join(said) or "name just one")
    return list(again.finished.values())


def _cut(root: Path, folder: str, small: Path) -> None:
    """Copy a side without the files that nobody reads."""
    side, sealed, _ = load_side(root, folder)
    reading = _Reading(sealed)
    observed(side.record, reading)
    data = json.loads(read_inside(root, f"{folder}/{sidefile.NAME}"))
    data["files"] = {one: digest for one, digest in data["files"].items() if one in reading.read_names}
    for one in data["files"]:
        target = small / folder / one
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(sealed.read(one)[1])
    (small / folder).mkdir(parents=True, exist_ok=True)
    (small / folder / sidefile.NAME).write_text(json.dumps(data, indent=1))


def redefine(name: str, folder: Path = FOLDER) -> Path:
    """Give a recording its scenario's definition in today's catalogue; for after a change of the catalogue's format."""
    with tempfile.TemporaryDirectory() as made:
        root = unpacked(name, Path(made))
        for path in sorted(root.rglob(sidefile.NAME)):
            data = json.loads(path.read_text())
            data["record"]["scenario"] = _today(data["record"]["scenario"])
            path.write_text(json.dumps(data, indent=1))
        again = judged_again(root)
        _only(again)
        (folder / f"{name}.txt").write_text(told(again))
        return _packed(root, folder / f"{name}.tar.xz")


def _today(stored: Any) -> Any:  # noqa: ANN401 - JSON
    known = catalogue()
    scenario = Scenario(
        stored["ending"],
        stored["follow_on"],
        GuestType(stored["guest"]),
        stored["device"],
        known.endings[stored["ending"]],
        known.follow_ons[stored["follow_on"]],
    ).with_rounds(stored["follow"]["rounds"])
    return TypeAdapter(Scenario).dump_python(scenario, mode="json")


def _packed(root: Path, path: Path) -> Path:
    """The same files give the same bytes."""
    with tarfile.open(path, "w:xz", preset=9) as archive:
        for one in sorted(root.rglob("*")):
            if one.is_file():
                member = tarfile.TarInfo(one.relative_to(root).as_posix())
                member.size, member.mode = one.stat().st_size, 0o644
                archive.addfile(member, io.BytesIO(one.read_bytes()))
    return path


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="tools/record-replay",
        description="Make a recording for the self-tests of one scenario of a run.",
        epilog="Example: tools/record-replay results/20260102-030405 E14-F1-hvm-nvme stock-and-control",
    )
    parser.add_argument("results", type=Path, nargs="?", help="the directory of the run")
    parser.add_argument("scenario", nargs="?", help="its id")
    parser.add_argument("name", nargs="?", help="of the recording, in suites/selftest/replay")
    parser.add_argument(
        "--redefine",
        action="store_true",
        help="instead: give all recordings the definitions of today's catalogue; read the difference of the texts",
    )
    given = parser.parse_args()
    if given.redefine == bool(given.name):
        parser.error("either RESULTS SCENARIO NAME or --redefine")
    try:
        made = [redefine(one) for one in recordings()] if given.redefine else [record(*_wanted(given))]
    except MaskallError as error:
        print(f"record-replay: {error}", file=sys.stderr)
        return error.exit_status
    for path in made:
        said = path.with_name(path.name.replace(".tar.xz", ".txt")).read_text().splitlines()[0]
        print(f"{path.name}: {path.stat().st_size // 1024} KiB; {said}")
    return 0


def _wanted(given: argparse.Namespace) -> tuple[Path, str, str]:
    return given.results, given.scenario, given.name


__all__ = ["main", "record", "recordings", "told", "unpacked"]
