"""A domain of a real libvirt, without disk: its firmware looks for something to boot and says so on its console.

The libvirtd is a private one in a directory of its own, not the machine's. For root it runs as `nobody`: only an
unprivileged one keeps all its files where it is told to.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

import bcrypt

from harness.base.deadline import Deadline, poll
from harness.base.errors import LabError
from harness.base.process import find, run
from harness.base.secret import Secret
from harness.lab.power.base import PowerState
from harness.lab.power.libvirt import LibvirtPower
from harness.lab.power.redfish import RedfishPower
from harness.nested.bmc import Ports

DOMAIN = "tiny"
UUID = "6d61736b-616c-4c00-8000-000000000001"
USER = "maskall"
PASSWORD = Secret("p4ss-w0rd-Zebra")
_START_SECONDS = 20.0
_BANNER = b"SeaBIOS (version"

# useserial: what the firmware would write on a screen goes to the serial line (qemu -machine graphics=off)
_XML = """\
<domain type='qemu'>
  <name>{name}</name> <uuid>{uuid}</uuid> <memory unit='MiB'>16</memory>
  <os><type arch='x86_64' machine='pc'>hvm</type><bios useserial='yes'/></os>
  <devices>
    <emulator>{emulator}</emulator>
    <controller type='usb' model='none'/> <memballoon model='none'/>
    <serial type='pty'><log file='{log}' append='on'/></serial> <console type='pty'/>
  </devices>
</domain>
"""


@dataclass(frozen=True)
class TinyDomain:
    """A domain that is defined, and switched off to begin with."""

    folder: Path

    @property
    def entry(self) -> LibvirtPower:
        return LibvirtPower(kind="libvirt", uri=_uri(self.folder), domain=DOMAIN)

    @property
    def boots(self) -> int:
        """How often its firmware began: at each switching on and each reset."""
        log = self.folder / "serial.log"
        return log.read_bytes().count(_BANNER) if log.exists() else 0

    @property
    def emulators(self) -> list[int]:
        """The processes that are the machine: what the process table says, whatever libvirt does."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (process / "cmdline").read_bytes().split(b"\0")
                if f"guest={DOMAIN},".encode() in b" ".join(words) and str(self.folder).encode() in b" ".join(words):
                    found.append(int(process.name))
        return found

    @property
    def state(self) -> PowerState:
        return PowerState.ON if self.emulators else PowerState.OFF


def _uri(folder: Path) -> str:
    return f"qemu+unix:///session?socket={folder}/run/libvirt-sock"


@contextlib.contextmanager
def tiny_domain() -> Iterator[TinyDomain]:
    """A libvirtd with the domain; all of it is gone afterwards. UsageError for a missing program."""
    folder = Path(tempfile.mkdtemp(prefix="maskall-libvirt-"))  # short: a socket's path has 107 characters
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        domain = TinyDomain(folder)
        (folder / "run").mkdir()
        (folder / "config" / "libvirt").mkdir(parents=True)
        (folder / "libvirtd.conf").write_text(f'unix_sock_dir = "{folder}/run"\n')
        # the log of the serial line without a virtlogd
        (folder / "config" / "libvirt" / "qemu.conf").write_text('stdio_handler = "file"\n')
        xml = folder / "domain.xml"
        emulator = escape(find("qemu-system-x86_64"))
        xml.write_text(_XML.format(name=DOMAIN, uuid=UUID, emulator=emulator, log=folder / "serial.log"))
        stack.callback(_kill_emulators, domain)
        stack.enter_context(_daemon(folder))
        run([find("virsh"), "-c", _uri(folder), "define", str(xml)], deadline=Deadline.after(_START_SECONDS))
        yield domain


@contextlib.contextmanager
def _daemon(folder: Path) -> Iterator[None]:
    argv = [find("libvirtd"), "--config", str(folder / "libvirtd.conf"), "--pid-file", str(folder / "pid")]
    if os.geteuid() == 0:
        run(["chown", "-R", "nobody", str(folder)], deadline=Deadline.after(_START_SECONDS))
        argv = [find("setpriv"), "--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "--", *argv]
    home = {name: str(folder / "config") for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME")}
    environment = {**os.environ, **home, "XDG_RUNTIME_DIR": str(folder / "run")}
    with _background(argv, folder / "libvirtd.log", environment) as alive:
        socket = folder / "run" / "libvirt-sock"
        if not poll(lambda: socket.exists() or not alive(), Deadline.after(_START_SECONDS)) or not alive():
            raise LabError(f"libvirtd did not start: {(folder / 'libvirtd.log').read_text()[-400:]}")
        yield


@contextlib.contextmanager
def redfish_of(domain: TinyDomain, folder: Path) -> Iterator[RedfishPower]:
    """The emulator of sushy-tools as the management controller of the domain."""
    port = Ports.free().serial  # any that nobody uses
    users = folder / "users"
    users.write_text(f"{USER}:{bcrypt.hashpw(PASSWORD.reveal().encode(), bcrypt.gensalt(4)).decode()}\n")
    config = folder / "emulator.conf"
    config.write_text(
        f"SUSHY_EMULATOR_AUTH_FILE = {str(users)!r}\n"
        f"SUSHY_EMULATOR_STATE_DIR = {str(folder)!r}\n"
        "SUSHY_EMULATOR_LISTEN_IP = '127.0.0.1'\n"
        f"SUSHY_EMULATOR_LISTEN_PORT = {port}\n"
        f"SUSHY_EMULATOR_LIBVIRT_URI = {domain.entry.uri!r}\n"
    )
    argv = [sys.executable, "-m", "sushy_tools.emulator.main", "--config", str(config)]
    log = folder / "emulator.log"
    with _background(argv, log, dict(os.environ)) as alive:
        ready = b"Running on"
        if not poll(lambda: ready in log.read_bytes() or not alive(), Deadline.after(_START_SECONDS)) or not alive():
            raise LabError(f"the Redfish emulator did not start: {log.read_text()[-400:]}")
        yield RedfishPower(
            kind="redfish",
            url=f"http://127.0.0.1:{port}",
            user=USER,
            password="env:NEVER_READ",  # noqa: S106
            system=f"/redfish/v1/Systems/{UUID}",
        )


@contextlib.contextmanager
def _background(argv: list[str], log: Path, environment: dict[str, str]) -> Iterator[object]:
    """Yields a function that tells whether it runs."""
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - argv list of our own making
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment
        )
    try:
        yield lambda: process.poll() is None
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _kill_emulators(domain: TinyDomain) -> None:
    for pid in domain.emulators:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    poll(lambda: not domain.emulators, Deadline.after(5))
