"""The practice machine without QEMU and ipmi_sim: its files, its processes, and that nothing is left of it."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.cli import practice as cli
from harness.cli.nested import clean_cache
from harness.deadline import Deadline, poll
from harness.errors import LabError, LockHeld, UsageError
from harness.lab.control import CommandConsole, IpmiConsole, IpmiPower, TcpConsole
from harness.lab.secret import resolve
from harness.nested import bmc, practice, prerequisites, rundir, workbench
from harness.nested.accelerator import Accelerator
from harness.nested.bmc import Ports
from harness.nested.cache import Cache
from harness.nested.devices import ROOT_PORTS
from harness.nested.machine import Boot, MachineSpec
from harness.nested.practice import State
from harness.nested.rootfs import KeyPair
from harness.nested.stacks import stack
from harness.nested.workbench import ConsoleWay
from harness.report.progress import Progress

PORTS = Ports(ssh=20001, ipmi=20002, system=20003, serial=20004)
SPEC = MachineSpec(
    Boot(Path("/c/xen"), Path("/c/vmlinuz"), Path("/c/initrd"), "loglvl=all", "quiet"),
    Accelerator("tcg", "qemu64,+svm", "why"),
    workbench.models(),
)
HOST_KEY = KeyPair.fresh("xenhost").public.strip()
# It starts the machine when told to, answers a presence ping, and starts it once more for every other packet.
IPMI_SIM = f"""#!{sys.executable} -S
import re, socket, subprocess, sys
text = open("lan.conf").read()
link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
link.bind(("127.0.0.1", int(re.search(r"addr 127.0.0.1 (\\d+)", text)[1])))
start = re.search(r'startcmd "(.*)"', text)[1]
if "startnow true" in text:
    subprocess.Popen(["/bin/sh", "-c", "exec " + start], env={{}})
while True:
    data, peer = link.recvfrom(64)
    link.sendto(data[:8] + b"\\x40", peer)
"""
QEMU = """#!/bin/sh
echo $$ > qemu.pid
printf '%s\\n' "$@" > arguments
env > environment
exec sleep 60
"""


class Silent:
    @contextlib.contextmanager
    def phase(self, name: str, expected: float | None = None) -> Iterator[None]:
        yield

    def note(self, text: str) -> None:
        pass


PROGRESS: Progress = Silent()  # type: ignore[assignment]  # phases are all it needs


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where ipmi_sim and QEMU are looked for first."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (("ipmi_sim", IPMI_SIM), ("qemu-system-x86_64", QEMU)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


@pytest.fixture
def cache(tmp_path: Path, programs: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cache]:
    """A cache in an awkward place, and a lab whose image needs no building."""
    cache = Cache(tmp_path / "a $HOME; cache")
    (tmp_path / "host_key.pub").write_text(HOST_KEY + "\n")
    (tmp_path / "user_key").write_text("private\n")
    image = SimpleNamespace(
        disk=tmp_path / "root.ext4", host_key=tmp_path / "host_key.pub", user_key=tmp_path / "user_key"
    )
    lab = SimpleNamespace(image=image, machine_spec=SPEC)
    monkeypatch.setattr(practice, "NestedLab", lambda *_: lab)
    monkeypatch.setattr(practice, "overlay", lambda _backing, _format, path: path.touch())
    monkeypatch.setattr(prerequisites, "install", lambda *_args, **_words: [])
    monkeypatch.setenv("MASKALL_CACHE", str(cache.root))
    yield cache
    for machine in practice.machines(cache):
        practice.down(machine.name, cache)


def up(cache: Cache, name: str = "one", **more: object) -> practice.Practice:
    return practice.up(name, stack("trixie"), PROGRESS, cache=cache, **more)  # type: ignore[arg-type]


def on(machine: practice.Practice) -> int:
    pid = poll(lambda: machine.emulator, Deadline.after(5), every=0.01)
    assert pid is not None
    return pid


def gone(pid: int) -> bool:
    """Ended; its parent may not have asked for its status yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@contextlib.contextmanager
