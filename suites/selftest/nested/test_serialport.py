"""The serial line on a loopback port is its owner's: every other user finds a port that says nothing."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.base.deadline import poll
from harness.nested import serialport
from harness.nested.bmc import Ports
from harness.nested.serialport import LINE, owner
from suites.selftest.fakes.patience import FOREVER, soon

# As the kernel prints them on a little-endian machine: 127.0.0.1:20004, from 127.0.0.1:40000.
HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
ROW = "   1: {local} {remote} {state} 0:0 00:0 0 {uid:5d}        0 {inode} 1 0 20 4 30 10 -1\n"
OURS = {"local": "0100007F:9C40", "remote": "0100007F:4E24", "state": "01", "uid": 1000, "inode": 77}
PEER = ("127.0.0.1", 40000)


def table(**changed: object) -> str:
    return HEAD + ROW.format(**{**OURS, **changed})


@pytest.mark.skipif(sys.byteorder != "little", reason="the kernel prints addresses as its machine stores them")
class TestOwner:
    def test_whose_a_connection_is(self) -> None:
        listening = ROW.format(**{**OURS, "local": "0100007F:4E24", "remote": "00000000:0000", "state": "0A", "uid": 5})
        served = ROW.format(**{**OURS, "local": "0100007F:4E24", "remote": "0100007F:9C40", "uid": 6})
        assert owner(HEAD + listening + served + table(uid=1000)[len(HEAD) :], PEER, 20004) == 1000

    @pytest.mark.parametrize(
        "changed",
        [
            {"state": "06", "uid": 0, "inode": 0},  # TIME_WAIT: it was sent, closed, and is nobody's: the kernel says 0
            {"state": "05", "uid": 0, "inode": 0},
            {"state": "01", "uid": 0, "inode": 0},
            {"state": "08"},
            {"local": "0100007F:9C41"},
            {"local": "0200007F:9C40"},
            {"remote": "0100007F:4E25"},
        ],
    )
    def test_nobody_has_it(self, changed: dict[str, object]) -> None:
        assert owner(table(**changed), PEER, 20004) is None
        assert owner(HEAD, PEER, 20004) is None


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """The port of a controller that does nothing and lives as long as its standard input."""
    port = Ports.free().serial
    controller = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-IS", serialport.__file__, str(port), "cat"],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert poll(lambda: _reached(port), soon(), every=0.01)
        yield port
        assert controller.stdin is not None
        controller.stdin.close()
        controller.wait(FOREVER)
        assert poll(lambda: not _reached(port), soon(), every=0.01), "it ends with its controller"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(controller.pid, signal.SIGKILL)


def _reached(port: int) -> bool:
    """By a connection that is over: one that is still open would be plugged into the machine that comes next."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), FOREVER) as plug:
        return plug.recv(1) == b""
    return False


@contextlib.contextmanager
def machine_on(folder: Path) -> Iterator[socket.socket]:
    (folder / LINE).unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as served:
        served.bind(os.path.relpath(folder / LINE))
        served.listen()
        served.settimeout(FOREVER)
        yield served


def test_bytes_go_both_ways_and_through_a_power_cycle(port: int, tmp_path: Path) -> None:
    for _ in range(2):
        with socket.create_connection(("127.0.0.1", port), FOREVER) as off:
            assert off.recv(1) == b"", "the machine is off"
        with machine_on(tmp_path) as served, socket.create_connection(("127.0.0.1", port), FOREVER) as plug:
            line, _ = served.accept()
            with line:
                line.settimeout(FOREVER)
                data = bytes(range(256)) * 400
                line.sendall(b"login: ")
                assert plug.recv(100) == b"login: "
                plug.sendall(data)
                assert _read(line, len(data)) == data
            assert plug.recv(1) == b"", "its power was cut"


def _read(line: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size:
        got += line.recv(size)
    return got


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
@pytest.mark.parametrize(("user", "heard"), [(65534, False), (0, True)])
def test_another_user_is_heard_by_nobody(port: int, tmp_path: Path, user: int, heard: bool) -> None:
    with machine_on(tmp_path) as served:
        stranger = os.fork()
        if not stranger:  # no other program: it may not be allowed to read Python
            os.setresuid(user, user, user)
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as plug:
                plug.sendall(b"reboot\n")
                plug.recv(1)
            os._exit(0)
        try:
            ended = lambda: os.waitpid(stranger, os.WNOHANG)[0]  # noqa: E731
            plugged = lambda: select.select([served], [], [], 0)[0]  # noqa: E731
            assert poll(lambda: plugged() or ended(), soon(), every=0.01)
            assert bool(plugged()) is heard
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(stranger, signal.SIGKILL)
