"""What giving a host back sends there: each step that is needed, in order, and none that is not."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import pytest

from harness.base.errors import DeviceTaken, ParseError, RestoreFailed
from harness.lab.lease.baseline import Baseline, read
from harness.lab.lease.undo import Touched, Undo
from suites.selftest.fakes.faketransport import Reply
from suites.selftest.fakes.plainbox import NIC, PlainBox

REMOVE = f"xl pci-assignable-remove -r {NIC}"
UNBIND, BIND, RELEASE = (f"tee P/{one} {NIC}" for one in ("pciback/unbind", "e1000e/bind", "pciback/remove_slot"))
SEIZE, TAKEN = f"tee P/pciback/new_slot {NIC}", f"tee P/pciback/bind {NIC}"
Left = dict[str, Any]


def seen(box: PlainBox) -> Baseline:
    return read(box.link, NIC)


def undone(
    box: PlainBox,
    *baselines: Baseline,
    whole: bool = True,
    domains: Collection[str] = (),
    modules: Collection[str] = (),
    rebooted: bool = False,
    domids: set[int] | None = None,
) -> list[str]:
    """Put back; what a person was told."""
    said: list[str] = []
    undo = Undo(box.link, box, Touched(frozenset(domains), frozenset(modules), baselines), said.append)
    if rebooted:
        undo.rebooted = True
    if domids is not None:
        undo.domids = domids
    undo.reconcile(whole=whole)
    return said


STEPS: dict[str, tuple[Left, Left, list[str]]] = {
    "as it was": ({}, {}, []),
    "with no driver": ({}, {"driver": ""}, [BIND]),
    "with no driver, as it was": ({"driver": ""}, {"driver": ""}, []),
    "with pciback": ({}, {"driver": "pciback", "slot": True}, [REMOVE]),
    "with pciback, which another driver has no part in": (
        {"driver": "", "native": ""},
        {"driver": "pciback", "slot": True},
        [f"xl pci-assignable-remove {NIC}"],
    ),
    "with pciback, as it was": (pciback := {"driver": "pciback", "slot": True}, pciback, []),
    "with pciback before, now with no driver": (pciback, {"driver": "", "slot": True}, [TAKEN]),
    "with pciback before, now given up": (pciback, {"driver": "", "slot": False}, [SEIZE, TAKEN]),
    "with pciback by its override": (
        {},
        {"driver": "pciback", "override": "pciback"},
        [REMOVE, "tee D/driver_override "],
    ),
    "with pciback, as it was, and power management": (pciback, pciback | {"power": "auto"}, ["tee D/power/control on"]),
    "with no driver and seized": ({}, {"driver": "", "slot": True}, [REMOVE]),
    "with its driver and seized": ({}, {"slot": True}, [RELEASE]),
    "with pciback and no xl": ({}, {**pciback, "broken": {"xl"}}, [REMOVE, RELEASE, UNBIND, BIND]),
    "with pciback for good": ({}, {**pciback, "override": "pciback"}, [REMOVE, "tee D/driver_override "]),
    "for another driver only": (
        {},
        {"driver": "", "override": "pciback"},
        ["tee D/driver_override ", BIND],
    ),
    "for any driver": ({"override": "e1000e"}, {}, ["tee D/driver_override e1000e"]),
    "with power management": ({}, {"power": "auto"}, ["tee D/power/control on"]),
    "with another reset": ({}, {"method": "flr bus"}, ["tee D/reset_method pm"]),
    "with virtual functions": ({}, {"vfs": "2"}, ["tee D/sriov_numvfs 0"]),
    "without virtual functions": ({"vfs": "4"}, {}, ["tee D/sriov_numvfs 4"]),
    "with fewer virtual functions": ({"vfs": "4"}, {"vfs": "2"}, ["tee D/sriov_numvfs 0", "tee D/sriov_numvfs 4"]),
    "with no interface up": (
        {"up": {"eth1": True, "eth2": True}},
        {"up": {"eth1": False, "eth2": False}},
        ["ip link set dev eth1 up", "ip link set dev eth2 up"],
    ),
    "without memory": ({}, {"command": 0x0000}, [f"setpci -s {NIC} COMMAND=6:407"]),
    "with every bit that a driver leaves": ({"command": 0}, {"command": 0x0407}, [f"setpci -s {NIC} COMMAND=0:407"]),
    "without any of them": ({"command": 0x0547}, {"command": 0x0140}, [f"setpci -s {NIC} COMMAND=407:407"]),
    "with others": ({"command": 0x0006}, {"command": 0x0146}, []),
    "with others and power management": ({}, {"command": 0x0146, "power": "auto"}, ["tee D/power/control on"]),
    "with MASKALL": ({"driver": ""}, {"driver": "", "msix": 0x4004}, ["tee D/reset 1"]),
    "with MASKALL, as it was, and power management": (
        {"driver": "", "msix": 0x4004},
        {"driver": "", "msix": 0x4004, "power": "auto"},
        ["tee D/power/control on"],
    ),
    "without MASKALL, which was a fault": ({"msix": 0x4004}, {}, []),
    "with another reset and MASKALL": (
        {"driver": ""},
        {"driver": "", "msix": 0x4004, "method": "bus", "command": 0},
        ["tee D/reset_method pm", "tee D/reset 1", f"setpci -s {NIC} COMMAND=6:407"],
    ),
}


@pytest.mark.parametrize("left", STEPS)
def test_each_step_that_is_needed_and_none_that_is_not(left: str) -> None:
    was, now, steps = STEPS[left]
    wanted = seen(PlainBox(**was))
    box = PlainBox(**({"driver": wanted.driver or "", "native": wanted.driver or ""} | now))
    undone(box, wanted)
    assert box.sent == steps
    assert wanted.differences(seen(box)) == []
    assert [(subject, after) for _, subject, _, after in box.told] == [(str(NIC), nth) for nth in range(len(steps))]
    undone(box, wanted)
    assert box.sent == steps, "once more changes nothing"


def test_a_host_that_is_as_it_was_is_asked_no_more_than_needed() -> None:
    """Asking who has a device prints into Xen's console; and of domains there is nothing to ask where none was ours."""
    box = PlainBox(xl="libxl: error\n")
    wanted = seen(box)
    undone(box, wanted)
    asked = [one for one in box.asked if "set -- @" not in one]
    assert len(asked) == 1 and "*.domids" in asked[0]
    assert box.sent == []


