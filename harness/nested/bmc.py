"""The management controller of a practice machine: ipmi_sim(1), which starts and kills QEMU as a BMC switches power.

Its files lie in the machine's directory, which is also its working directory and that of the QEMU it starts. It
outlives the command that started it. What it does to the machine it does by a program of ours (`chassis_control`): its
own wire to a virtual machine is a TCP port on which whoever connects is the machine. Formats: ipmi_lan(5),
ipmi_sim_cmd(5).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from harness.base.deadline import Deadline, poll
from harness.base.errors import LabError
from harness.base.process import environment, find
from harness.nested import serialport
from harness.nested.rundir import emulator_pid

USER = "maskall"
POWER_ON = "power-on"
"""The script beside the configuration that becomes QEMU."""

RESET = "reset"
"""The script that resets a machine that is on, where that can be done."""

_PID = "bmc.pid"
_LOG = "bmc.log"
_PASSWORD = "password"  # noqa: S105 - the name of a file
_START_SECONDS = 10.0
_CONTROL = "control"

# `get power`, `set power 0|1`, `set reset 1`. QEMU ends at once on SIGTERM; one that hangs is killed after 3 s. A
# recycled pid is told by its working directory.
_CONTROL_SCRIPT = f"""\
#!/bin/sh
# What the controller does to its machine.
exec 2>>bmc.log
on() {{
    pid=$(cat machine.pid 2>/dev/null) && [ "$(readlink "/proc/$pid/cwd")" = "$(pwd -P)" ]
}}
case "$1 $2 $3" in
"get power "*)
    if on; then echo power:1; else echo power:0; fi
    ;;
"set power 1")
    on && exit 0
    ./{POWER_ON} </dev/null >/dev/null 2>&1 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&- & # the controller's sockets are its own
    echo $! >machine.pid
    ;;
"set power 0")
    on || exit 0
    kill "$pid"
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
        on || exit 0
        sleep 0.2
    done
    kill -9 "$pid"
    ;;
"set reset 1") on && exec ./{RESET} ;;
*) exit 1 ;;
esac
"""

# One controller at the usual address 0x20. 0x9f: it has a chassis; the other numbers are of no consequence.
_SETUP = """\
mc_setbmc 0x20
mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02
sel_enable 0x20 1000 0x0a
mc_enable 0x20
"""

# RMCP presence ping (ASF 2.0, 3.2.4.2): every controller answers it, without a session.
_PING = bytes.fromhex("0600ff06 000011be 80000000")


@dataclass(frozen=True)
class Ports:
    """The loopback ports of one machine, the same all its life."""

    ssh: int
    ipmi: int  # UDP
    serial: int  # the machine's serial line, for who wants it so

    @classmethod
    def free(cls, taken: frozenset[int] = frozenset()) -> Ports:
        """Three that nobody uses now, `taken` excepted. LabError when there are none."""
        # below ip_local_port_range: no outgoing connection takes one while the machine is off
        lowest, highest, chosen = 20000, 32000, list[int]()
        for _ in range(1000):
            port = lowest + secrets.randbelow(highest - lowest)
            if port not in taken and port not in chosen and _is_free(port):
                chosen.append(port)
            if len(chosen) == 3:
                return cls(*chosen)
        raise LabError(f"no free port between {lowest} and {highest} on 127.0.0.1")


def _is_free(port: int) -> bool:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True


def lan_conf(ports: Ports, password: str, *, power_on: bool, sol: bool) -> str:
    """ipmi_sim's configuration. Accepted format: ipmi_lan(5)."""
    lines = [
        'name "practice"',
        "startlan 1",
        f"  addr 127.0.0.1 {ports.ipmi}",
        "  priv_limit admin",
        "  allowed_auths_admin md5",
        "  guid a123456789abcdefa123456789abcdef",
        "endlan",
        f'chassis_control "./{_CONTROL}"',
        # `/bin/sh -c "exec ..."` in the controller's working directory, which is the machine's; for the first time only
        f'startcmd "./{_CONTROL} set power 1"',
        f"startnow {'true' if power_on else 'false'}",
        f'user 2 true "{USER}" "{password}" admin 10',
    ]
    if sol:
        lines.append(f'sol "tcp:127.0.0.1:{ports.serial}" 115200')
    return "\n".join(lines) + "\n"


def password_file(directory: Path) -> Path:
    """Where the password of USER is, mode 0600."""
    return directory / _PASSWORD


def configure(directory: Path, ports: Ports, *, power_on: bool, sol: bool) -> None:
    """Write the controller's files; `power_on` says whether the machine is switched on when the controller starts."""
    password = secrets.token_hex(8)  # IPMI takes 16 bytes everywhere, 20 in 2.0 only
    for path, text in (
        (password_file(directory), password + "\n"),
        (directory / "lan.conf", lan_conf(ports, password, power_on=power_on, sol=sol)),
        (directory / "bmc.emu", _SETUP),
    ):
        path.touch(mode=0o600)
        path.write_text(text)
    script = directory / _CONTROL
    script.write_text(_CONTROL_SCRIPT)
    script.chmod(0o700)
    (directory / "bmc-state").mkdir()


def start(directory: Path, ports: Ports, *, serial: bool) -> None:
    """Start the controller and hear it answer. LabError with its last words when it does not.

    `serial`: the machine's serial line is on its port, for this user alone.
    """
    argv = [find("ipmi_sim"), "-c", "lan.conf", "-f", "bmc.emu", "-s", "bmc-state", "-n"]
    if serial:
        argv = [sys.executable, "-IS", serialport.__file__, str(ports.serial), *argv]
    with (directory / _LOG).open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 - argv list of our own making
            argv,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=environment(),
        )
    (directory / _PID).write_text(f"{process.pid}\n")

    def answered() -> bool:
        return process.poll() is not None or answers(ports.ipmi)

    if not poll(answered, Deadline.after(_START_SECONDS), every=0.02) or process.poll() is not None:
        words = (directory / _LOG).read_text(errors="replace").strip().splitlines()
        process.kill()
        process.wait()
        raise LabError(f"the management controller did not start: {words[-1] if words else 'it wrote nothing'}")


def answers(port: int) -> bool:
    """Whether a controller answers at this loopback port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.settimeout(0.3)
        try:
            link.connect(("127.0.0.1", port))
            link.send(_PING)
            return link.recv(64)[8:9] == b"\x40"  # presence pong
        except OSError:
            return False


def pid(directory: Path) -> int | None:
    """The controller's pid, None when it does not run. A recycled pid is told as an emulator's is."""
    return emulator_pid(directory, _PID)


def stop(directory: Path) -> None:
    """End the controller, which then can switch nothing on any more, and what it has just begun to start."""
    leader = pid(directory)
    if leader is None:
        return
    poll(lambda: not _killed(_members(directory, leader)), Deadline.after(10))


def _killed(numbers: list[int]) -> list[int]:
    for number in numbers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    return numbers


def _members(directory: Path, leader: int) -> list[int]:
    """The controller's session in its directory, itself included: QEMU may not have written its pid yet."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            # proc(5): session is the fourth field behind the command's name, which ends with the last bracket
            session = int((process / "stat").read_text().rpartition(")")[2].split()[3])
            if session == leader and (process / "cwd").readlink() == directory.resolve():
                found.append(int(process.name))
    return sorted(found)
