"""`maskall practice up` is over when the machine can be used."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from harness.base.deadline import Deadline
from harness.base.errors import ExitStatus, HostUnreachable, LabError
from harness.cli import main
from harness.nested import practice
from harness.nested.practice import Practice
from harness.transport.ssh import SshTransport
from suites.selftest.fakes.fakelab import NAME, FakeLab, fake_host

__all__ = ["fake_host"]


def machine(lab: FakeLab) -> Practice:
    made = SimpleNamespace(
        name=NAME, inventory=lab.inventory, console_log=Path("/there/console.log"), ssh_command=["ssh", NAME]
    )
    return cast(Practice, made)


@pytest.fixture
def up(fake_host: FakeLab, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was waited for."""
    waited: list[str] = []
    monkeypatch.setattr(practice, "up", lambda *_given, **_more: machine(fake_host))
    monkeypatch.setattr(practice, "await_answer", lambda made: waited.append(made.name))
    return waited


@pytest.mark.parametrize(
    ("words", "waits", "said"),
    [
        ([], True, "is there and has booted"),
        (["--no-wait"], False, "is there and boots, which takes about"),
        (["--off"], False, "is there and switched off"),
    ],
)
def test_it_waits_unless_told_not_to(
    up: list[str], words: list[str], waits: bool, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["practice", "up", NAME, *words]) == ExitStatus.OK
    assert up == ([NAME] if waits else [])
    told = capsys.readouterr().out
    assert f"{NAME} {said}" in told and (f"{NAME} boots ..." in told) == waits


def test_until_ssh_answers(fake_host: FakeLab, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_host.hang()
    connect = SshTransport.connect

    def connected(link: SshTransport, deadline: Deadline) -> None:
        fake_host.power_cycle()  # by now it was asked
        connect(link, deadline)

    monkeypatch.setattr(SshTransport, "connect", connected)
    practice.await_answer(machine(fake_host))


def test_until_xl_answers(fake_host: FakeLab, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def run(link: SshTransport, command: object, **_: object) -> SimpleNamespace:
        asked.append(command)
        return SimpleNamespace(ok=len(asked) == 3)

    monkeypatch.setattr(SshTransport, "run", run)
    monkeypatch.setattr("harness.base.deadline.time.sleep", lambda _: None)
    practice.await_answer(machine(fake_host))
    assert asked == [["xl", "info"]] * 3


@pytest.mark.parametrize("how", ["silent", "xl"])
def test_one_that_does_not_come_up_is_told_with_its_console(
    fake_host: FakeLab, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(practice.Deadline, "after", lambda seconds: Deadline(0.0))
    if how == "silent":
        fake_host.hang()
    else:
        monkeypatch.setattr(SshTransport, "connect", lambda link, deadline: None)
        monkeypatch.setattr(SshTransport, "run", lambda *_, **__: SimpleNamespace(ok=False))
    with pytest.raises(HostUnreachable if how == "silent" else LabError) as caught:
        practice.await_answer(machine(fake_host))
    assert "/there/console.log" in caught.value.hint
