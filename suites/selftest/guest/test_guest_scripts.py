"""init.sh and exercise.sh: they parse everywhere, and exercise.sh does its work on a make-believe sysfs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from harness.guest.drivers import drivers
from harness.guest.exercise import parse_exercise
from harness.guest.initramfs import exercise_script
from harness.model.observation import GuestView, RawRef
from suites.selftest.fakes.patience import FOREVER

GUEST = Path(__file__).parents[3] / "harness/guest"
EVIDENCE = Path(__file__).parents[3] / "harness/evidence"
RAW = RawRef("exercise.txt", "00" * 32)
SHELLS = [words for words in (["dash"], ["busybox", "sh"], ["bash"]) if shutil.which(words[0])]
CONFIG = bytes.fromhex("361b1000060410000202080100000000") + bytes(48) + bytes.fromhex("11004080") + bytes(188)
IRQS = {"quiet": "  55:  3  PCI-MSIX nvme0q0\n  56:  0  PCI-MSIX nvme0q1\n", "silent": "  55:  0  PCI-MSIX nvme0q0\n"}

# time passes when the script waits, so that patience costs no time here
_CLOCK = """\
sleep() { case $1 in 0.1) read -r now rest < ROOT/proc/uptime; echo "$((now + 1)) 0" > ROOT/proc/uptime;;
  STEP) touch ROOT/looked; while [ ! -e ROOT/step ]; do command sleep 0.01; done; rm ROOT/step;;
  *) command sleep "0.$1";; esac; }
dmesg() { echo "[    1.0] last words"; }
"""

STEPWISE = 7
"""Seconds of patience that pass when the traffic has gone on by one interrupt, once for each look at it."""
_STEP = """\
while [ ! -e ROOT/looked ]; do command sleep 0.01; done; rm ROOT/looked
echo "  CPU0
 55: $n a
 56: 4 b
