"""The practice machine: a nested Xen host used as a stranger's machine on a bench.

Reached over ssh with a pinned key, switched by a management controller, no debugger, no snapshots. It lives in a
directory of its own until `down`: its disk outlives power cycles, its controller outlives the command that started it.
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import json
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from harness.base.deadline import Deadline, poll
from harness.base.errors import HostUnreachable, LabError, LockHeld, UsageError
from harness.base.process import find, run
from harness.base.progress import Progress
from harness.base.yamlfile import nearest
from harness.host.stacks import Stack
from harness.lab.inventory.models import LabEntry
from harness.lab.lease.site import Site
from harness.nested import access, bmc, prerequisites, rundir, serialport, workbench
from harness.nested.bmc import Ports
from harness.nested.cache import Cache, remove_tree
from harness.nested.lab import NestedLab
from harness.nested.machine import MachineSpec, make_drive
from harness.nested.workbench import ConsoleWay

DEFAULT_NAME = "practice"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_PORTS = "ports.json"
_ASK_SECONDS = 30.0


class State(enum.StrEnum):
    """Of a practice machine."""

    ON = "on"
    OFF = "off"
    DEAD = "its controller is gone"  # perhaps with QEMU still running; only `down` helps


@dataclass(frozen=True)
class Practice:
    """A practice machine that exists."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def inventory(self) -> Path:
        """The file that describes it as a lab host, with all that is needed to reach and switch it."""
        return self.path / "inventory.yaml"

    @property
    def entry(self) -> LabEntry:
        return workbench.entry_of(self.path, self.name)

    @property
    def console_log(self) -> Path:
        """Everything its serial line said since it was made."""
        return self.path / "console.log"

    @property
    def state(self) -> State:
        if bmc.pid(self.path) is None:
            return State.DEAD
        return State.OFF if self.emulator is None else State.ON

    @property
    def emulator(self) -> int | None:
        """The pid of its QEMU, None while it is off."""
        return rundir.emulator_pid(self.path)

    @property
    def ssh_command(self) -> list[str]:
        """The ssh(1) that a person uses."""
        return access.command(self.path) or []


def root_of(cache: Cache) -> Path:
    return cache.root / "practice"


def machines(cache: Cache) -> list[Practice]:
    """All that exist, whoever made them."""
    root = root_of(cache)
    return [Practice(path) for path in sorted(root.iterdir()) if _is_machine(path)] if root.is_dir() else []


def pick(name: str, cache: Cache) -> Practice:
    """The machine of this name. UsageError with the nearest name."""
    known = {machine.name: machine for machine in machines(cache)}
    if name not in known:
        hint = nearest(name, known) or "make one with: maskall practice up"
        raise UsageError(f"there is no practice machine {name!r}", hint=hint)
    return known[name]


def up(
    name: str,
    stack: Stack,
    progress: Progress,
    *,
    cache: Cache | None = None,
    power_on: bool = True,
    console: ConsoleWay = ConsoleWay.LOG,
    sudo: bool = False,
) -> Practice:
    """Make a machine and start its controller, which switches it on unless told not to; its boot is not waited for.

    Installs what is missing and builds the stack's image when it is not there. Raises UsageError (a wrong name, one
    that is taken), LockHeld, LabError.
    """
    cache = cache or Cache()
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} cannot be a machine's name", hint="letters, digits, - and _; not - or _ first")
    with _locked(root_of(cache), name) as path:
        _refuse_taken(path)
        prerequisites.install(
            progress, log=cache.root / "logs" / "packages.log", sudo=sudo, besides=prerequisites.PRACTICE
        )
        lab = NestedLab(stack, [], cache, progress)
        spec = replace(lab.machine_spec, devices=workbench.models(), ssh=22)  # sshd, as a stranger's machine has it
        fresh = Path(tempfile.mkdtemp(prefix=".new-", dir=root_of(cache)))  # mode 0700: there are secrets in it
        try:
            ports = Ports.free(_taken(cache))
            _fill(fresh, path, lab, spec, ports, console)
            bmc.configure(fresh, ports, power_on=power_on, sol=console is ConsoleWay.SOL)
            fresh.rename(path)
        except BaseException:
            remove_tree(fresh)
            raise
        try:
            workbench.write_inventory(path, name, _host_key(lab), ports, console)
            bmc.start(path, ports, serial=console is not ConsoleWay.LOG)
        except BaseException:
            _end(path)
            raise
    return Practice(path)


def await_answer(machine: Practice) -> None:
    """Until it answers on ssh and its Xen daemons answer xl; HostUnreachable or LabError, and it stays as it is."""
    site = Site.find(machine.inventory, machine.name)
    deadline = Deadline.after(site.entry.boot_seconds)
    link = site.transport()
    hint = f"see {machine.console_log}, or end it: maskall practice down {machine.name}"
    try:
        link.connect(deadline)
        ready = poll(lambda: link.run(["xl", "info"], deadline=Deadline.after(_ASK_SECONDS)).ok, deadline, every=1.0)
    except HostUnreachable as error:
        raise HostUnreachable(error.message, hint=hint, why=error.why) from error
    finally:
        link.close()
    if not ready:
        raise LabError(f"{machine.name} answers on ssh, and xl does not", hint=hint)


