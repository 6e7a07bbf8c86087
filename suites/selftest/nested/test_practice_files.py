"""The files of a practice machine: its command line, its controller's configuration, its inventory, its secrets."""

from __future__ import annotations

import shlex
import stat
from pathlib import Path

import pytest

from harness.base.errors import LabError
from harness.base.secret import resolve
from harness.lab.console.command import CommandConsole
from harness.lab.console.ipmi import IpmiConsole
from harness.lab.console.tcp import TcpConsole
from harness.lab.power.ipmi import IpmiPower
from harness.nested import bmc, practice, workbench
from harness.nested.bmc import Ports
from harness.nested.devices import root_ports
from harness.nested.workbench import ConsoleWay
from suites.selftest.fakes.practicerun import HOST_KEY, PORTS, SPEC


class TestFiles:
    def test_each_device_has_its_own_root_port_and_mark(self) -> None:
        models = workbench.models()
        slots = [model.slot for model in models.values()]
        assert len(set(slots)) == len(slots) and set(slots) <= set(root_ports())
        assert {model.driver for model in models.values()} == {"nvme", "virtio-rng", "e1000e"}

    def test_the_command_line(self) -> None:
        words = SPEC.arguments(disk=Path("disk.qcow2"), ram=None, ssh_port=22022, serial="chardev:serial")
        text = " ".join(words)
        assert "memory-backend" not in text and "-no-reboot" not in words
        assert "hostfwd=tcp:127.0.0.1:22022-10.0.2.15:22" in text
        assert "-drive file=datadisk.raw,if=none,id=datadisk-drive,format=raw" in text
        assert "nvme,id=datadisk-dev,bus=rp5,drive=datadisk-drive,serial=maskall-datadisk" in words
        assert f"e1000e,id=e1000e-dev,bus=rp1,netdev=e1000e-net,mac={workbench.MAC}" in words
        assert words[words.index("-serial") + 1] == "chardev:serial"

    @pytest.mark.parametrize("way", list(ConsoleWay))
    def test_what_listens(self, way: ConsoleWay) -> None:
        """On loopback: ssh, which wants a key, the controller, which wants a password; never QEMU's serial line."""
        text = practice.power_on_script(Path("/m"), SPEC, PORTS, way)
        text += bmc.lan_conf(PORTS, "x", power_on=True, sol=way is ConsoleWay.SOL)
        assert "0.0.0.0" not in text  # noqa: S104 - that is the point
        assert f"hostfwd=tcp:127.0.0.1:{PORTS.ssh}-" in text and f"addr 127.0.0.1 {PORTS.ipmi}" in text
        assert (str(PORTS.serial) in text) is (way is ConsoleWay.SOL), "where the controller reads it"
        assert text.count("127.0.0.1") == {ConsoleWay.LOG: 2, ConsoleWay.TCP: 2, ConsoleWay.SOL: 3}[way]
        assert ("path=serial.sock,server=on" in text) is (way is not ConsoleWay.LOG)
        assert "serial 15" not in text, "ipmi_sim's wire to the machine is open to everybody"

    def test_a_directory_of_any_name(self) -> None:
        lines = practice.power_on_script(Path("/it's $HOME; `x`"), SPEC, PORTS, ConsoleWay.LOG).splitlines()
        assert shlex.split(lines[2]) == ["cd", "/it's $HOME; `x`", "||", "exit"]

    @pytest.mark.parametrize(("power_on", "sol"), [(True, True), (False, False)])
    def test_the_controllers_configuration(self, power_on: bool, sol: bool) -> None:
        lines = bmc.lan_conf(PORTS, "s3cret", power_on=power_on, sol=sol).splitlines()
        assert f"startnow {'true' if power_on else 'false'}" in lines
        assert (f'sol "tcp:127.0.0.1:{PORTS.serial}" 115200' in lines) is sol
        assert 'user 2 true "maskall" "s3cret" admin 10' in lines

    @pytest.mark.parametrize(
        ("way", "kind"),
        [(ConsoleWay.LOG, CommandConsole), (ConsoleWay.SOL, IpmiConsole), (ConsoleWay.TCP, TcpConsole)],
    )
    def test_the_inventory_is_one(self, tmp_path: Path, way: ConsoleWay, kind: type[object]) -> None:
        bmc.configure(tmp_path, PORTS, power_on=False, sol=True)
        secret = (tmp_path / "password").read_text().strip()
        path = workbench.write_inventory(tmp_path, "one", HOST_KEY, PORTS, way)
        entry = workbench.entry_of(tmp_path, "one")
        assert (entry.port, entry.host_key, entry.allow_persistent) == (PORTS.ssh, HOST_KEY, False)
        assert isinstance(entry.console, kind) and isinstance(entry.power, IpmiPower)
        assert resolve(entry.power.password).reveal() == secret
        assert secret not in path.read_text()
        assert entry.devices["virtio-rng"].identity.path == "0000:00:12.0/00.0"
        assert entry.devices["e1000e"].identity.mac == workbench.MAC
        assert entry.devices["nvme"].identity.serial != entry.devices[workbench.DATA_DISK].identity.serial
        assert entry.devices[workbench.DATA_DISK].endings == ()

    def test_secrets_are_for_nobody_else(self, tmp_path: Path) -> None:
        bmc.configure(tmp_path, PORTS, power_on=False, sol=True)
        for name in ("password", "lan.conf"):
            assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600

    def test_ports_are_free_and_distinct(self) -> None:
        ports = Ports.free()
        assert len({ports.ssh, ports.ipmi, ports.serial}) == 3
        with pytest.raises(LabError, match="no free port"):
            Ports.free(frozenset(range(20000, 32000)))