SETTINGS: dict[str, tuple[str, str]] = {
    "net0 mtu": ("9000", "ip link set dev eth1 mtu 9000"),
    "net0 address": ("52:54:00:00:00:01", "ip link set dev eth1 address 52:54:00:00:00:01"),
    "net0 tx_queue_len": ("500", "ip link set dev eth1 txqueuelen 500"),
    "net0 feature tx-gso": ("on", "ethtool -K eth1 tx-gso on"),
    "net0 ring RX": ("512", "ethtool -G eth1 rx 512"),
    "net0 channels Combined": ("4", "ethtool -L eth1 combined 4"),
    "block0 scheduler": ("bfq", "tee /sys/class/block/nvme2n1/queue/scheduler bfq"),
    "block0 nr_requests": ("64", "tee /sys/class/block/nvme2n1/queue/nr_requests 64"),
}
NAMES = {"net0 name": "eth1", "block0 name": "nvme2n1"}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("takes", [True, False])
def test_a_setting_is_set_back_by_its_own_tool_or_told(name: str, takes: bool) -> None:
    """It is found by the name that its interface or disk has now."""
    before, step = SETTINGS[name]
    every = {one: value for one, (value, _) in SETTINGS.items()}
    wanted = seen(PlainBox(settings={"net0 name": "eth0", "block0 name": "nvme1n1", **every}))
    box = PlainBox(settings={**NAMES, **every, name: "1"}, idle=set() if takes else {step.split()[0], name.split()[1]})
    said = undone(box, wanted)
    assert box.sent == [step]
    thing, setting = name.split(" ", 1)
    assert [told for _, _, told, _ in box.told] == [f"set {NAMES[f'{thing} name']} {setting} to {before}"]
    assert said == ([] if takes else [f"{NIC}: {name} is 1, was {before}, and could not be set back"])


def test_a_setting_of_what_is_no_longer_there_is_nobodys() -> None:
    box = PlainBox(settings=NAMES)
    assert undone(box, seen(PlainBox(settings={**NAMES, "net0 mtu": "9000", "net7 mtu": "9000"}))) == []
    assert box.sent == []


