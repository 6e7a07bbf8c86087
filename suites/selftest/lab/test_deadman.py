"""The dead-man timer: strikes when nobody disarms it, and only then; disarmed over a new connection."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from harness.base.deadline import poll
from harness.base.errors import HostUnreachable, LabError
from harness.lab.lease import deadman
from harness.lab.lease.deadman import DeadMan
from harness.model.address import Bdf
from suites.selftest.fakes.faketransport import FakeTransport, Reply
from suites.selftest.fakes.localtransport import LocalTransport
from suites.selftest.fakes.patience import FOREVER, soon

DEVICE = Bdf.parse("0000:04:00.0")


def connected() -> LocalTransport:
    transport = LocalTransport()
    transport.connect(soon())
    return transport


def armed(run: Path) -> list[Path]:
    return [path for path in run.glob("deadman.*") if path.suffix != ".sh"]


@pytest.fixture
def harmless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The timer's action only leaves word beside its file; the real one is for a real host, and tested below."""
    action = tmp_path / "action.sh"
    action.write_text('[ -e "$1" ] || exit 0\necho "$@" >"${1%/*}/told" && mv "${1%/*}/told" "${1%/*}/struck"\n')
    monkeypatch.setattr(deadman, "_ACTION", action)


@pytest.mark.usefixtures("harmless")
def test_it_strikes_when_nobody_disarms_it_and_only_then(tmp_path: Path) -> None:
    disarmed, renewed, left = (DeadMan(connected, 1, run=str(tmp_path / name)) for name in ("a", "b", "run"))
    with disarmed.guarding(connected(), DEVICE, "nvme"):
        pass
    assert not armed(tmp_path / "a")
    renewed.arm(connected(), DEVICE, "nvme")
    deadman.disarm_all(connected(), renewed.run)
    replace(renewed, seconds=30).arm(connected(), DEVICE, "nvme")  # which the old timer must not take for its own
    left.arm(connected(), DEVICE, "nvme")  # the last, so that the others' time is over when this one strikes
    struck = tmp_path / "run" / "struck"
    assert poll(struck.exists, soon())
    assert re.fullmatch(rf"{tmp_path}/run/deadman\.[0-9a-f]+ 0000:04:00.0 nvme 0\n", struck.read_text())
    assert [path.parent.name for path in tmp_path.glob("*/struck")] == ["run"]


@pytest.mark.usefixtures("harmless")
def test_a_step_that_fails_disarms_it_too(tmp_path: Path) -> None:
    timer = DeadMan(connected, seconds=30, run=str(tmp_path / "run"))
    with pytest.raises(LabError, match="bind failed"), timer.guarding(connected(), DEVICE, None):
        raise LabError("bind failed")
    assert not armed(tmp_path / "run")


@pytest.mark.usefixtures("harmless")
def test_an_old_connection_is_not_enough(tmp_path: Path) -> None:
    gone = FakeTransport("box", listening=False)
    timer = DeadMan(lambda: gone, seconds=30, run=str(tmp_path / "run"))
    with pytest.raises(LabError, match="new connection") as raised, timer.guarding(connected(), DEVICE, "e1000e"):
        pass
    assert "30 s" in raised.value.hint
    assert isinstance(raised.value.__cause__, HostUnreachable)
    assert armed(tmp_path / "run"), "it must still be able to strike"


@pytest.mark.usefixtures("harmless")
def test_disarming_too_late_is_told(tmp_path: Path) -> None:
    timer = DeadMan(connected, seconds=30, run=str(tmp_path / "run"))
    with pytest.raises(LabError, match="has struck"), timer.guarding(connected(), DEVICE, "e1000e"):
        armed(tmp_path / "run")[0].unlink()


@pytest.mark.parametrize(
    ("driver", "bound", "allowed", "reboots"),
    [
        ("nvme", True, "1", False),
        ("nvme", False, "1", True),
        ("nvme", False, "0", False),
        ("", True, "1", False),
    ],
)
def test_the_action_rebinds_and_reboots_only_if_that_failed_and_may(
    tmp_path: Path, driver: str, bound: bool, allowed: str, reboots: bool
) -> None:
    run, sysfs, programs = (tmp_path / name for name in ("run", "sys", "bin"))
    device = sysfs / "devices" / str(DEVICE)
    for folder in (run, device, sysfs / "drivers/nvme", sysfs / "drivers/pciback", programs):
        folder.mkdir(parents=True)
    (run / "deadman.1").touch()
    (device / "driver").symlink_to(sysfs / "drivers/pciback")
    reboot = programs / "reboot"
    reboot.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/rebooted\n')
    # what the kernel does when a driver takes the device
    look = programs / "readlink"
    look.write_text(f"#!/bin/sh\necho ../drivers/{(driver or '') if bound else 'pciback'}\n")
    for program in (reboot, look):
        program.chmod(0o755)
    text = deadman._ACTION.read_text().replace("/sys/bus/pci", str(sysfs)).replace("/dev/kmsg", str(tmp_path / "kmsg"))
    subprocess.run(  # noqa: S603
        ["/bin/sh", "-c", text, "deadman", str(run / "deadman.1"), str(DEVICE), driver, allowed],
        env={"PATH": f"{programs}:{os.environ['PATH']}"}, check=False, capture_output=True, timeout=FOREVER,
    )  # fmt: skip
    assert not (run / "deadman.1").exists()
    assert (sysfs / "drivers/pciback/unbind").read_text() == f"{DEVICE}\n"
    if driver:
        assert (sysfs / "drivers/nvme/bind").read_text() == f"{DEVICE}\n"
    assert (tmp_path / "rebooted").exists() is reboots
    assert "dead-man timer" in (tmp_path / "kmsg").read_text()


