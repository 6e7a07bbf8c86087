"""Real controllers without a machine: libvirtd with a domain that has only firmware, sushy-emulator, ipmi_sim.

Each runs in a folder of its own and is ended with it; nothing of this machine's own libvirt is touched.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.base.deadline import Deadline, poll
from harness.base.errors import UsageError
from harness.base.process import end_group, find
from harness.lab.power.ipmi import IpmiPower
from harness.lab.power.libvirt import LibvirtPower
from harness.nested import bmc

DOMAIN = "maskall-bench"
FIRMWARE = b"SeaBIOS"
"""What the domain says on its console when it is switched on."""

_NOBODY = 65534
_START_SECONDS = 15.0
_XML = f"""\
<domain type='qemu'>
  <name>{DOMAIN}</name>
  <uuid>{{uuid}}</uuid>
  <memory unit='MiB'>32</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type><bios useserial='yes'/></os>
  <devices>
    <emulator>{{qemu}}</emulator>
    <serial type='pty'/>
    <console type='pty'/>
    <memballoon model='none'/>
  </devices>
</domain>
"""


def need(*programs: str, module: str = "", package: str = "") -> None:
    """Skip naming what is missing."""
    for program in programs:
        try:
            find(program)
        except UsageError as error:
            pytest.skip(str(error))
    if module:
        pytest.importorskip(module, reason=f"the Python package {package} is not installed")


@contextlib.contextmanager
def _started(argv: Sequence[str], folder: Path, env: dict[str, str] | None = None) -> Iterator[None]:
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 - argv list of our own making
            [find("setpriv"), "--pdeathsig", "TERM", *argv],
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield
    finally:
        end_group(process)


def _appears(what: str, folder: Path, probe: object) -> None:
    if not poll(probe, Deadline.after(_START_SECONDS), every=0.02):  # type: ignore[arg-type]
        pytest.fail(f"{what} did not start: {(folder / 'log').read_text(errors='replace')[-800:]}")


@dataclass(frozen=True)
class LibvirtBench:
    """`uuid` of the one domain."""

    entry: LibvirtPower
    uuid: str


@contextlib.contextmanager
def libvirt_bench() -> Iterator[LibvirtBench]:
    """libvirtd as a user without rights, with a domain that is off (TCG, 32 MiB, no disk, a serial console)."""
    need("libvirtd", "qemu-system-x86_64", "setpriv", module="libvirt", package="libvirt-python")
    folder = Path(tempfile.mkdtemp(prefix="maskall-libvirt-"))  # short: the path of a socket has at most 107 bytes
    sock = folder / "libvirt-sock"
    (folder / "conf").write_text(f'unix_sock_dir = "{folder}"\nauth_unix_rw = "none"\nauth_unix_ro = "none"\n')
    env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(folder)}
    for name in ("RUNTIME_DIR", "CONFIG_HOME", "CACHE_HOME", "DATA_HOME"):
        (folder / name).mkdir(mode=0o700)
        env[f"XDG_{name}"] = str(folder / name)
    argv = [find("libvirtd"), "--config", str(folder / "conf"), "--pid-file", str(folder / "pid")]
    if os.geteuid() == 0:  # as root it would be the system's own libvirt, with its files below /etc and /var
        argv = [f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups", *argv]
        for path in (folder, *folder.iterdir()):
            os.chown(path, _NOBODY, _NOBODY)
    try:
        with _started(argv, folder, env):
            _appears("libvirtd", folder, lambda: _listens(sock))
            entry = LibvirtPower(kind="libvirt", uri=f"qemu+unix:///session?socket={sock}", domain=DOMAIN)
            mark = str(uuid.uuid4())
            _define(entry, _XML.format(uuid=mark, qemu=find("qemu-system-x86_64")))
            yield LibvirtBench(entry, mark)
            _destroy(entry)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _define(entry: LibvirtPower, xml: str) -> None:
    import libvirt

    connection = libvirt.open(entry.uri)
    connection.defineXML(xml)
    connection.close()


def _destroy(entry: LibvirtPower) -> None:
    import libvirt

    connection = libvirt.open(entry.uri)
    with contextlib.suppress(libvirt.libvirtError):  # it is off
        connection.lookupByName(entry.domain).destroy()
    connection.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def redfish_emulator(folder: Path, bench: LibvirtBench, pem: Path, user: str, password: str) -> Iterator[str]:
    """sushy-emulator (sushy-tools) over https in front of that libvirtd; its URL."""
    emulator = Path(sys.executable).with_name("sushy-emulator")
    if not emulator.exists():
        pytest.skip("the Python package sushy-tools is not installed")
    need(module="libvirt", package="libvirt-python")
    import bcrypt

    folder.mkdir()
    (folder / "users").write_text(f"{user}:{bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()}\n")
    (folder / "conf").write_text(
        f"SUSHY_EMULATOR_LIBVIRT_URI = {bench.entry.uri!r}\nSUSHY_EMULATOR_AUTH_FILE = {str(folder / 'users')!r}\n"
        f"SUSHY_EMULATOR_STATE_DIR = {str(folder)!r}\n"
    )
    port = free_port()
    argv = [str(emulator), "--config", str(folder / "conf"), "-i", "127.0.0.1", "-p", str(port)]
    argv += ["--ssl-certificate", str(pem), "--ssl-key", str(pem)]
    with _started(argv, folder):
        _appears("sushy-emulator", folder, lambda: _listens(port))
        yield f"https://127.0.0.1:{port}"


def _listens(where: int | Path) -> bool:
    """At a loopback port, or at a unix socket."""
    with socket.socket(socket.AF_UNIX if isinstance(where, Path) else socket.AF_INET) as probe:
        return probe.connect_ex(str(where) if isinstance(where, Path) else ("127.0.0.1", where)) == 0


# What the controller starts instead of a machine. It says on its serial line that it booted, once to each reader.
_MACHINE = """\
#!{python}
import os, socket
if os.path.exists("serial.sock"):
    os.unlink("serial.sock")
