"""From what a device is to where it is. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from harness.base.errors import SafetyRefusal
from harness.base.text import inert
from harness.lab.safety.facts.facts import Function, HostFacts
from harness.model.address import Bdf
from harness.model.identity import Identity

_NOTHING: Mapping[tuple[str, ...], Bdf] = MappingProxyType({})
_LENT_DRIVERS = {"pciback", "xen-pciback", "vfio-pci"}


def resolve(facts: HostFacts, identity: Identity, known: Mapping[tuple[str, ...], Bdf] = _NOTHING) -> Bdf:
    """The address of the one function that is `identity`. SafetyRefusal unless exactly one is.

    `known`: where devices were when our open journal took them from their driver, for marks that only a driver tells.
    """
    alike = [function for function in facts.functions.values() if _same_kind(function, identity)]
    found = [function for function in alike if _marked(function, identity)]
    if len(found) == 1:
        return found[0].bdf
    if not found and (identity.mac or identity.serial):
        for function in alike:
            if function.bdf == known.get(identity.mark) and function.driver in (None, *_LENT_DRIVERS):
                return function.bdf
    nearest = found or alike
    shown = "; ".join(f"{function.bdf} has {inert(function.marks)}" for function in nearest[:4])
    count = "several functions are" if found else "no function is"
    kind = identity.id + (f" of board {identity.subsystem}" if identity.subsystem else "")
    hidden = where_hidden(alike) if not found and (identity.mac or identity.serial) else ""
    raise SafetyRefusal(
        f"{count} {kind} with {' '.join(identity.mark[:2])}" + (f": {hidden}" if hidden else ""),
        hint=shown or f"nothing on this host is {kind}",
    )


def where_hidden(functions: list[Function]) -> str:
    """What to say of functions whose driver lets nobody see a MAC or a drive's serial number; empty without any."""
    silent = [one for one in functions if one.driver in _LENT_DRIVERS and one.base in ("01", "02")]
    if not silent:
        return ""
    shown = ", ".join(f"{one.bdf} has path {one.path}" for one in silent[:4])
    return f"{silent[0].driver} hides serial numbers and MACs of what it has; name it by path: {shown}"


def _same_kind(function: Function, identity: Identity) -> bool:
    return function.id == identity.id and identity.subsystem in (None, function.subsystem)


def _marked(function: Function, identity: Identity) -> bool:
    if identity.serial is not None:
        return identity.serial in function.serials
    if identity.mac is not None:
        return identity.mac in function.macs
    return identity.slot == function.slot if identity.slot is not None else identity.path == function.path
