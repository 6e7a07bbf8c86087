"""Power control against what it is meant for: ipmi_sim, the Redfish emulator of sushy-tools, a real libvirt.

What happened is read where no controller can lie: in the process table, and from the count of the boots.
"""

from __future__ import annotations

import importlib.util
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.base.deadline import Deadline, poll
from harness.base.errors import PowerFailed, UsageError
from harness.base.process import find
from harness.base.secret import Secret
from harness.lab.power.base import Power, PowerState
from harness.lab.power.ipmi import Ipmi
from harness.lab.power.libvirt import Libvirt
from harness.lab.power.redfish import Redfish, RedfishPower
from suites.lab.ipmisim import Simulated, simulated
from suites.lab.tinydomain import PASSWORD, TinyDomain, redfish_of, tiny_domain

HOST = "xenbox1"
ON, OFF = PowerState.ON, PowerState.OFF
SECONDS = 20.0
WRONG = Secret("wr0ng-Zebra")


def need(*, programs: tuple[str, ...] = (), modules: tuple[str, ...] = ()) -> None:
    """Skip, naming what to install."""
    for program in programs:
        try:
            find(program)
        except UsageError as error:
            pytest.skip(str(error))
    for module, package in (name.split("=") for name in modules):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"the Python package {package} is missing (pip install {package})")


@dataclass(frozen=True)
class Real:
    """A power control and the truth about the machine. `wrong` has another password, None where there is none."""

    power: Power
    state: Callable[[], PowerState]
    boots: Callable[[], int]
    resets: bool
    password: Secret | None = None
    wrong: Power | None = None


@pytest.fixture(scope="module")
def domain() -> Iterator[TinyDomain]:
    need(programs=("libvirtd", "virsh", "qemu-system-x86_64"), modules=("libvirt=libvirt-python",))
    with tiny_domain() as one:
        yield one


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulated]:
    need(programs=("ipmi_sim", "ipmitool"))
    with simulated(tmp_path_factory.mktemp("bmc")) as one:
        yield one


@pytest.fixture(scope="module")
def redfish(domain: TinyDomain, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedfishPower]:
    need(modules=("sushy=sushy", "sushy_tools=sushy-tools"))
    with redfish_of(domain, tmp_path_factory.mktemp("redfish")) as entry:
        yield entry


@pytest.fixture(params=["ipmi", "redfish", "libvirt"])
def real(request: pytest.FixtureRequest, tmp_path: Path) -> Real:
    if request.param == "ipmi":
        bmc: Simulated = request.getfixturevalue("controller")
        made = Real(
            Ipmi(HOST, bmc.entry, bmc.password),
            lambda: bmc.state,
            lambda: len(bmc.pids),
            resets=False,  # the program is no machine: ipmi_sim refuses. test_practice.py resets one
            password=bmc.password,
            wrong=Ipmi(HOST, bmc.entry, WRONG),
        )
    else:
        domain: TinyDomain = request.getfixturevalue("domain")
        truth = (lambda: domain.state, lambda: domain.boots)
        if request.param == "libvirt":
            made = Real(Libvirt(HOST, domain.entry), *truth, resets=True)
        else:
            entry: RedfishPower = request.getfixturevalue("redfish")
            wrong = Redfish(HOST, entry, WRONG, tmp_path)
            power = Redfish(HOST, entry, PASSWORD, tmp_path)
            made = Real(power, *truth, resets=True, password=PASSWORD, wrong=wrong)
    made.power.off(soon())
    return made


def soon(seconds: float = SECONDS) -> Deadline:
    return Deadline.after(seconds)


def booted(real: Real, before: int) -> int:
    """The boots since `before`, once there was one; a second, unwanted one is waited for a moment too."""
    poll(lambda: real.boots() > before, soon())
    poll(lambda: real.boots() > before + 1, soon(0.3))
    return real.boots() - before


def test_on_and_off_really_start_and_end_the_machine(real: Real) -> None:
    before = real.boots()
    assert (real.power.state(soon()), real.state()) == (OFF, OFF)
    for _ in range(2):  # the second time nothing happens
        real.power.on(soon())
        assert (real.power.state(soon()), real.state()) == (ON, ON)
    assert booted(real, before) == 1
    for _ in range(2):
        real.power.off(soon())
        assert (real.power.state(soon()), real.state()) == (OFF, OFF)


def test_a_cycle_is_one_new_boot(real: Real) -> None:
    before = real.boots()
    real.power.on(soon())
    assert booted(real, before) == 1
    real.power.cycle(soon())
    assert real.state() is ON
    assert booted(real, before + 1) == 1


def test_a_cycle_of_a_machine_that_is_off_switches_it_on(real: Real) -> None:
    before = real.boots()
    real.power.cycle(soon())
    assert real.state() is ON
    assert booted(real, before) == 1


def test_a_reset_is_a_new_boot_or_is_refused_in_words(real: Real) -> None:
    before = real.boots()
    real.power.on(soon())
    assert booted(real, before) == 1
    if real.resets:
        real.power.reset(soon())
        assert booted(real, before + 1) == 1
    else:
        with pytest.raises(PowerFailed, match=r"power reset: .*Reset failed"):
            real.power.reset(soon())
    assert (real.power.state(soon()), real.state()) == (ON, ON)


def test_a_wrong_password_is_refused_in_words_and_not_repeated(real: Real) -> None:
    if real.wrong is None:
        return  # libvirt on this machine asks for none
    with pytest.raises(PowerFailed) as caught:
        real.wrong.on(soon())
    assert real.state() is OFF
    assert caught.value.message.startswith(f"{HOST} (")
    assert WRONG.reveal() not in "".join(traceback.format_exception(caught.value))


def test_the_password_is_in_no_command_line_while_it_is_used(real: Real) -> None:
    if real.password is None:
        return
    found, done, children = set[str](), threading.Event(), set[str]()

    def look() -> None:
        while not done.is_set():
            for process in Path("/proc").glob("[0-9]*"):
                for name in ("cmdline", "environ"):
                    try:
                        text = (process / name).read_bytes()
                    except OSError:
                        continue
                    if name == "cmdline" and b"ipmitool" in text:
                        children.add(process.name)
                    if real.password and real.password.reveal().encode() in text:
                        found.add(f"{process.name} {name}")

    looking = threading.Thread(target=look)
    looking.start()
    try:
        real.power.cycle(soon())
    finally:
        done.set()
        looking.join()
    assert not found
    assert children or not isinstance(real.power, Ipmi), "the look came too late to prove anything"


def test_a_start_that_the_controller_accepts_and_that_fails_is_found_out(tmp_path: Path) -> None:
    need(programs=("ipmi_sim", "ipmitool"))
    with simulated(tmp_path) as bmc:
        bmc.break_start()
        with pytest.raises(
            PowerFailed, match=r"xenbox1 \(ipmi 127\.0\.0\.1\): told to switch on, did not: it reads off"
        ):
            Ipmi(HOST, bmc.entry, bmc.password).on(soon(6.0))
        assert bmc.state is OFF


def test_a_controller_that_is_gone_is_told(tmp_path: Path) -> None:
    need(programs=("ipmi_sim", "ipmitool"))
    with simulated(tmp_path) as bmc:
        bmc.stop()
        with pytest.raises(PowerFailed, match=r"did not answer in time|Unable to establish"):
            Ipmi(HOST, bmc.entry, bmc.password).state(soon(1.0))


def test_nothing_of_ipmitool_is_left_behind(real: Real, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    real.power.on(soon())
    assert not list(folder.iterdir())
