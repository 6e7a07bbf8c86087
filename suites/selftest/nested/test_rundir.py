"""Run directories: what a dead harness left behind is removed, and nobody else's."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.base.deadline import poll
from harness.nested.rundir import RunDir, all_runs, emulator_pid, kept_runs, owner_gone, sweep
from suites.selftest.fakes.patience import FOREVER, soon

SLEEP = shutil.which("sleep") or "sleep"
# a harness in another process: makes a run, says where, and lives until it is told to end
OWNER = """\
import sys
from pathlib import Path
from harness.nested.rundir import RunDir
run = RunDir.create(Path(sys.argv[1]))
print(run.path, flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def emulator(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Something that lives in the run directory, as QEMU does."""
    process = subprocess.Popen([SLEEP, "60"], cwd=path)  # noqa: S603 - a path we looked up
    (path / "qemu.pid").write_text(f"{process.pid}\n")
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def abandon(run: RunDir) -> Path:
    """As if the harness died: the kernel drops its lock."""
    os.close(run.lock_fd)
    return run.path


@contextlib.contextmanager
def living_owner(root: Path) -> Iterator[Path]:
    process = subprocess.Popen(  # noqa: S603 - ourselves
        [sys.executable, "-c", OWNER, str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    )
    assert process.stdout is not None and process.stdin is not None
    try:
        yield Path(process.stdout.readline().decode().strip())
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def test_a_dead_owners_directory_goes_with_its_emulator(tmp_path: Path) -> None:
    path = abandon(RunDir.create(tmp_path))
    (path / "disk.qcow2").write_bytes(b"x")
    with emulator(path) as process:
        assert emulator_pid(path) == process.pid
        assert sweep(tmp_path) == [path]
        assert process.wait(FOREVER) == -9
    assert not path.exists()
    assert sweep(tmp_path) == []


def test_a_living_owner_of_this_process_is_left_alone(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path)
    with emulator(run.path) as process:
        assert not owner_gone(run.path)
        assert sweep(tmp_path) == []
        assert process.poll() is None
    run.close()
    assert not run.path.exists()


def test_a_living_owner_in_another_process_is_left_alone_until_it_dies(tmp_path: Path) -> None:
    with living_owner(tmp_path) as path, emulator(path) as process:
        assert path.is_dir()
        assert sweep(tmp_path) == []
        assert process.poll() is None and path.is_dir()
    assert sweep(tmp_path) == [path]


def test_the_lock_is_not_inherited_by_the_emulator(tmp_path: Path) -> None:
    """Else a dead harness's emulator would hold the lock that says that the harness lives."""
    run = RunDir.create(tmp_path)
    process = subprocess.Popen([SLEEP, "60"], cwd=run.path, close_fds=False)  # noqa: S603 - a path we looked up
    try:
        path = abandon(run)
        assert poll(lambda: owner_gone(path), soon())
    finally:
        process.kill()
        process.wait()


def test_a_kept_machine_is_left_alone(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path)
    run.keep()
    with emulator(run.path) as process:
        run.close()
        assert sweep(tmp_path) == []
        assert process.poll() is None
    assert kept_runs(tmp_path) == all_runs(tmp_path) == [run.path]


@pytest.mark.parametrize("text", ["{other}", "1", "999999999", "", "x", "-1", "0"])
def test_a_recycled_pid_is_not_killed(tmp_path: Path, text: str) -> None:
    path = abandon(RunDir.create(tmp_path / "runs"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with emulator(elsewhere) as stranger:
        (path / "qemu.pid").write_text(text.format(other=stranger.pid))
        assert emulator_pid(path) is None
        assert sweep(tmp_path / "runs") == [path]
        assert stranger.poll() is None


def test_a_run_that_is_being_made_is_no_run_yet(tmp_path: Path) -> None:
    (tmp_path / "new-abc").mkdir()
    (tmp_path / "run-without-lock").mkdir()
    assert sweep(tmp_path) == []
    assert sweep(tmp_path / "missing") == []


def test_closing_twice_and_a_kept_one(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path)
    run.close()
    run.close()
    assert all_runs(tmp_path) == []


def test_nobody_else_may_look_inside(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path / "runs")
    assert run.path.stat().st_mode & 0o077 == 0
    run.close()


def test_sockets_in_deep_directories_are_reached(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path / ("x" * 100) / ("y" * 100))
    assert run.connect("qmp.sock") is None
    with contextlib.chdir(run.path), socket.socket(socket.AF_UNIX) as listener:
        listener.bind("qmp.sock")
        listener.listen()
        connection = run.connect("qmp.sock")
        assert connection is not None
        connection.close()
    run.close()
