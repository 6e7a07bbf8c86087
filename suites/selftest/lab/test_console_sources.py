"""Each way to a console: a program, a port, Serial over LAN; opened again and again, nothing left behind."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from harness.base.deadline import poll
from harness.base.errors import LabError, UsageError
from harness.base.secret import Secret
from harness.lab.console.base import Attached
from harness.lab.console.command import CommandConsole, CommandSource
from harness.lab.console.ipmi import IpmiSource
from harness.lab.console.tcp import TcpConsole, TcpSource
from harness.lab.inventory.models import LabEntry
from harness.lab.lease.state import HostState
from harness.lab.power.ipmi import IpmiPower
from harness.lab.recorder import record
from suites.selftest.fakes.patience import soon

SECRET = "s0l-Zebra"  # noqa: S105 - of no one
CONTROLLER = IpmiPower(kind="ipmi", address="192.0.2.20", user="lab", password="env:NEVER_READ")  # noqa: S106


def read_all(attached: Attached) -> bytes:
    """Until the source ends."""
    said = b""
    end = soon()
    while (data := attached.read()) is not None:
        said += data
        assert not end.expired
    return said


def listener() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def test_a_program_s_output_and_its_end(tmp_path: Path) -> None:
    source = CommandSource(["sh", "-c", "printf 'a\\0b'; echo noise >&2"])
    for _ in range(2):
        with source.attach() as attached:
            assert read_all(attached) == b"a\0b"


def test_a_program_is_ended_with_all_it_started(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    with CommandSource(["sh", "-c", f"sleep 60 & echo $! >{pid}; echo up; wait"]).attach() as attached:
        assert attached.read() == b"up\n"
    number = int(pid.read_text())
    assert poll(lambda: not _runs(number), soon())


def _runs(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(UsageError, match="no-such-client"), CommandSource(["no-such-client"]).attach():
        pass


def test_a_port_that_says_nothing_something_and_goodbye(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.lab.console.base.WAIT", 0.02)
    with listener() as port:
        source = TcpSource(TcpConsole(kind="tcp", address="127.0.0.1", port=port.getsockname()[1]))
        with source.attach() as attached:
            there, _ = port.accept()
            assert attached.read() == b""
            there.sendall(b"\xffboot")
            assert attached.read() == b"\xffboot"
            there.close()
            assert attached.read() is None
    with pytest.raises(LabError, match="Connection refused"), source.attach():
        pass


def test_a_connection_that_is_reset_has_ended() -> None:
    with listener() as port:
        source = TcpSource(TcpConsole(kind="tcp", address="127.0.0.1", port=port.getsockname()[1]))
        with source.attach() as attached:
            there, _ = port.accept()
            there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            there.close()
            assert read_all(attached) == b""


def ipmitool(folder: Path, monkeypatch: pytest.MonkeyPatch, activate: str) -> Path:
    program = folder / "ipmitool"
    program.write_text(
        f'#!/bin/sh\necho "$@" >>{folder}/argv\ncat /proc/[0-9]*/cmdline >>{folder}/seen 2>/dev/null\n'
        f"case \"$*\" in *' sol activate') printf 'Password: ' >&2; read -r line; [ \"$line\" = {SECRET} ] || exit 1\n"
        f"{activate} ;; esac\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    return folder


def test_serial_over_lan_on_a_terminal_byte_for_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    say = f"{sys.executable} -c 'import sys; assert sys.stdin.isatty(); sys.stdout.buffer.write(bytes(range(256)))'"
    folder = ipmitool(tmp_path, monkeypatch, say)
    source = IpmiSource(CONTROLLER, Secret(SECRET))
    with source.attach() as attached:
        assert read_all(attached) == bytes(range(256))
    lines = (folder / "argv").read_text().splitlines()
    assert [line.split()[-1] for line in lines] == ["deactivate", "activate"]  # a session that was left is ended first
    assert SECRET not in (folder / "argv").read_text() + source.name
    assert SECRET.encode() not in (folder / "seen").read_bytes()


def test_serial_over_lan_leaves_nothing_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ipmitool(tmp_path, monkeypatch, "exec sleep 60")
    monkeypatch.setattr("harness.lab.console.base.WAIT", 0.02)
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with IpmiSource(CONTROLLER, Secret(SECRET)).attach() as attached:
        assert attached.read() == b""
    assert set(os.listdir("/proc/self/fd")) <= before  # noqa: PTH208


def test_record_takes_what_the_inventory_names(tmp_path: Path) -> None:
    state = HostState("box", tmp_path / "state")
    words = {"address": "192.0.2.1", "key": "k", "host_key": "none", "devices": {}, "kind": "lab"}
    without = LabEntry.model_construct(**words, console=None, power=None)
    assert record(state, without, print) is None
    named = CommandConsole(kind="command", argv=("echo", "hello"))
    one = record(state, LabEntry.model_construct(**words, console=named, power=None), print)
    assert one is not None
    try:
        assert poll(lambda: b"hello" in one.text(), soon())
    finally:
        one.stop()
    assert (tmp_path / "state" / "console.lock").exists()
