"""Turns a running host into a mutant, and back. All places are found before the first one is changed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

from harness.base.errors import LabError
from harness.host.host import Host, Rewritten
from harness.host.stacks import OWN_XEN
from harness.mutants.catalogue import DeviceModelMutant, Dom0Mutant, HypervisorMutant, Mutant, changes_on
from harness.mutants.change import ByteChange, Returns, TextChange
from harness.mutants.code import Code, CodePlace, Replaced
from harness.mutants.devicemodel import open_device_model
from harness.mutants.hypervisor import build_id, symbols
from harness.mutants.livepatch import Replacement
from harness.mutants.livepatching import NOP, Livepatches
from harness.mutants.text import open_dom0, open_hypervisor
from harness.transport.debugger import Debugger
from harness.xen.keys.debugkeys import parse_livepatches


def plant(name: str, mutant: Mutant, host: Host) -> tuple[Replaced, ...]:
    """Change the host. LabError, and nothing changed, when a place is not there or is there more than once.

    SafetyRefusal on a host whose hypervisor may not be livepatched, where there is no debugger.
    """
    if host.debugger is None and host.before_livepatch is not None:
        return _livepatched(name, mutant, host)
    with _opened(name, mutant, host) as code:
        found = [(change, _only_place(name, change, code)) for change in changes_for(name, mutant, host)]
        planted = []
        for change, place in found:
            before = code.read(place.address, change.length)
            planted.append(Replaced(place, before, _written(code, place, change.applied_to(before))))
    if isinstance(mutant, HypervisorMutant):
        host.rewritten = tuple(Rewritten(one.place.address, one.before, one.after) for one in planted)
    return tuple(planted)


def _livepatched(name: str, mutant: Mutant, host: Host) -> tuple[Replaced, ...]:
    changes = [one for one in changes_for(name, mutant, host) if isinstance(one, Returns | TextChange)]
    if host.before_livepatch is None or not changes or not isinstance(mutant, HypervisorMutant):
        raise LabError(f"mutant {name} cannot be made by livepatch: it is not of the hypervisor's text")
    host.before_livepatch(name)
    made = Livepatches(host.transport, host.deeds.keep).apply(changes)
    replacements = [one.replacement for one in made]
    host.rewritten = tuple(
        Rewritten(one.address, one.expected, one.code or bytes([NOP]) * one.nops) for one in replacements
    )
    said = host.dump("x")
    host.deeds.keep("livepatch_applied.txt", said.encode())
    shown = {(one.name, one.old, one.old_size, one.new_size, bool(one.new)) for one in parse_livepatches(said)}
    for one in replacements:
        if (one.symbol, one.address, one.size, len(one.code) or one.nops, bool(one.code)) not in shown:
            raise LabError(f"debug key x does not show {one.symbol} livepatched at {one.address:#x}: {sorted(shown)}")
    return tuple(one.replaced for one in made)


def stock_again(host: Host) -> None:
    """After the livepatch of `plant` was taken away: Xen shows none, and says itself that its text is the file's.

    What it shows is kept as evidence. LabError when its text is another.
    """
    table = symbols(host.transport)
    wanted = []
    for one in host.rewritten:
        symbol, _ = table.lookup(one.address) or ("its text", 0)
        wanted.append(Replacement(symbol, one.address, len(one.before), one.before))
    Livepatches(host.transport, host.deeds.keep).assert_stock(wanted, build_id(host.transport))
    said = host.dump("x")
    host.deeds.keep("livepatch_taken_away.txt", said.encode())
    if left := parse_livepatches(said):
        raise LabError(f"debug key x still shows livepatch {left[0].livepatch}")
    host.rewritten = ()


def revert(name: str, mutant: Mutant, host: Host, planted: tuple[Replaced, ...]) -> None:
    """Put back what stood there, on the host that `plant` changed."""
    with _opened(name, mutant, host) as code:
        for one in reversed(planted):
            _written(code, one.place, one.before)
    host.rewritten = ()


def changes_for(name: str, mutant: Mutant, host: Host) -> Sequence[ByteChange | Returns]:
    """What to change on this host. LabError when the mutant was made for other builds only."""
    changes = changes_on(mutant, host.facts)
    if not changes:
        where = "a hypervisor of your own" if OWN_XEN in host.facts else host.facts.get("stack") or "this host"
        raise LabError(f"mutant {name} does not fit {where}", hint=f"it is made for {', '.join(mutant.builds)}")
    return changes


def _opened(name: str, mutant: Mutant, host: Host) -> AbstractContextManager[Code]:
    changes = changes_for(name, mutant, host)
    match mutant:
        case DeviceModelMutant():
            return open_device_model(host.transport)
        case HypervisorMutant():
            return open_hypervisor(host.transport, _debugger(name, host), _of_text(changes))
        case Dom0Mutant():
            return open_dom0(
                host.transport, _debugger(name, host), [one for one in changes if isinstance(one, TextChange)]
            )


def _of_text(changes: Sequence[ByteChange | Returns]) -> list[TextChange | Returns]:
    return [one for one in changes if isinstance(one, TextChange | Returns)]


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