ERR: 0" > ROOT/proc/interrupts; touch ROOT/step
"""


class Machine:
    """A sysfs and a procfs with one device and its interrupts, in a folder."""

    def __init__(self, root: Path, shell: list[str]) -> None:
        self.root = root
        self.shell = shell
        self.device = root / "sys/bus/pci/devices/0000:00:03.0"
        self.device.mkdir(parents=True)
        (self.device / "vendor").write_text("0x1b36\n")
        (self.device / "device").write_text("0x0010\n")
        config = bytearray(CONFIG)
        config[6], config[0x34] = 0x10, 0x40
        (self.device / "config").write_bytes(config)
        (root / "drivers/nvme").mkdir(parents=True)
        (self.device / "driver").symlink_to(root / "drivers/nvme")
        other = root / "sys/bus/pci/devices/0000:00:02.0"
        other.mkdir()
        (other / "vendor").write_text("0x1b36\n")
        (other / "device").write_text("0x000c\n")
        (root / "proc").mkdir()
        (root / "proc/uptime").write_text("100 0\n")
        self.interrupts("quiet")

    def interrupts(self, kind: str) -> None:
        (self.root / "proc/interrupts").write_text("           CPU0\n" + IRQS[kind] + "ERR:          0\n")
        for irq in ("55", "56"):
            (self.device / "msi_irqs" / irq).parent.mkdir(exist_ok=True)
            (self.device / "msi_irqs" / irq).touch()

    def exercise(
        self,
        *,
        ready: str,
        traffic: str,
        identity: str = "1b36:0010",
        patience: int = 3,
        wait: bool = False,
        ends: int = 0,
    ) -> str:
        """What it prints; `wait`: it is only asked to wait, `ends`: with which status it must end."""
        common = (GUEST / "exercise.sh").read_text()
        for prefix in ("/sys/", "/proc/"):
            common = common.replace(prefix, f"{self.root}{prefix}")
        functions = f"ready() {{\n{ready}\n}}\ntraffic() {{\n{traffic}\n}}\n"
        program = (_CLOCK.replace("STEP", str(STEPWISE)) + functions).replace("ROOT", str(self.root)) + common
        words = [*self.shell, "-c", program, "exercise", identity, str(patience), *(["wait"] if wait else [])]
        done = subprocess.run(words, capture_output=True, timeout=FOREVER, check=False)  # noqa: S603 - our own script
        assert done.returncode == ends, done.stderr
        return done.stdout.decode()

    def clock(self) -> int:
        return int((self.root / "proc/uptime").read_text().split()[0])

    def counts(self, first: int, second: int) -> str:
        """Shell that sets the interrupt counts."""
        return f"printf '  CPU0\\n 55: {first} a\\n 56: {second} b\\nERR: 0\\n' > {self.root}/proc/interrupts"


@pytest.fixture(params=SHELLS, ids=lambda words: words[0])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    return Machine(tmp_path, request.param)


def seen(output: str) -> GuestView:
    view = parse_exercise(output, "d3", RAW)
    assert view is not None
    return view


@pytest.mark.parametrize("shell", SHELLS, ids=lambda words: words[0])
@pytest.mark.parametrize("script", [GUEST / "init.sh", GUEST / "exercise.sh", EVIDENCE / "snapshot.sh"], ids=str)
def test_it_parses(shell: list[str], script: Path) -> None:
    subprocess.run([*shell, "-n", str(script)], check=True, capture_output=True)  # noqa: S603 - our own script


@pytest.mark.parametrize("name", list(drivers()))
@pytest.mark.parametrize("shell", SHELLS, ids=lambda words: words[0])
def test_every_drivers_script_parses(shell: list[str], name: str) -> None:
    subprocess.run([*shell, "-n"], input=exercise_script(drivers()[name]).encode(), check=True)  # noqa: S603


def test_an_absent_device_is_none(machine: Machine) -> None:
    output = machine.exercise(ready="true", traffic="true", identity="8086:10d3", ends=1)
    assert parse_exercise(output, "d3", RAW).vectors == 0
    assert output.split() == ["==", "device", "none", "==", "end"]


def test_a_working_device(machine: Machine) -> None:
    view = seen(machine.exercise(ready="true", traffic=machine.counts(13, 9)))
    assert (view.before, view.after, view.delta, view.vectors) == (3, 22, 19, 2)
    assert view.traffic_ok
    assert view.driver == "nvme"
    assert str(view.control) == "Enable+ Masked-"
    assert str(view.command) == "Mem+ Bus+ DisINTx+"
    assert machine.clock() == 100, "nothing was waited for"


def test_a_device_that_needs_a_moment(machine: Machine) -> None:
    ready = f"read -r up rest < {machine.root}/proc/uptime; [ $up -ge 105 ]"
    view = seen(machine.exercise(ready=ready, traffic=machine.counts(4, 4)))
    assert (view.traffic_ok, machine.clock()) == (True, 105)


def test_silent_vectors_end_the_wait_after_the_patience(machine: Machine) -> None:
    machine.interrupts("silent")
    output = machine.exercise(ready="false", traffic="echo never", patience=3)
    view = seen(output)
    assert (view.delta, view.traffic_ok, view.vectors) == (0, False, 2)
    assert machine.clock() == 103
    assert "\n== ready\nno\n" in output
    assert "never" not in output
    assert "\nstatus 125\n" in output


def test_a_driver_that_never_sets_up_vectors_ends_the_wait_later(machine: Machine) -> None:
    shutil.rmtree(machine.device / "msi_irqs")
    view = seen(machine.exercise(ready="false", traffic="true", patience=3))
    assert (view.vectors, view.traffic_ok, machine.clock()) == (0, False, 112)


def test_a_device_that_interrupts_but_is_not_ready_is_given_more_time(machine: Machine) -> None:
    view = seen(machine.exercise(ready="false", traffic="true", patience=3))
    assert (view.vectors, view.traffic_ok, machine.clock()) == (2, False, 112)


def test_traffic_that_fails(machine: Machine) -> None:
    view = seen(machine.exercise(ready="true", traffic="echo dd: Input/output error; return 7"))
    assert not view.traffic_ok


def test_traffic_that_hangs_is_ended(machine: Machine) -> None:
    output = machine.exercise(ready="true", traffic="exec sleep 15", patience=1)
    assert not seen(output).traffic_ok


def test_traffic_that_still_interrupts_is_slow_and_not_broken(machine: Machine) -> None:
    slow = f"for n in 4 5 6; do {_STEP} done"
    assert seen(machine.exercise(ready="true", traffic=slow, patience=STEPWISE)).traffic_ok


def test_traffic_that_never_ends_is_ended_also_where_it_interrupts(machine: Machine) -> None:
    endless = f"n=4; while :; do {_STEP} n=$((n + 1)); done"
    view = seen(machine.exercise(ready="true", traffic=endless, patience=STEPWISE))
    assert (view.traffic_ok, view.delta) == (False, 8)


def test_traffic_that_prints_a_status_of_its_own_is_judged_by_the_last(machine: Machine) -> None:
    view = seen(machine.exercise(ready="true", traffic="echo; echo status 0; return 1"))
    assert not view.traffic_ok


def test_a_device_without_a_driver(machine: Machine) -> None:
    (machine.device / "driver").unlink()
    assert seen(machine.exercise(ready="false", traffic="true", patience=1)).driver is None


def test_who_only_waits_makes_no_traffic(machine: Machine) -> None:
    ready = f"read -r up rest < {machine.root}/proc/uptime; [ $up -ge 105 ]"
    output = machine.exercise(ready=ready, traffic="echo never", wait=True)
    assert (output.split()[-1], machine.clock()) == ("yes", 105)


def test_who_only_waits_is_told_of_a_silent_device(machine: Machine) -> None:
    machine.interrupts("silent")
    machine.exercise(ready="false", traffic="echo never", wait=True, ends=1)
    machine.exercise(ready="true", traffic="echo never", wait=True, identity="8086:10d3", ends=1)
