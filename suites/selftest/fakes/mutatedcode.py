"""The code that our mutants change, as captured from the stacks that have mutants."""

from __future__ import annotations

from pathlib import Path

from harness.host.stacks import stacks
from harness.mutants.catalogue import ANY, catalogue
from harness.mutants.change import ByteChange, TextChange

DATA = Path(__file__).parents[1] / "data"
STACKS = tuple(dict.fromkeys(name for mutant in catalogue().values() for name in mutant.builds if name != ANY))
OWN = "own"
"""A 4.20.4 as a developer builds it: from source, by gcc 12."""


def captured(stack: str) -> dict[tuple[str, str], bytes]:
    """(layer, function) or ('device-model', where the window begins in the program) -> its bytes."""
    version, kind = ("4.20", OWN) if stack == OWN else (stacks()[stack].xen, "code")
    code: dict[tuple[str, str], bytes] = {}
    key = ("", "")
    for line in (DATA / f"xen-{version}" / f"mutated_functions.{kind}.txt").read_text().splitlines():
        layer, _, name = line.partition(" ")
        if layer in ("hypervisor", "dom0", "device-model"):
            key = (layer, name)
            code[key] = b""
        else:
            code[key] += bytes.fromhex(line)
    return code


def searched(code: dict[tuple[str, str], bytes], layer: str, change: ByteChange) -> bytes:
    """What is searched for `change`: its function, or all windows of the device model's program."""
    if isinstance(change, TextChange):
        return code[layer, change.symbol]
    return b"".join(window for (of, _), window in code.items() if of == layer)