class TestWhatDoesNotGoBack:
    @pytest.mark.parametrize(
        ("was", "now", "told", "steps"),
        [
            ({"power": ""}, {}, "power control is on, was none", []),
            ({"method": ""}, {}, "reset method is pm, was none", []),
            ({"vfs": ""}, {}, "numvfs is 0, was none", []),
            ({"up": {"eth1": False}}, {}, "interfaces up is 0x0001, was 0x0000", []),
            ({}, {"msix": 0x4004}, "msix control is 0x4004, was 0x0004", []),
            ({}, {"silent": True}, "command is none, was 0x0006", []),
            ({"driver": ""}, {"driver": "", "silent": True}, "command is none, was 0x0006", []),
            (
                {"driver": ""},
                {"driver": "", "msix": 0x4004, "command": 0, "dies_of_reset": True},
                "command is none, was 0x0006",
                ["tee D/reset 1"],
            ),
            ({"silent": True}, {}, "command is 0x0006, was none", []),
            ({}, {"ids": ""}, f"{NIC} is not there", []),
            ({}, {"ids": "0x8086\n0x10d3\n0x8086\n0x0000"}, f"another device is at {NIC} now", []),
            ({}, {"path": f"/sys/devices/pci0000:00/0000:00:1d.0/{NIC}"}, f"another device is at {NIC} now", []),
            ({}, {"ids": "0x1b36\n0x0010\n0x1af4\n0x1100", "driver": "nvme"}, f"another device is at {NIC} now", []),
        ],
    )
    def test_it_is_named_and_nothing_is_tried_in_vain(self, was: Left, now: Left, told: str, steps: list[str]) -> None:
        box = PlainBox(**now)
        with pytest.raises(RestoreFailed, match=f"^box is not as it was: .*{told}") as raised:
            undone(box, seen(PlainBox(**was)))
        assert box.sent == steps
        assert raised.value.hint == "maskall restore box"

    @pytest.mark.parametrize(
        ("now", "broken", "told"),
        [
            ({"power": "auto"}, "control", "write 'on' to .*/power/control: control: Invalid argument"),
            ({"driver": "pciback", "slot": True}, "xl", f"take {NIC} from pciback: .*: Invalid argument"),
            ({"up": {"eth1": False}}, "ip", "bring eth1 up: .*: Invalid argument"),
            ({"command": 0}, "setpci", f"write COMMAND=6:407 of {NIC}: .*: Invalid argument"),
        ],
    )
    def test_a_step_that_is_refused_is_told_with_the_last_word(self, now: Left, broken: str, told: str) -> None:
        box = PlainBox(**now, broken={broken})
        said: list[str] = []
        undo = Undo(box.link, box, Touched(baselines=(seen(PlainBox()),)), said.append)
        if broken == "xl":
            undo.reconcile(whole=True)  # there is another way
        else:
            with pytest.raises(RestoreFailed):
                undo.reconcile(whole=True)
        assert len(said) == 1 and re.fullmatch(told, said[0])


GUEST = ["maskall-a"]


