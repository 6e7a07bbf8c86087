"""Every way to switch a machine that can be tried without one: what the contract tests are run on."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.base.secret import Secret
from harness.lab.power.base import Power, PowerState
from harness.lab.power.command import CommandPower, CommandSwitch
from harness.lab.power.ipmi import Ipmi, IpmiPower
from harness.lab.power.libvirt import Libvirt, LibvirtPower
from harness.lab.power.redfish import Redfish, RedfishPower
from suites.selftest.fakes.fakelibvirt import DOMAIN, FakeLibvirt
from suites.selftest.fakes.fakepower import FakePower
from suites.selftest.fakes.redfishserver import SYSTEM, RedfishServer

PASSWORD = "p4ss-w0rd-Zebra"  # noqa: S105 - of no one
HOST = "xenbox1"
ON, OFF = PowerState.ON, PowerState.OFF


@dataclass(frozen=True)
class Way:
    """A power control, and the other side of it. `orders` is what the machine was told: on, off, reset."""

    power: Power
    orders: Callable[[], list[str]]
    set_state: Callable[[PowerState], None]
    lie: Callable[[], None]  # accept everything and do nothing
    fall_silent: Callable[[], None]
    seen: Callable[[], bytes] = bytes  # command lines and environments of all processes during an order
    stop: Callable[[], None] = lambda: None


def fake(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Way:
    power = FakePower(HOST)
    return Way(
        power,
        lambda: list(power.orders),
        lambda state: setattr(power, "now", state),
        lambda: setattr(power, "obeys", False),
        lambda: setattr(power, "answers", False),
    )


# One program with the state in files beside it. `cat` of /proc: what any user of this machine could see meanwhile.
_PROGRAM = """\
#!/bin/sh
cd "{folder}" || exit 1
[ ! -e deaf ] || exec sleep 60
cat /proc/[0-9]*/cmdline /proc/$$/environ >>seen 2>/dev/null
for word; do verb=$word; done
case $verb in
status) echo "{before}$(cat state)" ;;
*)
    echo "$verb" >>orders
    [ -e liar ] || [ "$verb" = reset ] || echo "$verb" >state
    ;;
esac
"""


def _program(folder: Path, name: str, before: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "state").write_text("on\n")
    (folder / "orders").touch()
    path = folder / name
    path.write_text(_PROGRAM.format(folder=folder, before=before))
    path.chmod(0o755)
    return path


def _by_files(power: Power, folder: Path) -> Way:
    return Way(
        power,
        lambda: (folder / "orders").read_text().split(),
        lambda state: (folder / "state").write_text(f"{state}\n") and None,
        (folder / "liar").touch,
        (folder / "deaf").touch,
        (folder / "seen").read_bytes,
    )


def command(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Way:
    path = str(_program(folder, "outlet", "here it comes\n"))
    words = {verb: (path, verb) for verb in ("on", "off", "status", "reset")}
    return _by_files(CommandSwitch(HOST, CommandPower(kind="command", **words)), folder)


def ipmi(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Way:
    """The real adapter with a program in the place of ipmitool(1)."""
    _program(folder, "ipmitool", "Chassis Power is ")
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    entry = IpmiPower(kind="ipmi", address="192.0.2.20", user="lab", password="env:NEVER_READ")  # noqa: S106
    return _by_files(Ipmi(HOST, entry, Secret(PASSWORD)), folder)


def redfish(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Way:
    server = RedfishServer("lab", PASSWORD)
    server.between = ["PoweringOff"]
    words = {"On": "on", "ForceOff": "off", "ForceRestart": "reset"}
    entry = RedfishPower(
        kind="redfish",
        url=f"http://127.0.0.1:{server.port}",
        user="lab",
        password="env:NEVER_READ",  # noqa: S106
        system=SYSTEM,
    )
    return Way(
        Redfish(HOST, entry, Secret(PASSWORD), folder),
        lambda: [words[order] for order in server.orders],
        lambda state: setattr(server, "power", state.capitalize()),
        lambda: setattr(server, "obeys", False),
        server.hears.clear,
        stop=server.stop,
    )


def libvirt(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Way:
    library = FakeLibvirt()
    monkeypatch.setitem(sys.modules, "libvirt", library)
    numbers = {ON: library.VIR_DOMAIN_RUNNING, OFF: library.VIR_DOMAIN_SHUTOFF}
    entry = LibvirtPower(kind="libvirt", uri="qemu:///system", domain=DOMAIN)
    return Way(
        Libvirt(HOST, entry),
        lambda: list(library.orders),
        lambda state: setattr(library, "number", numbers[state]),
        lambda: setattr(library, "obeys", False),
        library.hears.clear,
        stop=library.hears.set,
    )


WAYS = {way.__name__: way for way in (fake, command, ipmi, redfish, libvirt)}
