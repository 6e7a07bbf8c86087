"""A reboot is known by its boot_id, whatever a controller says."""

from __future__ import annotations

import threading

import pytest

from harness.base.errors import CommandFailed, HostUnreachable, PowerFailed
from harness.lab import reboot as module
from harness.lab.reboot import How, reboot
from harness.transport.base import Transport
from suites.selftest.fakes.fakelab import FakeLab, fake_host
from suites.selftest.fakes.fakepower import FakePower
from suites.selftest.fakes.patience import soon

__all__ = ["fake_host"]


def boot_id(link: Transport) -> str:
    return link.run(["cat", "/proc/sys/kernel/random/boot_id"], deadline=soon()).check().text.strip()


def controller(lab: FakeLab) -> FakePower:
    """Resets by rebooting at once; a cycle reboots when it is switched on again."""
    acts = {"reset": lab.power_cycle, "on": lab.power_cycle, "off": lab.hang}
    return FakePower(changed=lambda what: acts[what]())


@pytest.mark.parametrize("how", list(How))
def test_every_way_ends_in_a_new_boot_and_a_new_connection(fake_host: FakeLab, how: How) -> None:
    link = fake_host.transport()
    before = boot_id(link)
    told = reboot(link, controller(fake_host), soon(), how, before)
    assert told.boot_id not in ("", before)
    assert boot_id(link) == told.boot_id == fake_host.fake.boot_id
    assert told.seconds > 0


def test_a_soft_reboot_that_cut_its_own_answer_off_is_not_ordered_twice(fake_host: FakeLab) -> None:
    fake_host.fake.answers_reboot = False
    boots: list[str] = []
    fake_host.fake.on_reboot.append(lambda: boots.append("one"))
    link = fake_host.transport()
    reboot(link, None, soon(), How.SOFT, boot_id(link))
    assert boots == ["one"]


@pytest.mark.parametrize("how", [How.RESET, How.CYCLE])
def test_a_reset_that_was_none_is_found_out(fake_host: FakeLab, how: How, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module._LEAVE_SECONDS, How.RESET, 0.3)
    link = fake_host.transport()
    before = boot_id(link)
    with pytest.raises(PowerFailed, match=f"{how.text}' was none: boot_id is still {before}"):
        reboot(link, FakePower(), soon(), how, before)  # says on, off, reset: nobody hears it
    assert link.connected and boot_id(link) == before


def test_a_host_that_takes_its_time_to_go_down_is_waited_for(fake_host: FakeLab) -> None:
    """The controller accepts the reset, the link drops, and the old system still takes connections for a moment."""
    link = fake_host.transport()
    before = boot_id(link)

    def later(what: str) -> None:
        fake_host.server.drop()
        threading.Timer(0.5, fake_host.power_cycle).start()

    assert reboot(link, FakePower(changed=later), soon(), How.RESET, before).boot_id != before


def test_a_host_that_never_returns(fake_host: FakeLab) -> None:
    before = boot_id(fake_host.transport())
    link = fake_host.transport(dead_after=0.3)
    with pytest.raises(HostUnreachable):
        reboot(link, FakePower(changed=lambda what: fake_host.hang()), soon(1.0), How.RESET, before)


def test_without_a_controller_there_is_no_reset(fake_host: FakeLab) -> None:
    link = fake_host.transport()
    before = boot_id(link)
    for how in (How.RESET, How.CYCLE):
        with pytest.raises(PowerFailed, match="no power control in the inventory"):
            reboot(link, None, soon(), how, before)
    assert boot_id(link) == before


def test_a_controller_that_refuses_is_told_before_the_host_is_waited_for(fake_host: FakeLab) -> None:
    link = fake_host.transport()
    with pytest.raises(PowerFailed, match="there is no warm reset"):
        reboot(link, FakePower(resets=False), soon(), How.RESET, boot_id(link))


def test_a_systemctl_that_refuses(fake_host: FakeLab, monkeypatch: pytest.MonkeyPatch) -> None:
    link = fake_host.transport()
    before = boot_id(link)
    monkeypatch.setattr(module, "_SOFT", ["false"])
    with pytest.raises(CommandFailed):
        reboot(link, None, soon(), How.SOFT, before)
