"""What a livepatch really does to the hypervisor's text: read by the debugger, which knows nothing of livepatches.

On a nested host. Each mutant that a lab host may be made is applied and taken away again.
"""

from __future__ import annotations

import pytest

from harness.base.deadline import Deadline
from harness.host.host import Host
from harness.lab.safety.livepatch_gate import ALLOWED_MUTANTS
from harness.mutants.catalogue import HypervisorMutant, catalogue
from harness.mutants.change import TextChange
from harness.mutants.hypervisor import running_file
from harness.mutants.livepatching import NAME, Applied, Livepatches
from harness.mutants.text import open_hypervisor
from harness.xen.keys.debugkeys import PatchedFunction

SECONDS = 30.0
NOPS = {2: ("66 90",), 4: ("0f 1f 40 00", "66 66 66 90")}
"""By their length, as Xen writes them on one CPU or another (ideal_nops: p6_nops, k8_nops)."""


@pytest.fixture(scope="module")
def host(maskall_host: Host) -> Host:
    if maskall_host.debugger is None:
        pytest.skip("the host has no debugger")
    return maskall_host


def read(host: Host, symbol: str, *places: tuple[int, int]) -> list[bytes]:
    """The running text at these addresses, of these lengths, while Xen stands where `symbol` is mapped."""
    assert host.debugger is not None
    inside = TextChange.model_validate({"symbol": symbol, "find": "00", "replace": "01"})
    with open_hypervisor(host.transport, host.debugger, [inside]) as text:
        return [text.read(address, length) for address, length in places]


def becomes(one: Applied, shown: PatchedFunction) -> list[bytes]:
    """What Xen may write over the first bytes: a jump to the new code, or NOPs."""
    if one.replacement.code:
        address = one.replaced.place.address
        return [b"\xe9" + (shown.new - (address + 5)).to_bytes(4, "little", signed=True)]
    return [bytes.fromhex(text) for text in NOPS[one.replacement.nops]]


@pytest.mark.parametrize("name", ALLOWED_MUTANTS)
def test_the_text_is_changed_as_told_and_put_back(host: Host, name: str) -> None:
    mutant = catalogue()[name]
    assert isinstance(mutant, HypervisorMutant)
    patches, file = Livepatches(host.transport), running_file(host.transport)
    (made,) = patches.apply(mutant.by_livepatch)
    place, before = made.replaced.place, made.replaced.before
    whole = (made.replacement.address, made.replacement.size)
    try:
        (shown,) = host.debug_key("x")
        assert (shown.livepatch, shown.state, shown.old, shown.old_size) == (NAME, "APPLIED", *whole)
        wanted = becomes(made, shown)
        start = place.address if made.replacement.code else made.replacement.address  # behind an endbr64
        code = (shown.new or start, len(made.replacement.code))
        now, there = read(host, place.where, (start, len(wanted[0])), code)
        assert now in wanted
        assert there == made.replacement.code
    finally:
        patches.remove(NAME)
    assert read(host, place.where, whole) == [file.read(*whole)], "as in the file, to the last byte"
    assert file.read(place.address, len(before)) == before
    assert host.transport.run(["xl", "info"], deadline=Deadline.after(SECONDS)).ok
