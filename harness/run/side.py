"""One side: a scenario played once on the stock hypervisor or on a mutant, with the tries that it takes."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from threading import Event

from harness.base.errors import EmulatorFault, GuestDied, HostQuarantined, MaskallError
from harness.base.progress import Progress
from harness.evidence.store import EvidenceStore
from harness.host.host import Host, Lab, Opener
from harness.host.stacks import OWN_XEN
from harness.judge.forecast import Forecast
from harness.judge.growth import growth
from harness.judge.judgement import Judgement
from harness.model.observation import RawRef
from harness.mutants.catalogue import Mutant
from harness.mutants.plant import plant
from harness.play.run import PlayedSide, play
from harness.play.stage.stage import StopCondition
from harness.report.results import Attempt, Control, ScenarioResult, Side
from harness.run.options import CONTROL_XEN
from harness.run.plan import Plan
from harness.run.sidefile import store_side
from harness.scenario.record import Record
from harness.scenario.repeats import row_of, times_of
from harness.scenario.spec import ControlRole, Fate, Scenario

MAX_EMULATOR_RETRIES = 2
_RETRIED = (EmulatorFault, GuestDied)
RETRIED = tuple(one.__name__ for one in _RETRIED)


@dataclass(frozen=True)
class SideOutcome:
    """What one side came to. `began` and `ended` are seconds of one clock, `covered` those of them inside phases."""

    scenario: Scenario
    name: str  # of the mutant, or STOCK
    side: Side
    planted: Control | None
    began: float
    ended: float
    covered: float

    @property
    def seconds(self) -> float:
        return self.ended - self.began


@dataclass
class SidePlayer:
    """A job of the schedule: plays one side on a host of `lab`, until that is `enough`."""

    lab: Lab
    plan: Plan
    scenario: Scenario
    name: str
    progress: Progress
    enough: StopCondition | None = None
    at_c2: bool = False  # plant a mutant that does nothing before C2 then: what comes before it cannot notice it
    broken_off: Event = field(default_factory=Event)  # set when all is ended: what is seen from then on is no result
    before: Sequence[Attempt] = ()  # tries that are stored already, of a run that goes on
    left_out: str = ""  # why it is not played
    _planted: Control | None = None
    _stored: RawRef | None = None
    _began: datetime | None = None
    _seen: bool = False  # all of it, before anything was broken off

    def __call__(self) -> SideOutcome:
        """The emulator's own faults are tried again, each on a fresh host and from the scenario's beginning."""
        began = time.monotonic()
        attempts = list(self.before)
        while True:
            tried = time.monotonic()
            folder = f"raw/{self.scenario.id}/{self.name}" + (f"-retry{len(attempts)}" if attempts else "")
            # the opening may be what was at fault
            opener = None if attempts else self.plan.opener(self.scenario, self.name)
            played = self._try(EvidenceStore(self.plan.results, folder), opener)
            fault = played.error
            if not isinstance(fault, _RETRIED) or len(attempts) == MAX_EMULATOR_RETRIES:
                break
            self.progress.note(f"{fault.message}; trying again")
            attempts.append(attempt(fault.message, time.monotonic() - tried, self._stored))
        return SideOutcome(
            scenario=self.scenario,
            name=self.name,
            side=side_of(
                played.record,
                played.judgement,
                hypervisor=self.name,
                folder=folder,
                phases=self.progress.phases.seconds,
                attempts=attempts,
                stored=self._stored,
                began=self._began,
            ),
            planted=self._planted,
            began=began,
            ended=time.monotonic(),
            covered=self.progress.phases.covered,
        )

    def _try(self, evidence: EvidenceStore, opener: Opener | None) -> PlayedSide:
        """One try, its record on disk beside the raw files whatever becomes of the run."""
        began = self._began = datetime.now(UTC)
        self._planted, self._seen = None, False
        played = self._attempt(evidence, opener)
        if not self.broken_off.is_set() or (self._seen and played.error is None):
            self._stored = store_side(
                evidence,
                played.record,
                hypervisor=self.name,
                began=began,
                ended=datetime.now(UTC),
                phases=self.progress.phases.seconds,
                planted=self._planted,
            )
        return played

    def _attempt(self, evidence: EvidenceStore, opener: Opener | None) -> PlayedSide:
        scenario, plan = self.scenario, self.plan
        if self.left_out:
            return PlayedSide.skipped(scenario, self.left_out)
        try:
            with self.lab.host(scenario.devices, self.progress, keep=plan.options.keep, opener=opener) as host:
                missing = [power for power in scenario.end.needs if not host.can(power)]
                if missing:
                    return PlayedSide.skipped(scenario, f"the host has no {missing[0]}")
                if plan.options.trace and host.debugger is None:
                    return PlayedSide.skipped(scenario, "the host has no debugger to trace with")
                mutant = plan.mutants.get(self.name)
                if self.name == CONTROL_XEN:
                    told = f"the hypervisor given as control, {host.facts.get(OWN_XEN)}"
                    self._planted = Control(name=self.name, layer="hypervisor", stands_for=told, changes=())
                at_c2 = self.at_c2 and mutant is not None and mutant.from_c2 and scenario.end.fate is not Fate.REFUSED
                if mutant is not None and not at_c2:
                    host.deeds.keep = evidence.below("control").put
                    self._plant(mutant, host)
                host.toolstack = plan.options.toolstack_name()
                # never on the control, where a failure is what proves the scenario
                strict = plan.options.strict_messages and self.name == plan.tested
                return play(
                    scenario,
                    host,
                    evidence,
                    self.progress,
                    trace=plan.options.trace,
                    enough=self.enough,
                    at_c2=partial(self._plant, mutant, host) if mutant is not None and at_c2 else _nothing,
                    at_end=self._ended,
                    strict_messages=strict,
                    challenge=plan.options.challenge,
                )
        except HostQuarantined as error:  # an earlier scenario could not be undone, this one was never tried
            return PlayedSide.skipped(scenario, str(error))
        except MaskallError as error:
            return PlayedSide.failed(scenario, error)

    def _ended(self) -> None:
        self._seen = not self.broken_off.is_set()

    def _plant(self, mutant: Mutant, host: Host) -> None:
        with self.progress.phase(f"apply mutant {self.name}"):
            changes = plant(self.name, mutant, host)
        self._planted = Control(name=self.name, layer=mutant.layer, stands_for=mutant.stands_for, changes=changes)


def _nothing() -> None:
    """Of a side that has no mutant to plant at C2."""


def attempt(reason: str, seconds: float, stored: RawRef | None) -> Attempt:
    """A try that was thrown away, whose record is `stored`."""
    return Attempt(reason=reason, seconds=round(seconds, 3), raw=stored)


def side_of(
    record: Record,
    judgement: Judgement,
    *,
    hypervisor: str,
    folder: str,
    phases: Mapping[str, float],
    attempts: Sequence[Attempt],
    stored: RawRef | None,
    began: datetime | None,
    kept: datetime | None = None,
) -> Side:
    """What results say of a side, of one that was just played and of one that is judged anew."""
    return Side(
        hypervisor=hypervisor,
        judgement=judgement,
        record=record,
        leaks=growth([one.counts for one in record.rounds]),
        phases={name: round(seconds, 3) for name, seconds in phases.items()},
        attempts=tuple(attempts),
        raw_directory=folder,
        log=f"logs/{record.scenario.id}.{hypervisor}.log",
        stored=stored,
        began=began,
        kept=kept,
    )


def concluded(
    scenario: Scenario,
    sides: Sequence[Side],
    forecast: Forecast,
    role: ControlRole,
    seconds: float,
    command_to_repeat: str,
) -> ScenarioResult:
    """What results say of a scenario: the side under test, and the control if it has one."""
    devices = [str(side.record.observations[0].device) for side in sides if side.record.observations]
    return ScenarioResult.of(
        forecast,
        sides[0],
        sides[1] if len(sides) > 1 else None,
        role,
        id=scenario.id,
        title=scenario.title,
        ending=scenario.ending,
        follow_on=scenario.follow_on,
        guest=str(scenario.guest),
        device=devices[0] if devices else "not found",
        device_kind=scenario.device,
        seconds=round(seconds, 3),
        command_to_repeat=command_to_repeat,
    )


def command_to_repeat(scenario: str, planned: Iterable[str], repeat_options: str) -> str:
    """Plays a row as often as it was planned: one time of it that goes well says nothing of the others."""
    times = times_of(planned).get(row_of(scenario), 1)
    words = [scenario] if times == 1 else [row_of(scenario), "--repeat", str(times)]
    return shlex.join(["./tools/maskall", "run", *words]) + repeat_options


def wall(outcomes: Iterable[SideOutcome]) -> float:
    """Seconds inside phases as a share of the time in which any side was at work: two at once count half each."""
    sides = sorted(outcomes, key=lambda one: one.began)
    busy, until = 0.0, float("-inf")
    for one in sides:
        busy += max(0.0, one.ended - max(one.began, until))
        until = max(until, one.ended)
    summed = sum(one.seconds for one in sides)
    return sum(one.covered for one in sides) * busy / summed if summed else 0.0
