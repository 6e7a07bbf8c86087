"""Every change that a scenario may make to a host, said beforehand from what its verbs declare. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.base.errors import HarnessBug
from harness.host import device as devices
from harness.host import guest as guests
from harness.model.address import Bdf
from harness.model.change import Change, Ledger
from harness.play.stage.verb import Verb
from harness.scenario.spec import Scenario

A, B, C = "maskall-a", "maskall-b", "maskall-c"
"""The domains of a scenario by what becomes of them: it suffers, it follows, it stands by."""


@dataclass(frozen=True)
class Borrowed:
    """A device that a scenario is played with, and dom0's driver of it (None: it has none)."""

    address: Bdf
    driver: str | None


def plan(scenario: Scenario, held: Sequence[Borrowed], host: str, verbs: Mapping[str, Verb]) -> tuple[Change, ...]:
    """The changes, each once, in the order in which a run first makes them. `held` are the scenario's devices."""
    return tuple(dict.fromkeys(_changes(scenario, held, host, verbs)))


def _changes(scenario: Scenario, held: Sequence[Borrowed], host: str, verbs: Mapping[str, Verb]) -> Iterator[Change]:
    first = held[0]
    for one in held:
        yield devices.BIND.to(device=one.address, driver=one.driver)
    if scenario.bystander:
        yield guests.CREATE.to(guest=C)
    for name in scenario.steps:
        done = verbs[name]
        for deed in done.deeds(scenario):
            yield deed.to(device=first.address, driver=first.driver, guest=done.guest, host=host)


@dataclass(frozen=True)
class KeptTo:
    """A ledger that lets through what was planned, and nothing else: what a plan leaves out cannot be done."""

    ledger: Ledger
    planned: Callable[[], Sequence[Change]]

    def about_to(self, change: Change) -> None:
        """HarnessBug, and nothing is changed, for what no verb of the scenario declares."""
        if change not in self.planned():
            raise HarnessBug(f"'{change.text}' is in no plan: the verb that does it must declare it")
        self.ledger.about_to(change)
