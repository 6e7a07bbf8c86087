"""The fake host does what a real one does, as far as the harness can tell through its real transport."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from harness.base.deadline import poll
from harness.base.errors import LabError, OutcomeUnknown
from harness.guest.initramfs import GuestFiles
from harness.host.device import Device
from harness.host.host import Host, TargetDevice
from harness.host.pciback import driver_of
from harness.lab.lease import leftovers
from harness.lab.lease.baseline import read
from harness.lab.lease.deadman import DeadMan
from harness.lab.lease.leftovers import Ours
from harness.lab.lease.undo import Touched, Undo
from harness.model.address import Bdf
from harness.model.change import NoLedger
from harness.model.config import ConfigSpace
from harness.transport.base import Script, quote
from harness.xen.keys.debugkeys import parse_irqs, parse_masks, parse_pci_devices
from harness.xen.keys.lspci import parse_lspci
from harness.xen.keys.xl_output import parse_assignable, parse_info, parse_list, parse_list_long
from harness.xen.toolstack.xl import XlToolstack
from suites.selftest.fakes.fakehost import board
from suites.selftest.fakes.fakehost.rewriting import Rewriting
from suites.selftest.fakes.fakelab import FakeLab, fake_host
from suites.selftest.fakes.hostcalls import ADD, DEVICE, DISK, NIC, guest, run, tee
from suites.selftest.fakes.patience import soon

__all__ = ["fake_host"]


class TestRewriting:
    @pytest.mark.parametrize(
        ("said", "meant"),
        [
            ("cat /sys/x </proc/uptime >/run/y", "cat /R/sys/x </R/proc/uptime >/R/run/y"),
            ('"${d#/sys/}" "$d/sys" ../sys ${d}/run', '"${d#/R/sys/}" "$d/sys" ../sys ${d}/run'),
            ("a 2>/dev/null /dev/sda /proc/self/stat", "a 2>/dev/null /R/dev/sda /proc/self/stat"),
            ("cat /proc/self/mounts /proc/self/mountinfo", "cat /R/proc/self/mounts /R/proc/self/mountinfo"),
            ("/system /usr/bin/x /libxl/pci /lib/modules/6", "/system /usr/bin/x /libxl/pci /R/lib/modules/6"),
            ("for d in /proc/[0-9]*; do", "for d in /R/proc/[0-9]*; do"),
            ("PATH=/usr/sbin:$PATH; MYPATH=1", "PATH=/R/bin:/usr/sbin:$PATH; MYPATH=1"),
            ('x; echo 1 2>/dev/null >"$d/bind"', 'x; echo 1 2>/dev/null | tee "$d/bind" >/dev/null'),
            ("echo 1 >/run/file", "echo 1 >/R/run/file"),
        ],
    )  # fmt: skip
    def test_paths_of_the_host_become_paths_of_the_tree(self, said: str, meant: str) -> None:
        rewriting = Rewriting("/R")
        assert rewriting.program(said.encode()).decode() == meant

    def test_a_root_that_would_need_quoting_is_refused(self) -> None:
        with pytest.raises(ValueError, match="quoting"):
            Rewriting("/tmp/a b")  # noqa: S108

    def test_the_tree_does_not_show(self, fake_host: FakeLab) -> None:
        link = fake_host.transport()
        assert run(link, ["readlink", "-f", DEVICE]) == f"/sys/devices/pci0000:00/0000:00:1c.1/{NIC}\n"
        said = run(link, Script("cat /sys/none 2>&1; cd /sys && pwd; echo /etc/*; env; true"))
        assert "cat: /sys/none: No such file" in said
        assert str(fake_host.fake.root) not in said


class TestHost:
    def test_it_is_plausible_to_our_parsers(self, fake_host: FakeLab) -> None:
        link = fake_host.transport()
        assert "hvm_directio" in parse_info(run(link, ["xl", "info"])).virt_caps
        assert parse_list(run(link, ["xl", "list"]))[0].domid == 0
        assert parse_list_long(run(link, ["xl", "list", "-l"]))[0].name == "Domain-0"
        run(link, ["xl", "debug-keys", "MQi"])
        dump = run(link, ["xl", "dmesg"])
        assert {row.irq for row in parse_masks(dump)} == {row.irq for row in parse_irqs(dump)}
        assert {str(row.device): row.owner for row in parse_pci_devices(dump)}[NIC] == "d0"
        space = ConfigSpace(link.run(["cat", f"{DEVICE}/config"], deadline=soon()).stdout)
        lspci = parse_lspci(run(link, ["lspci", "-n", "-vvv", "-s", NIC]))
        assert space.msix is not None
        assert (lspci.command, lspci.msix, lspci.driver) == (space.command, space.msix.control, "e1000e")
        assert [kind for kind, _ in space.capabilities()] == [1, 0x11, 0x10]

    def test_everything_that_runs_is_counted_by_the_leak_check(self, fake_host: FakeLab) -> None:
        link = fake_host.transport()
        before = leftovers.survey(link)
        run(link, ADD, changes=True)
        assert leftovers.survey(link).more_than(before, Ours(frozenset({NIC})))[0]
        run(link, ["xl", "pci-assignable-remove", "-r", NIC], changes=True)
        assert leftovers.survey(link).more_than(before, Ours(frozenset({NIC}))) == ([], [])

    def test_inventory_names_its_devices(self, fake_host: FakeLab) -> None:
        assert list(fake_host.entry.devices) == ["nic0", "disk0"]
        link = fake_host.transport()
        for bdf, name, value in (
            (NIC, "net/eth1/address", board.NIC_MAC),
            (DISK, "nvme/nvme1/serial", board.DISK_SERIAL),
        ):
            assert run(link, ["cat", f"/sys/bus/pci/devices/{bdf}/{name}"]).strip() == value

    def test_programs_of_this_machine_are_not_reached(self, fake_host: FakeLab) -> None:
        link = fake_host.transport()
        for name in ("mount", "apt-get", "findmnt", "lsblk"):
            assert link.run([name], deadline=soon()).status == 127
        assert run(link, Script("sudo -n -- uname -n")) == "xenbox1\n"


class TestChanges:
    def test_borrow_and_give_back(self, fake_host: FakeLab) -> None:
        link, fake = fake_host.transport(), fake_host.fake
        before = fake.state()
        bdf = Bdf.parse(NIC)
        host = Host("xenbox1", link, {}, GuestFiles("/k", "/i"))
        device = Device.identify(host, XlToolstack(link), TargetDevice("nic0", "8086:10d3", "e1000e", True, bdf))
        device.bind()
        nic = fake.functions[NIC]
        assert (nic.bound, nic.command, nic.msix, nic.owner) == ("pciback", 2, 4, "DomIO")
        assert parse_assignable(run(link, ["xl", "pci-assignable-list"])) == (bdf,)
        assert not Path(f"{fake.root}/sys/class/net/eth1").exists()
        device.give_back()
        assert fake.state() != before  # a new interface is down
        run(link, ["ip", "link", "set", "dev", "eth1", "up"], changes=True)
        assert fake.state() == before
        assert fake.executed[:2] == [tuple(ADD), ("xl", "pci-assignable-remove", "-r", NIC)]

    def test_the_journal_s_undo_finds_everything_it_needs(self, fake_host: FakeLab) -> None:
        link, fake = fake_host.transport(), fake_host.fake
        before, baseline = fake.state(), read(link, Bdf.parse(NIC))
        run(link, ADD, changes=True)
        XlToolstack(link).create(guest(NIC), soon()).result.check()
        for name, value in (("power/control", "auto"), ("driver_override", "pciback"), ("reset_method", "bus")):
            tee(link, f"{DEVICE}/{name}", value).check()
        Undo(link, NoLedger(), Touched(frozenset({"maskall-a"}), frozenset(), (baseline,))).reconcile(whole=True)
        assert {**fake.state(), "files": []} == before

    def test_a_guest_owns_and_loses_the_device(self, fake_host: FakeLab) -> None:
        link, fake = fake_host.transport(), fake_host.fake
        tools = XlToolstack(link)
        assert tools.create(guest(NIC), soon()).result.status == 3  # not assignable
        tools.make_assignable(Bdf.parse(NIC), soon()).check()
        ready = fake.state()
        created = tools.create(guest(NIC), soon())
        assert created.domid is not None
        assert created.result.ok
        nic = fake.functions[NIC]
        assert (nic.owner, nic.command, nic.msix) == (f"d{created.domid}", 0x0406, 0x8004)
        assert run(link, ["xl", "pci-list", str(created.domid)]).endswith(f" {NIC}\n")
        assert run(link, ["xl", "pci-assignable-list"]) == ""
        assert tools.create(guest(DISK), soon()).result.status == 1  # the name is taken
        tools.destroy(created.domid, soon()).check()
        tools.await_gone(created.domid, Bdf.parse(NIC), soon()).check()
        assert {**fake.state(), "files": []} == {**ready, "files": []}
        assert tools.destroy(created.domid, soon()).status == 1

    @pytest.mark.parametrize("in_script", [False, True])
    def test_sysfs_answers_as_the_kernel_does(self, fake_host: FakeLab, in_script: bool) -> None:
        link, fake = fake_host.transport(), fake_host.fake
        before = fake.state()

        def write(path: str, value: str) -> int | None:
            if not in_script:
                return tee(link, path, value).status
            script = Script(f"echo {quote([value])} > {path}")
            return link.run(script, deadline=soon(), changes=True).status

        driver = "/sys/bus/pci/drivers/e1000e"
        assert write(f"{driver}/bind", NIC) == 1  # bound already
        assert write(f"{DEVICE}/driver/unbind", NIC) == 0
        assert fake.functions[NIC].msix == 4
        assert link.run(["readlink", f"{DEVICE}/driver"], deadline=soon()).status == 1
        assert write(f"{driver}/unbind", NIC) == 1
        assert write("/sys/bus/pci/drivers/pciback/bind", NIC) == 1  # no slot, no override
        assert write(f"{DEVICE}/driver_override", "pciback") == 0
        assert write("/sys/bus/pci/drivers_probe", NIC) == 0
        assert driver_of(link, Bdf.parse(NIC)) == "pciback"
        assert write(f"{DEVICE}/driver/unbind", NIC) == 0
        assert write(f"{driver}/bind", NIC) == 1  # the override is another
        assert write(f"{DEVICE}/driver_override", "") == 0
        fake.hotplug = True
        assert write(f"{driver}/bind", NIC) == 0
        assert write(f"{DEVICE}/power/control", "auto") == 0
        assert fake.state() != before
        assert write(f"{DEVICE}/power/control", "on") == 0
        assert write(f"{DEVICE}/power/control", "fast") == 1
        assert fake.state() == before
        assert fake.ran("^tee .*bind$") == 7

    def test_config_space_and_reset(self, fake_host: FakeLab) -> None:
        link, fake = fake_host.transport(), fake_host.fake
        run(link, ["setpci", "-s", DISK, "CAP_MSIX+2.w=4000:4000"], changes=True)
        assert run(link, ["setpci", "-s", DISK, "CAP_MSIX+2.w", "COMMAND"]) == "c040\n0406\n"
        tee(link, f"/sys/bus/pci/devices/{DISK}/reset", "1").check()
        assert fake.functions[DISK].msix == 0x8040
        run(link, ["setpci", "-s", NIC, "CAP_MSIX+2.w=4000:4000"], changes=True)
        tee(link, f"{DEVICE}/reset", "1").check()
        assert fake.functions[NIC].msix == 0xC004  # its first reset method is pm, which does nothing
        run(link, ["setpci", "-s", "0000:00:1c.1", "BRIDGE_CONTROL=40:40"], changes=True)
        assert (fake.functions[NIC].msix, fake.functions[NIC].command) == (4, 0)

    def test_modules(self, fake_host: FakeLab) -> None:
        link, fake = fake_host.transport(), fake_host.fake
        listed = run(link, ["modprobe", "--show-depends", "--all", "nvme", "pcieport"])
        path = f"/lib/modules/{board.RELEASE}/kernel/nvme.ko"
        assert listed == f"insmod {path}\nbuiltin pcieport\n"
        assert link.get(path, soon()) == b"module nvme\n"
        run(link, ["rmmod", "xen_pciback"], changes=True)
        assert link.run(ADD, deadline=soon(), changes=True).status == 1
        assert fake.functions[NIC].bound == "e1000e"
        run(link, ["modprobe", "xen-pciback"], changes=True)
        run(link, ADD, changes=True)

    def test_dead_man(self, fake_host: FakeLab) -> None:
        link, fake = fake_host.transport(), fake_host.fake
        before = fake.state()
        dead_man = DeadMan(lambda: fake_host.transport(connect=False), seconds=60, may_reboot=True)
        armed = dead_man.arm(link, Bdf.parse(NIC), "e1000e")
        run(link, ADD, changes=True)
        fake.advance(59)
        assert fake.functions[NIC].bound == "pciback"
        fake.advance(2)
        assert fake.functions[NIC].bound == "e1000e"
        assert fake.state()["timers"] == before["timers"] == []
        assert fake.boots == 1
        with pytest.raises(LabError, match="has struck"):
            dead_man.disarm(armed)
        armed = dead_man.arm(link, Bdf.parse(NIC), "e1000e")
        dead_man.disarm(armed)
        assert fake.timers == {}


class TestReboot:
    def test_everything_volatile_is_gone(self, fake_host: FakeLab) -> None:
        link, fake = fake_host.transport(), fake_host.fake
        before, boot_id = fake.state(), run(link, ["cat", "/proc/sys/kernel/random/boot_id"])
        run(link, ADD, changes=True)
        XlToolstack(link).create(guest(NIC), soon()).result.check()
        run(link, Script("mkdir -p /var/lib/maskall && echo kept > /var/lib/maskall/file"), changes=True)
        run(link, ["systemctl", "reboot"], changes=True)
        fake_host.reconnect(link)
        assert fake.state() == before
        assert run(link, ["cat", "/proc/sys/kernel/random/boot_id"]) != boot_id
        assert float(run(link, ["cut", "-d", " ", "-f", "1", "/proc/uptime"])) < 40
        assert run(link, ["cat", "/var/lib/maskall/file"]) == "kept\n"

    def test_a_forced_one_does_not_answer(self, fake_host: FakeLab) -> None:
        link = fake_host.transport()
        with pytest.raises(OutcomeUnknown):
            run(link, Script("reboot -f; sleep 20"), changes=True)
        assert fake_host.fake.boots == 2

    def test_buses_move_and_a_twin_appears(self, fake_host: FakeLab) -> None:
        fake = fake_host.fake
        twin = fake.plug_twin(DISK, serial=b"OTHER")
        link = fake_host.transport()
        assert run(link, ["lspci", "-D", "-n"]).count("1b36:0010") == 2
        assert run(link, ["cat", f"/sys/bus/pci/devices/{twin}/nvme/nvme21/serial"]).strip() == "OTHER"
        fake.moves_at_reboot = 1
        fake.reboot()
        fake_host.reconnect(link)
        assert run(link, ["cat", "/sys/bus/pci/devices/0000:03:00.0/net/eth1/address"]).strip() == board.NIC_MAC
        assert run(link, ["readlink", "-f", "/sys/bus/pci/devices/0000:03:00.0"]).count("0000:00:1c.1/") == 1
        assert fake.functions["0000:00:1c.1"].config[0x19] == 3


def test_what_is_modelled_starts_no_process(fake_host: FakeLab) -> None:
    """Thousands of commands must fit in the fault-injection tests: a script is one shell, a plain call not even one."""
    link, started = fake_host.transport(), fake_host.server.processes
    run(link, ["xl", "list"])
    threads = threading.active_count()
    run(link, ["xl", "list"])
    assert started == []
    for number in range(1, 4):
        run(link, Script("xl list; cat /proc/uptime"))
        assert len(started) == number
    assert poll(lambda: threading.active_count() <= threads, soon()), "a command leaves a thread behind"