def test_systemd_is_told_how_exact_the_timer_is() -> None:
    """Its own accuracy is a minute: 60 seconds would be up to 120 (systemd.timer(5))."""
    link = FakeTransport("box", connected=True, commands={".*": Reply()})
    DeadMan(connected, seconds=60).arm(link, DEVICE, "nvme")  # type: ignore[arg-type]
    assert "--timer-property=AccuracySec=1s --on-active=60" in link.executed[0].shown


@pytest.mark.parametrize(("driver", "may", "told"), [("nvme", False, "nvme 0"), (None, True, "'' 1")])
def test_the_action_is_told_the_driver_and_whether_it_may_reboot(driver: str | None, may: bool, told: str) -> None:
    link = FakeTransport("box", connected=True, commands={".*": Reply()})
    file = DeadMan(connected, may_reboot=may).arm(link, DEVICE, driver)  # type: ignore[arg-type]
    (sent,) = link.executed
    assert f"set -- /bin/sh /run/maskall/deadman.sh {file} {DEVICE} {told}\n" in sent.shown.replace("""'"'"'""", "'")
    assert sent.stdin == deadman._ACTION.read_bytes()


def test_all_of_it_is_sent_as_a_change_and_the_new_link_closed() -> None:
    """So that it is fenced, and never sent twice."""
    old, new = (FakeTransport("box", connected=True, commands={".*": Reply()}) for _ in range(2))
    timer = DeadMan(lambda: new)
    with timer.guarding(old, DEVICE, "nvme"):  # type: ignore[arg-type]
        pass
    deadman.disarm_all(old)  # type: ignore[arg-type]
    assert [one.changes for one in old.executed] == [True, True]
    assert [one.changes for one in new.executed] == [True]
    assert not new.connected and old.connected
    unit = re.search(r"--unit=(maskall-deadman-[0-9a-f]{8}) ", old.executed[0].shown)
    assert " nvme 0\n" in old.executed[0].shown, "without leave it does not reboot"
    assert unit and f"systemctl stop {unit[1]}.timer" in new.executed[0].shown


@pytest.mark.parametrize("armed", [True, False])
def test_a_timer_that_cannot_be_armed_prevents_the_step(armed: bool) -> None:
    link = FakeTransport(
        "box", connected=True, commands={".*": Reply(stderr=b"No space left\n", status=0 if armed else 1)}
    )
    done = False
    try:
        with DeadMan(lambda: link).guarding(link, DEVICE, "nvme"):  # type: ignore[arg-type]
            done = True
    except LabError as error:
        assert "No space left" in str(error)
    assert done is armed


def test_it_is_disarmed_or_strikes_and_never_both(tmp_path: Path) -> None:
    run, sysfs = tmp_path / "run", tmp_path / "sys"
    device = sysfs / "devices" / str(DEVICE)
    for folder in (run, device, sysfs / "drivers/nvme"):
        folder.mkdir(parents=True)
    text = deadman._ACTION.read_text().replace("/sys/bus/pci", str(sysfs)).replace("/dev/kmsg", str(tmp_path / "kmsg"))
    outcomes = set()
    for number in range(24):
        armed, struck = run / f"deadman.{number}", tmp_path / "kmsg"
        armed.touch()
        struck.unlink(missing_ok=True)
        delay = f"sleep 0.00{number % 8}; " if number % 2 else ""
        argv = ["/bin/sh", "-c", delay + text, "deadman", str(armed), str(DEVICE), "nvme", "0"]
        with subprocess.Popen(argv, stderr=subprocess.DEVNULL) as action:  # noqa: S603
            try:
                DeadMan(connected, run=str(run)).disarm(str(armed))
                disarmed = True
            except LabError:
                disarmed = False
            action.wait()
        assert disarmed is not struck.exists()
        outcomes.add(disarmed)
    assert not armed.exists()
    assert outcomes


def test_who_goes_back_waits_for_a_strike_that_has_begun(tmp_path: Path) -> None:
    """It holds the lock of what is being changed before it takes its file."""
    program = deadman._ACTION.read_text()
    assert program.index("flock -s") < program.index('rm "$armed"')
