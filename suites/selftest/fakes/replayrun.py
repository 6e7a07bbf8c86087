"""A session whose sides are recorded ones, played as fast as they are copied; as a program, one that can be killed.

    python -m suites.selftest.fakes.replayrun RESULTS SIDE...

plays E14-F1 and E14-F2 into RESULTS, and stops for ever where it comes to one of the sides, as `E14-F2 stock`.
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

from harness.base.progress import PlainProgress, Progress
from harness.evidence.observe import observed
from harness.evidence.store import EvidenceStore
from harness.host.host import Host
from harness.judge.judge import judge
from harness.judge.known import known_issues
from harness.play.run import PlayedSide
from harness.report.results import RunResult
from harness.run import side as module
from harness.run.options import RunOptions
from harness.run.plan import Plan
from harness.run.session import Session
from harness.run.sidefile import load_side
from harness.scenario.spec import Scenario
from suites.selftest.fakes.goodrecord import scenario
from suites.selftest.fakes.sessionrun import MUTANT, MUTANTS, FakeLab, mutated
from suites.selftest.replay.recording import unpacked

RECORDED = scenario("E14", "F1", device="virtio-rng")
NEVER = scenario("E14", "F2", device="virtio-rng")


def recorded_play(
    stop_at: Collection[str] = (), halt: Callable[[str], None] = lambda _: None
) -> Callable[..., PlayedSide]:
    """In place of harness.play.run.play: what was recorded of E14-F1, stored and observed as if it were played now."""
    folder = tempfile.TemporaryDirectory(prefix="replay-")  # gone with the function that holds it
    run = unpacked("proven", Path(folder.name))

    def play(
        row: Scenario,
        host: Host,
        evidence: EvidenceStore,
        progress: Progress,
        at_c2: Callable[[], None] = lambda: None,
        **more: object,
    ) -> PlayedSide:
        at_c2()
        name = MUTANT if mutated(host) else "stock"
        if f"{row.ending}-{row.follow_on} {name}" in stop_at:
            halt(name)
        if not (run / evidence.folder).exists():  # another try
            shutil.copytree(run / f"raw/{RECORDED.id}/{name}", run / evidence.folder)
        assert folder
        file, sealed, _ = load_side(run, evidence.folder)
        with progress.phase("play"):
            for one in file.files:
                evidence.put(one, sealed.read(one)[1])
            # it is played in no time now, and a look is no later than its side
            file.record.readings = [replace(one, seconds=0.0) for one in file.record.readings]
            record = observed(file.record, evidence)
        return PlayedSide(record, judge(record))

    return play


def session(results: Path, own_issues: Path | None = None, **more: Path) -> Session:
    """Of both scenarios, one side at a time; `more` options."""
    options = RunOptions(workers=1, known_issues=own_issues, **more)  # type: ignore[arg-type]  # all are paths
    plan = Plan((RECORDED, NEVER), options, dict(MUTANTS), known_issues(own_issues), results)
    return Session(FakeLab(), plan, PlainProgress(io.StringIO()))


def play_recorded(results: Path) -> RunResult:
    """E14-F1 and what results.json says of it."""
    run = session(results)
    run.run(RECORDED)
    return run.finish()


def main(results: Path, stop_at: Collection[str]) -> None:
    def halt(_: str) -> None:
        print("halted", flush=True)
        while True:
            time.sleep(60)

    module.play = recorded_play(stop_at, halt)  # type: ignore[assignment]  # the same for all that a session gives
    run = session(results)
    run.run(RECORDED)
    run.run(NEVER)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
