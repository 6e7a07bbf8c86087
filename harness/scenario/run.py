"""Plays one scenario on one host, from dom0's driver to the verdict."""

from __future__ import annotations

from dataclasses import dataclass, replace

from harness.errors import MaskallError
from harness.evidence.collector import Collector
from harness.evidence.store import EvidenceStore
from harness.guest.drivers import drivers
from harness.guest.spec import GuestSpec
from harness.lab.host import Host
from harness.pci.pciback import Borrowed
from harness.report.progress import Progress
from harness.scenario.checkpoint import Checkpoint
from harness.scenario.judge import judge
from harness.scenario.judgement import Hazard, Judgement
from harness.scenario.record import Record
from harness.scenario.spec import Scenario, Verb
from harness.scenario.stage import Stage
from harness.scenario.verbs import VERBS
from harness.scenario.verdict import Verdict
from harness.xen.console import Marker, find_markers
from harness.xen.toolstack import XlToolstack


@dataclass(frozen=True)
class Played:
    """A scenario that was played, to its end or as far as the lab carried it."""

    record: Record
    judgement: Judgement
    error: MaskallError | None = None

    @classmethod
    def failed(cls, scenario: Scenario, error: MaskallError) -> Played:
        """The lab failed before anything could be observed."""
        return cls(Record(scenario, reset_effective=True), _not_played(scenario, Verdict.ERROR, str(error)), error)

    @classmethod
    def skipped(cls, scenario: Scenario, reason: str) -> Played:
        return cls(Record(scenario, reset_effective=True), _not_played(scenario, Verdict.SKIP, reason))


def _not_played(scenario: Scenario, verdict: Verdict, reason: str) -> Judgement:
    return Judgement(verdict, reason, Hazard(scenario.end.hazard, taken=False))


def play(scenario: Scenario, host: Host, store: EvidenceStore, progress: Progress) -> Played:
    """Play `scenario` on `host`. Product faults are in the judgement, an error of the lab goes with the record."""
    target = host.devices[scenario.device]
    driver = drivers()[target.driver]
    toolstack = XlToolstack(host.transport)
    with progress.phase("identify the device"):
        borrowed = Borrowed.identify(
            host.transport, toolstack, target.identity, host.ledger, host.guard, target.address
        )
    # dom0's driver is only made to work where it gets the device back and both moments are compared
    dom0_traffic = driver.in_dom0 and Verb.BACK_TO_DOM0 in scenario.follow.steps
    record = Record(scenario, target.reset_effective, borrowed.original_driver, dom0_traffic)
    collector = Collector(host.transport, borrowed.address, store, host.memory)
    stage = Stage(host, target, driver, toolstack, borrowed, collector, record, progress)
    error: MaskallError | None = None
    try:
        _perform(stage, scenario)
    except MaskallError as caught:
        error = caught
    finally:
        stage.store_transcripts()
    if host.console is not None:
        raw = collector.keep("host_console.txt", host.console.text())
        record.markers += [(marker, raw.at(marker.line)) for marker in _crashes(host.console.text())]
    if host.restore is not None:
        try:
            with progress.phase("put everything back"):
                host.restore()
        except MaskallError as caught:
            error = caught
    judgement = judge(record)
    if error is not None and judgement.verdict is not Verdict.CRASH:
        judgement = replace(judgement, verdict=Verdict.ERROR, reason=str(error))
    return Played(record, judgement, error)


def _crashes(console: bytes) -> tuple[Marker, ...]:
    markers = find_markers(console.decode("utf-8", "replace"))
    return tuple(marker for marker in markers if marker.kind.is_host_crash)


def _perform(stage: Stage, scenario: Scenario) -> None:
    stage.observe(Checkpoint.C0)
    with stage.progress.phase("bind to pciback"):
        stage.borrowed.bind()
    stage.observe(Checkpoint.C1)
    files = stage.host.guest_files
    spec = GuestSpec(
        name="maskall-a",
        type=scenario.guest,
        kernel=files.kernel,
        initramfs=files.initramfs[stage.target.driver],
        devices=(stage.borrowed.address,),
    )
    if not stage.bring_up(spec, "A", Verb.CREATE, Checkpoint.C2):
        return
    stage.await_userland()
    stage.observe(Checkpoint.C2)
    for verb in scenario.end.fault:
        VERBS[verb](stage)
    stage.observe(Checkpoint.C3)
    for verb in scenario.end.end:
        VERBS[verb](stage)
    stage.observe(Checkpoint.C4)
    for verb in scenario.follow.steps:
        VERBS[verb](stage)
