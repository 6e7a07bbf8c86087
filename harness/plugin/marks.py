"""The marks of tests that use the fixtures. Imports nothing."""

from __future__ import annotations

MARKS = {
    "control": "control(mutant): play the test on this known-bad hypervisor too (default: no-maskall-reset), "
    "where it must fail by an assertion of its own",
    "device": "device(name, ...): the devices that pci_device (one) or pci_devices (several) borrow",
    "guest": "guest(type=, vcpus=, memory=, cmdline=, on_reboot=, on_crash=): how make_guest makes guests "
    "unless it is told",
    "needs": "needs(power, ..., insist=False): what the host must have, debugger or reset; elsewhere the test is "
    "skipped, or with insist=True an error",
    "stack": "stack(name, ...): the Xen hosts of 'maskall list' that the test is for; a run without --maskall-stack "
    "takes one that suits its tests, and on another the test is skipped",
}
"""What pytest --markers says of each."""


def usage(name: str) -> str:
    """How a mark is written, for a hint."""
    return f"write {MARKS[name].partition(':')[0]}"
