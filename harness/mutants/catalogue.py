"""Mutants as data: which layer each one breaks, how on every stack, and which endings must notice."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel, model_validator

from harness.base.errors import UsageError
from harness.base.yamlfile import load_models, nearest
from harness.host.stacks import OWN_DOM0, OWN_QEMU, OWN_XEN, stacks
from harness.mutants.change import ByteChange, Returned, Returns, TextChange

ANY = "any"
"""In the place of a stack's name: every build that is not named."""


class _Mutant(BaseModel):
    """What all layers say. `builds` has the changes by stack, or those for ANY; none where it does not fit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stands_for: str
    notices: tuple[str, ...]
    from_c2: bool = Field(False, description="does nothing before guest A works: a host that is that far may get it")
    equivalent: str | None = Field(None, description="why nobody can ever see it: the proof")

    @model_validator(mode="after")
    def _seen_or_proven_invisible(self) -> _Mutant:
        if bool(self.notices) == bool(self.equivalent):
            raise ValueError("a mutant either names endings that notice it, or says why it is equivalent")
        return self


class HypervisorMutant(_Mutant):
    """Changes in Xen's running text: functions that return at once, which fits every build, or bytes of some builds."""

    layer: Literal["hypervisor"]
    returns: dict[str, Returned] = Field({}, description="functions that do nothing, and what they return instead")
    builds: dict[str, tuple[TextChange, ...]] = Field({}, description="the changes by stack, or for any")

    livepatch: tuple[TextChange, ...] = Field(
        (), description="the same as NOPs, for a lab host, where `builds` are none"
    )

    @model_validator(mode="after")
    def _changes_something(self) -> HypervisorMutant:
        if not self.returns and not self.builds:
            raise ValueError("a mutant says what it changes: returns, builds or both")
        return self

    def changes(self, stack: str | None) -> tuple[TextChange | Returns, ...]:
        """What makes a host of this stack, or of none that we know, the mutant; empty where it does not fit."""
        found = self.builds.get(stack or ANY, self.builds.get(ANY))
        if found is not None:
            return found
        return tuple(Returns(symbol, value) for symbol, value in self.returns.items())

    @property
    def by_livepatch(self) -> tuple[TextChange | Returns, ...]:
        """What makes a lab host the mutant, whatever its build."""
        return self.livepatch or self.changes(None)


class Dom0Mutant(_Mutant):
    """Changes in the running text of dom0's kernel or of one of its modules."""

    layer: Literal["dom0"]
    builds: dict[str, tuple[TextChange, ...]] = Field(min_length=1)

    def changes(self, stack: str | None) -> tuple[TextChange, ...]:
        """Those of this stack; empty where it is not made for it."""
        return self.builds.get(stack, ()) if stack else ()


class DeviceModelMutant(_Mutant):
    """Changes in the program that emulates the guests' devices: every guest created afterwards has the changed one."""

    layer: Literal["device-model"]
    builds: dict[str, tuple[ByteChange, ...]] = Field(min_length=1)

    def changes(self, stack: str | None) -> tuple[ByteChange, ...]:
        """Those of this stack; empty where it is not made for it."""
        return self.builds.get(stack, ()) if stack else ()


Mutant = Annotated[HypervisorMutant | Dom0Mutant | DeviceModelMutant, Field(discriminator="layer")]


class _Mutants(RootModel[dict[str, Mutant]]):
    pass


def load_mutants(path: Path) -> dict[str, Mutant]:
    return load_models(path, _Mutants).root


@functools.cache
def _ours() -> dict[str, Mutant]:
    return load_mutants(Path(__file__).with_name("mutants.yaml"))


def catalogue(own: Path | None = None) -> dict[str, Mutant]:
    """Ours, and the user's own file on top."""
    return _ours() | (load_mutants(own) if own else {})


def changes_on(mutant: Mutant, facts: Mapping[str, str]) -> Sequence[TextChange | ByteChange | Returns]:
    """What makes the host with these facts the mutant; empty where it does not fit: bytes are those of a stack's."""
    if "stack" not in facts and isinstance(mutant, HypervisorMutant):
        return mutant.by_livepatch
    own = OWN_XEN in facts and isinstance(mutant, HypervisorMutant)
    own |= OWN_QEMU in facts and isinstance(mutant, DeviceModelMutant)
    own |= OWN_DOM0 in facts and isinstance(mutant, Dom0Mutant)
    name = facts.get("stack")
    if name in stacks() and not isinstance(mutant, DeviceModelMutant):
        name = stacks()[name].base
    return mutant.changes(None if own else name)


def pick(name: str, known: dict[str, Mutant]) -> Mutant:
    if name not in known:
        raise UsageError(f"there is no mutant {name!r}", hint=f"{nearest(name, known)} see maskall list --mutants")
    return known[name]
