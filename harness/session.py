"""A run: every scenario on the stock hypervisor and, where it promises to see the defect, on the known-bad control."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import shlex
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Protocol

from harness.errors import EmulatorFault, GuestDied, HostQuarantined, MaskallError
from harness.evidence.store import EvidenceStore
from harness.lab.host import Host, Opener
from harness.mutants.catalogue import Mutant
from harness.mutants.plant import Planted, plant
from harness.report import convert, convert_side, junit, messages, store
from harness.report.progress import Progress
from harness.report.results import NESTED_LABEL, Control, Replaced, RunResult, ScenarioResult
from harness.report.results import Host as HostSeen
from harness.report.rounds import history
from harness.report.seen import Attempt, Side
from harness.report.story import story
from harness.report.timeline import timeline
from harness.scenario.forecast import Forecast, foresee
from harness.scenario.known import KnownIssue
from harness.scenario.opened import code_digest
from harness.scenario.opening import opening_key
from harness.scenario.run import Played, play, play_opening
from harness.scenario.spec import Power, Scenario
from harness.scenario.stage import Enough
from harness.scenario.verdict import ControlRole
from harness.slots import Slots
from harness.xen.fixes import registry
from harness.xen.toolstacks import ToolstackName

STOCK = "stock"
MAX_EMULATOR_RETRIES = 2


class Lab(Protocol):
    """Where hosts come from. Each call gives a host in its original state."""

    def host(
        self, devices: Sequence[str], progress: Progress, *, keep: bool = False, opener: Opener | None = None
    ) -> AbstractContextManager[Host]:
        """With an `opener` the host may, but need not, come with it played (`Host.opened`)."""

    def facts(self) -> dict[str, str]: ...

    def packages(self) -> dict[str, str]: ...

    def abort(self) -> None:
        """End all hosts at once, so that threads which work with them come back."""

    def kept(self) -> list[Path]:
        """Run directories of the hosts that were left running, by any run."""

    def close(self) -> None:
        """Let go of whatever was held for the whole run. Safe to call twice."""


@dataclass(frozen=True)
class Plan:
    """What a run shall do. `control` and `under_test` name a mutant; None is no control, and the stock hypervisor."""

    scenarios: tuple[Scenario, ...]
    mutants: dict[str, Mutant]
    control: str | None
    under_test: str | None
    results: Path
    keep: bool = False
    cold: bool = False  # every scenario from its beginning
    workers: int = 1  # hosts at a time
    issues: dict[str, KnownIssue] = field(default_factory=dict)
    trace: bool = False
    toolstack: ToolstackName = ToolstackName.XL
    strict_messages: bool = False  # a line of Xen or dom0 that no rule describes fails the side under test
    repeat_options: str = ""  # what `maskall run` needs besides the scenario's id to do the same again

    def hypervisors(self, scenario: Scenario) -> list[str]:
        """What the scenario is played on: the one under test, and the control where it promises something."""
        tested = self.under_test or STOCK
        return [tested] if self.role(scenario) is ControlRole.NONE else [tested, str(self.control)]

    def opening(self, scenario: Scenario, name: str) -> str | None:
        """The opening that `scenario` may go on from on this hypervisor; None: it is played from its beginning."""
        if self.cold or self.trace or (name != STOCK and not self.mutants[name].from_c2):
            return None
        if self.toolstack is not ToolstackName.XL:  # libvirt's connection would not outlive the freeze
            return None
        return opening_key(scenario)

    def role(self, scenario: Scenario) -> ControlRole:
        if self.control is None:
            return ControlRole.NONE
        return scenario.control_role(self.mutants[self.control].notices)


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
            opener = None if attempts else self._opener(scenario, name)  # the opening may be what was at fault
            played = self._attempt(scenario, name, evidence, progress, enough, opener)
            fault = played.error
            if not isinstance(fault, EmulatorFault | GuestDied) or len(attempts) == MAX_EMULATOR_RETRIES:
                return self._stored_side(played, scenario, name, folder, progress, attempts)
            progress.note(f"{fault.message}; trying again")
            attempts.append(convert_side.attempt(fault.message, time.monotonic() - began))

    def _opener(self, scenario: Scenario, name: str) -> Opener | None:
        key = self.plan.opening(scenario, name)
        if key is None:
            return None
        digest = hashlib.sha256(f"{code_digest()}\n{key}".encode()).hexdigest()
        return Opener(digest, self._wanted[key], functools.partial(play_opening, scenario))

    @cached_property
    def _wanted(self) -> Counter[str | None]:
        """How many hosts of this run may begin with each opening."""
        return Counter(
            self.plan.opening(scenario, name)
            for scenario in self.plan.scenarios
            for name in self.plan.hypervisors(scenario)
        )

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
        store.write_atomically(self.plan.results / log, _log(side).encode())
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


def _log(side: Side) -> str:
    """The log of one side: verdict, timeline, every check, what Xen and dom0 said, the trace if any, every phase."""
    checks = "".join(
        f"{check.outcome:9} {check.checkpoint} {check.view:9} {check.subject}: expected {check.expected}, "
        f"seen {check.seen}\n"
        for check in side.checks
    )
    opened = f"C0 to C2 were played at {side.opened:%F %T %Z}, before the host was frozen\n" if side.opened else ""
    phases = "".join(f"{seconds:8.2f} s  {name}\n" for name, seconds in side.phases.items())
    said = "\n".join(messages.of_side(side.messages))
    seen = (timeline(side.timeline), history(side), checks, said, story(side.trace), phases)
    parts = (f"{side.hypervisor}: {side.verdict}: {side.reason}", opened, *seen)
    return "\n\n".join(part.rstrip("\n") for part in parts if part) + "\n"
