"""The dead-man timer: strikes when nobody disarms it, and only then; disarmed over a new connection."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from harness.base.deadline import poll
from harness.base.errors import CommandFailed, HostUnreachable, LabError
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


@dataclass
class Struck:
    """A host whose timer has run out, in a folder; pciback has the device. `programs`: texts for sh."""

    folder: Path
    bound: str = "pciback"
    back: bool = True  # its driver takes it
    programs: dict[str, str] = field(default_factory=dict)
    xen: bool = True

    def act(self, driver: str, allowed: str, shell: tuple[str, ...] = ("/bin/sh",)) -> None:
        run, self.sysfs, programs = (self.folder / name for name in ("run", "sys", "bin"))
        device, hypervisor = self.sysfs / "devices" / str(DEVICE), self.folder / "type"
        for folder in (
            run,
            device,
            programs,
            *(self.sysfs / f"drivers/{one}" for one in ("nvme", "pciback", "vfio-pci")),
        ):
            folder.mkdir(parents=True)
        (run / "deadman.1").touch()
        (device / "driver_override").write_text("(null)\n")
        if self.bound:
            (device / "driver").symlink_to(self.sysfs / "drivers" / self.bound)
        if self.xen:
            hypervisor.write_text("xen\n")
        # what the kernel does when a driver takes the device
        look = f"echo ../drivers/{driver if self.back else 'pciback'}"
        words = {"reboot": f'echo "$@" >{self.folder}/rebooted', "readlink": look, **self.programs}
        for name, text in words.items():
            (programs / name).write_text(f"#!/bin/sh\n{text}\n")
            (programs / name).chmod(0o755)
        text = deadman._ACTION.read_text().replace("/sys/bus/pci", str(self.sysfs)).replace("timeout 20", "timeout 1")
        text = text.replace("/dev/kmsg", f"{self.folder}/kmsg").replace("/sys/hypervisor/type", str(hypervisor))
        argv = [*shell, "-c", text, "deadman", str(run / "deadman.1"), str(DEVICE), driver, allowed]
        env = {"PATH": f"{programs}:{os.environ['PATH']}"}
        subprocess.run(argv, env=env, check=False, capture_output=True, timeout=FOREVER)  # noqa: S603
        assert not (run / "deadman.1").exists()

    @property
    def touched(self) -> bool:
        return any((self.sysfs / "drivers").glob("*/*"))

    @property
    def rebooted(self) -> bool:
        return (self.folder / "rebooted").exists()

    @property
    def said(self) -> str:
        return (self.folder / "kmsg").read_text()


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
    host = Struck(tmp_path, back=bound, xen=False)
    host.act(driver, allowed)
    assert (host.sysfs / "drivers/pciback/unbind").read_text() == f"{DEVICE}\n"
    if driver:
        assert (host.sysfs / "drivers/nvme/bind").read_text() == f"{DEVICE}\n"
    assert host.rebooted is reboots
    assert "dead-man timer" in host.said


LISTED = "Name ID Mem VCPUs State Time(s)\nDomain-0 0 1024 2 r----- 9.0\nmaskall-a 3 128 1 -b---- 1.0\n"
SHELLS: list[tuple[str, ...]] = [(shell,) for shell in ("dash", "bash", "ksh", "zsh") if shutil.which(shell)]
SHELLS += [("busybox", "sh")] if shutil.which("busybox") else []


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("xl", "reboots"),
    [
        (f"printf '{LISTED}'", True),
        (f"printf '{LISTED}(null) 4 0 1 --p--d 1.0\n'", True),
        (f"printf '{LISTED}bob 5 128 1 -b---- 1.0\n'", False),
        (f"printf '{LISTED}(null) 5 128 1 -b---- 1.0\n'", False),
        ("exit 1", False),
        ("sleep 60", False),
    ],
    ids=["alone", "a zombie", "bob", "somebody without a name", "silent", "hangs"],
)
def test_it_reboots_under_nobodys_guest(tmp_path: Path, xl: str, reboots: bool, shell: tuple[str, ...]) -> None:
    host = Struck(tmp_path, back=False, programs={"xl": xl, "xenstore-read": "exit 1", "xenstore-list": "exit 0"})
    host.act("nvme", "1", shell)
    assert host.rebooted is reboots
    assert ("not rebooted" in host.said) is not reboots


@pytest.mark.parametrize(
    ("bound", "programs"),
    [
        ("nvme", {}),
        ("vfio-pci", {}),
        ("pciback", {"xenstore-read": "echo 5", "xl": "exit 0"}),
        ("pciback", {"xenstore-read": "echo 5", "xl": "exit 1"}),
        ("pciback", {"xenstore-read": "sleep 60", "xl": "sleep 60"}),
        ("pciback", {"xenstore-read": "exit 1", "xenstore-list": "exit 1", "xl": "exit 1"}),
        ("pciback", {"xl": "exit 1"}),
        ("pciback", {"xenstore-read": "echo 5", "xl": "exit 0", "timeout": "exit 127"}),
    ],
    ids=[
        *("never taken", "another driver", "a domain", "xl is silent", "xenstored is dead", "xenstored refuses"),
        *("no xenstore-read", "no timeout"),
    ],
)
def test_a_device_that_is_not_ours_to_move_stays(tmp_path: Path, bound: str, programs: dict[str, str]) -> None:
    host = Struck(tmp_path, bound, programs=programs)
    host.act("nvme", "1")
    assert not host.touched and not host.rebooted
    assert "dead-man timer" in host.said


def by_xl(folder: Path, driver: str) -> dict[str, str]:
    """Programs of a host whose xl takes the device from pciback and binds this driver, as its note says."""
    bound = f"ln -sfn {folder}/sys/drivers/{driver} {folder}/sys/devices/{DEVICE}/driver"
    return {"xl": f'echo "$@" >>{folder}/said\n{bound}', "xenstore-read": "exit 1", "xenstore-list": "exit 0"}


def test_what_xl_has_taken_xl_gives_back(tmp_path: Path) -> None:
    """Bound by sysfs alone it stays DOMID_IO's (libxl__device_pci_assignable_remove): no MSI, no DMA, no link."""
    host = Struck(tmp_path, programs=by_xl(tmp_path, "nvme"))
    host.act("nvme", "1")
    assert (tmp_path / "said").read_text() == f"pci-assignable-remove -r {DEVICE}\n"
    assert not (host.sysfs / "drivers/pciback/unbind").exists()
    assert not (host.sysfs / "drivers/nvme/unbind").exists()


