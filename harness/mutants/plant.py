"""Turns a running host into a mutant, and back. All places are found before the first one is changed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

from harness.base.errors import LabError
from harness.host.host import Host
from harness.mutants.catalogue import DeviceModelMutant, Dom0Mutant, HypervisorMutant, Mutant
from harness.mutants.change import ByteChange, Returns
from harness.mutants.code import Code, CodePlace, Replaced
from harness.mutants.devicemodel import open_device_model
from harness.mutants.text import open_dom0, open_hypervisor
from harness.transport.debugger import Debugger


def plant(name: str, mutant: Mutant, host: Host) -> tuple[Replaced, ...]:
    """Change the host. LabError, and nothing changed, when a place is not there or is there more than once."""
    with _opened(name, mutant, host) as code:
        found = [(change, _only_place(name, change, code)) for change in changes_for(name, mutant, host)]
        planted = []
        for change, place in found:
            before = code.read(place.address, change.length)
            planted.append(Replaced(place, before, _written(code, place, change.applied_to(before))))
    return tuple(planted)


def revert(name: str, mutant: Mutant, host: Host, planted: tuple[Replaced, ...]) -> None:
    """Put back what stood there, on the host that `plant` changed."""
    with _opened(name, mutant, host) as code:
        for one in reversed(planted):
            _written(code, one.place, one.before)


def changes_for(name: str, mutant: Mutant, host: Host) -> Sequence[ByteChange | Returns]:
    """What to change on this host. LabError when the mutant was made for other builds only."""
    stack = host.facts.get("stack")
    changes = mutant.changes(stack)
    if not changes:
        made_for = ", ".join(mutant.builds)
        raise LabError(f"mutant {name} does not fit {stack or 'this host'}", hint=f"it is made for {made_for}")
    return changes


def _opened(name: str, mutant: Mutant, host: Host) -> AbstractContextManager[Code]:
    changes_for(name, mutant, host)
    stack = host.facts.get("stack")
    match mutant:
        case DeviceModelMutant():
            return open_device_model(host.transport)
        case HypervisorMutant():
            return open_hypervisor(host.transport, _debugger(name, host), mutant.changes(stack))
        case Dom0Mutant():
            return open_dom0(host.transport, _debugger(name, host), mutant.changes(stack))


def _debugger(name: str, host: Host) -> Debugger:
    if host.debugger is None:
        raise LabError(f"the host has no debugger to apply mutant {name}", hint="run with --no-control")
    return host.debugger


def _only_place(name: str, change: ByteChange | Returns, code: Code) -> CodePlace:
    places = code.find(change)
    if len(places) == 1:
        return places[0]
    where = " and ".join(str(place) for place in places) or "nowhere"
    wanted = change if isinstance(change, Returns) else " ".join(change.find)
    raise LabError(
        f"mutant {name} does not fit this build: {wanted} stands {where} in {code.name_of(change)}",
        hint="it must stand there exactly once; give matching bytes with --mutants FILE",
    )


def _written(code: Code, place: CodePlace, data: bytes) -> bytes:
    code.write(place.address, data)
    after = code.read(place.address, len(data))
    if after != data:
        raise LabError(f"{place} reads {after.hex(' ')} after writing {data.hex(' ')}")
    return after
