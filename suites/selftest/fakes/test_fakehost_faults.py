"""What can be made to go wrong with the fake host goes wrong as it would with a real one."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence

import pytest

from harness.base.deadline import Deadline, poll
from harness.base.errors import HostHung, HostKeyMismatch, HostUnreachable, LabError, OutcomeUnknown
from harness.host.pciback import driver_of
from harness.model.address import Bdf
from harness.transport.base import Script
from harness.xen.keys.xl_output import parse_list
from harness.xen.toolstack.xl import XlToolstack
from suites.selftest.fakes.fakehost.traps import Lost, Moment
from suites.selftest.fakes.fakelab import FakeLab, fake_host
from suites.selftest.fakes.hostcalls import ADD, guest, run
from suites.selftest.fakes.patience import soon
from suites.selftest.fakes.test_fakehost import DISK, NIC

__all__ = ["fake_host"]


class TestFaults:
    @pytest.mark.parametrize(
        ("moment", "effects", "bound"),
        [(Moment.LOST, 0, "e1000e"), (Moment.BEFORE, 1, "pciback"), (Moment.AFTER, 1, "pciback")],
    )  # fmt: skip
    @pytest.mark.parametrize("command", [ADD, Script(f"xl pci-assignable-add {NIC}; true")])
    def test_link_cut(
        self, fake_host: FakeLab, moment: Moment, effects: int, bound: str, command: Sequence[str] | Script
    ) -> None:
        fake, link = fake_host.fake, fake_host.transport()
        fake.trap(fake_host.wire.cut, moment=moment)
        with pytest.raises(OutcomeUnknown):
            run(link, command, changes=True)
        fake_host.reconnect(link)
        assert poll(lambda: fake.ran("assignable-add") == effects, soon())
        assert poll(lambda: driver_of(link, Bdf.parse(NIC)) == bound, soon())

    def test_only_the_nth_changing_program(self, fake_host: FakeLab) -> None:
        fake, link = fake_host.fake, fake_host.transport()
        fake.trap(fake.reboot, nth=2)
        run(link, ["xl", "list"])
        run(link, ADD, changes=True)
        run(link, ["xl", "info"])
        with pytest.raises(OutcomeUnknown):
            run(link, ["xl", "pci-assignable-remove", "-r", NIC], changes=True)
        assert (fake.boots, fake.ran("remove")) == (2, 0)

    def test_whole_commands_can_be_trapped(self, fake_host: FakeLab) -> None:
        fake, link = fake_host.fake, fake_host.transport()
        fake.trap(fake_host.wire.cut, line=r"cat > ", moment=Moment.AFTER)
        with pytest.raises(OutcomeUnknown):
            link.put(b"x", "/run/file", 0o600, soon())
        fake_host.reconnect(link)
        assert link.get("/run/file", soon()) == b"x"

    def test_half_way_and_zombies(self, fake_host: FakeLab) -> None:
        fake, link = fake_host.fake, fake_host.transport()
        fake.half_way = {NIC}
        assert link.run(ADD, deadline=soon(), changes=True).status == 1
        assert fake.functions[NIC].bound is None
        fake.half_way, fake.zombies = set(), True
        run(link, ADD, changes=True)
        domid = XlToolstack(link).create(guest(NIC), soon()).domid
        run(link, ["xl", "destroy", str(domid)], changes=True)
        assert [row.zombie for row in parse_list(run(link, ["xl", "list"]))] == [False, True]

    def test_full_disk(self, fake_host: FakeLab) -> None:
        fake, link = fake_host.fake, fake_host.transport()
        run(link, Script("mkdir -p /run/maskall; echo old > /run/maskall/journal"), changes=True)
        fake.full = True
        for command in (Script("echo new >> /run/maskall/journal"), ["tee", "-a", "/run/maskall/journal"]):
            result = link.run(command, deadline=soon(), stdin=b"new\n")
            assert result.status
            assert b"No space left on device" in result.stderr or isinstance(command, Script)
        with pytest.raises(LabError, match="No space"):
            link.put(b"new", "/run/maskall/journal", 0o600, soon())
        assert link.get("/run/maskall/journal", soon()) == b"old\n"
        run(link, ADD, changes=True)  # the kernel's own files have no disk
        fake.full = False
        run(link, Script("echo new >> /run/maskall/journal"), changes=True)

    def test_a_program_that_never_ends(self, fake_host: FakeLab) -> None:
        fake, link = fake_host.fake, fake_host.transport()
        fake.hang(program="assignable-add")
        with pytest.raises(HostHung):
            link.run(ADD, deadline=Deadline.after(0.1), changes=True)
        assert "Domain-0" in run(link, ["xl", "list"])

    def test_a_machine_that_hangs(self, fake_host: FakeLab) -> None:
        link = fake_host.transport(dead_after=0.3)
        fake_host.hang()
        with pytest.raises((HostUnreachable, HostHung)):
            link.run(["xl", "list"], deadline=soon())
        with pytest.raises(HostUnreachable):
            link.connect(Deadline.after(0.1))
        fake_host.power_cycle()
        patient = fake_host.transport()
        assert "Domain-0" in run(patient, ["xl", "list"])

    @pytest.mark.parametrize("over", [False, True])
    def test_what_hangs_goes_on_unless_the_test_is_over(self, fake_host: FakeLab, over: bool) -> None:
        """Its folders are gone then."""
        fake, done = fake_host.fake, list[str]()
        fake.hang(line="xl list")
        (fake.end if over else fake.release)()
        with pytest.raises(Lost) if over else contextlib.nullcontext():
            fake.traps.around("xl list", lambda: done.append("listed"), changes=False, line=True)
        assert done == ([] if over else ["listed"])

    def test_another_machine_answers(self, fake_host: FakeLab) -> None:
        link = fake_host.transport()
        fake_host.change_host_key()
        with pytest.raises(HostKeyMismatch):
            fake_host.reconnect(link)

    def test_devices_may_call_themselves_anything(self, fake_host: FakeLab) -> None:
        nasty = b"\x1b[31m$(reboot)\xff`x`"
        fake = fake_host.fake
        next(f for f in fake.boot_functions if f.bdf == DISK).serial = nasty
        fake.reboot()
        link = fake_host.transport()
        shown = link.run(["cat", f"/sys/bus/pci/devices/{DISK}/nvme/nvme1/serial"], deadline=soon()).stdout
        assert shown.rstrip() == nasty

    def test_clocks(self, fake_host: FakeLab) -> None:
        link = fake_host.transport()
        fake_host.fake.clock_offset = 86400
        began = int(time.time())
        assert int(run(link, ["date", "+%s"])) >= began + 86400
