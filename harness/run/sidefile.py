"""record.json: what one side of a scenario was, beside its raw files. Written as the side ends, read with distrust.

Layout and meaning are in docs/evidence.md.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import ClassVar, Final, Literal

from pydantic import AwareDatetime, ConfigDict, TypeAdapter, ValidationError

from harness.base.errors import EvidenceError
from harness.base.stored import storable_json
from harness.evidence.references import moved
from harness.evidence.sealed import Sealed, read_inside
from harness.evidence.store import EvidenceStore, digest
from harness.model.observation import RawRef
from harness.report.results import Control, Seconds
from harness.run.store import write_atomically
from harness.scenario.record import Record

NAME = "record.json"
VERSION: Final = "1"


@dataclass(frozen=True)
class SideFile:
    """One try of one scenario on one hypervisor. `files`: SHA-256 of every raw file, by its name in the folder."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")  # of all that is in it, too

    version: Literal["1"]
    tool_version: str
    hypervisor: str  # "stock", or the name of a mutant
    began: AwareDatetime
    ended: AwareDatetime
    phases: dict[str, Seconds]
    planted: Control | None  # the mutant, as it was read back
    record: Record
    files: dict[str, str]


_ADAPTER: TypeAdapter[SideFile] = TypeAdapter(SideFile)
_SHOWN_BY_FILES = {"observations": True, "markers": True, "messages": True, "rounds": True}
"""What is not stored, for raw files show it."""


def store_side(
    store: EvidenceStore,
    record: Record,
    *,
    hypervisor: str,
    began: datetime,
    ended: datetime,
    phases: Mapping[str, float],
    planted: Control | None = None,
) -> RawRef:
    """Write record.json of the raw files in `store`, all of which are there by now. EvidenceError."""
    folder = f"{store.folder}/"
    version = importlib.metadata.version("maskall")
    side = SideFile(VERSION, version, hypervisor, began, ended, dict(phases), planted, record, store.digests())
    without = _SHOWN_BY_FILES | {"actions": {"__all__": {"said": True}}}
    of_second = _SHOWN_BY_FILES | {"actions": True, "scenario": True}
    excluded = {"record": without | ({"second": of_second} if record.second else {})}
    data = moved(_ADAPTER.dump_python(side, mode="json", exclude=excluded), folder, "")
    content = json.dumps(storable_json(data), indent=1).encode() + b"\n"
    write_atomically(store.root / store.folder / NAME, content)
    return RawRef(f"{store.folder}/{NAME}", digest(content))


def load_side(root: Path, folder: str, sha256: str | None = None) -> tuple[SideFile, Sealed, RawRef]:
    """The side whose raw files are in `folder` of the run `root`, and those files, none of which was read yet.

    EvidenceError, which names the file, when it is not there, not what its `sha256` says, or not what `store_side`
    writes.
    """
    path = f"{folder}/{NAME}"
    content = read_inside(root, path)
    found = digest(content)
    if sha256 is not None and found != sha256:
        raise EvidenceError(f"{path!r} was changed after it was stored: its SHA-256 is another one")
    try:
        data = json.loads(content)
        if isinstance(data, dict) and data.get("version") != VERSION:
            raise EvidenceError(
                f"{path!r} is of version {data.get('version')!r}", hint=f"this maskall reads version {VERSION}"
            )
        side = _ADAPTER.validate_json(json.dumps(moved(_joined(data), "", f"{folder}/")))
    except (ValidationError, ValueError, RecursionError) as error:
        raise EvidenceError(f"{path!r}: {_first(error)}", hint="it is no record of a side") from error
    record = side.record
    if record.second is not None:
        record.second.actions = record.actions
    return side, Sealed(root, folder, side.files), RawRef(path, found)


def _joined(data: object) -> object:
    """The scenario is that of both devices."""
    match data:
        case {"record": {"scenario": scenario, "second": dict(second)}}:
            second["scenario"] = scenario
    return data


def _first(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}"
