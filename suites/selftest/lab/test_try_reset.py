"""`maskall doctor --try-reset`: the device is borrowed, reset, looked at and given back; anything odd is told."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from harness.base.errors import ExitStatus, SafetyRefusal
from harness.base.progress import PlainProgress
from harness.cli import main
from harness.guest.initramfs import GuestFiles
from harness.host.host import Host
from harness.lab.lease.claim_options import ClaimOptions, accepted
from harness.lab.real import RealLab
from harness.lab.tryreset import ResetTrial, try_resets
from suites.selftest.fakes.fakehost import board
from suites.selftest.fakes.fakelab import NAME, FakeLab, fake_host
from suites.selftest.fakes.labrun import site
from suites.selftest.fakes.patience import soon

__all__ = ["fake_host"]
pytestmark = pytest.mark.whole

MASKED = ["setpci", "-s", board.NIC, "CAP_MSIX+2.w=c004"]


@pytest.fixture(autouse=True)
def controller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "controller"))
    monkeypatch.setattr("harness.lab.lease.undo.GONE_SECONDS", 0.1)
    monkeypatch.setattr("harness.lab.real.install", lambda *_: GuestFiles("/boot/vmlinuz", "/guest.cpio"))


def tried(lab: FakeLab, *accept: str, name: str = "nic0") -> list[ResetTrial]:
    progress = PlainProgress(io.StringIO())
    real = RealLab.opened(site(lab), [name], ClaimOptions("a self-test", accepted(list(accept))), progress)
    try:
        return try_resets(real, name, progress)
    finally:
        real.close()


def test_a_device_that_comes_back_is_given_back(fake_host: FakeLab) -> None:
    before = fake_host.fake.state()
    assert [(one.method, one.good) for one in tried(fake_host)] == [("pm", True), ("bus", True)]
    assert fake_host.fake.state() == before


def test_a_device_that_is_masked_already_is_refused_with_the_offer(fake_host: FakeLab) -> None:
    fake_host.transport().run(MASKED, deadline=soon(), changes=True).check()
    with pytest.raises(SafetyRefusal, match=r"MASKALL is set already.*--try-reset DEVICE --accept 'msix="):
        tried(fake_host)


def test_and_once_that_is_accepted_it_is_cured(fake_host: FakeLab) -> None:
    fake_host.transport().run(MASKED, deadline=soon(), changes=True).check()
    by_pm, by_bus = tried(fake_host, "msix=it is masked already")
    assert (by_pm.good, by_bus.good) == (False, True)
    assert "comes back with MASKALL" in by_pm.seen.replace("came", "comes") and "does not clear it" in by_pm.seen
    assert "MASKALL is gone" in by_bus.seen
    assert not fake_host.fake.functions[board.NIC].msix or not fake_host.fake.functions[board.NIC].msix & 0x4000


def test_what_dom0_complains_of_is_told(fake_host: FakeLab, monkeypatch: pytest.MonkeyPatch) -> None:
    line = f"[   99.000000] pcieport 0000:00:1c.0: AER: Uncorrectable (Fatal) error message received from {board.NIC}\n"
    monkeypatch.setattr(Host, "dmesg", lambda *_: line)
    found = tried(fake_host)
    assert [one.good for one in found] == [False, False]
    assert all("dom0: " in one.seen and "AER: Uncorrectable" in one.seen for one in found)


def test_words(fake_host: FakeLab, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["doctor", NAME, "--inventory", str(fake_host.inventory), "--try-reset", "nic0"]
    assert main(words) == ExitStatus.OK
    assert "ok      reset of nic0 by bus: it came back after" in capsys.readouterr().out
    assert main([*words, "--device", "nic0"]) == ExitStatus.USAGE
    assert main(["doctor", "--facts", "x", "--try-reset", "nic0"]) == ExitStatus.USAGE
    assert "--try-reset goes with a HOST alone" in capsys.readouterr().err