def down(name: str, cache: Cache | None = None) -> None:
    """End controller and machine, whatever state they are in, and remove all of it. UsageError for an unknown name."""
    cache = cache or Cache()
    machine = pick(name, cache)
    with _locked(root_of(cache), name):
        _end(machine.path)


def _end(path: Path) -> None:
    bmc.stop(path)  # first: nothing may switch the machine on again
    rundir.remove(path)
    if path.exists():
        raise LabError(f"{path} could not be removed", hint="see which process still uses it")


def _fill(directory: Path, home: Path, lab: NestedLab, spec: MachineSpec, ports: Ports, console: ConsoleWay) -> None:
    """Everything but the controller's files; `home` is where the directory will be."""
    deadline = Deadline.after(60)
    lab.emulator.overlay(lab.image.disk, "raw", directory / "disk.qcow2")
    for name, model in spec.devices.items():
        if model.backend.drive:
            make_drive(directory / f"{name}.raw", model)
    data = directory / f"{workbench.DATA_DISK}.raw"
    run([find("mkfs.ext4"), "-q", "-F", "-L", "data", str(data)], deadline=deadline)
    for name, text in (
        (bmc.POWER_ON, power_on_script(home, spec, ports, console)),
        (bmc.RESET, f"#!/bin/sh\nexec {shlex.join([sys.executable, '-IS', '-c', _RESET])}\n"),
    ):
        script = directory / name
        script.write_text(text)
        script.chmod(0o700)
    key = directory / "key"  # its own: the image's may be cleaned away
    key.touch(mode=0o600)
    key.write_bytes(lab.image.user_key.read_bytes())
    (directory / _PORTS).write_text(json.dumps(asdict(ports)) + "\n")
    access.write(directory, name=home.name, port=ports.ssh, host_key=_host_key(lab), key_file=home / "key", home=home)


def power_on_script(home: Path, spec: MachineSpec, ports: Ports, console: ConsoleWay) -> str:
    """What the controller runs: it becomes QEMU, whose end is the machine's power off."""
    where = "file,id=serial,path=console.log,append=on"
    if console is not ConsoleWay.LOG:
        where = f"socket,id=serial,path={serialport.LINE},server=on,wait=off,logfile=console.log,logappend=on"
    argv = [
        *("env", "-i", f"PATH={os.defpath}", *spec.emulator.qemu),
        *spec.arguments(disk=Path("disk.qcow2"), ram=None, ssh_port=ports.ssh, serial="chardev:serial"),
        *("-chardev", where),
    ]
    return (
        "#!/bin/sh\n"
        "# Switches the machine on. Its controller runs this, and kills it to switch the machine off.\n"
        f"cd {shlex.quote(str(home))} || exit\n"
        f"exec {shlex.join(argv)} >>qemu.log 2>&1\n"
    )


# qmp-spec: each side speaks one JSON object a line; nothing may be asked before the capabilities.
_RESET = """\
import json, socket
with socket.socket(socket.AF_UNIX) as monitor:
    monitor.settimeout(5)
    monitor.connect("qmp.sock")
    heard = monitor.makefile()
    heard.readline()
    for name in ("qmp_capabilities", "system_reset"):
        monitor.sendall(json.dumps({"execute": name, "id": name}).encode() + b"\\n")
        answer = {}
        while answer.get("id") != name:
            answer = json.loads(heard.readline())
        assert "return" in answer, answer
"""


def _host_key(lab: NestedLab) -> str:
    return lab.image.host_key.read_text().strip()


def _is_machine(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")


def _taken(cache: Cache) -> frozenset[int]:
    """Ports of the other machines: they are free while those are off."""
    taken: set[int] = set()
    for machine in machines(cache):
        with contextlib.suppress(OSError, ValueError):  # a damaged one takes no port from us
            taken.update(json.loads((machine.path / _PORTS).read_text()).values())
    return frozenset(taken)


def _refuse_taken(path: Path) -> None:
    if path.exists():
        hint = f"end it with: maskall practice down {path.name}"
        raise UsageError(f"there is a practice machine {path.name!r} already ({Practice(path).state})", hint=hint)


@contextlib.contextmanager
def _locked(root: Path, name: str) -> Iterator[Path]:
    """The directory of `name`, while nobody else makes or ends it."""
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(root / f".{name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockHeld(f"another command makes or ends the practice machine {name!r}", hint="try again") from None
        yield (root / name).resolve()
    finally:
        os.close(descriptor)