class TestDomains:
    def test_ours_go_and_no_others(self) -> None:
        box = PlainBox(domains={0: "Domain-0", 4: "maskall-a", 7: "maskall-b", 9: "bob"}, **pciback)
        undone(box, seen(PlainBox()), domains=GUEST, domids=(ours := {2}))
        assert box.sent == ["xl destroy 4", REMOVE]
        assert box.told[0] == ("domain", "maskall-a", "destroy maskall-a (d4)", 0)
        assert ours == {2, 4}, "a zombie has no name"
        assert any("/libxl/pci" in one for one in box.asked), "libxl's note is waited for"

    def test_dom0_is_never_destroyed_whatever_it_is_called(self) -> None:
        box = PlainBox(domains={0: "maskall-a"})
        undone(box, domains=GUEST)
        assert box.sent == []

    def test_one_that_stays_is_named(self) -> None:
        box = PlainBox(domains={0: "Domain-0", 4: "maskall-a"}, idle={"destroy"})
        with pytest.raises(RestoreFailed, match=r"not as it was: domain maskall-a is still there \("):
            undone(box, domains=GUEST)

    def test_one_that_is_dead_and_not_gone_is_named(self) -> None:
        """By its number, whoever has destroyed it; bob's is bob's."""
        box = PlainBox(domains={0: "Domain-0", 4: "maskall-a", 5: "(null)", 9: "(null)"}, domids="5 x 0 123456\n05")
        box.zombies = True
        with pytest.raises(RestoreFailed, match="not as it was: domain 5 is dead and not gone; domain 4 is dead"):
            undone(box, domains=GUEST)
        with pytest.raises(RestoreFailed) as raised:
            undone(box)
        assert "domain 9" not in str(raised.value)

    def test_what_xenstore_has_of_our_dead_is_forgotten(self) -> None:
        names = {4: "maskall-a", 5: "maskall-a", 6: "bob", 7: "maskall-a"}
        box = PlainBox(domids="4 6")
        box.xenstore = "".join(
            f'/local/domain/0/backend/pci/{one}/0/domain = "{name}"\n' for one, name in names.items()
        )
        undone(box, domains=GUEST, domids={5})
        assert box.sent == [f"xenstore-rm /local/domain/0/backend/pci/{one}" for one in (4, 5)]
        told = "make xenstore forget pciback's part in maskall-a (d5), if that is gone"
        assert box.told[1] == ("domain", "maskall-a", told, 1)

    @pytest.mark.parametrize(("xl", "told"), [("one\ntwo\n", "two"), ("", "status 1")])
    def test_a_toolstack_that_does_not_say_is_told_with_its_last_word(self, xl: str, told: str) -> None:
        box = PlainBox()
        box.link.commands = {"xl list": Reply(stderr=xl.encode(), status=1), **box.link.commands}
        with pytest.raises(RestoreFailed, match=f"^box: whether our domains are gone, xl does not say: {told}$"):
            undone(box, domains=GUEST)

    def test_an_answer_of_another_form_is_named_by_its_program(self) -> None:
        box = PlainBox(domids="4")
        box.link.commands = {"xl list": Reply(b"Name ID\n"), **box.link.commands}
        for touched in (GUEST, []):
            with pytest.raises(ParseError, match=r"^xl list:1: "):
                undone(box, domains=touched)

    def test_others_are_those_that_would_die_in_a_reboot(self) -> None:
        """One whose name xenstore does not tell is somebody's, unless it is ours or dead."""
        names = {0: "Domain-0", 4: "maskall-a", 9: "bob", 8: "ada", 5: "(null)", 6: "(null)", 11: "(null)"}
        box = PlainBox(domains=names, domids="6 7", states={6: "-b----", 8: "---s-d", 11: "-b----"})
        undo = Undo(box.link, box, Touched(frozenset(GUEST)))
        assert undo.others() == ["ada", "bob", "d11, which has no name"]

    def test_a_number_that_was_given_away_again_is_its_new_domains(self) -> None:
        box = PlainBox(domains={0: "Domain-0", 3: "bob", 4: "(null)", 5: "maskall-a"}, domids="3 4 5")
        undo = Undo(box.link, box, Touched(frozenset(GUEST)))
        undo.reset(str(NIC), "flr")
        assert undo.domids == {4, 5}


def test_what_booted_another_hypervisor_goes_with_a_word_of_it() -> None:
    box = PlainBox()
    Undo(box.link, box, Touched(booted=frozenset({"ab" * 10}))).reconcile(whole=True)
    assert box.sent == ["rm /boot/grub/custom.cfg"]
    assert box.told == [("persistent", "/boot/grub/custom.cfg", "remove what booted another hypervisor", 0)]


class TestModules:
    def test_it_goes_at_the_end_of_a_visit_only(self) -> None:
        box = PlainBox()
        undone(box, modules=["xen-pciback"], whole=False)
        assert box.sent == []
        undone(box, modules=["xen-pciback"])
        assert box.sent == ["modprobe -r xen-pciback"]
        assert box.told == [("module", "xen-pciback", "unload xen-pciback", 0)]

    @pytest.mark.parametrize(
        ("status", "notice"),
        [(1, "unload xen-pciback: it holds y"), (95, "xen-pciback stays loaded: it holds y"), (0, "")],
    )
    def test_one_that_holds_what_is_others_stays(self, status: int, notice: str) -> None:
        """For any other reason it is not as it was."""
        box, said = PlainBox(), list[str]()
        box.link.commands = {".*modprobe.*": Reply(stderr=b"x\nit holds \x1by\n", status=status), **box.link.commands}
        undo = Undo(box.link, box, Touched(modules=frozenset({"xen-pciback"})), said.append)
        if status == 95:
            undo.reconcile(whole=True)
        else:
            with pytest.raises(RestoreFailed, match=r"not as it was: module xen-pciback is still loaded \("):
                undo.reconcile(whole=True)
        assert [one.replace("\x1b", "").replace(r"\x1b", "") for one in said] == [notice] * bool(notice)
        assert all("\x1b" not in one for one in said)


