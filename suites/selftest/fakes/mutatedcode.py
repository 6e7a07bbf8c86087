"""The code that our mutants change, as captured from the three stacks (data/xen-*/mutated_functions.code.txt)."""

from __future__ import annotations

from pathlib import Path

from harness.mutants.change import Change, TextChange

DATA = Path(__file__).parents[1] / "data"
STACKS = {"trixie": "4.20", "bookworm": "4.17", "bullseye": "4.14"}


def captured(stack: str) -> dict[tuple[str, str], bytes]:
    """(layer, function) or ('device-model', where the window begins in the program) -> its bytes."""
    code: dict[tuple[str, str], bytes] = {}
    key = ("", "")
    for line in (DATA / f"xen-{STACKS[stack]}" / "mutated_functions.code.txt").read_text().splitlines():
        layer, _, name = line.partition(" ")
        if layer in ("hypervisor", "dom0", "device-model"):
            key = (layer, name)
            code[key] = b""
        else:
            code[key] += bytes.fromhex(line)
    return code


def searched(code: dict[tuple[str, str], bytes], layer: str, change: Change) -> bytes:
    """What is searched for `change`: its function, or all windows of the device model's program."""
    if isinstance(change, TextChange):
        return code[layer, change.symbol]
    return b"".join(window for (of, _), window in code.items() if of == layer)
