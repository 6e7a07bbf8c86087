"""Runs of tests that somebody wrote, told once more by a forger: records, results, logs and chain fit each other."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.report.case import case_log
from harness.report.results import RunResult
from harness.run import cases, chain, store
from harness.run.again import begun_in
from harness.run.caseagain import case_again
from harness.run.cases import CasePlayed
from suites.selftest.fakes.badbundle import _redigest, edit_json

Data = dict[str, Any]


def retold(folder: Path, change: Callable[[Data], object], only: str = "*") -> None:
    """`change` the record of each side whose folder `only` names, and make all anew that is made of records."""
    run = store.load(folder / store.RESULTS, RunResult)
    begun = begun_in(folder)
    order = [one.file for one in chain.events((folder / chain.NAME).read_bytes()) if one.what == "ended"]
    for name in order:
        if Path(name).match(f"raw/*/{only}/record.json"):
            edit_json(folder / name, change)
    played = [_seen_again(folder, CasePlayed.model_validate_json((folder / name).read_bytes())) for name in order]
    for name in (chain.NAME, "run.json"):
        (folder / name).unlink()
    for one in played:
        one.store(folder)
        store.write_atomically(folder / one.side.log, case_log(one.id, one.side).encode())
        cases.ended(one, folder, begun.started, begun.challenge)
    cases.finish(played, folder, begun.started, run.ended)


def _seen_again(folder: Path, one: CasePlayed) -> CasePlayed:
    """With what its raw files show by now."""
    (result,) = cases.results([one])
    sides = {side.hypervisor: side for _, side in case_again(folder, result).sides}
    return one.model_copy(update={"side": sides.get(one.side.hypervisor, one.side)})


def edit_raw_of(folder: Path, side: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    """Change a raw file of the side of a test, with every digest of it in its record; the rest is `retold`."""
    path = side / name
    after = change(path.read_bytes() if path.exists() else b"")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(after)
    new = hashlib.sha256(after).hexdigest()

    def edit(data: Data) -> None:
        data["side"]["files"][name] = new
        _redigest(data, str(path.relative_to(folder)), new)

    edit_json(side / "record.json", edit)
