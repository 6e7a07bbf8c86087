"""A run: every scenario on the stock hypervisor and, where it promises to see the defect, on the known-bad control."""

from __future__ import annotations

import importlib.metadata
import shlex
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property

from harness.base.errors import EmulatorFault, GuestDied, HostQuarantined, MaskallError
from harness.base.progress import Progress
from harness.evidence.store import EvidenceStore
from harness.host.host import Host, Lab, Opener
from harness.judge.forecast import Forecast, foresee
from harness.mutants.catalogue import Mutant
from harness.mutants.plant import Planted, plant
from harness.play.run import Played, play
from harness.play.stage.stage import Enough
from harness.report import convert, convert_side, junit
from harness.report.results import NESTED_LABEL, Control, Replaced, RunResult, ScenarioResult
from harness.report.results import Host as HostSeen
from harness.report.seen import Attempt, Side
from harness.report.sidelog import side_log
from harness.run import store
from harness.run.plan import STOCK, Plan
from harness.run.slots import Slots
from harness.scenario.spec import Power, Scenario
from harness.xen.keys.fixes import registry

MAX_EMULATOR_RETRIES = 2


@dataclass
class Session:
    """One run over one lab; `run` may be called for any of the plan's scenarios, by several threads, `finish` once."""

    lab: Lab
    plan: Plan
    progress: Progress
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    finished: list[ScenarioResult] = field(default_factory=list)
    broken_off: bool = False  # what ends from now on was ended by us, and is no result
    _addresses: dict[str, str] = field(default_factory=dict)
    controls: dict[str, Control] = field(default_factory=dict)  # the mutants that were planted, by name
    _begun: float = field(default_factory=time.monotonic)
    _covered: float = 0.0  # seconds in phases, of all sides
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def run_id(self) -> str:
        return self.plan.results.name

    @cached_property
    def _slots(self) -> Slots:
        return Slots(self.plan.workers)

    @cached_property
    def _facts(self) -> dict[str, str]:
        return {**self.lab.facts(), "toolstack": str(self.plan.toolstack)}

    def forecast(self, scenario: Scenario) -> Forecast:
        """What the hypervisor under test is expected to come to, judged by the host's facts as if it were stock."""
        return foresee(scenario, self._facts, registry(), self.plan.issues)

    def run(self, scenario: Scenario) -> ScenarioResult:
        """Play one scenario on each side, at once where there are hosts for both, and conclude."""
        names = self.plan.hypervisors(scenario)
        labels = dict(zip(names, (names[0], "control"), strict=False))
        began: list[float] = []

        def one(name: str) -> Side:
            progress = self.progress.side(f"{scenario.id} {labels[name]}")
            with self._slots.taken():
                began.append(time.monotonic())
                side = self.side(scenario, name, progress)
            with self._lock:
                self._covered += progress.phases.covered
            return side

        with ThreadPoolExecutor(min(len(names), self.plan.workers)) as pool:
            try:
                sides = list(pool.map(one, names))
            except BaseException:  # Ctrl-C above all: leaving the pool waits for its threads
                self.lab.abort()
                raise
        result = convert.scenario_result(
            id=scenario.id,
            title=scenario.title,
            ending=scenario.ending,
            follow_on=scenario.follow_on,
            guest=str(scenario.guest),
            device=self._addresses.get(scenario.id, "not found"),
            device_kind=scenario.device,
            forecast=self.forecast(scenario),
            stock=sides[0],
            control=sides[1] if len(sides) > 1 else None,
            control_role=self.plan.role(scenario),
            seconds=time.monotonic() - min(began),
            command_to_repeat=shlex.join(["./tools/maskall", "run", scenario.id]) + self.plan.repeat_options,
        )
        with self._lock:
            if not self.broken_off:
                self.finished.append(result)
        return result

    def side(self, scenario: Scenario, name: str, progress: Progress, *, enough: Enough | None = None) -> Side:
        """Play one scenario once on the stock hypervisor or on the mutant `name`, until that is `enough`.

        The emulator's faults are retried.
        """
        attempts: list[Attempt] = []
        while True:
            began = time.monotonic()
            folder = f"raw/{scenario.id}/{name}" + (f"-retry{len(attempts)}" if attempts else "")
            evidence = EvidenceStore(self.plan.results, folder)
            opener = None if attempts else self.plan.opener(scenario, name)  # the opening may be what was at fault
            played = self._attempt(scenario, name, evidence, progress, enough, opener)
            fault = played.error
            if not isinstance(fault, EmulatorFault | GuestDied) or len(attempts) == MAX_EMULATOR_RETRIES:
                return self._stored_side(played, scenario, name, folder, progress, attempts)
            progress.note(f"{fault.message}; trying again")
            attempts.append(convert_side.attempt(fault.message, time.monotonic() - began))

    def _attempt(
        self,
        scenario: Scenario,
        name: str,
        evidence: EvidenceStore,
        progress: Progress,
        enough: Enough | None,
        opener: Opener | None,
    ) -> Played:
        try:
            with self.lab.host(scenario.devices, progress, keep=self.plan.keep, opener=opener) as host:
                missing = [power for power in scenario.end.needs if not _has(host, power)]
                if missing:
                    return Played.skipped(scenario, f"the host has no {missing[0]}")
                if self.plan.trace and host.debugger is None:
                    return Played.skipped(scenario, "the host has no debugger to trace with")
                if name != STOCK:
                    with progress.phase(f"apply mutant {name}"):
                        self._mutate(host, name)
                host.toolstack = self.plan.toolstack
                # never on the control, where a failure is what proves the scenario
                strict = self.plan.strict_messages and name == (self.plan.under_test or STOCK)
                return play(
                    scenario,
                    host,
                    evidence,
                    progress,
                    trace=self.plan.trace,
                    enough=enough,
                    strict_messages=strict,
                )
        except HostQuarantined as error:  # an earlier scenario could not be undone, this one was never tried
            return Played.skipped(scenario, str(error))
        except MaskallError as error:
            return Played.failed(scenario, error)

    def _mutate(self, host: Host, name: str) -> None:
        mutant = self.plan.mutants[name]
        self.controls[name] = _control(name, mutant, plant(name, mutant, host))

    def _stored_side(
        self,
        played: Played,
        scenario: Scenario,
        name: str,
        folder: str,
        progress: Progress,
        attempts: list[Attempt],
    ) -> Side:
        record = played.record
        if record.observations:
            self._addresses[scenario.id] = str(record.observations[0].device)
        log = f"logs/{scenario.id}.{name}.log"
        side = convert_side.side(
            hypervisor=name,
            judgement=played.judgement,
            observations=record.observations,
            raw_directory=folder,
            log=log,
            phases=progress.phases.seconds,
            call_chain=[convert_side.frame(one.address, one.symbol, one.offset) for one in reversed(record.call_chain)],
            call_chain_raw=record.call_chain_raw,
            trace=record.trace,
            trace_raw=record.trace_raw,
            attempts=attempts,
            rounds=record.rounds,
            opened=record.opened,
            said=record.messages,
        )
        store.write_atomically(self.plan.results / log, side_log(side).encode())
        return side

    @property
    def host(self) -> HostSeen:
        """What results say about the host they come from."""
        facts = self._facts
        return HostSeen(
            name=facts.get("host", "nested"),
            nested="nested" in facts,
            label=NESTED_LABEL if "nested" in facts else "",
            facts=facts,
            packages=self.lab.packages(),
        )

    def finish(self) -> RunResult:
        """Write results.json and junit.xml."""
        wall = time.monotonic() - self._begun
        order = [row.id for row in self.plan.scenarios]
        result = convert.run_result(
            tool_version=importlib.metadata.version("maskall"),
            run_id=self.run_id,
            started=self.started,
            ended=datetime.now(UTC),
            host=self.host,
            controls=self.controls.values(),
            scenarios=sorted(self.finished, key=lambda result: order.index(result.id)),
            overhead_seconds=max(0.0, wall - self._slots.wall(self._covered)),
        )
        store.dump(result, self.plan.results / "results.json")
        store.write_atomically(self.plan.results / "junit.xml", junit.junit(result))
        return result


def _has(host: Host, power: Power) -> bool:
    return {Power.DEBUGGER: host.debugger, Power.RESET: host.reset}[power] is not None


def _control(name: str, mutant: Mutant, planted: Iterable[Planted]) -> Control:
    changes = (
        Replaced(
            place=str(one.place),
            address=f"{one.place.address:#x}",
            original=one.before.hex(" "),
            replacement=one.after.hex(" "),
        )
        for one in planted
    )
    return Control(name=name, layer=mutant.layer, stands_for=mutant.stands_for, changes=tuple(changes))
