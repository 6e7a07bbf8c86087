"""The replay of the 2019 report on a make-believe machine: what is done in which order, and what is never done."""

from __future__ import annotations

import itertools

import pytest

from harness.base.deadline import Deadline
from harness.base.errors import LabError
from harness.model.address import Bdf
from harness.transport.debugger import Registers, Stop
from harness.xen.trace.callchain import DecodeOff, decode_off_at_teardown, ecam_base
from harness.xen.trace.symbols import SymbolTable, parse_xensyms
from suites.selftest.fakes.fakemachine import FakeMachine

DEVICE = Bdf.parse("0000:04:00.0")
ECAM = 0xB0000000
FUNCTION = 0xB0400000  # base, bus 4 in bits 20 to 27
TEXT = 0xFFFF82D040200000
STACK = 0xFFFF8300CAFE0D80
# outermost first, as they call each other
CALLERS = ["do_domctl", "domain_kill", "domain_relinquish_resources", "pci_release_devices", "arch_pci_clean_pirqs",
           "pirq_guest_unbind", "__pirq_guest_unbind", "mask_msi_irq", "msi_set_mask_bit"]  # fmt: skip
ADDRESSES = {
    name: TEXT + 0x1000 * (place + 1)
    for place, name in enumerate([*CALLERS, "msi_set_mask_bit.cold", "other", "__x86_indirect_thunk_rax"])
}


def symbols(*without: str) -> SymbolTable:
    lines = [f"{TEXT:016x} T _stext", f"{TEXT + 0x100000:016x} T _etext"]
    lines += [f"{at:016x} t a.c#{name}" for name, at in ADDRESSES.items() if name not in without]
    return parse_xensyms("\n".join(lines))


class Replay:
    """A machine whose Xen tears a domain down and reaches the masking function."""

    def __init__(self) -> None:
        self.machine = FakeMachine()
        self.machine.put_physical(FUNCTION, bytes.fromhex("361b1000 0604 1000"))
        self.begun: list[list[str]] = []
        self.machine.stops = [
            Stop(Registers(ADDRESSES["arch_pci_clean_pirqs"], STACK)),
            Stop(Registers(ADDRESSES["msi_set_mask_bit.cold"], STACK)),
        ]
        self.stack: list[int] = []
        for caller, called in reversed(list(itertools.pairwise(CALLERS))):
            self.calls(caller, called)

    def calls(self, caller: str, called: str, offset: int = 0x40) -> None:
        """A word on the stack that returns behind a call of `called` in `caller`."""
        address = ADDRESSES[caller] + offset
        distance = (ADDRESSES[called] - address) % (1 << 32)
        self.machine.put(address - 5, b"\xe8" + distance.to_bytes(4, "little"))
        self.stack.append(address)

    def play(self, table: SymbolTable | None = None, identity: str = "1b36:0010") -> DecodeOff:
        for place, word in enumerate(self.stack):
            self.machine.put(STACK + 8 * place, word.to_bytes(8, "little"))
        return decode_off_at_teardown(
            self.machine,
            table or symbols(),
            DEVICE,
            ecam=ECAM,
            identity=identity,
            begin=lambda: self.begun.append(list(self.machine.log)),
            deadline=Deadline.after(5),
        )


TEARDOWN = f"{ADDRESSES['arch_pci_clean_pirqs']:#x}"
MASKING = f"{ADDRESSES['msi_set_mask_bit.cold']:#x}"


def test_the_order_of_things() -> None:
    replay = Replay()
    replay.play()
    assert replay.machine.log == [
        f"break {TEARDOWN}",
        "go",
        "wait",
        f"write_physical {FUNCTION + 4:#x} 0404",
        f"clear {TEARDOWN}",
        f"break {MASKING}",
        "go",
        "wait",
    ]
    assert replay.begun == [[f"break {TEARDOWN}", "go"]], "the teardown begins once, after the breakpoint is armed"
    assert not replay.machine.attached


def test_only_the_memory_bit_is_cleared_and_it_is_read_back() -> None:
    replay = Replay()
    seen = replay.play()
    assert (seen.command_before, seen.command_after) == (0x0406, 0x0404)
    stuck = Replay()
    stuck.machine.read_only = True
    assert stuck.play().command_after == 0x0406


def test_the_chain_runs_from_the_masking_to_domain_kill() -> None:
    chain = Replay().play().chain
    assert [frame.symbol for frame in chain] == [
        "msi_set_mask_bit.cold",
        "mask_msi_irq",
        "__pirq_guest_unbind",
        "pirq_guest_unbind",
        "arch_pci_clean_pirqs",
        "pci_release_devices",
        "domain_relinquish_resources",
        "domain_kill",
    ]
    assert (chain[0].address, chain[0].offset) == (ADDRESSES["msi_set_mask_bit.cold"], 0)
    assert [frame.offset for frame in chain[1:]] == [0x40] * 7


def test_leftovers_on_the_stack_are_left_out() -> None:
    replay = Replay()
    replay.calls("other", "domain_kill")
    leftover = replay.stack.pop()
    replay.stack[2:2] = [0, leftover, 0x1234, ADDRESSES["other"], TEXT - 8]
    assert [frame.symbol for frame in replay.play().chain].count("other") == 0


def test_an_indirect_call_is_kept() -> None:
    replay = Replay()
    place = replay.stack.index(ADDRESSES["mask_msi_irq"] + 0x40) + 1
    address = ADDRESSES["__pirq_guest_unbind"] + 0x40
    replay.machine.put(address - 5, bytes.fromhex("90 90 ff d0 90"))
    assert replay.stack[place] == address
    assert [frame.symbol for frame in replay.play().chain][-1] == "domain_kill"


