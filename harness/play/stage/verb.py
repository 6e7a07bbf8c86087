"""What a verb is: a step of a scenario that declares itself, where it is written, by `@verb`.

The catalogue's reader knows the names from here, the player its function, the plan of a run what it changes and how
that is undone. No other list of verbs exists.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType, ModuleType

from harness.base.errors import HarnessBug
from harness.model.change import Deed
from harness.model.observation import Checkpoint
from harness.play.stage.stage import Stage
from harness.scenario.spec import GUEST_A, Scenario

Deeds = tuple[Deed, ...] | Callable[[Scenario], tuple[Deed, ...]]


@dataclass(frozen=True)
class Verb:
    """One verb, as its function declares it."""

    name: str
    play: Callable[[Stage], None]
    at: Checkpoint | None
    """The checkpoint that its action leads to; None: C4 while guest A's end is going on, C5 afterwards."""
    changes: Deeds
    guest: str
    """The domain that its deeds are done to."""

    @property
    def meaning(self) -> str:
        """The first line of its function's docstring."""
        return (self.play.__doc__ or "").strip().partition("\n")[0]

    def deeds(self, scenario: Scenario) -> tuple[Deed, ...]:
        """All that it may change in this scenario."""
        return self.changes(scenario) if callable(self.changes) else self.changes


_declared: dict[str, Verb] = {}


def verb(
    name: str, *, at: Checkpoint | None, changes: Deed | Deeds = (), guest: str = GUEST_A
) -> Callable[[Callable[[Stage], None]], Callable[[Stage], None]]:
    """Declares a function as the verb `name`. A change that it makes and has not declared stops the run before it.

    `changes`: the deeds of the nouns (harness/host) that it does, or a function that says so for a scenario.
    """

    def declare(function: Callable[[Stage], None]) -> Callable[[Stage], None]:
        if name in _declared:
            raise HarnessBug(f"the verb {name} is declared twice: {_declared[name].play}, {function}")
        if not function.__doc__:
            raise HarnessBug(f"the verb {name} does not say what it does")
        _declared[name] = Verb(name, function, at, (changes,) if isinstance(changes, Deed) else changes, guest)
        return function

    return declare


def perform(stage: Stage, name: str) -> None:
    """One step of the scenario; its deeds are noted under the verb's name."""
    verb, before = _declared[name], stage.performing
    stage.performing = name
    try:
        with stage.host.deeds.called(name, verb.at or stage.next_checkpoint):
            verb.play(stage)
    finally:
        stage.performing = before


def declared(folder: ModuleType) -> Mapping[str, Verb]:
    """The verbs of every file in a folder, by name."""
    for module in pkgutil.iter_modules(folder.__path__):
        importlib.import_module(f"{folder.__name__}.{module.name}")
    return MappingProxyType(_declared)