line = socket.socket(socket.AF_UNIX)
line.bind("serial.sock")
line.listen()
open("machine.pid", "w").write(str(os.getpid()))
while True:
    reader, _ = line.accept()
    reader.sendall(b"machine %d booted\\r\\n\\xff\\x00end\\r\\n" % os.getpid())
    while reader.recv(100):
        pass
"""


@dataclass(frozen=True)
class IpmiBench:
    entry: IpmiPower
    folder: Path
    password: str

    @property
    def machine(self) -> int | None:
        """Pid of what the controller switched on; None when it is off."""
        try:
            number = int((self.folder / "machine.pid").read_text())
            os.kill(number, 0)
        except (OSError, ValueError):
            return None
        return number


@contextlib.contextmanager
def ipmi_bench(folder: Path) -> Iterator[IpmiBench]:
    """ipmi_sim with a machine that is off: a program that listens on the serial line."""
    need("ipmi_sim", "ipmitool")
    folder.mkdir()
    ports = bmc.Ports.free()
    bmc.configure(folder, ports, power_on=False, sol=True)
    machine = folder / bmc.POWER_ON
    machine.write_text(_MACHINE.format(python=sys.executable))
    machine.chmod(0o755)
    bmc.start(folder, ports, serial=True)
    reference = f"file:{bmc.password_file(folder)}"
    entry = IpmiPower(
        kind="ipmi",
        address="127.0.0.1",
        port=ports.ipmi,
        user=bmc.USER,
        password=reference,
        cipher_suite=3,  # ipmi_sim has no 17
    )
    bench = IpmiBench(entry, folder, bmc.password_file(folder).read_text().strip())
    try:
        yield bench
    finally:
        bmc.stop(folder)
        if bench.machine:
            os.kill(bench.machine, signal.SIGKILL)
