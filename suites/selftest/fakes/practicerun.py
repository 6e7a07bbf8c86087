"""A practice machine whose QEMU and ipmi_sim are small scripts, and strangers' processes beside it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.base.deadline import poll
from harness.base.progress import Progress
from harness.host.stacks import stack
from harness.nested import practice, prerequisites, workbench
from harness.nested.accelerator import Accelerator
from harness.nested.bmc import Ports
from harness.nested.cache import Cache
from harness.nested.emulator import Emulator
from harness.nested.machine import Boot, MachineSpec
from harness.nested.rootfs import KeyPair
from suites.selftest.fakes.patience import soon

PORTS = Ports(ssh=20001, ipmi=20002, serial=20004)
SPEC = MachineSpec(
    Emulator(("/c/qemu",), ("/c/qemu-img",), "11.1.3", frozenset()),
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
    """Where ipmi_sim is looked for first, and QEMU is."""
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
    emulator = SimpleNamespace(
        qemu=(str(programs / "qemu-system-x86_64"),), overlay=lambda _backing, _format, path: path.touch()
    )
    lab = SimpleNamespace(image=image, emulator=emulator, machine_spec=replace(SPEC, emulator=emulator))
    monkeypatch.setattr(practice, "NestedLab", lambda *_: lab)
    monkeypatch.setattr(prerequisites, "install", lambda *_args, **_words: [])
    monkeypatch.setenv("MASKALL_CACHE", str(cache.root))
    yield cache
    for machine in practice.machines(cache):
        practice.down(machine.name, cache)


def up(cache: Cache, name: str = "one", **more: object) -> practice.Practice:
    return practice.up(name, stack("trixie"), PROGRESS, cache=cache, **more)  # type: ignore[arg-type]


def on(machine: practice.Practice) -> int:
    pid = poll(lambda: machine.emulator, soon(), every=0.01)
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
