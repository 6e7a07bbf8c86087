"""What xl is sent, word by word; every change once, and refusals come back as results."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.base.deadline import Deadline
from harness.base.errors import HostHung, LabError, OutcomeUnknown
from harness.model.address import Bdf
from harness.model.guestspec import GuestSpec, GuestType
from harness.transport.base import CommandResult
from harness.xen.toolstack.xl import Signal, Toolstack, XlToolstack
from suites.selftest.fakes.faketransport import Conversation, Cut, Executed, FakeTransport, Reply
from suites.selftest.fakes.patience import soon

NVME = Bdf.parse("0000:04:00.0")
SPEC = GuestSpec("maskall-a", GuestType.HVM, "/boot/vmlinuz", "/var/lib/maskall/x.cpio", (NVME,))

CREATE = """\
sh -c 'mkdir -p /run/maskall
cat > /run/maskall/maskall-a.cfg || exit 1  # half a configuration is another domain
xl create /run/maskall/maskall-a.cfg 2>&1
status=$?
domid=$(xl domid maskall-a 2>/dev/null) && echo "$domid" 2>/dev/null >>/run/maskall/maskall-a.domids
echo "domid ${domid:-none}"
exit $status
'"""


def host(reply: Reply | None = None, stream: Conversation = bytes) -> FakeTransport:
    """A host that answers everything alike."""
    return FakeTransport(connected=True, commands={".*": reply or Reply()}, streams={".*": stream})


def test_the_real_one_keeps_the_promise() -> None:
    toolstack: Toolstack = XlToolstack(host())
    assert toolstack


class TestCreate:
    def test_what_is_sent(self) -> None:
        machine = host(Reply(b"Parsing config from /run/maskall/maskall-a.cfg\ndomid 7\n"))
        created = XlToolstack(machine).create(SPEC, soon())
        assert machine.executed == [Executed(CREATE, True, SPEC.xl_config().encode())]
        assert (created.domid, created.result.ok) == (7, True)

    def test_a_refusal_is_a_result(self) -> None:
        text = b"libxl: error: xc_assign_device failed: Device or resource busy\ndomid none\n"
        created = XlToolstack(host(Reply(text, status=3))).create(SPEC, soon())
        assert (created.domid, created.result.status, created.result.stdout) == (None, 3, text)

    def test_a_refusal_that_leaves_a_domain_names_it(self) -> None:
        created = XlToolstack(host(Reply(b"error\ndomid 9\n", status=3))).create(SPEC, soon())
        assert (created.domid, created.result.ok) == (9, False)

    @pytest.mark.parametrize("name", ["a b", "", "a;reboot", "../x", "A", "a\n"])
    def test_a_name_that_a_shell_could_read_is_refused(self, name: str) -> None:
        machine = host()
        spec = GuestSpec(name, GuestType.PV, "/k", "/i", ())
        with pytest.raises(LabError, match="is no name for a guest"):
            XlToolstack(machine).create(spec, soon())
        assert machine.executed == []


DEADLINE = Deadline.after(600)
SIMPLE: list[tuple[Callable[[XlToolstack], CommandResult], str]] = [
    (lambda xl: xl.destroy(5, DEADLINE), "xl destroy 5"),
    (lambda xl: xl.attach(5, NVME, DEADLINE), "xl pci-attach 5 0000:04:00.0"),
    (lambda xl: xl.detach(5, NVME, DEADLINE, force=False), "xl pci-detach 5 0000:04:00.0"),
    (lambda xl: xl.detach(5, NVME, DEADLINE, force=True), "xl pci-detach -f 5 0000:04:00.0"),
    (lambda xl: xl.save(5, DEADLINE), "xl save 5 /run/maskall/saved"),
    (lambda xl: xl.pause(5, DEADLINE), "xl pause 5"),
    (lambda xl: xl.unpause(5, DEADLINE), "xl unpause 5"),
    (lambda xl: xl.make_assignable(NVME, DEADLINE), "xl pci-assignable-add 0000:04:00.0"),
    (lambda xl: xl.take_back(NVME, DEADLINE, rebind=False), "xl pci-assignable-remove 0000:04:00.0"),
    (lambda xl: xl.take_back(NVME, DEADLINE, rebind=True), "xl pci-assignable-remove -r 0000:04:00.0"),
]


@pytest.mark.parametrize(("call", "line"), SIMPLE, ids=[line for _, line in SIMPLE])
class TestCommands:
    def test_words_and_refusal(self, call: Callable[[XlToolstack], CommandResult], line: str) -> None:
        machine = host(Reply(stderr=b"no\n", status=1))
        result = call(XlToolstack(machine))
        assert machine.executed == [Executed(line, True, b"")]
        assert (result.status, result.stderr) == (1, b"no\n")

    def test_a_lost_link_is_never_answered_by_sending_again(
        self, call: Callable[[XlToolstack], CommandResult], line: str
    ) -> None:
        machine = host()
        machine.lose_link(Cut.AFTER)
        with pytest.raises(OutcomeUnknown):
            call(XlToolstack(machine))
        assert [one.shown for one in machine.executed] == [line]


