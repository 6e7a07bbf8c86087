"""A guest by its agent and the toolstack: what it is told, what is announced first, and what is kept of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.base.errors import CommandFailed, GuestDied, HarnessBug, LabError, ParseError
from harness.evidence.store import EvidenceStore
from harness.guest.initramfs import GuestFiles
from harness.host.deeds import Deeds
from harness.host.device import Device
from harness.host.guest import Guest
from harness.host.host import Host, TargetDevice
from harness.model.address import Bdf
from harness.model.change import Change
from harness.model.guestspec import GuestSpec, GuestType
from harness.model.observation import Checkpoint
from harness.scenario.record import Action
from harness.xen.toolstack.xl import XlToolstack
from suites.selftest.fakes.faketransport import Executed, FakeTransport, Reply
from suites.selftest.fakes.hostile import CAPTURED
from suites.selftest.guest.test_guest_exercise import text as exercised

NVME = Bdf.parse("0000:04:00.0")
CONFIG = (CAPTURED / "nvme_in_running_guest.config.bin").read_bytes()[:256]


def answer(command: str) -> tuple[str, int]:
    """What a healthy guest says."""
    if command.startswith("sh /exercise/"):
        return exercised(), 0
    if "od -An" in command:
        rows = [CONFIG[start : start + 16] for start in range(0, 256, 16)]
        return "[    9.1] random: crng init done\n" + "".join(f" {row.hex(' ')}\n" for row in rows), 0
    return "", 0


@dataclass
class Dom0:
    """One host with one guest, its console answered by `answer`; `log` has announcements and commands in order."""

    folder: Path
    answer: Callable[[str], tuple[str, int]] = answer
    log: list[str] = field(default_factory=list)
    done: list[Action] = field(default_factory=list)
    gone: bool = True
    domid: str = "3"

    def __post_init__(self) -> None:
        self.transport = FakeTransport(
            connected=True,
            commands={
                r"sh -c 'mkdir -p .*": lambda _: self.did("create", f"domid {self.domid}\n"),
                r"xl (?:destroy|pause|unpause|pci-\S+(?: -f)?|save) .*": lambda one: self.did(one.shown),
                r"sh -c 'now.*": lambda _: self.did("await gone", status=0 if self.gone else 1),
                r"sh -c 'pid=.*": lambda one: self.did(one.shown.splitlines()[1], "pid 77\n"),
                r"setpci .*": lambda one: self.did(one.shown),
                r"sh -c '(?:device=|cd /sys).*": lambda one: self.did("script"),
                r"sh -c 'set -- 1b36:0010 6\nready.*": self.traffic_in_dom0,
                r"readlink .*": Reply(b"../../pciback\n"),
                r"cat /sys/.*/config": Reply((CAPTURED / "nvme_in_running_guest.config.bin").read_bytes()),
            },
            streams={".*": self.console},
        )
        self.host = Host("fake", self.transport, {}, GuestFiles("/k", "/i"))
        store, names = EvidenceStore(self.folder), iter(range(1, 100))
        self.host.deeds = Deeds(self, lambda name, data: store.put(f"{next(names):02d}-{name}", data), self.done.append)
        tools = XlToolstack(self.transport)
        target = TargetDevice("disk", "1b36:0010", "nvme", True)
        self.device = Device(self.host, tools, target, NVME, "nvme")
        self.guest = Guest(self.host, tools, GuestSpec("maskall-a", GuestType.HVM, "/k", "/i", (NVME,)), "A")

    def about_to(self, change: Change) -> None:
        self.log.append(f"about to {change.text}")

    def did(self, what: str, output: str = "", status: int = 0) -> Reply:
        self.log.append(what)
        return Reply(output.encode(), status=status)

    def traffic_in_dom0(self, executed: Executed) -> Reply:
        assert executed.changes
        return Reply(exercised().encode())

    def console(self, data: bytes) -> bytes:
        if not data:
            return b"@agent up 1.0\n"
        token, _, command = data.decode().strip().partition(" ")
        self.log.append(command)
        said, status = self.answer(command)
        return f"{said}\n@{token} {status}\n".encode()

    def created(self) -> Guest:
        assert self.guest.create() and self.guest.wait_up(5)
        self.log.clear()
        self.done.clear()
        return self.guest

    @property
    def kept(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "raw").iterdir())


@pytest.fixture
def dom0(tmp_path: Path) -> Dom0:
    return Dom0(tmp_path)


class TestComesUp:
    """A guest whose userland is late, as the host is asked how it does."""

    @pytest.fixture
    def late(self, dom0: Dom0) -> Callable[..., list[float]]:
        """Make it come up when the host has been asked that often; it answers after these seconds, then at once."""

        def made(asked: int, *takes: float) -> list[float]:
            seconds = [*takes]
            dom0.transport.streams = {".*": lambda data: b"" if data else b"booting\n"}
            assert dom0.guest.create()

            def slow(_: Executed) -> Reply:
                if len(takes) - len(seconds) == asked - 1:
                    dom0.transport.say(b"@agent up 99.0\n")
                return Reply(seconds=seconds.pop(0) if seconds else 0.0)

            dom0.transport.commands = {"true": slow} | dom0.transport.commands
            return seconds

        return made

    @pytest.mark.parametrize("asked", [1, 2, 3])
    def test_a_starved_host_gets_more_time(self, dom0: Dom0, late: Callable[..., list[float]], asked: int) -> None:
        left = late(asked, 3.0, 1.1, 9.0, 9.0)
        assert dom0.guest.wait_up(0.01)
        assert len(left) == 4 - asked

    def test_not_for_ever(self, dom0: Dom0, late: Callable[..., list[float]]) -> None:
        left = late(4, 3.0, 3.0, 3.0, 3.0)
        assert not dom0.guest.wait_up(0.01)
        assert len(left) == 1

    @pytest.mark.parametrize("takes", [[0.2], [3.0, 1.0], [61.0]], ids=["well", "well again", "hung"])
    def test_one_that_does_well_does_not(
        self, dom0: Dom0, late: Callable[..., list[float]], takes: list[float]
    ) -> None:
        left = late(9, *takes)
        assert not dom0.guest.wait_up(0.01)
        assert left == []


@pytest.mark.parametrize(("takes", "gone"), [(0.2, False), (3.0, True)], ids=["well", "starved"])
def test_a_domain_that_is_late_to_go(dom0: Dom0, takes: float, gone: bool) -> None:
    guest = dom0.created()
    dom0.gone = False

    def asked(_: Executed) -> Reply:
        dom0.gone = True  # by the time that it has answered
        return Reply(seconds=takes)

    dom0.transport.commands = {"true": asked} | dom0.transport.commands
    assert bool(guest.destroy()) is gone


class TestLife:
    def test_created_up_and_destroyed(self, dom0: Dom0) -> None:
        guest = dom0.guest
        assert not guest.exists
        with pytest.raises(HarnessBug, match="maskall-a was never created"):
            _ = guest.domid
        assert guest.create()
        assert guest.wait_up(5)
        assert (guest.domid, str(guest), guest.console) == (3, "maskall-a (d3)", "@agent up 1.0\n")
        assert guest.destroy()
        assert dom0.log == [
            "about to create domain maskall-a", "create", "about to destroy domain maskall-a", "xl destroy 3",
            "await gone",
        ]  # fmt: skip
        assert [(one.verb, one.ok, one.detail) for one in dom0.done] == [
            ("create", True, "status 0"),
            ("destroy", True, "gone"),
        ]
        assert dom0.kept == ["01-create.txt"]

    def test_a_create_that_is_refused_is_an_observation(self, dom0: Dom0) -> None:
        dom0.transport.commands = {r"sh -c 'mkdir.*": Reply(b"domid none\n", b"libxl: error: no\n", status=3)}
        refused = dom0.guest.create()
        assert not refused
        assert not dom0.guest.exists
        assert (refused.detail, dom0.done[0].said) == ("status 3: libxl: error: no", "domid none\nlibxl: error: no\n")
        with pytest.raises(CommandFailed, match="create: status 3: libxl: error: no"):
            refused.check()

    def test_a_domain_that_a_failed_create_leaves_is_known(self, dom0: Dom0) -> None:
        dom0.transport.commands = {r"sh -c 'mkdir.*": Reply(b"domid 5\n", status=3)}
        assert not dom0.guest.create()
        assert dom0.guest.exists and dom0.guest.domid == 5
        assert dom0.guest.agent is None

    def test_one_that_stays_is_not_destroyed(self, dom0: Dom0) -> None:
        guest, dom0.gone = dom0.created(), False
        assert guest.destroy().detail == "the domain is still there"
        assert guest.destroy(wait=False).detail == "status 0"
        assert [one.ok for one in dom0.done] == [False, True]

    @pytest.mark.parametrize(
        ("end", "command"),
        [
            (Guest.shut_down, "poweroff -f"),
            (Guest.power_off_with_msix_on, "power_off_by_hand"),
            (Guest.reboot, "reboot -f"),
            (Guest.crash, "echo c > /proc/sysrq-trigger"),
        ],
    )
    def test_it_ends_itself(self, dom0: Dom0, end: Callable[..., object], command: str) -> None:
        guest = dom0.created()
        assert end(guest)
        assert dom0.log[1:] == [f". /actions; {command}", "await gone"]
        assert end(guest, wait=False)
        assert [one.detail for one in dom0.done] == ["gone", "sent"]

    def test_paused_and_let_go(self, dom0: Dom0) -> None:
        guest = dom0.created()
        assert guest.pause() and guest.unpause() and guest.save()
        assert dom0.log[1::2] == ["xl pause 3", "xl unpause 3", "xl save 3 /run/maskall/saved"]

    def test_its_console_is_kept_when_it_is_let_go_of(self, dom0: Dom0) -> None:
        guest = dom0.created()
        guest.close()
        guest.close()
        assert dom0.kept == ["01-create.txt", "02-console-A-d3.txt"]
        assert guest.unload_driver(dom0.device).detail == "the guest has no agent"
        with pytest.raises(GuestDied):
            guest.run("true")


class TestDevices:
    def test_plugging(self, dom0: Dom0) -> None:
        guest, device = dom0.created(), dom0.device
        assert guest.detach(device) and guest.detach(device, force=True) and guest.attach(device)
        assert dom0.log[1::2] == [f"xl pci-detach 3 {NVME}", f"xl pci-detach -f 3 {NVME}", f"xl pci-attach 3 {NVME}"]
        assert [one.verb for one in dom0.done] == ["detach", "force_detach", "attach"]

    def test_message_control_is_written_from_what_the_guest_reads(self, dom0: Dom0) -> None:
        guest = dom0.created()
        control = guest.msix(dom0.device)
        assert control is not None and control.enabled and not control.masked
        assert guest.clear_msix_enable(dom0.device) and guest.set_maskall(dom0.device)
        written = [line for line in dom0.log if "write_control" in line]
        low = control.value & 0xFF
        high = [(control.value & ~0x8000) >> 8, (control.value | 0x4000) >> 8]
        offset = guest.config(dom0.device).msix.offset + 2  # type: ignore[union-attr]
        assert written == [f". /actions; write_control 1b36:0010 {offset} {low:03o} {one:03o}" for one in high]
        assert [one.verb for one in dom0.done] == ["clear_msix_enable", "set_maskall"]

    def test_what_a_guest_refuses_is_seen(self, dom0: Dom0) -> None:
        guest = dom0.created()
        dom0.answer = lambda _: ("no device 1b36:0010", 1)
        refused = guest.load_driver(dom0.device)
        assert (refused.ok, refused.detail, refused.said.strip()) == (False, "status 1", "no device 1b36:0010")
        with pytest.raises(CommandFailed, match=r"maskall-a \(d3\) has no device 1b36:0010"):
            guest.config(dom0.device)
        dom0.answer = lambda _: (" 00" * 16, 0)
        with pytest.raises(ParseError, match="1 rows of config space"):
            guest.config(dom0.device)

    def test_interrupts_under_traffic(self, dom0: Dom0, tmp_path: Path) -> None:
        guest = dom0.created()
        view = guest.exercise(dom0.device)
        assert (view.domain, view.delta) == ("d3", 9)
        assert guest.interrupts(dom0.device) == 9
        assert dom0.log == ["sh /exercise/nvme 1b36:0010 6"] * 2
        assert exercised().encode() in (tmp_path / "raw/02-exercise-d3.txt").read_bytes()

    def test_a_line_that_the_console_lost_is_asked_for_again(self, dom0: Dom0, tmp_path: Path) -> None:
        guest = dom0.created()
        lost = exercised().replace("== interrupts_after\n", "")
        answers = [lost, exercised()]
        dom0.answer = lambda _: (answers.pop(0), 0)
        assert guest.exercise(dom0.device).delta == 9
        assert lost.encode() in (tmp_path / "raw/02-exercise-d3.txt").read_bytes()
        answers += [lost, lost]
        with pytest.raises(ParseError):
            guest.exercise(dom0.device)

    def test_in_dom0(self, dom0: Dom0, tmp_path: Path) -> None:
        view = dom0.device.exercise()
        assert (view.domain, view.traffic_ok) == ("d0", True)
        dom0.transport.commands = {"sh -c 'set -- 1b36:0010 6\nready.*": Reply(b"Segmentation fault\n")}
        with pytest.raises(ParseError):
            dom0.device.exercise()
        assert (tmp_path / "raw/02-exercise-d0.txt").read_bytes() == b"Segmentation fault\n"


class TestDeviceModel:
    def test_signals(self, dom0: Dom0) -> None:
        model = dom0.created().device_model
        assert model.segfault() and model.abort() and model.kill()
        sent = [line for line in dom0.log if line.startswith("kill")]
        assert sent == [f'kill -{signal} "$pid" || exit 3' for signal in ("SEGV", "ABRT", "KILL")]
        assert model.pid is None

    def test_one_that_was_stopped_is_killed_by_its_pid(self, dom0: Dom0) -> None:
        model = dom0.created().device_model
        assert model.stop()
        assert model.pid == 77
        assert model.kill()
        assert dom0.transport.executed[-1].shown.startswith("sh -c 'pid=77\n")


class TestDeeds:
    def test_a_change_that_cannot_be_put_on_record_is_not_made(self, dom0: Dom0) -> None:
        guest = dom0.created()

        class Full:
            def about_to(self, change: Change) -> None:
                raise LabError("no space left")

        dom0.host.deeds.ledger = Full()
        before = len(dom0.transport.executed)
        model, device = guest.device_model, dom0.device
        for deed in (
            guest.create, guest.destroy, guest.shut_down, guest.power_off_with_msix_on, guest.reboot, guest.crash,
            guest.save, guest.pause, guest.unpause, model.kill, model.stop, model.segfault, model.abort,
            lambda: guest.attach(device), lambda: guest.detach(device), lambda: guest.detach(device, force=True),
            lambda: guest.lose_backend(device), lambda: guest.unload_driver(device), lambda: guest.load_driver(device),
            lambda: guest.start_load(device), lambda: guest.start_churn(device),
            lambda: guest.set_maskall(device), lambda: guest.clear_msix_enable(device),
            lambda: device.memory_decoding(True), device.clear_maskall, lambda: device.reset("flr"),
            device.bind_again, lambda: dom0.host.run(["true"], change=Change(*"abcd")),
        ):  # fmt: skip
            with pytest.raises(LabError, match="no space left"):
                deed()
        assert len(dom0.transport.executed) == before
        assert not any("write_control" in line or ("/actions; " in line and "find_" not in line) for line in dom0.log)
        assert dom0.done == []

    def test_a_deed_inside_another_is_part_of_it(self, dom0: Dom0) -> None:
        guest, deeds = dom0.created(), dom0.host.deeds
        with deeds.called("a_verb", Checkpoint.C4), deeds.doing("both"):
            guest.device_model.stop()
            guest.destroy()
        assert dom0.kept == ["01-create.txt"], "what a part of it said is not kept by itself"
        guest.pause()
        assert [(one.verb, one.checkpoint, one.detail) for one in dom0.done] == [
            ("a_verb", Checkpoint.C4, "gone"),
            ("pause", Checkpoint.C0, "status 0"),
        ]

    def test_a_deed_aside_is_on_record_and_no_action(self, dom0: Dom0) -> None:
        guest = dom0.created()
        with dom0.host.deeds.aside():
            assert guest.destroy()
            assert dom0.device.rebind()
        assert dom0.done == []
        assert dom0.log[0] == "about to destroy domain maskall-a"

    def test_a_deed_that_breaks_off_is_no_action(self, dom0: Dom0) -> None:
        guest = dom0.created()
        with pytest.raises(HarnessBug, match="nobody said how 'silent' went"), dom0.host.deeds.doing("silent"):
            pass
        with pytest.raises(ValueError, match="broken"), dom0.host.deeds.doing("broken"):
            raise ValueError("broken")
        assert dom0.done == []
        assert guest.pause(), "the next one is an action of its own"
        assert [one.verb for one in dom0.done] == ["pause"]
