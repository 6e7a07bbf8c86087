"""What every transport promises, asked of all of them; then what the fake promises to tests."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import pytest

from harness.base.deadline import Deadline
from harness.base.errors import (
    CommandFailed,
    HarnessBug,
    HostHung,
    HostUnreachable,
    OutcomeUnknown,
    UsageError,
)
from harness.transport.base import CommandEnd, Script, Transport, quote
from suites.selftest.fakes.faketransport import Cut, Executed, FakeTransport, Reply
from suites.selftest.fakes.localtransport import LocalTransport
from suites.selftest.fakes.patience import soon
from suites.selftest.fakes.sshlink import MIB

AWKWARD = ["a b", "$HOME `id` \\ \"'*?;&|<>#~!", "two\nlines\n", "-n", "--", "", "caf\u00e9", "bad \udcff\udc80 utf"]


@pytest.fixture(params=["ssh", "local"])
def real(request: pytest.FixtureRequest) -> Transport:
    """A transport that executes."""
    if request.param == "local":
        return LocalTransport()
    transport: Transport = request.getfixturevalue("dial")(request.getfixturevalue("server").port)
    transport.connect(soon())
    return transport


def fake_host() -> FakeTransport:
    """A fake that knows the few commands which the contract below asks of all transports."""
    return FakeTransport(
        connected=True,
        commands={
            "echo hello": Reply(b"hello\n"),
            "sh -c 'exit 3'": Reply(status=3),
            "sh -c 'kill -KILL .*": Reply(status=None, signal="KILL"),
            "sh -c 'echo out; echo err .*": Reply(b"out\n", b"err\n"),
            "cat": lambda executed: Reply(executed.stdin),
            "sleep 3600": Reply(seconds=3600),
            "sh -c 'echo first >&2.*": Reply(b"", b"first\nlast words\n", status=4),
        },
        streams={".*while read line.*": lambda data: (data and b"got " + data) or b"ready\n"},
    )


@pytest.fixture(params=["ssh", "local", "fake"])
def any_transport(request: pytest.FixtureRequest) -> Transport:
    if request.param == "fake":
        return fake_host()
    if request.param == "local":
        return LocalTransport()
    transport: Transport = request.getfixturevalue("dial")(request.getfixturevalue("server").port)
    transport.connect(soon())
    return transport


class TestEveryTransport:
    def test_runs_words(self, any_transport: Transport) -> None:
        result = any_transport.run(["echo", "hello"], deadline=soon())
        assert (result.text, result.stderr, result.status, result.signal) == ("hello\n", b"", 0, None)
        assert result.check() is result
        assert result.shown == "echo hello"

    def test_tells_an_exit_status(self, any_transport: Transport) -> None:
        result = any_transport.run(Script("exit 3"), deadline=soon())
        assert (result.status, result.signal, result.ok) == (3, None, False)
        assert result.complaint == "status 3"

    def test_tells_a_signal_from_a_status(self, any_transport: Transport) -> None:
        result = any_transport.run(Script("kill -KILL $$"), deadline=soon())
        assert (result.status, result.signal, result.ok) == (None, "KILL", False)
        assert result.complaint == "killed by SIGKILL"

    def test_keeps_the_streams_apart(self, any_transport: Transport) -> None:
        result = any_transport.run(Script("echo out; echo err >&2"), deadline=soon())
        assert (result.stdout, result.stderr) == (b"out\n", b"err\n")

    def test_gives_input_then_its_end(self, any_transport: Transport) -> None:
        data = bytes(range(256)) * 10
        assert any_transport.run(["cat"], deadline=soon(), stdin=data).stdout == data
        assert any_transport.run(["cat"], deadline=soon()).stdout == b""

    def test_an_unknown_command_ends_as_in_a_shell(self, any_transport: Transport) -> None:
        result = any_transport.run(["no-such-program", "x"], deadline=soon())
        assert result.status == 127
        assert b"not found" in result.stderr

    def test_check_shows_the_last_words(self, any_transport: Transport) -> None:
        result = any_transport.run(Script("echo first >&2; echo last words >&2; exit 4"), deadline=soon())
        assert result.complaint == "last words"
        with pytest.raises(CommandFailed, match=r"status 4: sh -c .*: last words$") as caught:
            result.check()
        assert any_transport.name in str(caught.value) and "\n" not in str(caught.value)

    def test_a_deadline_ends_the_wait(self, any_transport: Transport) -> None:
        with pytest.raises(HostHung, match="sleep 3600"):
            any_transport.run(["sleep", "3600"], deadline=Deadline.after(0.3))
        assert any_transport.run(["echo", "hello"], deadline=soon()).ok

    def test_a_file_goes_there_and_back(self, any_transport: Transport, tmp_path: Path) -> None:
        data = os.urandom(3 * MIB)
        path = str(tmp_path / "a 'strange'\nname")
        any_transport.put(b"old", path, 0o644, soon())
        any_transport.put(data, path, 0o750, soon())
        assert any_transport.get(path, soon()) == data

    def test_a_missing_file_is_an_error(self, any_transport: Transport, tmp_path: Path) -> None:
        with pytest.raises(CommandFailed, match="No such file"):
            any_transport.get(str(tmp_path / "missing"), soon())

    def test_a_stream_is_a_conversation(self, any_transport: Transport) -> None:
        program = Script("echo ready; while read line; do echo got $line; done")
        stream = any_transport.open_stream(program, deadline=soon())
        assert stream.read_until(b"ready\n", soon()) == b"ready\n"
        stream.write(b"one\n")
        assert stream.read_until(re.compile(rb"got (\w+)\n"), soon()) == b"got one\n"
        stream.write(b"two\n")
        assert stream.read_until(b"tw", soon()) == b"got tw"
        assert stream.read_until(b"\n", soon()) == b"o\n"
        assert not stream.ended
        with pytest.raises(HostHung, match="three"):
            stream.read_until(b"three", Deadline.after(0.1))
        stream.close()
        stream.close()
        assert stream.received == b"ready\ngot one\ngot two\n"

    @pytest.mark.parametrize("command", ["echo hello", b"ls", []])
    def test_refuses_what_is_no_list_of_words(self, any_transport: Transport, command: list[str]) -> None:
        with pytest.raises(HarnessBug):
            any_transport.run(command, deadline=soon())

    def test_refuses_nul(self, any_transport: Transport) -> None:
        with pytest.raises(UsageError):
            any_transport.run(["echo", "a\0b"], deadline=soon())
        with pytest.raises(UsageError):
            Script("a\0b")


class TestTransportsThatExecute:
    def test_words_arrive_as_they_are(self, real: Transport) -> None:
        result = real.run(["printf", "<%s>", *AWKWARD], deadline=soon())
        expected = "".join(f"<{word}>" for word in AWKWARD).encode("utf-8", "surrogateescape")
        assert result.stdout == expected

    def test_quoted_words_survive_inside_a_script(self, real: Transport) -> None:
        result = real.run(Script(f"printf '<%s>' {quote(AWKWARD)}"), deadline=soon())
        assert result.stdout == "".join(f"<{word}>" for word in AWKWARD).encode("utf-8", "surrogateescape")

    def test_killed_words_are_told_by_signal(self, real: Transport) -> None:
        assert real.run(["sh", "-c", "kill -SEGV $$"], deadline=soon()).signal == "SEGV"

    def test_much_on_both_streams(self, real: Transport) -> None:
        half = f"head -c {8 * MIB} /dev/zero"
        result = real.run(Script(f"{half} >&2 & {half}; wait"), deadline=soon())
        assert (len(result.stdout), len(result.stderr), result.status) == (8 * MIB, 8 * MIB, 0)

    def test_much_in_and_out(self, real: Transport) -> None:
        data = os.urandom(8 * MIB)  # more than the windows of a channel hold both ways
        assert real.run(["cat"], deadline=soon(), stdin=data).stdout == data

    def test_input_nobody_reads(self, real: Transport) -> None:
        assert real.run(["true"], deadline=soon(), stdin=bytes(4 * MIB)).ok

    def test_put_sets_the_mode_and_leaves_nothing_else(self, real: Transport, tmp_path: Path) -> None:
        target = tmp_path / "file"
        real.put(b"\0\xff\n", str(target), 0o640, soon())
        assert (target.read_bytes(), stat.S_IMODE(target.stat().st_mode)) == (b"\0\xff\n", 0o640)
        with pytest.raises(CommandFailed, match="is a directory"):
            real.put(b"x", str(tmp_path), 0o640, soon())
        assert list(tmp_path.iterdir()) == [target]
        with pytest.raises(CommandFailed):
            real.put(b"x", str(tmp_path / "missing" / "file"), 0o640, soon())

    def test_a_stream_tells_its_end(self, real: Transport) -> None:
        stream = real.open_stream(Script("echo out; echo err >&2; exit 5"), deadline=soon())
        with pytest.raises(CommandFailed, match="status 5 before b'never'"):
            stream.read_until(b"never", soon())
        assert stream.ended and stream.ending == CommandEnd(status=5)
        assert sorted(stream.received.split()) == [b"err", b"out"]


class TestFake:
    @pytest.mark.parametrize(
        ("cut", "changes", "error", "arrived", "worked"),
        [
            (Cut.BEFORE, True, HostUnreachable, 0, 0),
            (Cut.DURING, True, OutcomeUnknown, 1, 0),
            (Cut.AFTER, True, OutcomeUnknown, 1, 1),
            (Cut.BEFORE, False, HostUnreachable, 0, 0),
            (Cut.DURING, False, HostUnreachable, 1, 0),
            (Cut.AFTER, False, HostUnreachable, 1, 1),
        ],
    )
    def test_loses_the_link(self, cut: Cut, changes: bool, error: type[Exception], arrived: int, worked: int) -> None:
        done: list[Executed] = []

        def work(executed: Executed) -> Reply:
            done.append(executed)
            return Reply()

        host = FakeTransport(commands={"touch x": work})
        host.connect(soon())
        host.lose_link(cut)
        with pytest.raises(error):
            host.run(["touch", "x"], deadline=soon(), changes=changes)
        assert (len(host.executed), len(done), host.connected) == (arrived, worked, False)
        with pytest.raises(HostUnreachable, match="not sent"):
            host.run(["touch", "x"], deadline=soon())
        host.connect(soon())
        assert host.run(["touch", "x"], deadline=soon()).ok
        assert len(done) == worked + 1

    def test_a_host_that_is_off(self) -> None:
        with pytest.raises(HostUnreachable):
            FakeTransport(listening=False).connect(soon())

    def test_streams_break_with_the_link(self) -> None:
        host = fake_host()
        stream = host.open_stream(["sh", "-c", "while read line"], deadline=soon())
        host.close()
        with pytest.raises(HostUnreachable, match="link lost"):
            stream.read_until(b"never", soon())
