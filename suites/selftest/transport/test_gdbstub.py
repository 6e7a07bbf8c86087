"""The gdbstub client against a server that speaks the protocol."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict

import pytest

from harness.base.deadline import Deadline, poll
from harness.base.errors import LabError
from harness.transport import gdbstub
from harness.transport.debugger import Debugger, Stop
from harness.transport.gdbstub import GdbDebugger
from suites.selftest.fakes.gdbserver import GdbServer
from suites.selftest.fakes.patience import soon

GENERAL = ["rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", *(f"r{number}" for number in range(8, 16)), "rip"]


@pytest.fixture
def server() -> Iterator[GdbServer]:
    server = GdbServer()
    yield server
    server.close()
    assert server.bad_checksums == 0


def debugger(server: GdbServer) -> Debugger:
    return GdbDebugger(lambda: server.client)


def test_the_stop_packet_at_connect_answers_no_question(server: GdbServer) -> None:
    server.memory[0x100:0x104] = b"\x01\x02\x03\x04"
    with debugger(server).attach() as machine:
        assert machine.read(0x100, 4) == b"\x01\x02\x03\x04"
    assert server.packets[0] == b"qC"


def test_a_server_that_sends_none() -> None:
    server = GdbServer(greeting=b"")
    with debugger(server).attach() as machine:
        assert machine.read(0, 1) == b"\0"
    server.close()


def test_every_packet_is_acknowledged(server: GdbServer) -> None:
    with debugger(server).attach() as machine:
        machine.read(0, 8)
    assert poll(lambda: server.acks == len(server.packets) + 1, soon())


def test_memory_goes_in_chunks(server: GdbServer) -> None:
    data = bytes(place % 251 for place in range(2500))
    with debugger(server).attach() as machine:
        machine.write(0x1000, data)
        assert machine.read(0x1000, len(data)) == data
        assert machine.read(0x1000, 0) == b""
        machine.write(0x9000, b"")
    assert bytes(server.memory[0x1000 : 0x1000 + len(data)]) == data
    assert [packet.partition(b":")[0] for packet in server.packets if packet[:1] in (b"m", b"M")] == [
        b"M1000,400",
        b"M1400,400",
        b"M1800,1c4",
        b"m1000,400",
        b"m1400,400",
        b"m1800,1c4",
    ]


def test_physical_memory_is_another_memory(server: GdbServer) -> None:
    with debugger(server).attach() as machine:
        machine.write_physical(0x40, b"\xaa\xbb")
        assert machine.read_physical(0x40, 2) == b"\xaa\xbb"
        assert machine.read(0x40, 2) == b"\0\0"
    assert bytes(server.physical[0x40:0x42]) == b"\xaa\xbb"


def test_physical_mode_is_left_even_after_an_error(server: GdbServer) -> None:
    server.refuse = re.compile(rb"m.*")
    with debugger(server).attach() as machine:
        with pytest.raises(LabError, match="cannot read 2 bytes at 0x40"):
            machine.read_physical(0x40, 2)
        server.refuse = None
        server.memory[0x40] = 7
        assert machine.read(0x40, 1) == b"\x07"
    assert server.packets.count(b"Qqemu.PhyMemMode:0") == 1


def test_refusals_are_lab_errors(server: GdbServer) -> None:
    server.refuse = re.compile(rb"[MZ].*")
    with debugger(server).attach() as machine:
        with pytest.raises(LabError, match=r"answered b'E22' to b'M10,1:01'"):
            machine.write(0x10, b"\x01")
        with pytest.raises(LabError, match=r"b'E22' to b'Z0,20,1'"):
            machine.break_at(0x20)
    assert server.detached, "a breakpoint that was refused is not removed, and the machine runs again"


def test_break_continue_stop(server: GdbServer) -> None:
    with debugger(server).attach() as machine:
        machine.break_at(0x1234)
        assert server.breakpoints == {0x1234}
        machine.go()
        seen = machine.wait(soon())
        assert seen is not None and seen.written is None
        assert {name: value & 0xFF for name, value in asdict(seen.registers).items()} == {
            **{name: 8 * place for place, name in enumerate(GENERAL)},
            **{"fs_base": 164, "gs_base": 172, "k_gs_base": 180, "cr3": 204},  # behind flags and six selectors, 4 each
        }
        assert seen.registers.arguments[:2] == (seen.registers.rdi, seen.registers.rsi)
        machine.clear(0x1234)
        assert server.breakpoints == set()
    assert server.detached
    assert b"\x03" not in server.packets, "a machine that stands still is not stopped again"


def standing_at(server: GdbServer, address: int) -> None:
    server.registers = server.registers[:128] + address.to_bytes(8, "little") + server.registers[136:]


def went(server: GdbServer) -> list[bytes]:
    return [packet for packet in server.packets if packet in (b"s", b"c")]


def test_a_reported_breakpoint_is_stepped_over(server: GdbServer) -> None:
    """With `c` alone QEMU would report the same breakpoint again without moving."""
    standing_at(server, 0x20)
    with debugger(server).attach() as machine:
        machine.break_at(0x20)
        machine.break_at(0x30)
        for _ in range(2):
            machine.go()
            stop = machine.wait(soon())
            assert stop is not None and stop.registers.rip == 0x20
    assert went(server) == [b"c", b"s", b"c"]


def test_a_breakpoint_that_was_cleared_or_not_reported_is_not(server: GdbServer) -> None:
    standing_at(server, 0x20)
    with debugger(server).attach() as machine:
        machine.break_at(0x20)
        machine.go()
        machine.wait(soon())
        machine.clear(0x20)
        machine.go()
        server.stop_at = lambda: None
        machine.wait(Deadline.after(0.1))
        machine.go()
        machine.stop()  # perhaps it stands at a breakpoint nobody was told of: going on must report it
        machine.break_at(0x20)
        machine.go()
    assert went(server) == [b"c", b"c", b"c", b"c"]


def test_a_watched_write_is_told_from_a_breakpoint(server: GdbServer) -> None:
    server.stop_at = lambda: b"T05thread:01;watch:ffff82d080000acc;"
    with debugger(server).attach() as machine:
        machine.watch(0xFFFF82D080000ACC, 4)
        machine.watch(0x40, 1)
        machine.unwatch(0x40, 1)
        assert server.watched == {(0xFFFF82D080000ACC, 4)}
        machine.go()
        stop = machine.wait(soon())
        assert isinstance(stop, Stop) and stop.written == 0xFFFF82D080000ACC
    assert server.watched == set()
    assert server.detached


def test_registers_of_another_cpu(server: GdbServer) -> None:
    server.registers = bytes(64)
    with debugger(server).attach() as machine:
        machine.go()
        with pytest.raises(LabError, match="registers are 64 bytes, not an x86-64 CPU's 212"):
            machine.wait(soon())


def test_a_breakpoint_that_is_never_reached(server: GdbServer) -> None:
    server.stop_at = lambda: None
    with debugger(server).attach() as machine:
        machine.break_at(0x1234)
        machine.go()
        assert machine.wait(Deadline.after(0.05)) is None
        assert server.running
    assert server.packets[-3:] == [b"\x03", b"z0,1234,1", b"D;1"]


def test_a_running_machine_is_stopped_on_request(server: GdbServer) -> None:
    server.stop_at = lambda: None
    with debugger(server).attach() as machine:
        machine.go()
        machine.stop()
        machine.stop()
        assert machine.read(0, 1) == b"\0"
    assert server.packets.count(b"\x03") == 1


def test_breakpoints_go_even_after_an_exception(server: GdbServer) -> None:
    with pytest.raises(ZeroDivisionError), debugger(server).attach() as machine:
        machine.break_at(0x30)
        machine.break_at(0x20)
        raise ZeroDivisionError
    assert server.breakpoints == set()
    assert server.packets[-3:] == [b"z0,20,1", b"z0,30,1", b"D;1"]
    assert server.client.fileno() == -1


def test_a_stop_packet_that_crossed_a_question(server: GdbServer) -> None:
    """The machine reached the breakpoint at the moment when the waiting was given up."""
    server.stop_at = lambda: None
    with debugger(server).attach() as machine:
        machine.go()
        assert machine.wait(Deadline.after(0.02)) is None
        server.send(b"T05thread:01;")
        machine.stop()
        assert machine.read(0, 2) == b"\0\0"
    assert server.detached


def test_a_server_that_goes_away(server: GdbServer) -> None:
    with pytest.raises(LabError, match="the gdbstub closed the connection"), debugger(server).attach() as machine:
        server._server.shutdown(2)
        machine.read(0, 1)


def test_a_server_that_is_silent(server: GdbServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gdbstub, "_ANSWER_SECONDS", 0.05)
    with pytest.raises(LabError, match="did not answer"), debugger(server).attach() as machine:
        server._reply = lambda command: b"T05ignored;"  # type: ignore[method-assign]
        machine.read(0, 1)
