"""Plays one scenario on one host, from dom0's driver to the verdict."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from harness.base.errors import MaskallError
from harness.base.progress import Progress
from harness.evidence.collector import Collector
from harness.evidence.observe import SECOND, observed
from harness.evidence.store import EvidenceStore
from harness.host.deeds import Deeds
from harness.host.device import Device
from harness.host.host import Host
from harness.judge.judge import judge
from harness.judge.judgement import Judgement
from harness.model.address import Bdf
from harness.model.change import Change
from harness.model.guestspec import GuestSpec
from harness.model.observation import Checkpoint
from harness.play.plan import Borrowed, KeptTo, of_verb, plan
from harness.play.stage.stage import DevicePart, SeenEnough, Stage, StopCondition
from harness.play.stage.tracing import traced
from harness.play.stage.verb import perform
from harness.play.stage.warm_files import evidence_of, resume, store_opening
from harness.play.verbs import VERBS
from harness.scenario.record import Broken, Record
from harness.scenario.spec import CREATE, GUEST_A, Fate, Next, Scenario
from harness.xen.toolstack.xl import Toolstack


@dataclass(frozen=True)
class PlayedSide:
    """A scenario that was played, to its end or as far as the lab carried it."""

    record: Record
    judgement: Judgement
    error: MaskallError | None = None

    @classmethod
    def failed(cls, scenario: Scenario, error: MaskallError) -> PlayedSide:
        """The lab failed before anything could be observed."""
        record = Record(scenario, reset_effective=True, broken=Broken.by(error))
        return cls(record, judge(record), error)

    @classmethod
    def skipped(cls, scenario: Scenario, reason: str) -> PlayedSide:
        record = Record(scenario, reset_effective=True, skipped=reason)
        return cls(record, judge(record))


def play(
    scenario: Scenario,
    host: Host,
    store: EvidenceStore,
    progress: Progress,
    *,
    trace: bool = False,
    enough: StopCondition | None = None,
    at_c2: Callable[[], None] = lambda: None,
    at_end: Callable[[], None] = lambda: None,
    strict_messages: bool = False,
    challenge: str | None = None,
) -> PlayedSide:
    """Play `scenario` on `host`. Product faults are in the judgement, an error of the lab goes with the record.

    `enough` is asked after every checkpoint whether to go on: a mutant that was seen need not be played to its end.
    `at_end` is called when all is seen, and nothing is put back yet.
    With `strict_messages` a line of Xen or dom0's kernel that no rule describes fails it.
    """
    stage = set_up(scenario, host, store, progress)
    stage.spec = replace(stage.spec, challenge=challenge)
    stage.enough = enough
    record = stage.record
    record.strict_messages = strict_messages
    heard = len(host.console.text()) if host.console is not None else 0  # a console server repeats what was before us
    error: MaskallError | None = None
    try:
        with traced(stage) if trace else contextlib.nullcontext():
            if _at_c2(stage, store):
                at_c2()
                from_c2(stage)
        stage.read_logs()
    except SeenEnough:
        progress.note("seen enough")
    except MaskallError as caught:
        error = caught
    finally:
        stage.store_transcripts()
        stage.tools.close()
    if host.console is not None:
        record.host_console = stage.collector.keep("host_console.txt", host.console.text()[heard:])
    if error is None:
        at_end()
    if host.restore is not None:
        try:
            with progress.phase("put everything back"):
                host.restore()
        except MaskallError as caught:
            error = caught
    record.broken = Broken.by(error) if error is not None else None
    record = observed(record, store)  # what counts is what can be read again
    return PlayedSide(record, judge(record), error)


def _at_c2(stage: Stage, store: EvidenceStore) -> bool:
    if stage.host.opened is None:
        return up_to_c2(stage)
    resume(stage, stage.host.opened, store)
    return True


def play_opening(scenario: Scenario, host: Host, folder: Path, progress: Progress) -> None:
    """Play `scenario` as far as C2, to be gone on from when `host` was frozen; what was done and seen is in `folder`.

    The guests run, and nobody reads their consoles. LabError when guest A does not work, which is no verdict yet.
    """
    stage = set_up(scenario, host, evidence_of(folder), progress)
    try:
        up_to_c2(stage)
    finally:
        stage.store_transcripts()
        stage.tools.close()
    store_opening(stage, folder)


def set_up(scenario: Scenario, host: Host, store: EvidenceStore, progress: Progress) -> Stage:
    """The stage with the devices identified; nothing is changed yet."""
    tools = host.toolstack.on(host.transport)
    with progress.phase("identify the device"):
        parts = [
            _part(scenario, host, name, tools, store, "" if place == 0 else SECOND)
            for place, name in enumerate(scenario.devices)
        ]

    def allowed() -> tuple[Change, ...]:
        """What the verb that is performed declares; before the first one, and for a bystander, what is planned."""
        held = [Borrowed(part.device.address, part.device.original_driver) for part in parts]
        if stage.performing is None:
            return plan(scenario, held, host.name, VERBS)
        return tuple(of_verb(VERBS[stage.performing], scenario, held, host.name))

    first = parts[0]
    host.deeds = Deeds(KeptTo(host.ledger, allowed), first.collector.keep, first.record.actions.append, progress.phase)
    if len(parts) > 1:
        parts[0].record.second = parts[1].record
        parts[1].record.actions = parts[0].record.actions
    files, options = host.guest_files, scenario.end.guest
    held = parts[:1] if scenario.bystander else parts
    devices = [part.device.address for part in held]
    spec = GuestSpec(
        name=GUEST_A,
        type=scenario.guest,
        kernel=files.kernel,
        initramfs=files.initramfs,
        devices=(*devices, *([Bdf.parse(options.also_wants)] if options.also_wants else [])),
        drivers=tuple(part.device.target.driver for part in held),
        vcpus=options.vcpus,
        cmdline=options.cmdline,
        on_reboot=options.on_reboot,
        on_crash=options.on_crash,
    )
    stage = Stage(host, scenario, tools, parts, spec, progress)
    return stage


def _part(scenario: Scenario, host: Host, name: str, tools: Toolstack, store: EvidenceStore, prefix: str) -> DevicePart:
    device = Device.identify(host, tools, host.devices[name])
    # dom0's driver is only made to work where it gets the device back and both moments are compared
    dom0_traffic = device.guest_driver.in_dom0 and scenario.follow.next is Next.BACK_TO_DOM0
    record = Record(scenario, device.target.reset_effective, device.original_driver, dom0_traffic, tools.quarantines)
    collector = Collector(host.transport, device.address, store, host.memory, host.console, prefix)
    record.device, record.readings = device.address, collector.readings
    return DevicePart(device, collector, record)


def up_to_c2(stage: Stage) -> bool:
    """From dom0's driver to a guest A that works. False when the toolstack refused what it should not have."""
    stage.observe(Checkpoint.C0)
    with stage.progress.phase("bind to pciback"), stage.host.deeds.aside():
        for part in stage.parts:
            part.device.bind()
    stage.observe(Checkpoint.C1)
    if stage.scenario.bystander and not _bystander(stage):
        return False
    perform(stage, CREATE)
    created = bool(stage.guests)
    if stage.scenario.end.fate is Fate.REFUSED:
        return not created
    if created:
        stage.await_userland()
        stage.observe(Checkpoint.C2)
    return created


def _bystander(stage: Stage) -> bool:
    with stage.host.deeds.called(CREATE, Checkpoint.C2):
        created = stage.bring_up(stage.bystander_spec, "C")
    if created:
        stage.await_userland(stage.bystander)
    return created


def from_c2(stage: Stage) -> None:
    """The fault, guest A's end, what follows, and what is left of A ended under guest B."""
    end = stage.scenario.end
    if end.fate is not Fate.REFUSED:
        for step in end.fault:
            perform(stage, step)
            if step in end.refusals and stage.record.actions[-1].ok:
                return  # what should have been refused was done: guest A is not what the rest is about
        stage.observe(Checkpoint.C3)
        for step in end.end:
            perform(stage, step)
    if end.fate is not Fate.RESTARTED:
        stage.observe(Checkpoint.C4)
    for step in stage.scenario.follow.steps:
        perform(stage, step)
    if end.late and len(stage.guests) > 1 and stage.record.at(Checkpoint.C6) is not None:
        for step in end.late:
            perform(stage, step)
        stage.observe(Checkpoint.C8)