def test_an_indirect_call_through_a_thunk_does_not_end_the_filter() -> None:
    """Xen calls desc->handler->disable() so; without this every leftover came back."""
    replay = Replay()
    place = replay.stack.index(ADDRESSES["__pirq_guest_unbind"] + 0x40)
    del replay.stack[place]
    replay.calls("__pirq_guest_unbind", "__x86_indirect_thunk_rax", offset=0x60)
    replay.stack.insert(place, replay.stack.pop())
    replay.calls("other", "domain_kill")
    replay.stack.insert(place + 1, replay.stack.pop())
    names = [frame.symbol for frame in replay.play().chain]
    assert "__pirq_guest_unbind" in names and "other" not in names and names[-1] == "domain_kill"


@pytest.mark.parametrize("before", ["90 90 90 90 90 ff d0", "41 ff 94 24 a8 00 00", "90 90 90 90 90 90 90"])
def test_a_leftover_in_the_middle_does_not_break_the_chain(before: str) -> None:
    """A stale return address behind an indirect call (as of do_IRQ), or behind no call at all."""
    replay = Replay()
    address = ADDRESSES["other"] + 0x80
    replay.machine.put(address - 7, bytes.fromhex(before))
    replay.stack.insert(replay.stack.index(ADDRESSES["__pirq_guest_unbind"] + 0x40) + 1, address)
    names = [frame.symbol for frame in replay.play().chain]
    assert "other" not in names
    assert (len(names), names[-1]) == (8, "domain_kill")


def test_a_chain_that_cannot_be_followed_is_shown_whole() -> None:
    replay = Replay()
    del replay.stack[3]
    names = [frame.symbol for frame in replay.play().chain]
    assert names[0] == "msi_set_mask_bit.cold" and names[-1] == "domain_kill"
    assert len(names) == 7


def test_a_stack_is_never_read_beyond_its_page() -> None:
    replay = Replay()
    read: list[tuple[int, int]] = []
    whole = replay.machine.read

    def noting(address: int, length: int) -> bytes:
        read.append((address, length))
        return whole(address, length)

    replay.machine.read = noting  # type: ignore[method-assign]
    replay.play()
    assert read[0] == (STACK, 0x1000 - STACK % 0x1000)


def test_another_device_at_the_address_is_refused_before_any_change() -> None:
    replay = Replay()
    with pytest.raises(LabError, match=r"ECAM at 0xb0400000 shows 1b36:0010, not 8086:10d3"):
        replay.play(identity="8086:10d3")
    assert replay.machine.log == []
    assert replay.begun == []
    assert not replay.machine.attached


def test_a_teardown_that_never_comes_by() -> None:
    replay = Replay()
    replay.machine.stops = []
    with pytest.raises(LabError, match="did not come by arch_pci_clean_pirqs"):
        replay.play()
    assert not [line for line in replay.machine.log if "write" in line]
    assert replay.machine.breakpoints == set()
    assert not replay.machine.attached


def test_a_masking_that_never_happens_gives_no_chain() -> None:
    replay = Replay()
    del replay.machine.stops[1]
    seen = replay.play()
    assert (seen.chain, seen.command_after) == ((), 0x0404)
    assert replay.machine.breakpoints == set()


def test_breakpoints_go_when_the_teardown_cannot_begin() -> None:
    replay = Replay()

    def begin() -> None:
        raise LabError("no link")

    with pytest.raises(LabError, match="no link"):
        decode_off_at_teardown(
            replay.machine, symbols(), DEVICE, ecam=ECAM, identity="1b36:0010", begin=begin, deadline=Deadline.after(1)
        )
    assert replay.machine.breakpoints == set()


def test_a_compiler_that_did_not_split_the_function() -> None:
    replay = Replay()
    replay.machine.stops[1] = Stop(Registers(ADDRESSES["msi_set_mask_bit"] + 8, STACK))
    chain = replay.play(symbols("msi_set_mask_bit.cold")).chain
    assert f"break {ADDRESSES['msi_set_mask_bit']:#x}" in replay.machine.log
    assert (chain[0].symbol, chain[0].offset, chain[-1].symbol) == ("msi_set_mask_bit", 8, "domain_kill")


def test_a_xen_without_the_function_is_told() -> None:
    replay = Replay()
    with pytest.raises(LabError, match="Xen has no symbol pci_release_devices"):
        replay.play(symbols("arch_pci_clean_pirqs", "pci_release_devices"))
    assert replay.machine.log == []


def test_a_compiler_that_folded_the_cleaning_into_its_caller() -> None:
    replay = Replay()
    replay.play(symbols("arch_pci_clean_pirqs"))
    assert f"break {ADDRESSES['pci_release_devices']:#x}" in replay.machine.log


class TestEcamBase:
    LINE = "(XEN) PCI: MCFG configuration {}: base {} segment {} buses 00 - ff\n"

    def test_the_segment_of_the_device(self) -> None:
        text = self.LINE.format(0, "e0000000", "0001") + self.LINE.format(1, "b0000000", "0000")
        assert ecam_base(text, DEVICE) == ECAM
        assert ecam_base(text, Bdf.parse("0001:04:00.0")) == 0xE0000000

    def test_a_ring_that_wrapped(self) -> None:
        with pytest.raises(LabError, match="no MCFG base for segment 0000"):
            ecam_base("(XEN) later\n", DEVICE)
