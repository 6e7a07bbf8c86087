"""A program that runs on the host by itself: whatever happens to the link, once and to its end."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from harness.base.deadline import Deadline
from harness.base.errors import CommandFailed, HostUnreachable, LabError
from harness.lab.lease.lease import Lease
from harness.lab.provision import job as module
from harness.lab.provision.job import Job, run_job
from harness.transport.base import Command, CommandResult, lost_link, shown
from suites.selftest.fakes.faketransport import Cut
from suites.selftest.fakes.localtransport import LocalTransport
from suites.selftest.fakes.patience import soon

# What is needed of systemd: a program that outlives its caller, and whether it is there.
_SYSTEMD_RUN = """#!/bin/sh
for word; do case $word in --unit=*) unit=${word#--unit=} ;; esac; done
while [ "${1#--}" != "$1" ]; do shift; done
setsid "$@" >/dev/null 2>&1 </dev/null &
echo $! >UNITS/$unit
"""
_SYSTEMCTL = """#!/bin/sh
for unit; do :; done
read -r pid <UNITS/$unit 2>/dev/null && [ -e /proc/$pid/exe ]
"""


class CutLink(LocalTransport):
    """Loses the link at the first command that `where` finds something in."""

    where: str = ""
    cut: Cut = Cut.BEFORE
    lost = False

    def run(self, command: Command, *, deadline: Deadline, changes: bool = False, stdin: bytes = b"") -> CommandResult:
        line = shown(command)
        if not self.where or self.where not in line:
            return super().run(command, deadline=deadline, changes=changes, stdin=stdin)
        self.where, self.lost = "", True
        if self.cut is Cut.AFTER:
            super().run(command, deadline=deadline, changes=changes, stdin=stdin)
        if self.cut is Cut.BEFORE:
            raise HostUnreachable("box: not connected, not sent")
        raise lost_link("box", line, "link lost", changes=changes)


@dataclass
class Stay:
    """What a job needs of a visit."""

    transport: CutLink
    notices: list[str] = field(default_factory=list)
    met: int = 0

    class site:
        name = "box"

    def notice(self, text: str) -> None:
        self.notices.append(text)

    def meet_again(self) -> None:
        self.met += 1


Run = Callable[..., str]


@pytest.fixture
def stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stay:
    programs = tmp_path / "bin"
    units = tmp_path / "units"
    programs.mkdir()
    units.mkdir()
    for name, text in (("systemd-run", _SYSTEMD_RUN), ("systemctl", _SYSTEMCTL)):
        (programs / name).write_text(text.replace("UNITS", str(units)))
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(module, "EVERY", 0.02)
    monkeypatch.setattr(module, "TELL_EVERY", 0.0)
    return Stay(CutLink("box"))


def start(stay: Stay, tmp_path: Path, program: str, heard: list[str] | None = None, seconds: float = 20) -> str:
    job = Job.fresh("work", program, str(tmp_path / "base of it"))
    tell = heard.append if heard is not None else lambda _: None
    return run_job(cast(Lease, stay), job, Deadline.after(seconds), tell)


def test_it_runs_and_its_log_is_returned(stay: Stay, tmp_path: Path) -> None:
    heard: list[str] = []
    assert start(stay, tmp_path, "echo one; sleep 0.15; echo two >&2", heard) == "one\ntwo\n"
    assert heard == ["one", "two"]


def test_a_failure_is_told_with_apts_own_error(stay: Stay, tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match=r"ended 100: E: no such package") as caught:
        start(stay, tmp_path, r"echo 'E: no such package'; echo later; printf '\033[2J\n'; exit 100")
    assert "log on the host" in caught.value.hint


def test_a_control_character_does_not_reach_the_terminal(stay: Stay, tmp_path: Path) -> None:
    heard: list[str] = []
    start(stay, tmp_path, r"printf '\033[2Jx\n'", heard)
    assert heard == ["\\x1b[2Jx"]


@pytest.mark.parametrize("cut", list(Cut))
@pytest.mark.parametrize("where", ["systemd-run", "is-active"])
def test_a_cut_link_neither_ends_it_nor_starts_it_twice(stay: Stay, tmp_path: Path, cut: Cut, where: str) -> None:
    stay.transport.where, stay.transport.cut = where, cut
    once = tmp_path / "once"
    start(stay, tmp_path, f"echo x >>{once}; sleep 0.05")
    assert stay.transport.lost and stay.met
    assert once.read_text() == "x\n"


def test_the_program_itself_runs_once_whoever_starts_it(stay: Stay, tmp_path: Path) -> None:
    once = tmp_path / "once"
    job = Job.fresh("work", f"echo x >>{once}", str(tmp_path / "base"))
    run_job(cast(Lease, stay), job, soon(), lambda _: None)
    again = stay.transport.run(["sh", f"{job.folder}/program"], deadline=soon(), changes=True)
    assert again.ok and once.read_text() == "x\n"


def test_one_that_was_killed_is_not_waited_for(stay: Stay, tmp_path: Path) -> None:
    with pytest.raises(LabError, match="was killed"):
        start(stay, tmp_path, "kill -9 $$")


def test_at_the_deadline_it_goes_on_by_itself(stay: Stay, tmp_path: Path) -> None:
    done = tmp_path / "done"
    with pytest.raises(LabError, match="not ended in time") as caught:
        start(stay, tmp_path, f"sleep 0.8; touch {done}", seconds=0.4)
    assert "goes on" in caught.value.hint
    assert module.poll(done.exists, soon())


def test_one_that_cannot_be_started_is_told(stay: Stay, tmp_path: Path) -> None:
    broken = tmp_path / "bin" / "systemd-run"
    broken.write_text("#!/bin/sh\nexit 0\n")
    with pytest.raises(LabError, match="could not be started"):
        start(stay, tmp_path, "true")
    broken.write_text("#!/bin/sh\necho 'no bus' >&2; exit 1\n")
    with pytest.raises(CommandFailed, match="no bus"):
        start(stay, tmp_path, "true")
