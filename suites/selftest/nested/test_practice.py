"""The practice machine without QEMU and ipmi_sim: its processes, and that nothing is left of it."""

from __future__ import annotations

import os
import signal
import stat
from pathlib import Path

import pytest

from harness.base.deadline import poll
from harness.base.errors import LabError, LockHeld, UsageError
from harness.cli import practice as cli
from harness.cli.nested import clean
from harness.nested import bmc, practice, prerequisites, rundir
from harness.nested.cache import Cache
from harness.nested.practice import State
from suites.selftest.fakes.patience import soon
from suites.selftest.fakes.practicerun import cache, gone, on, programs, stranger, up

__all__ = ["cache", "programs"]


def test_up_and_down(cache: Cache, capsys: pytest.CaptureFixture[str]) -> None:
    machine = up(cache)
    emulator, controller = on(machine), bmc.pid(machine.path)
    assert controller is not None and machine.state is State.ON
    assert stat.S_IMODE(machine.path.stat().st_mode) == 0o700
    assert stat.S_IMODE((machine.path / "key").stat().st_mode) == 0o600
    assert (machine.path / "key").read_text() == "private\n"
    assert poll((machine.path / "environment").exists, soon(), every=0.01)
    assert os.getsid(controller) == controller, "it outlives the command that started it"
    assert machine.entry.power is not None
    assert [one.name for one in practice.machines(cache)] == ["one"]
    assert machine.ssh_command[-1] == "one"
    assert str(machine.path / "known_hosts") in (machine.path / "ssh_config").read_text()
    cli.status()
    assert [line.split("  ")[:2] for line in capsys.readouterr().out.splitlines()] == [["one", "on"]]
    practice.down("one", cache)
    assert gone(emulator) and gone(controller)
    assert not machine.path.exists() and practice.machines(cache) == []


def test_the_machine_gets_nothing_of_our_environment(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "s3cret")
    machine = up(cache)
    on(machine)
    environment = machine.path / "environment"
    assert poll(lambda: environment.exists() and environment.stat().st_size, soon(), every=0.01)
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


def test_a_machine_whose_controller_died_is_found_and_ended(cache: Cache, capsys: pytest.CaptureFixture[str]) -> None:
    machine = up(cache)
    emulator, controller = on(machine), bmc.pid(machine.path)
    assert controller is not None
    os.kill(controller, signal.SIGKILL)
    assert poll(lambda: machine.state is State.DEAD, soon(), every=0.01)
    assert not gone(emulator), "a machine goes on without its controller"
    cli.status()
    assert "maskall practice down one" in capsys.readouterr().out
    practice.down("one", cache)
    assert gone(emulator) and not machine.path.exists()


def test_an_emulator_that_has_not_written_its_pid_yet_is_ended_too(cache: Cache) -> None:
    machine = up(cache)
    emulator = on(machine)
    (machine.path / "qemu.pid").unlink()
    practice.down("one", cache)
    assert poll(lambda: gone(emulator), soon(), every=0.01)


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
        clean()


def test_the_nearest_name_and_the_nearest_console(cache: Cache) -> None:
    up(cache, power_on=False)
    with pytest.raises(UsageError, match="did you mean 'one'"):
        cli.inventory(name="ome")
    with pytest.raises(UsageError, match="did you mean 'tcp'"):
        cli.up(name="two", stack="trixie", console="tpc", off=False, no_wait=False)


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