def test_an_older_note_of_xl_does_not_decide_which_driver_it_gets(tmp_path: Path) -> None:
    host = Struck(tmp_path, programs=by_xl(tmp_path, "vfio-pci"))
    host.act("nvme", "1")
    assert (host.sysfs / "drivers/vfio-pci/unbind").read_text() == f"{DEVICE}\n"
    assert (host.sysfs / "drivers/nvme/bind").read_text() == f"{DEVICE}\n"


def test_what_had_no_driver_gets_none_by_xl(tmp_path: Path) -> None:
    """libxl would bind what an older note of its own says."""
    xl = f'echo "$@" >>{tmp_path}/said'
    host = Struck(tmp_path, programs={"xl": xl, "xenstore-read": "exit 1", "xenstore-list": "exit 0"})
    host.act("", "0")
    assert (tmp_path / "said").read_text() == f"pci-assignable-remove {DEVICE}\n"


def test_a_note_of_a_domain_that_is_gone_is_nobodys(tmp_path: Path) -> None:
    host = Struck(tmp_path, programs={"xenstore-read": "echo 5", "xl": "[ $# -eq 1 ]"})
    host.act("nvme", "0")
    assert (host.sysfs / "drivers/nvme/bind").read_text() == f"{DEVICE}\n"


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


def test_without_anything_that_could_run_it_nothing_risky_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for program in ("sh", "mkdir", "cat"):
        (tmp_path / program).symlink_to(shutil.which(program) or "")
    monkeypatch.setenv("PATH", str(tmp_path))
    timer = DeadMan(connected, run=str(tmp_path / "run"))
    with pytest.raises(CommandFailed, match="neither systemd-run nor setsid"), timer.guarding(connected(), DEVICE, "x"):
        pytest.fail("the device was taken")


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
