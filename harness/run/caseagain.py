"""A test that somebody wrote, made anew as far as its raw files go: its checkpoints, and what Xen and dom0 said.

Whether it passed is the word of its own assertions, which nobody can play again without a host.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from harness.base.errors import EvidenceError, ParseError
from harness.evidence.observe import Logs, host_crashes, observe
from harness.evidence.sealed import Sealed
from harness.model.observation import Observation, Reading
from harness.report.results import CaseResult, CaseSide
from harness.scenario.case import CaseRecord, CaseView
from harness.scenario.spec import ControlRole


def case_again(root: Path, stored: CaseResult) -> CaseResult:
    """EvidenceError, one line for each, when files are missing or were changed."""
    sides = {name: _side(root, side) for name, side in stored.sides}
    named = {
        name: getattr(stored, name) for name in ("id", "title", "devices", "remark", "seconds", "command_to_repeat")
    }
    wanted = stored.control_role is not ControlRole.NONE
    return CaseResult.of(sides["stock"], sides.get("control"), wanted=wanted, **named)


def _side(root: Path, side: CaseSide) -> CaseSide:
    files = Sealed(root, side.raw_directory, side.files)
    if damaged := files.damaged():
        raise EvidenceError("\n".join(damaged))
    try:
        return side.model_copy(update={"record": _observed(side.record, files)})
    except ParseError as error:
        raise EvidenceError(str(error)) from error


def _observed(record: CaseRecord, files: Sealed) -> CaseRecord:
    """The same record with what the raw files show."""
    looks = {reading.folder: reading for readings in record.readings for reading in readings}
    seen = [CaseView(one.name, tuple(_again(each, looks, files) for each in one.observations)) for one in record.seen]
    logs = Logs()
    for reading in record.readings[0] if record.readings else ():
        logs.add(reading, files)
    crashes = host_crashes(files.name_of(record.console), files) if record.console else []
    return replace(record, seen=seen, markers=[*logs.markers, *crashes])


def _again(stored: Observation, looks: dict[str, Reading], files: Sealed) -> Observation:
    """From the look at the device in whose folder its config space stands."""
    folder = files.name_of(stored.hardware.raw).rpartition("/")[0] if stored.hardware else ""
    if folder not in looks:
        raise EvidenceError(f"{files.folder!r}: a checkpoint is of no look at the device")
    return observe(stored.device, looks[folder], files)
