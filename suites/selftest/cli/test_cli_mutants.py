"""`maskall mutants --check`: the lab is make-believe but has, as a real one, only the devices it was made with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from harness.base.errors import ExitStatus
from harness.base.progress import Progress
from harness.cli.entry import main
from harness.host.host import Host, Opener
from suites.selftest.fakes.clihome import nothing_of_the_user
from suites.selftest.fakes.sessionrun import MUTANT, FakeLab

__all__ = ["nothing_of_the_user"]


@dataclass
class Prepared(FakeLab):
    devices: Sequence[str] = ()

    @contextmanager
    def host(
        self, devices: Sequence[str], progress: Progress, *, keep: bool = False, opener: Opener | None = None
    ) -> Iterator[Host]:
        assert set(devices) <= set(self.devices), "asked for a device that the lab was not prepared with"
        with super().host(devices, progress, keep=keep, opener=opener) as host:
            yield host


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Prepared:
    made = Prepared()

    def prepared(stack: str, devices: list[str], progress: Progress, **more: object) -> Prepared:
        made.devices = devices
        return made

    monkeypatch.setattr("harness.run.prepare.prepared_lab", prepared)
    return made


@pytest.mark.parametrize("scenario", ["E14-F1-hvm-nvme", "E14-F1-hvm-virtio-rng", "E14-F1-hvm-e1000e"])
def test_a_check_wants_no_device_that_its_scenarios_do_not_have(
    lab: Prepared, scenario: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["mutants", MUTANT, "--check", "--scenario", scenario]) == ExitStatus.OK
    assert "trixie: 1 of 1 mutants fit, 0 are not made for it" in capsys.readouterr().out


def test_a_mutant_that_does_not_fit_is_told(lab: Prepared, capsys: pytest.CaptureFixture[str]) -> None:
    lab.text = b"\x90" * 16
    assert main(["mutants", MUTANT, "--check"]) == ExitStatus.FAILED
    assert f"{MUTANT}: does NOT fit" in capsys.readouterr().out
