"""The practice machine is a machine: it boots, is switched by its controller, reboots by itself, shows its devices.

Each test finds it booted and leaves it so.
"""

from __future__ import annotations

import os
import signal

import pytest

from harness.base.deadline import Deadline, poll
from harness.base.errors import MaskallError
from harness.base.process import run
from harness.lab.console.command import CommandConsole
from harness.lab.power.ipmi import IpmiPower
from harness.model.identity import find_device
from harness.nested.practice import Practice, State
from harness.nested.workbench import DATA_DISK, MAC
from harness.transport.base import Script
from suites.lab.practice_machine import link_to

SECONDS = 30.0


@pytest.fixture(autouse=True)
def booted(practice: Practice) -> None:
    link_to(practice).close()


def ask(machine: Practice, *argv: str) -> str:
    link = link_to(machine)
    try:
        return link.run(list(argv), deadline=Deadline.after(SECONDS)).check().text
    finally:
        link.close()


def boot_id(machine: Practice) -> str:
    return ask(machine, "cat", "/proc/sys/kernel/random/boot_id").strip()


def ipmi(machine: Practice, *words: str) -> str:
    power = machine.entry.power
    assert isinstance(power, IpmiPower)
    argv = ["ipmitool", "-I", "lanplus", "-H", power.address, "-p", str(power.port), "-U", power.user]
    argv += ["-f", power.password.removeprefix("file:"), "-C", str(power.cipher_suite), *words]
    return run(argv, deadline=Deadline.after(SECONDS)).stdout


def status(machine: Practice) -> str:
    return ipmi(machine, "chassis", "power", "status").split()[-1]


def next_boot(machine: Practice, before: str) -> str:
    """The id of a later boot than `before`; the old system may still answer for a while."""

    def another() -> str | None:
        try:
            found = boot_id(machine)
        except MaskallError:  # going down, or not up yet
            return None
        return found if found != before else None

    found = poll(another, Deadline.after(machine.entry.boot_seconds), every=1.0)
    assert found is not None, "there was no other boot"
    return found


def assert_devices(machine: Practice) -> None:
    """Every device of the inventory is there, where and what it is said to be."""
    lines = ask(machine, "lspci", "-D", "-n").splitlines()
    for name, device in machine.entry.devices.items():
        assert [line for line in lines if f" {device.identity.id}" in line], f"{name} is not in {lines}"
    marks = ask(machine, "sh", "-c", "cat /sys/class/nvme/*/serial /sys/class/net/*/address")
    assert {"maskall0", f"maskall-{DATA_DISK}", MAC} <= {line.strip() for line in marks.splitlines()}
    identity = machine.entry.devices["virtio-rng"].identity
    where = find_device("\n".join(lines), identity.id)
    place = ask(machine, "readlink", "-f", f"/sys/bus/pci/devices/{where}").strip()
    assert place.endswith(f"/0000:00:12.0/{where}") and identity.path == "0000:00:12.0/00.0"


def test_it_boots_and_answers_with_its_pinned_key(practice: Practice) -> None:
    assert practice.state is State.ON
    assert boot_id(practice)
    assert status(practice) == "on"


def test_it_is_a_xen_host_that_nobody_prepared(practice: Practice) -> None:
    info = ask(practice, "xl", "info")
    assert "hvm_directio" in info
    absent = link_to(practice).run(Script("test ! -e /var/lib/maskall && test ! -e /run/maskall"), deadline=_soon())
    assert absent.ok


def test_its_devices_are_there_by_their_identity(practice: Practice) -> None:
    assert_devices(practice)


def test_somebodys_disk_can_be_mounted(practice: Practice) -> None:
    mount = Script(
        "set -e; for disk in /sys/class/nvme/nvme*; do"
        f' grep -q maskall-{DATA_DISK} "$disk/serial" && set -- "$disk"/nvme*n*; done;'
        ' mkdir -p /srv; mount "/dev/${1##*/}" /srv; findmnt -n -o FSTYPE /srv; umount /srv'
    )
    assert link_to(practice).run(mount, deadline=_soon(), changes=True).check().text.split() == ["ext4"]


def test_the_console_is_recorded_from_power_on(practice: Practice) -> None:
    console = practice.entry.console
    assert isinstance(console, CommandConsole)
    assert console.argv[-1] == str(practice.console_log)
    assert b"Xen version" in practice.console_log.read_bytes()


def test_off_ends_the_machine_and_on_starts_it_again(practice: Practice) -> None:
    before, emulator = boot_id(practice), practice.emulator
    link_to(practice).run(["touch", "/root/kept"], deadline=_soon(), changes=True).check()
    link_to(practice).run(["sync"], deadline=_soon()).check()
    ipmi(practice, "chassis", "power", "off")
    assert poll(lambda: status(practice) == "off", _soon(), every=0.2)
    assert practice.state is State.OFF
    ipmi(practice, "chassis", "power", "on")
    assert poll(lambda: status(practice) == "on", _soon(), every=0.2)
    next_boot(practice, before)
    assert practice.emulator != emulator
    assert ask(practice, "ls", "/root/kept"), "the disk outlives a power cycle"


def test_cycle_is_a_cold_boot(practice: Practice) -> None:
    before, emulator = boot_id(practice), practice.emulator
    ipmi(practice, "chassis", "power", "cycle")
    next_boot(practice, before)
    assert practice.emulator != emulator


@pytest.mark.parametrize("way", ["controller", "itself"])
def test_a_warm_reset_keeps_the_power_and_brings_the_devices_back(practice: Practice, way: str) -> None:
    before, emulator = boot_id(practice), practice.emulator
    if way == "controller":
        ipmi(practice, "chassis", "power", "reset")
    else:
        link = link_to(practice)
        # the command ends with the host: what it answered proves nothing, boot_id does
        link.run(Script("(sleep 1; reboot) >/dev/null 2>&1 &"), deadline=_soon(), changes=True)
        link.close()
    next_boot(practice, before)
    assert practice.emulator == emulator, "QEMU itself was not started again"
    assert_devices(practice)


def test_a_hung_machine_can_be_switched_off(practice: Practice) -> None:
    before, emulator = boot_id(practice), practice.emulator
    assert emulator is not None
    os.kill(emulator, signal.SIGSTOP)  # it does not even hear SIGTERM
    ipmi(practice, "chassis", "power", "off")
    assert poll(lambda: practice.state is State.OFF, _soon(), every=0.2)
    ipmi(practice, "chassis", "power", "on")
    next_boot(practice, before)


def _soon() -> Deadline:
    return Deadline.after(SECONDS)
