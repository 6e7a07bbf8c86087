"""What is special to one way of switching: its wire, its library, its refusals."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.base.deadline import Deadline
from harness.base.errors import LabError, PowerFailed, UsageError
from harness.base.process import run
from harness.base.secret import Secret
from harness.lab.power import base
from harness.lab.power.base import PowerEntry, PowerState
from harness.lab.power.command import CommandPower
from harness.lab.power.ipmi import IpmiPower
from harness.lab.power.libvirt import LibvirtPower
from harness.lab.power.qmp import QmpPower
from harness.lab.power.redfish import Redfish, RedfishPower
from suites.selftest.fakes import powerways
from suites.selftest.fakes.certificate import certificate
from suites.selftest.fakes.fakelibvirt import FakeLibvirt
from suites.selftest.fakes.patience import soon
from suites.selftest.fakes.powerways import HOST, PASSWORD
from suites.selftest.fakes.redfishserver import SYSTEM, RedfishServer


def entry(url: str, **more: object) -> RedfishPower:
    who = {"user": "lab", "password": "env:NEVER_READ"}
    return RedfishPower.model_validate({"kind": "redfish", "url": url, "system": SYSTEM, **who, **more})


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[RedfishServer]:
    monkeypatch.setattr(base, "_EVERY", 0.01)
    made = RedfishServer("lab", PASSWORD)
    yield made
    made.stop()


@pytest.fixture
def redfish(server: RedfishServer, tmp_path: Path) -> Redfish:
    return Redfish(HOST, entry(f"http://127.0.0.1:{server.port}"), Secret(PASSWORD), tmp_path)


@pytest.mark.parametrize("url", ["http://192.0.2.20", "http://bmc.example", "http://127.0.0.1.example"])
def test_no_password_in_clear_over_a_network(url: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="over http everybody"):
        Redfish(HOST, entry(url), Secret(PASSWORD), tmp_path)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000", "http://localhost", "http://[::1]:8000", "https://bmc"])
def test_http_to_this_machine_and_https_to_any(url: str, tmp_path: Path) -> None:
    assert Redfish(HOST, entry(url), Secret(PASSWORD), tmp_path).name.startswith(f"{HOST} (redfish ")


def test_a_certificate_nobody_vouched_for_gets_no_password(tmp_path: Path) -> None:
    pem = certificate(tmp_path)
    server = RedfishServer("lab", PASSWORD, pem)
    try:
        url = f"https://127.0.0.1:{server.port}"
        with pytest.raises(PowerFailed, match="CERTIFICATE_VERIFY_FAILED"):
            Redfish(HOST, entry(url), Secret(PASSWORD), tmp_path).state(soon())
        assert server.logins == 0
        vouched = entry(url, ca_file=pem.name)
        assert Redfish(HOST, vouched, Secret(PASSWORD), tmp_path).state(soon()) is PowerState.ON
        with pytest.raises(UsageError, match="there is no file"):
            Redfish(HOST, entry(url, ca_file="nowhere.pem"), Secret(PASSWORD), tmp_path)
    finally:
        server.stop()


def test_the_environment_names_no_proxy(
    server: RedfishServer, redfish: Redfish, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    assert redfish.state(soon()) is PowerState.ON


def test_one_session_for_many_questions(server: RedfishServer, redfish: Redfish) -> None:
    for _ in range(5):
        redfish.state(soon())
    assert server.logins == 1


@pytest.mark.parametrize("word", ["PoweringOn", "PoweringOff", "Paused", "", "\x1b[2J"])
def test_a_state_that_is_neither_is_unknown(server: RedfishServer, redfish: Redfish, word: str) -> None:
    server.power = word
    assert redfish.state(soon()) is PowerState.UNKNOWN


def test_it_says_what_the_controller_offers(server: RedfishServer, redfish: Redfish) -> None:
    server.allowed = ["ForceOff", "PowerCycle", "ForceOn"]
    with pytest.raises(PowerFailed, match="it has no ForceRestart, only ForceOff, ForceOn, PowerCycle"):
        redfish.reset(soon())  # a power cycle is no warm reset
    redfish.cycle(soon())
    assert server.orders == ["ForceOff", "ForceOn"]


def test_a_wrong_password_is_not_repeated_by_an_error(server: RedfishServer, tmp_path: Path) -> None:
    """The server repeats what it was sent, as no controller should."""
    wrong = Redfish(HOST, entry(f"http://127.0.0.1:{server.port}"), Secret("wr0ng-one"), tmp_path)
    with pytest.raises(PowerFailed) as caught:
        wrong.state(soon())
    assert "wr0ng-one" not in str(caught.value)
    assert caught.value.__cause__ is None and caught.value.__context__ is None


@pytest.mark.parametrize("answer", [b"", b"\xff\xfe", b"[]", b"null", b"{}", b'{"Id": 1}', b"<html>", b'"\x1b[2J"'])
def test_an_answer_that_is_no_redfish(server: RedfishServer, redfish: Redfish, answer: bytes) -> None:
    server.broken = answer
    try:
        assert redfish.state(soon()) is PowerState.UNKNOWN
    except PowerFailed as error:
        assert error.message.isprintable()


def test_the_controller_s_words_are_inert_and_short(server: RedfishServer, redfish: Redfish) -> None:
    server.refuses = (400, "\x1b[2Jno " + "x" * 5000)
    with pytest.raises(PowerFailed) as caught:
        redfish.state(soon())
    assert "\x1b" not in str(caught.value) and len(str(caught.value)) < 600


def test_a_controller_that_fails_once_is_asked_anew(server: RedfishServer, redfish: Redfish) -> None:
    assert redfish.state(soon()) is PowerState.ON
    server.refuses = (400, "busy")
    with pytest.raises(PowerFailed, match="busy"):
        redfish.state(soon())
    server.refuses = None
    assert redfish.state(soon()) is PowerState.ON


def test_a_silent_controller_is_asked_once(server: RedfishServer, redfish: Redfish) -> None:
    server.hears.clear()
    with pytest.raises(PowerFailed):
        redfish.state(soon(0.05))
    assert server.asked == ["GET /redfish/v1/"]  # the library would try again, for minutes


def test_the_session_ends_when_it_failed_and_not_when_garbage_is_collected(
    server: RedfishServer, redfish: Redfish
) -> None:
    """A request sent by a collector, in whatever thread it runs, once stopped the very server it was sent to."""
    log_out = "DELETE /redfish/v1/SessionService/Sessions/1"
    redfish.state(soon())
    server.refuses = (400, "busy")
    with pytest.raises(PowerFailed, match="busy"):
        redfish.state(soon())
    assert server.asked.count(log_out) == 1
    gc.collect()
    assert server.asked.count(log_out) == 1


def test_the_session_ends_with_the_object(server: RedfishServer, tmp_path: Path) -> None:
    power = Redfish(HOST, entry(f"http://127.0.0.1:{server.port}"), Secret(PASSWORD), tmp_path)
    power.state(soon())
    asked = len(server.asked)
    del power
    gc.collect()
    assert server.asked[asked:] == ["DELETE /redfish/v1/SessionService/Sessions/1"]


def test_a_controller_deaf_while_it_switches_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "_EVERY", 0.01)
    way = powerways.fake(tmp_path, monkeypatch)
    left = iter([False, False])

    def state(deadline: Deadline) -> PowerState:
        if way.orders() and not next(left, True):
            raise PowerFailed("deaf")
        return PowerState.OFF if way.orders() else PowerState.ON

    monkeypatch.setattr(way.power, "state", state)
    way.power.off(soon())
    assert way.orders() == ["off"]


def test_ipmi_is_told_the_password_when_it_asks_and_no_file_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was opened on its way is looked at from the program that reads it: memory, no file, nothing that stays."""
    way = powerways.ipmi(tmp_path / "way", monkeypatch)
    program = tmp_path / "way" / "ipmitool"
    keep = 'readlink /proc/self/fd/0 >from; read -r line; echo "$line" >given; echo "$@" >words; env >environment\n'
    program.write_text("#!/bin/sh\ncd " + str(tmp_path / "way") + "\n" + keep + "echo Chassis Power is on\n")
    assert way.power.state(soon()) is PowerState.ON
    told = {name: (tmp_path / "way" / name).read_text().strip() for name in ("from", "given", "words", "environment")}
    assert told["given"] == PASSWORD
    assert told["from"].startswith("/memfd:")
    assert "-a" in told["words"].split()
    assert PASSWORD not in told["words"] + told["environment"]