def stranger(cwd: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is none of ours."""
    process = subprocess.Popen([shutil.which("sleep") or "sleep", "60"], cwd=cwd)  # noqa: S603 - a path we looked up
    try:
        yield process
    finally:
        process.kill()
        process.wait()


class TestFiles:
    def test_each_device_has_its_own_root_port_and_mark(self) -> None:
        models = workbench.models()
        slots = [model.slot for model in models.values()]
        assert len(set(slots)) == len(slots) and max(slots) <= ROOT_PORTS
        assert {model.driver for model in models.values()} == {"nvme", "virtio-rng", "e1000e"}

    def test_the_command_line(self) -> None:
        words = SPEC.arguments(disk=Path("disk.qcow2"), ram=None, ssh_port=22022, serial="chardev:serial")
        text = " ".join(words)
        assert "memory-backend" not in text and "-no-reboot" not in words
        assert "hostfwd=tcp:127.0.0.1:22022-10.0.2.15:22" in text
        assert "-drive file=datadisk.raw,if=none,id=datadisk-drive,format=raw" in text
        assert "nvme,id=datadisk-dev,bus=rp5,drive=datadisk-drive,serial=maskall-datadisk" in words
        assert f"e1000e,id=e1000e-dev,bus=rp1,netdev=e1000e-net,mac={workbench.MAC}" in words
        assert words[words.index("-serial") + 1] == "chardev:serial"

    def test_nothing_listens_outside_of_loopback(self) -> None:
        text = practice.power_on_script(Path("/m"), SPEC, PORTS) + bmc.lan_conf(PORTS, "x", power_on=True, sol=True)
        assert "0.0.0.0" not in text  # noqa: S104 - that is the point
        for port in (PORTS.ssh, PORTS.ipmi, PORTS.system, PORTS.serial):
            assert str(port) in text
        assert text.count("host=127.0.0.1") == 2

    def test_a_directory_of_any_name(self) -> None:
        lines = practice.power_on_script(Path("/it's $HOME; `x`"), SPEC, PORTS).splitlines()
        assert shlex.split(lines[2]) == ["cd", "/it's $HOME; `x`", "||", "exit"]

    @pytest.mark.parametrize(("power_on", "sol"), [(True, True), (False, False)])
    def test_the_controllers_configuration(self, power_on: bool, sol: bool) -> None:
        lines = bmc.lan_conf(PORTS, "s3cret", power_on=power_on, sol=sol).splitlines()
        assert f"startnow {'true' if power_on else 'false'}" in lines
        assert (f'sol "tcp:127.0.0.1:{PORTS.serial}" 115200' in lines) is sol
        assert 'user 2 true "maskall" "s3cret" admin 10' in lines

    @pytest.mark.parametrize(
        ("way", "kind"),
        [(ConsoleWay.LOG, CommandConsole), (ConsoleWay.SOL, IpmiConsole), (ConsoleWay.TCP, TcpConsole)],
    )
    def test_the_inventory_is_one(self, tmp_path: Path, way: ConsoleWay, kind: type[object]) -> None:
        bmc.configure(tmp_path, PORTS, power_on=False, sol=True)
        secret = (tmp_path / "password").read_text().strip()
        path = workbench.write_inventory(tmp_path, "one", HOST_KEY, PORTS, way)
        entry = workbench.entry_of(tmp_path, "one")
        assert (entry.port, entry.host_key, entry.allow_persistent) == (PORTS.ssh, HOST_KEY, False)
        assert isinstance(entry.console, kind) and isinstance(entry.power, IpmiPower)
        assert resolve(entry.power.password).reveal() == secret
        assert secret not in path.read_text()
        assert entry.devices["virtio-rng"].identity.path == "0000:00:12.0/00.0"
        assert entry.devices["e1000e"].identity.mac == workbench.MAC
        assert entry.devices["nvme"].identity.serial != entry.devices[workbench.DATA_DISK].identity.serial
        assert entry.devices[workbench.DATA_DISK].endings == ()

    def test_secrets_are_for_nobody_else(self, tmp_path: Path) -> None:
        bmc.configure(tmp_path, PORTS, power_on=False, sol=True)
        for name in ("password", "lan.conf"):
            assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600

    def test_ports_are_free_and_distinct(self) -> None:
        ports = Ports.free()
        chosen = {ports.ssh, ports.ipmi, ports.system, ports.serial}
        assert len(chosen) == 4
        with pytest.raises(LabError, match="no free port"):
            Ports.free(frozenset(range(20000, 32000)))


def test_up_and_down(cache: Cache) -> None:
    machine = up(cache)
    emulator, controller = on(machine), bmc.pid(machine.path)
    assert controller is not None and machine.state is State.ON
    assert stat.S_IMODE(machine.path.stat().st_mode) == 0o700
    assert stat.S_IMODE((machine.path / "key").stat().st_mode) == 0o600
    assert (machine.path / "key").read_text() == "private\n"
    assert poll((machine.path / "environment").exists, Deadline.after(5), every=0.01)
    assert os.getsid(controller) == controller, "it outlives the command that started it"
    assert machine.entry.power is not None
    assert [one.name for one in practice.machines(cache)] == ["one"]
    assert machine.ssh_command[-1] == "one"
    assert str(machine.path / "known_hosts") in (machine.path / "ssh_config").read_text()
    assert [line.split("  ")[:2] for line in cli.status_lines()] == [["one", "on"]]
    practice.down("one", cache)
    assert gone(emulator) and gone(controller)
    assert not machine.path.exists() and practice.machines(cache) == []


def test_the_machine_gets_nothing_of_our_environment(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "s3cret")
    machine = up(cache)
    on(machine)
    environment = machine.path / "environment"
    assert poll(lambda: environment.exists() and environment.stat().st_size, Deadline.after(5), every=0.01)
    assert "SOME_TOKEN" not in environment.read_text()


def test_it_may_begin_switched_off(cache: Cache) -> None:
    machine = up(cache, power_on=False)
    assert machine.state is State.OFF


def test_a_name_is_given_once(cache: Cache) -> None:
    machine = up(cache, power_on=False)
    before = (machine.path / "password").read_text()
    with pytest.raises(UsageError, match=r"a practice machine 'one' already \(off\).*practice down one"):
        up(cache)
    assert (machine.path / "password").read_text() == before
    assert machine.state is State.OFF


@pytest.mark.parametrize("name", ["", "-x", "../x", "a b", "a/b", ".x", "x" * 64, "ä", "a\n"])
def test_a_name_that_is_none(cache: Cache, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be a machine's name"):
        up(cache, name)
    with pytest.raises(UsageError, match="there is no practice machine"):
        practice.down(name, cache)


def test_two_commands_at_once(cache: Cache) -> None:
    with practice._locked(practice.root_of(cache), "one"), pytest.raises(LockHeld):
        up(cache)


def test_ports_of_a_machine_that_is_off_are_not_given_away(cache: Cache) -> None:
    machine = up(cache, power_on=False)
    assert machine.entry.port in practice._taken(cache)


def test_a_controller_that_does_not_start_leaves_nothing(cache: Cache, programs: Path) -> None:
    (programs / "ipmi_sim").write_text("#!/bin/sh\necho nonsense in lan.conf >&2\nexit 1\n")
    with pytest.raises(LabError, match=r"controller did not start: nonsense in lan\.conf"):
        up(cache)
    assert [path for path in practice.root_of(cache).iterdir() if path.is_dir()] == []


def test_a_machine_whose_controller_died_is_found_and_ended(cache: Cache) -> None:
    machine = up(cache)
    emulator, controller = on(machine), bmc.pid(machine.path)
    assert controller is not None
    os.kill(controller, signal.SIGKILL)
    assert poll(lambda: machine.state is State.DEAD, Deadline.after(5), every=0.01)
    assert not gone(emulator), "a machine goes on without its controller"
    assert "maskall practice down one" in next(cli.status_lines())
    practice.down("one", cache)
    assert gone(emulator) and not machine.path.exists()


def test_an_emulator_that_has_not_written_its_pid_yet_is_ended_too(cache: Cache) -> None:
    machine = up(cache)
    emulator = on(machine)
    (machine.path / "qemu.pid").unlink()
    practice.down("one", cache)
    assert poll(lambda: gone(emulator), Deadline.after(5), every=0.01)


def test_a_recycled_pid_is_not_killed(cache: Cache, tmp_path: Path) -> None:
    machine = up(cache, power_on=False)
    controller = bmc.pid(machine.path)
    assert controller is not None
    try:
        with stranger(tmp_path) as process:
            (machine.path / "bmc.pid").write_text(f"{process.pid}\n")
            (machine.path / "qemu.pid").write_text(f"{process.pid}\n")
            assert machine.state is State.DEAD
            practice.down("one", cache)
            assert process.poll() is None
    finally:
        os.kill(controller, signal.SIGKILL)


def test_a_shell_of_a_person_in_the_directory_is_left_alone(cache: Cache) -> None:
    machine = up(cache, power_on=False)
    with stranger(machine.path) as person:
        practice.down("one", cache)
        assert person.poll() is None


def test_only_what_is_in_session_and_directory_is_the_controllers(tmp_path: Path) -> None:
    with stranger(tmp_path) as process:
        assert bmc._members(tmp_path, os.getsid(0)) == [process.pid]


def test_the_image_below_its_disk_is_not_cleaned_away(cache: Cache) -> None:
    up(cache, power_on=False)
    with pytest.raises(LockHeld, match="in use by the practice machine one"):
        clean_cache()


def test_the_nearest_name_and_the_nearest_console(cache: Cache) -> None:
    up(cache, power_on=False)
    with pytest.raises(UsageError, match="did you mean 'one'"):
        cli.inventory_path("ome")
    with pytest.raises(UsageError, match="did you mean 'tcp'"):
        cli.bring_up("two", "trixie", "tpc", None, power_on=True, sudo=False)


def test_the_nested_list_of_programs_is_unchanged() -> None:
    assert not {need.package for need in prerequisites.PREREQUISITES} & {"openipmi", "ipmitool"}
    nothing = prerequisites.Prerequisite("some-package", "no-such-program", "a test")
    assert nothing in prerequisites.missing(besides=(nothing,))
    assert nothing not in prerequisites.missing()


def test_emulator_pid_takes_another_file(tmp_path: Path) -> None:
    with stranger(tmp_path) as process:
        (tmp_path / "bmc.pid").write_text(f"{process.pid}\n")
        assert rundir.emulator_pid(tmp_path, "bmc.pid") == process.pid
        assert rundir.emulator_pid(tmp_path) is None
