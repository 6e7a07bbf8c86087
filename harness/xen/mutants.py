"""Known-bad hypervisors: what they change, and changing a running Xen into one of them."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, RootModel, model_validator

from harness.errors import LabError, UsageError
from harness.lab.debugger import Debugger, StoppedMachine
from harness.xen.symbols import SymbolTable
from harness.yamlfile import load_models


def _pairs(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError('bytes are written as "31 c0 c3"')
    return tuple(value.split())


Byte = Annotated[str, Field(pattern=r"^[0-9a-f]{2}$")]
AnyByte = Annotated[str, Field(pattern=r"^([0-9a-f]{2}|\?\?)$")]
Bytes = Annotated[tuple[Byte, ...], BeforeValidator(_pairs), Field(min_length=1)]
Pattern = Annotated[tuple[AnyByte, ...], BeforeValidator(_pairs), Field(min_length=1)]


class Mutant(BaseModel):
    """One entry of mutants.yaml. Bytes are pairs of hexadecimal digits; "??" in `original` matches any."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    symbol: str
    offset: int = Field(0, ge=0)
    original: Pattern
    also: tuple[Pattern, ...] = ()  # what stands there in other builds of Xen, as long as `original`
    replacement: Bytes
    stands_for: str
    notices: tuple[str, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _overwrites_only_what_was_compared(self) -> Mutant:
        if len(self.replacement) > len(self.original):
            raise ValueError("the replacement is longer than the original, so it would overwrite unknown bytes")
        if any(len(other) != len(self.original) for other in self.also):
            raise ValueError("the bytes of other builds under 'also' must be as many as the original's")
        return self

    def matches(self, data: bytes) -> bool:
        """Whether these are bytes that the mutant expects to find, in one of the builds it knows."""
        return len(data) == len(self.original) and any(
            all(wanted in ("??", f"{byte:02x}") for wanted, byte in zip(pattern, data, strict=True))
            for pattern in (self.original, *self.also)
        )

    @property
    def new_bytes(self) -> bytes:
        return bytes.fromhex("".join(self.replacement))


class _Mutants(RootModel[dict[str, Mutant]]):
    pass


def load_mutants(path: Path) -> dict[str, Mutant]:
    return load_models(path, _Mutants).root


def catalogue(own: Path | None = None) -> dict[str, Mutant]:
    """Ours, and the user's own file on top."""
    return load_mutants(Path(__file__).with_name("mutants.yaml")) | (load_mutants(own) if own else {})


def pick(name: str, known: dict[str, Mutant]) -> Mutant:
    if name not in known:
        near = difflib.get_close_matches(name, known, 1, 0)
        raise UsageError(f"there is no mutant {name!r}", hint=f"did you mean {near[0]}? see maskall list --mutants")
    return known[name]


@dataclass(frozen=True)
class AppliedMutant:
    """What was changed in a running hypervisor, as read back."""

    name: str
    mutant: Mutant
    address: int
    before: bytes
    after: bytes


def apply(name: str, mutant: Mutant, symbols: SymbolTable, debugger: Debugger) -> AppliedMutant:
    """Change the running hypervisor. LabError, and nothing changed, when other bytes stand there than expected."""
    address = symbols.address_of(mutant.symbol) + mutant.offset
    with debugger.attach() as machine:
        before = machine.read(address, len(mutant.original))
        if not mutant.matches(before):
            fitting = " or ".join(" ".join(pattern) for pattern in (mutant.original, *mutant.also))
            raise LabError(
                f"mutant {name} does not fit this hypervisor: at {mutant.symbol}+{mutant.offset:#x} stands "
                f"{before.hex(' ')}, expected {fitting}",
                hint="another build of Xen; give matching bytes with --mutants FILE",
            )
        after = _write(machine, address, mutant.new_bytes)
    return AppliedMutant(name, mutant, address, before, after)


def _write(machine: StoppedMachine, address: int, data: bytes) -> bytes:
    machine.write(address, data)
    after = machine.read(address, len(data))
    if after != data:
        raise LabError(f"the hypervisor's text at {address:#x} reads {after.hex(' ')} after writing {data.hex(' ')}")
    return after