def test_ipmi_sends_an_order_once_and_may_ask_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    way = powerways.ipmi(tmp_path / "way", monkeypatch)
    program = tmp_path / "way" / "ipmitool"
    program.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/words\necho Chassis Power is on\n')
    way.power.state(soon())
    way.power.reset(soon())
    asked, ordered = (tmp_path / "words").read_text().splitlines()
    assert "-R" not in asked.split()
    assert "-R 1" in ordered


@pytest.mark.parametrize("how", ["exec sleep 60", "echo secret-in-stderr >&2; exit 3"])
def test_a_program_that_fails_or_hangs_repeats_neither_its_arguments_nor_what_it_said(how: str, tmp_path: Path) -> None:
    program = tmp_path / "outlet"
    program.write_text(f"#!/bin/sh\n{how}\n")
    program.chmod(0o755)
    words = (str(program), "--password", "hunter2")
    power = CommandPower(kind="command", **dict.fromkeys(("on", "off", "status"), words)).control(HOST, tmp_path)
    with pytest.raises(PowerFailed) as caught:
        power.state(soon(0.5))
    chain = [caught.value, caught.value.__cause__]
    assert not any(word in f"{one}" for one in chain for word in ("hunter2", "secret-in-stderr", "--password"))
    assert str(program) in str(caught.value) and "by hand" in caught.value.hint


