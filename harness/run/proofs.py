"""Kept proofs: what a control showed, so that the next run need not play it again.

It depends on the mutant, the scenario, the host and the code that plays and judges, and on nothing that is under test.
A proof is the side's folder as it was stored. Whoever uses it judges it anew, from its raw files, each by its SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from harness.base.deadline import Deadline
from harness.base.errors import EvidenceError, MaskallError
from harness.judge.judgement import Conclusion, Verdict, conclude
from harness.mutants.catalogue import Mutant
from harness.nested.cache import Cache, remove_tree
from harness.play.stage.warm_files import code_digest
from harness.run.again import SideAgain, side_again
from harness.run.side import SideOutcome
from harness.scenario.spec import ControlRole, Scenario

_PREFIX = "proof-"
_MOST_BYTES = 256 << 20  # a proof has half a megabyte
_CODE = ("judge", "mutants", "nested")  # beside what plays and observes
_SECONDS = 10.0


@dataclass(frozen=True)
class _Recipe:
    """A proof in the cache. `source`: where its folder is copied from."""

    digest: str
    source: Path | None = None
    name: str = _PREFIX.rstrip("-")
    needs_bytes: int = 4 << 20

    def build(self, directory: Path) -> None:
        if self.source is not None:
            shutil.copytree(self.source, directory / "side")


@dataclass(frozen=True)
class Proofs:
    """Those of one host, known by its `facts` and `packages`. `root`: the run that keeps them or uses them."""

    cache: Cache
    root: Path
    facts: Mapping[str, str]
    packages: Mapping[str, str]
    before: datetime  # when this run began

    def used(self, scenario: Scenario, name: str, mutant: Mutant, role: ControlRole) -> SideOutcome | None:
        """The side as an earlier run played it, now stored in this one; None where there is no good one."""
        began = time.monotonic()
        recipe = _Recipe(self._digest(scenario, mutant))
        if self.cache.verify(recipe) is not None:
            return None
        folder = self.root / "raw" / scenario.id / name
        try:
            shutil.copytree(self.cache.path_of(recipe) / "side", folder)
            found = side_again(self.root, scenario.id, name, self.before)
            if found.record.scenario != scenario or not _proves(found, role):
                raise EvidenceError("it proves nothing any more")
        except (MaskallError, OSError):
            remove_tree(folder)
            remove_tree(self.cache.path_of(recipe))
            return None
        return SideOutcome(scenario, name, found.side, found.tries[-1].planted, began, time.monotonic(), 0.0)

    def keep(self, outcome: SideOutcome, mutant: Mutant, role: ControlRole) -> None:
        """Keep what a control showed, if it is what it must show. A full cache is no reason to end a run."""
        side = outcome.side
        if side.attempts or side.kept or not _proof(side.verdict, role):
            return
        recipe = _Recipe(self._digest(outcome.scenario, mutant), self.root / side.raw_directory)
        try:
            self.cache.obtain(recipe, deadline=Deadline.after(_SECONDS), notice=lambda _: None)
            self.cache.trim(_PREFIX, _MOST_BYTES)
        except (MaskallError, OSError):
            return

    def _digest(self, scenario: Scenario, mutant: Mutant) -> str:
        said: dict[str, Any] = {
            "scenario": TypeAdapter(Scenario).dump_python(scenario, mode="json"),
            "mutant": mutant.model_dump(mode="json"),
            "host": dict(self.facts),
            "packages": dict(self.packages),
            "code": code_digest(_CODE),
        }
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _proves(found: SideAgain, role: ControlRole) -> bool:
    return found.finished and _proof(found.side.verdict, role)


def _proof(control: Verdict, role: ControlRole) -> bool:
    return conclude(Verdict.PASS, control, role) is Conclusion.PROVEN
