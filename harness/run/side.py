"""One side: a scenario played once on the stock hypervisor or on a mutant, with the tries that it takes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.base.errors import EmulatorFault, GuestDied, HostQuarantined, MaskallError
from harness.base.progress import Progress
from harness.evidence.store import EvidenceStore
from harness.host.host import Host, Lab, Opener
from harness.mutants.plant import plant
from harness.play.run import Played, play
from harness.play.stage.stage import Enough
from harness.report.results import Attempt, Control, Side
from harness.run.plan import STOCK, Plan
from harness.scenario.spec import Power, Scenario
from harness.xen.keys.leaks import growth

MAX_EMULATOR_RETRIES = 2


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
    enough: Enough | None = None
    _planted: Control | None = None

    def __call__(self) -> SideOutcome:
        """The emulator's own faults are tried again, each on a fresh host and from the scenario's beginning."""
        began = time.monotonic()
        attempts: list[Attempt] = []
        while True:
            tried = time.monotonic()
            folder = f"raw/{self.scenario.id}/{self.name}" + (f"-retry{len(attempts)}" if attempts else "")
            # the opening may be what was at fault
            opener = None if attempts else self.plan.opener(self.scenario, self.name)
            played = self._attempt(EvidenceStore(self.plan.results, folder), opener)
            fault = played.error
            if not isinstance(fault, EmulatorFault | GuestDied) or len(attempts) == MAX_EMULATOR_RETRIES:
                break
            self.progress.note(f"{fault.message}; trying again")
            attempts.append(Attempt(reason=fault.message, seconds=round(time.monotonic() - tried, 3)))
        return SideOutcome(
            scenario=self.scenario,
            name=self.name,
            side=self._side(played, folder, attempts),
            planted=self._planted,
            began=began,
            ended=time.monotonic(),
            covered=self.progress.phases.covered,
        )

    def _attempt(self, evidence: EvidenceStore, opener: Opener | None) -> Played:
        scenario, plan = self.scenario, self.plan
        try:
            with self.lab.host(scenario.devices, self.progress, keep=plan.options.keep, opener=opener) as host:
                missing = [power for power in scenario.end.needs if not _has(host, power)]
                if missing:
                    return Played.skipped(scenario, f"the host has no {missing[0]}")
                if plan.options.trace and host.debugger is None:
                    return Played.skipped(scenario, "the host has no debugger to trace with")
                if self.name != STOCK:
                    with self.progress.phase(f"apply mutant {self.name}"):
                        mutant = plan.mutants[self.name]
                        changes = plant(self.name, mutant, host)
                        self._planted = Control(
                            name=self.name, layer=mutant.layer, stands_for=mutant.stands_for, changes=changes
                        )
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
                    strict_messages=strict,
                )
        except HostQuarantined as error:  # an earlier scenario could not be undone, this one was never tried
            return Played.skipped(scenario, str(error))
        except MaskallError as error:
            return Played.failed(scenario, error)

    def _side(self, played: Played, folder: str, attempts: Sequence[Attempt]) -> Side:
        phases = self.progress.phases.seconds
        return Side(
            hypervisor=self.name,
            judgement=played.judgement,
            record=played.record,
            leaks=growth([one.counts for one in played.record.rounds]),
            phases={name: round(seconds, 3) for name, seconds in phases.items()},
            attempts=tuple(attempts),
            raw_directory=folder,
            log=f"logs/{self.scenario.id}.{self.name}.log",
        )


def wall(outcomes: Iterable[SideOutcome]) -> float:
    """Seconds inside phases as a share of the time in which any side was at work: two at once count half each."""
    sides = sorted(outcomes, key=lambda one: one.began)
    busy, until = 0.0, float("-inf")
    for one in sides:
        busy += max(0.0, one.ended - max(one.began, until))
        until = max(until, one.ended)
    summed = sum(one.seconds for one in sides)
    return sum(one.covered for one in sides) * busy / summed if summed else 0.0


def _has(host: Host, power: Power) -> bool:
    return {Power.DEBUGGER: host.debugger, Power.RESET: host.reset_button}[power] is not None