def test_a_secret_of_the_environment_reaches_no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BMC_PASSWORD_OF_A_TEST", PASSWORD)
    entry("http://127.0.0.1:1", password="env:BMC_PASSWORD_OF_A_TEST")  # noqa: S106
    assert PASSWORD not in run(["env"], deadline=soon()).stdout


def test_ipmi_tells_what_ipmitool_says_and_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    way = powerways.ipmi(tmp_path / "way", monkeypatch)
    program = tmp_path / "way" / "ipmitool"
    program.write_text('#!/bin/sh\nprintf "Error: \\033[31mno session\\n" >&2\nexit 1\n')
    with pytest.raises(PowerFailed, match=r"power status: Error: \\x1b\[31mno session"):
        way.power.state(soon())
    program.unlink()
    import harness.lab.power.ipmi as module

    monkeypatch.setattr(module, "find", _missing)
    with pytest.raises(PowerFailed, match="install the Debian package ipmitool"):
        way.power.state(soon())


def _missing(program: str) -> str:
    raise UsageError(f"the program '{program}' is missing", hint=f"install the Debian package {program}")


def test_command_without_reset_and_with_strange_words(tmp_path: Path) -> None:
    words = {"on": ("true",), "off": ("false",), "status": ("printf", "ON\nmaybe \x1b")}
    power = CommandPower.model_construct(kind="command", reset=None, **words).control(HOST, tmp_path)
    assert power.state(soon()) is PowerState.UNKNOWN
    with pytest.raises(PowerFailed, match="there is no warm reset"):
        power.reset(soon())
    with pytest.raises(PowerFailed, match="false ended with status 1"):
        power.off(soon())


def test_libvirt_is_silenced_and_its_words_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    library = FakeLibvirt()
    monkeypatch.setitem(sys.modules, "libvirt", library)
    power = LibvirtPower(kind="libvirt", uri="qemu:///system", domain="nobody").control(HOST, Path())
    assert library.silenced
    with pytest.raises(PowerFailed, match="Domain not found"):
        power.state(soon())


@pytest.mark.parametrize(
    ("module", "entry", "hint"),
    [
        ("libvirt", LibvirtPower(kind="libvirt", uri="qemu:///system", domain="box"), r"maskall\[libvirt\]"),
        ("sushy", RedfishPower(kind="redfish", url="https://bmc", system=SYSTEM), "pip install sushy"),
        ("qemu.qmp", QmpPower(kind="qmp", socket=Path("qmp.sock")), "pip install qemu.qmp"),
    ],
)
def test_a_missing_library_is_named(
    module: str, entry: PowerEntry, hint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(LabError, match=hint):
        entry.control(HOST, tmp_path).state(soon())


@pytest.mark.parametrize(
    ("one", "asked_otherwise", "another"),
    [
        (
            IpmiPower(kind="ipmi", address="bmc", user="a", password="env:A"),  # noqa: S106
            {"user": "b", "password": "env:B", "cipher_suite": 3},
            {"port": 624},
        ),
        (
            RedfishPower(kind="redfish", url="https://bmc", system=SYSTEM, ca_file=Path("a.pem")),
            {"user": "b", "password": "env:B", "ca_file": Path("b.pem")},
            {"system": f"{SYSTEM}-2"},
        ),
    ],
)
def test_one_switch_is_one_whoever_asks(
    one: PowerEntry, asked_otherwise: dict[str, object], another: dict[str, object]
) -> None:
    assert one.model_copy(update=asked_otherwise).switch == one.switch
    assert one.model_copy(update=another).switch != one.switch