@pytest.mark.parametrize("signal", list(Signal))
def test_signals_to_the_device_model(signal: Signal) -> None:
    machine = host(Reply(b"pid 77\n", b"pid 77 is still in state S\n", status=4))
    sent = XlToolstack(machine).signal_device_model(6, signal, soon())
    assert (sent.result.status, sent.pid) == (4, 77)
    (executed,) = machine.executed
    assert executed.changes
    assert "xenstore-read /local/domain/6/image/device-model-pid) || exit 2" in executed.shown
    assert f'kill -{signal} "$pid" || exit 3' in executed.shown


def test_a_domain_without_device_model_has_no_pid() -> None:
    assert XlToolstack(host(Reply(status=2))).signal_device_model(6, Signal.STOP, soon()).pid is None


def _process_script(signal: Signal, pid: int) -> subprocess.CompletedProcess[str]:
    machine = host()
    toolstack = XlToolstack(machine)
    toolstack._signal(str(pid), signal, soon())
    return subprocess.run(f"sh -c {machine.executed[0].shown.removeprefix('sh -c ')}", shell=True, text=True,  # noqa: S602
                          capture_output=True, check=False)  # fmt: skip


def test_the_signal_script_sees_its_effect_on_a_real_process() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:  # noqa: S607
        stopped = _process_script(Signal.STOP, process.pid)
        assert (stopped.returncode, stopped.stdout) == (0, f"pid {process.pid}\n")
        assert _process_script(Signal.KILL, process.pid).returncode == 0
    assert _process_script(Signal.KILL, process.pid).returncode == 3


@pytest.mark.parametrize(("text", "status", "found"), [(b"7\n", 0, 7), (b"", 1, None), (b"what\n", 0, None)])
def test_the_domid_of_a_name(text: bytes, status: int, found: int | None) -> None:
    assert XlToolstack(host(Reply(text, status=status))).domid("maskall-a", soon()) == found


def test_waiting_until_a_domain_is_gone() -> None:
    machine = host(Reply(b"Domain-0\n(null) 6\n6\n", status=1))
    result = XlToolstack(machine).await_gone(6, NVME, Deadline.after(10))
    assert not result.ok
    ((sent),) = machine.executed
    assert not sent.changes
    assert (
        'while xl list 6 >/dev/null 2>&1 || [ "$(xenstore-read /libxl/pci/0000-04-00-0/domid 2>/dev/null)" = 6 ]'
        in sent.shown
    )
    assert "+ 10))" in sent.shown


def test_the_wait_outlives_its_own_attempts() -> None:
    """The script must be able to report what is still there; a hard end would leave nothing but HostHung."""
    assert XlToolstack(host(Reply(status=1, seconds=25))).await_gone(6, NVME, Deadline.after(10)).status == 1
    with pytest.raises(HostHung):
        XlToolstack(host(Reply(status=1, seconds=60))).await_gone(6, NVME, Deadline.after(10))


def test_streams() -> None:
    machine = host(stream=lambda data: data or b"@agent up 5.0\n")
    xl = XlToolstack(machine)
    console = xl.console(4, soon())
    assert console.read_until(b"up 5.0\n", soon()) == b"@agent up 5.0\n"
    xl.start_destroy(4, soon())
    assert "/local/domain/4/console/tty" in machine.executed[0].shown
    assert machine.executed[1].shown == "xl destroy 4"


def test_a_consoles_reader_ends_with_its_input(tmp_path: Path) -> None:
    """One that stayed would take what the guest says to the next reader; here a real shell reads a real terminal."""
    guest, console = os.openpty()
    (tmp_path / "xenstore-read").write_text(f"#!/bin/sh\necho {os.ttyname(console)}\n")
    (tmp_path / "xenstore-read").chmod(0o755)
    sent = host()
    XlToolstack(sent).console(6, soon())
    reader = subprocess.Popen(  # noqa: S603 - as a login shell on the host does it
        ["/bin/sh", "-c", f"exec {sent.executed[0].shown}"],
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert reader.stdin is not None and reader.stdout is not None
    reader.stdin.write(b"token echo hello\n")
    reader.stdin.flush()
    assert os.read(guest, 100) == b"token echo hello\n"
    os.write(guest, b"hello\n")
    assert reader.stdout.readline() == b"hello\n"
    reader.stdin.close()
    assert reader.wait(timeout=20) == -signal.SIGTERM
    assert reader.stdout.read() == b""
    os.close(guest)
    os.close(console)


@pytest.mark.skipif(shutil.which("dash") is None, reason="dash is not installed here")
def test_every_script_parses() -> None:
    machine = host(Reply(status=1))
    xl = XlToolstack(machine)
    xl.create(SPEC, soon())
    xl.signal_device_model(6, Signal.KILL, soon())
    xl.kill_process(7, soon())
    xl.await_gone(6, NVME, Deadline.after(10))
    xl.console(6, soon())
    assert len(machine.executed) == 5
    for sent in machine.executed:
        words = subprocess.run(["dash", "-c", f"printf '%s\\0' {sent.shown}"], capture_output=True, check=True)  # noqa: S603, S607
        shell, option, program, _ = words.stdout.decode().split("\0")
        assert (shell, option) == ("sh", "-c")
        subprocess.run(["dash", "-n"], input=program.encode(), check=True)  # noqa: S607