def test_where_nothing_can_be_written_down_that_is_told_once() -> None:
    box = PlainBox(full=True, driver="", power="auto", method="bus")
    said = undone(box, seen(PlainBox()))
    assert box.sent == [BIND, "tee D/power/control on", "tee D/reset_method pm"]
    assert said == ["going back without writing it down: No space left on device"]


class TestSomebodyElseHasIt:
    Q = "(XEN) ==== PCI devices ====\n(XEN) ==== segment 0000 ====\n(XEN) 0000:02:00.0 - d{} - node -1\n"

    @pytest.mark.parametrize("owner", [0, 3])
    def test_dom0_and_our_guests_are_nobody_else(self, owner: int) -> None:
        box = PlainBox(driver="", key_q=self.Q.format(owner))
        undone(box, seen(PlainBox()), domids={3})
        assert box.sent == [BIND]

    @pytest.mark.parametrize("reset", [False, True])
    @pytest.mark.parametrize(
        ("now", "told"),
        [
            ({"driver": "pciback", "key_q": Q.format(9)}, "domain 9 has it"),
            ({"driver": "vfio-pci"}, "vfio-pci has it, which we have not bound"),
        ],
    )
    def test_nothing_of_it_is_touched(self, reset: bool, now: Left, told: str) -> None:
        box, wanted = PlainBox(**now), seen(PlainBox())
        undo = Undo(box.link, box, Touched(baselines=(wanted,)))
        with pytest.raises(DeviceTaken, match=f"^{NIC} is in use by others now: {told}"):
            undo.reset(str(NIC), "flr") if reset else undo.reconcile(whole=True)
        assert box.sent == [] and box.told == []

    def test_that_another_device_of_ours_is_taken_stops_no_reset(self) -> None:
        box = PlainBox(driver="vfio-pci")
        Undo(box.link, box, Touched(baselines=(seen(box), replace(seen(PlainBox()), device="0000:03:00.0")))).reset(
            str(NIC), "flr"
        )
        assert len(box.sent) == 2

    def test_the_shell_that_changes_asks_xenstore_where_xen_did_not_say(self) -> None:
        for said, asks in (("", True), (self.Q.format(0), False)):
            box = PlainBox(driver="", key_q=said)
            undone(box, seen(PlainBox()))
            (change,) = [one.shown for one in box.link.executed if one.changes]
            assert ("xenstore-ls /local/domain/0 " in change) is asks


def test_one_reset_is_by_the_method_that_is_asked_for() -> None:
    box = PlainBox(msix=0x4004)
    undo = Undo(box.link, box, Touched(baselines=(seen(box),)))
    undo.reset(str(NIC), "flr")
    assert box.sent == ["tee D/reset_method flr", "tee D/reset 1"]
    assert box.told == [("reset", str(NIC), f"reset {NIC} by flr", nth) for nth in range(2)]
    assert box.msix == 0x0004


def test_only_the_device_that_was_found_there_may_be_reset() -> None:
    box = PlainBox()
    here, elsewhere = seen(box), replace(seen(box), who="8086 ffff 0000 0000 elsewhere")
    assert Undo(box.link, box, Touched(baselines=(here,))).still_there() == [str(NIC)]
    assert Undo(box.link, box, Touched(baselines=(elsewhere,))).still_there() == []


@pytest.mark.parametrize("now", [{"ids": ""}, {"ids": "0x8086\n0x10d3\n0x8086\n0x0000", "driver": ""}])
def test_after_a_reboot_a_device_that_moved_is_told_only(now: Left) -> None:
    box = PlainBox(**now)
    (said,) = undone(box, seen(PlainBox()), rebooted=True)
    assert said.startswith(f"{seen(PlainBox()).differences(seen(box))[0]}; the reboot has undone")
    assert box.sent == []


def test_after_a_reboot_one_that_is_still_there_is_put_back_as_ever() -> None:
    box = PlainBox(power="auto")
    assert undone(box, seen(PlainBox()), rebooted=True) == []
    assert box.sent == ["tee D/power/control on"]
    with pytest.raises(RestoreFailed, match="power control is auto, was on"):
        undone(PlainBox(power="auto", idle={"control"}), seen(PlainBox()), rebooted=True)
