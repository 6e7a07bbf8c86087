"""What only a link over a wire can get wrong."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path

import paramiko
import pytest

from harness.base.deadline import Deadline, poll
from harness.base.errors import (
    HostHung,
    HostKeyMismatch,
    HostUnreachable,
    OutcomeUnknown,
    UsageError,
)
from harness.transport.base import CommandResult, Script, Stream, quote
from harness.transport.ssh import SshTransport
from harness.transport.ssh_connect import Endpoint
from harness.transport.ssh_watch import HeardSocket
from suites.selftest.fakes.patience import FOREVER, soon
from suites.selftest.fakes.sshlink import MIB, Dial
from suites.selftest.fakes.sshserver import SshServer, Wire, listening


def lines(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


def freeze_when_it_runs(wire: Wire, mark: Path) -> None:
    """Freeze the wire, from a thread, once the command has made its mark."""

    def work() -> None:
        poll(mark.exists, soon())
        wire.freeze()

    threading.Thread(target=work, daemon=True).start()


class TestSshLink:
    def test_another_host_key_is_refused_before_login(self, server: SshServer, dial: Dial) -> None:
        with pytest.raises(HostKeyMismatch, match="another host key"):
            dial(server.port, host_key="other").connect(soon())

    def test_another_user_key_is_refused_at_once(self, server: SshServer, dial: Dial) -> None:
        with pytest.raises(HostUnreachable, match="login as 'me' refused"):
            dial(server.port, key="other").connect(soon())

    def test_bad_keys_are_told_without_a_network(self, keys: Path, tmp_path: Path) -> None:
        for pinned in ("", "ssh-ed25519", "ssh-ed25519 !!", "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAA"):
            with pytest.raises(UsageError, match="not a host key"):
                SshTransport("box", "127.0.0.1", host_key=pinned, key_file=keys / "user")
        with pytest.raises(UsageError, match="no usable private key"):
            SshTransport("box", "127.0.0.1", host_key=paramiko.PKey.from_path(keys / "host"), key_file=tmp_path / "no")

    def test_falls_back_to_dearer_algorithms(self, server: SshServer, dial: Dial) -> None:
        server.kex = ("ecdh-sha2-nistp256",)
        transport = dial(server.port)
        transport.connect(soon())
        assert transport.run(["echo", "hello"], deadline=soon()).ok

    def test_waits_for_a_host_that_boots(self, keys: Path, dial: Dial, monkeypatch: pytest.MonkeyPatch) -> None:
        server = SshServer(*(paramiko.PKey.from_path(keys / name) for name in ("host", "user")), up=False)
        transport = dial(server.port)
        with pytest.raises(HostUnreachable, match="in time"):
            transport.connect(Deadline.after(0.2))
        dial_once, attempts = Endpoint._dial, itertools.count(1)

        def counted(endpoint: Endpoint, attempt: int) -> HeardSocket:
            if next(attempts) == 3:
                server.come_up()
            return dial_once(endpoint, attempt)

        monkeypatch.setattr(Endpoint, "_dial", counted)
        transport.connect(soon())
        assert transport.run(["echo", "hello"], deadline=soon()).ok
        assert next(attempts) > 3
        server.stop()

    def test_a_listener_that_never_speaks_is_not_a_host(self, dial: Dial) -> None:
        with listening() as mute, pytest.raises(HostUnreachable, match="in time"):
            dial(mute.getsockname()[1]).connect(Deadline.after(0.3))

    def test_one_connection_for_all_commands(self, server: SshServer, dial: Dial) -> None:
        transport = dial(server.port)
        transport.connect(soon())
        results: list[CommandResult] = []
        threads = [
            threading.Thread(target=lambda: results.append(transport.run(["echo", "x"], deadline=soon())))
            for _ in range(5)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [result.text for result in results] == ["x\n"] * 5
        assert server.connections == 1

    def test_cut_before_a_changing_command(self, server: SshServer, wire: Wire, dial: Dial, tmp_path: Path) -> None:
        transport = dial(wire.port)
        transport.connect(soon())
        wire.cut()
        marks = tmp_path / "marks"
        with pytest.raises(HostUnreachable):
            transport.run(Script(f"echo x >> {quote([str(marks)])}"), deadline=soon(), changes=True)
        assert (lines(marks), server.commands) == (0, [])
        with pytest.raises(HostUnreachable, match="not sent"):
            transport.run(["echo", "hello"], deadline=soon(), changes=True)
        transport.connect(soon())
        assert transport.run(["echo", "hello"], deadline=soon()).ok
        assert lines(marks) == 0

    @pytest.mark.parametrize(("changes", "error"), [(True, OutcomeUnknown), (False, HostUnreachable)])
    def test_cut_during_a_command(
        self, server: SshServer, wire: Wire, dial: Dial, tmp_path: Path, changes: bool, error: type[Exception]
    ) -> None:
        transport = dial(wire.port)
        transport.connect(soon())
        marks = tmp_path / "marks"

        def cut_when_it_runs() -> None:
            poll(lambda: lines(marks), soon())
            wire.cut()

        threading.Thread(target=cut_when_it_runs).start()
        with pytest.raises(error, match="sleep 3600"):
            transport.run(Script(f"echo x >> {quote([str(marks)])}; sleep 3600"), deadline=soon(), changes=changes)
        transport.connect(soon())
        assert transport.run(["echo", "hello"], deadline=soon()).ok
        assert (lines(marks), len(server.commands)) == (1, 2)

    def test_cut_after_a_changing_command(self, server: SshServer, wire: Wire, dial: Dial, tmp_path: Path) -> None:
        transport = dial(wire.port)
        transport.connect(soon())
        marks = tmp_path / "marks"
        server.before_answer = wire.cut
        with pytest.raises(OutcomeUnknown, match="do not send it again"):
            transport.run(Script(f"echo x >> {quote([str(marks)])}"), deadline=soon(), changes=True)
        assert (lines(marks), len(server.commands)) == (1, 1)

    def test_a_put_that_breaks_leaves_the_old_file(
        self, server: SshServer, wire: Wire, dial: Dial, tmp_path: Path
    ) -> None:
        target = tmp_path / "file"
        target.write_bytes(b"old")
        transport = dial(wire.port)
        transport.connect(soon())
        wire.cut_after = 8 * MIB  # far beyond the start of the command, far before the file's end
        with pytest.raises(OutcomeUnknown):
            transport.put(bytes(32 * MIB), str(target), 0o600, soon())
        assert poll(lambda: server.idle, soon())
        assert list(tmp_path.iterdir()) == [target]
        assert target.read_bytes() == b"old"

    @pytest.mark.parametrize(("changes", "error"), [(True, OutcomeUnknown), (False, HostUnreachable)])
    def test_no_exit_status_is_no_success(
        self, server: SshServer, dial: Dial, changes: bool, error: type[Exception]
    ) -> None:
        transport = dial(server.port)
        transport.connect(soon())
        server.answers = False
        with pytest.raises(error, match="without an exit status"):
            transport.run(["true"], deadline=soon(), changes=changes)

    def test_half_open_link_is_noticed(self, wire: Wire, dial: Dial, tmp_path: Path) -> None:
        transport = dial(wire.port, dead_after=1.0)
        transport.connect(soon())
        stream = transport.open_stream(["sleep", "3600"], deadline=soon())
        mark = tmp_path / "mark"
        freeze_when_it_runs(wire, mark)
        with pytest.raises(OutcomeUnknown, match="no sign of life for 1 s"):
            transport.run(Script(f"touch '{mark}'; sleep 3600"), deadline=soon(), changes=True)
        with pytest.raises(HostUnreachable, match="link lost or closed before"):
            stream.read_until(b"never", soon())
        assert not transport.connected

    def test_half_open_link_under_a_blocked_writer_is_noticed(self, wire: Wire, dial: Dial) -> None:
        transport = dial(wire.port, dead_after=1.0)
        transport.connect(soon())
        streams = [transport.open_stream(Script("cat > /dev/null"), deadline=soon()) for _ in range(6)]
        wire.freeze()
        failed: list[HostUnreachable] = []

        def write(stream: Stream) -> None:
            try:
                stream.write(bytes(4 * MIB), soon())  # together more than all windows and buffers take
            except HostUnreachable as error:
                failed.append(error)

        writers = [threading.Thread(target=write, args=(stream,), daemon=True) for stream in streams]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join(FOREVER)
        assert len(failed) == len(streams)

    def test_a_deadline_holds_while_a_writer_is_blocked(self, wire: Wire, dial: Dial, tmp_path: Path) -> None:
        transport = dial(wire.port, dead_after=30)
        transport.connect(soon())
        mark = tmp_path / "mark"
        freeze_when_it_runs(wire, mark)
        with pytest.raises(HostHung):
            script = Script(f": > {quote([str(mark)])}; cat > /dev/null; sleep 3600")
            transport.run(script, deadline=Deadline.after(0.6), stdin=bytes(64 * MIB))

    def test_a_silent_but_living_link_is_kept(self, wire: Wire, dial: Dial) -> None:
        transport = dial(wire.port, dead_after=1.0)  # a busy machine answers late
        transport.connect(soon())
        assert transport.run(["sleep", "2.5"], deadline=soon()).ok
