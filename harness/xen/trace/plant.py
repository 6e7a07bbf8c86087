"""Firmware that leaves MASKALL set over a warm reboot, played by a debugger.

Between the reset and Xen's first look at a device only a breakpoint can tell when its config space is there: at
`pdev_msi_init` Xen has just found one, and reads its message control next (913751d7af clears what it finds there).
Xen 4.14 has no such function; there `alloc_pdev` finds devices, and does not read their message control.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from harness.base.deadline import Deadline
from harness.base.errors import LabError
from harness.model.config import MsixControl
from harness.transport.debugger import Debugger
from harness.xen.trace.callchain import check_identity
from harness.xen.trace.symbols import SymbolTable

_PLACES = ("pdev_msi_init", "alloc_pdev")
_MASKALL = 0x4000


@dataclass(frozen=True)
class Planted:
    """Message control as it was found, and as it reads after MASKALL was set."""

    before: int
    after: int

    @property
    def took(self) -> bool:
        return MsixControl(self.after).masked


def plant_maskall(
    debugger: Debugger,
    symbols: SymbolTable,
    function: int,
    *,
    identity: str,
    msix_offset: int,
    reset: Callable[[], None],
    text: Mapping[int, tuple[bytes, bytes]],
    deadline: Deadline,
) -> Planted:
    """`reset` the host and set MASKALL of the device at `function` (its address in ECAM) before Xen looks at it.

    Symbols are those of the Xen that ran before, which must be the one that boots. A known-bad control is made anew
    there: `text` has its bytes by address, those of the file and those in their place. LabError when Xen never comes
    by, another device answers there, or the text is another one.
    """
    control = function + msix_offset + 2
    with debugger.attach() as machine:
        machine.break_at(symbols.first_of(_PLACES))
        reset()
        machine.go()
        if machine.wait(deadline) is None:
            raise LabError(
                f"Xen did not come by {' or '.join(_PLACES)} after the reset", hint="did the host boot the same Xen?"
            )
        check_identity(machine, function, identity)
        for address, (stock, changed) in text.items():
            if machine.read(address, len(stock)) != stock:
                raise LabError(f"the Xen that booted has other text at {address:#x} than the one before it")
            machine.write(address, changed)
        before = int.from_bytes(machine.read_physical(control, 2), "little")
        machine.write_physical(control, (before | _MASKALL).to_bytes(2, "little"))
        after = int.from_bytes(machine.read_physical(control, 2), "little")
    return Planted(before, after)
