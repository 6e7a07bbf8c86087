"""The exact replay of the 2019 report: memory decoding goes off while Xen tears a domain down.

A breakpoint at the function that starts to clean the pirqs; there the device's COMMAND bit 1 is cleared behind
everybody's back. Then a breakpoint where MASKALL is being set: the stack there is the call chain.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from harness.base.deadline import Deadline
from harness.base.errors import LabError
from harness.model.address import Bdf
from harness.model.trace import Frame
from harness.transport.debugger import Debugger, StoppedMachine
from harness.xen.trace.frames import Linker, words_of
from harness.xen.trace.symbols import SymbolTable

# where a dying domain's pirqs begin to be cleaned: Xen 4.15 and newer; before, the compiler folds it into its caller
TEARDOWN = ("arch_pci_clean_pirqs", "pci_release_devices")
# where MASKALL is set because the table entry cannot be reached: the branch with the warning, if it was split off
MASKING = ("msi_set_mask_bit.cold", "msi_set_mask_bit")
_OUTERMOST = "domain_kill"
_STACK_BYTES = 4096
_COMMAND = 4
_MEMORY = 0x2
_MCFG = re.compile(r"PCI: MCFG configuration \d+: base ([0-9a-f]+) segment ([0-9a-f]{4}) buses")


@dataclass(frozen=True)
class DecodeOff:
    """What the breakpoints saw."""

    command_before: int
    command_after: int
    chain: tuple[Frame, ...]  # innermost first, from the masking function to domain_kill; empty if never reached


def ecam_base(xl_dmesg: str, device: Bdf) -> int:
    """Physical base of the device's segment.

    Accepted format: Xen's boot messages, `PCI: MCFG configuration 0: base b0000000 segment 0000 buses 00 - ff`.
    """
    for base, segment in _MCFG.findall(xl_dmesg):
        if int(segment, 16) == device.segment:
            return int(base, 16)
    raise LabError(f"Xen printed no MCFG base for segment {device.segment:04x}", hint="is it still in xl dmesg?")


def decode_off_at_teardown(
    debugger: Debugger,
    symbols: SymbolTable,
    device: Bdf,
    *,
    ecam: int,
    identity: str,
    begin: Callable[[], None],
    deadline: Deadline,
) -> DecodeOff:
    """Arm the breakpoint, `begin` the teardown, clear COMMAND bit 1 at the breakpoint, watch MASKALL being set.

    LabError when the address in ECAM is not the device (by `identity`) or the teardown never comes by.
    """
    function = ecam + device.ecam_offset
    teardown = _first_of(TEARDOWN, symbols)
    with debugger.attach() as machine:
        check_identity(machine, function, identity)
        machine.break_at(teardown)
        machine.go()
        begin()
        if machine.wait(deadline) is None:
            raise LabError(f"the teardown did not come by {TEARDOWN[0]}", hint="was the domain destroyed before?")
        before = int.from_bytes(machine.read_physical(function + _COMMAND, 2), "little")
        machine.write_physical(function + _COMMAND, (before & ~_MEMORY).to_bytes(2, "little"))
        after = int.from_bytes(machine.read_physical(function + _COMMAND, 2), "little")
        machine.clear(teardown)
        machine.break_at(_first_of(MASKING, symbols))
        machine.go()
        hit = machine.wait(deadline.sooner(10))
        chain: tuple[Frame, ...] = ()
        if hit is not None:
            at = hit.registers
            stack = machine.read(at.rsp, min(_STACK_BYTES, 0x1000 - at.rsp % 0x1000))
            chain = _chain_to_kill(at.rip, words_of(stack), symbols, machine)
    return DecodeOff(before, after, chain)


def check_identity(machine: StoppedMachine, function: int, identity: str) -> None:
    """LabError when the device at `function`, an address in ECAM, is not the one of this vendor:device."""
    raw = machine.read_physical(function, 4)
    seen = f"{int.from_bytes(raw[:2], 'little'):04x}:{int.from_bytes(raw[2:], 'little'):04x}"
    if seen != identity:
        raise LabError(f"ECAM at {function:#x} shows {seen}, not {identity}")


def _first_of(names: tuple[str, ...], symbols: SymbolTable) -> int:
    """The address of the first of these functions that this Xen has."""
    for name in names[:-1]:
        try:
            return symbols.address_of(name)
        except LabError:
            continue
    return symbols.address_of(names[-1])


def _chain_to_kill(rip: int, words: list[int], symbols: SymbolTable, machine: StoppedMachine) -> tuple[Frame, ...]:
    """The frames from the masking function out to domain_kill; what lies further out is the hypercall's entry.

    When there is no such chain (a tail call does it), all frames are shown.
    """
    linker = Linker(symbols, machine.read)
    frames = _until_outermost(linker.frames(rip, words))
    chain = linker.linked(frames)
    return chain if chain[-1] == frames[-1] and chain[-1].symbol == _OUTERMOST else tuple(frames)


def _until_outermost(frames: list[Frame]) -> list[Frame]:
    names = [frame.symbol for frame in frames]
    return frames[: names.index(_OUTERMOST) + 1] if _OUTERMOST in names else frames
