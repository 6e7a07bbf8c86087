"""Every change that a scenario may make to a host, said beforehand from what its verbs declare. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.base.errors import HarnessBug
from harness.host import device as devices
from harness.host import guest as guests
from harness.model.address import Bdf
from harness.model.change import Change, Ledger
from harness.play.stage.verb import Verb
from harness.scenario.spec import GUEST_C, Scenario


@dataclass(frozen=True)
class Borrowed:
    """A device that a scenario is played with, and dom0's driver of it (None: it has none)."""

    address: Bdf
    driver: str | None


def plan(scenario: Scenario, held: Sequence[Borrowed], host: str, verbs: Mapping[str, Verb]) -> tuple[Change, ...]:
    """The changes, each once, in the order in which a run first makes them. `held` are the scenario's devices."""
    return tuple(dict.fromkeys(_changes(scenario, held, host, verbs)))


def _changes(scenario: Scenario, held: Sequence[Borrowed], host: str, verbs: Mapping[str, Verb]) -> Iterator[Change]:
    for one in held:
        yield devices.BIND.to(device=one.address, driver=one.driver)
    if scenario.bystander:
        yield guests.CREATE.to(guest=GUEST_C)
    for name in scenario.steps:
        yield from of_verb(verbs[name], scenario, held[:1], host)


def of_verb(verb: Verb, scenario: Scenario, held: Sequence[Borrowed], host: str) -> Iterator[Change]:
    """What one verb declares, done to each of these devices."""
    for one in held:
        for deed in verb.deeds(scenario):
            yield deed.to(device=one.address, driver=one.driver, guest=verb.guest, host=host)


@dataclass(frozen=True)
class KeptTo:
    """A ledger that lets through what may be done now, and nothing else: what a plan leaves out cannot be done."""

    ledger: Ledger
    allowed: Callable[[], Collection[Change]]

    def about_to(self, change: Change) -> None:
        """HarnessBug, and nothing is changed, for what the verb that does it does not declare."""
        if change not in self.allowed():
            raise HarnessBug(f"'{change.text}' is in no plan: the verb that does it must declare it")
        self.ledger.about_to(change)
