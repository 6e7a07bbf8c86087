"""Planting mutants: nothing is changed unless every place is there exactly once, and what was written is read back."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest

from harness.base.errors import LabError
from harness.base.progress import PlainProgress
from harness.guest.initramfs import GuestFiles
from harness.host.host import Host
from harness.mutants import text
from harness.mutants.catalogue import DeviceModelMutant, Dom0Mutant, HypervisorMutant, Mutant, catalogue
from harness.mutants.code import Replaced
from harness.mutants.devicemodel import COPY, PROGRAMS
from harness.mutants.fitting import misfits
from harness.mutants.plant import plant, revert
from harness.transport.debugger import Registers
from suites.selftest.fakes.fakemachine import FakeMachine
from suites.selftest.fakes.faketransport import Executed, FakeTransport, Reply
from suites.selftest.fakes.hypervisorfile import START, elf32, image, xl_info
from suites.selftest.fakes.localtransport import LocalTransport
from suites.selftest.fakes.mutatedcode import STACKS, captured
from suites.selftest.fakes.patience import soon

ENTRY = 0xFFFF82D040300000
XENSYMS = "cat /proc/xen/xensyms"
SAID = {"stands_for": "a defect", "notices": ["E14"]}


def mutant(*sites: tuple[str, str], symbol: str = "pci_reset_msix_state") -> HypervisorMutant:
    changes = [{"symbol": symbol, "find": find, "replace": replace} for find, replace in sites]
    return HypervisorMutant.model_validate(SAID | {"layer": "hypervisor", "builds": {"trixie": changes}})


class Xen:
    """A host whose hypervisor has one function of 32 bytes, and another right behind it."""

    def __init__(self, code: str = "53 0f b6 77 45 48 89 fb 75 18 90 90") -> None:
        self.machine = FakeMachine()
        self.machine.put(ENTRY, bytes.fromhex(code).ljust(32, b"\xcc"))
        self.machine.put(ENTRY + 32, bytes.fromhex("90 90 31 c0"))
        symbols = f"{ENTRY - 4096:016x} T _stext\n{ENTRY:016x} T pci_reset_msix_state\n{ENTRY + 32:016x} T next\n"
        transport = FakeTransport(connected=True, commands={XENSYMS: Reply(symbols.encode())})
        self.host = Host(
            "fake", transport, {}, GuestFiles("/k", "/i"), debugger=self.machine, facts={"stack": "trixie"}
        )

    @property
    def writes(self) -> list[str]:
        return [one for one in self.machine.log if one.startswith("write")]


class TestHypervisor:
    def test_a_place_is_found_by_the_bytes_around_it_and_read_back(self) -> None:
        xen = Xen()
        (made,) = plant("m", mutant(("89 fb 75 ??", "?? ?? eb")), xen.host)
        assert xen.writes == [f"write {ENTRY + 6:#x} 89fbeb"]
        assert str(made.place) == "pci_reset_msix_state+0x6"
        assert (made.before.hex(), made.after.hex()) == ("89fb75", "89fbeb")
        assert not xen.machine.attached

    def test_a_cpu_that_runs_a_guest_is_let_go_until_xen_is_there(self) -> None:
        xen = Xen()
        xen.machine.in_guest = 3
        plant("m", mutant(("89 fb 75 ??", "?? ?? eb")), xen.host)
        assert xen.machine.log[:6] == ["go", "stop"] * 3
        assert len(xen.writes) == 1

    def test_a_cpu_that_never_leaves_its_guest_is_left_as_it_was(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(text, "_MOMENTS", 2)
        xen = Xen()
        xen.machine.in_guest = 9
        with pytest.raises(LabError, match="cannot read"):
            plant("m", mutant(("89 fb 75 ??", "?? ?? eb")), xen.host)
        assert not xen.writes
        assert not xen.machine.attached

    def test_it_is_taken_back(self) -> None:
        xen = Xen()
        before = dict(xen.machine.memory)
        one = mutant(("53 0f", "31 c0"), ("75 18", "90 90"))
        planted = plant("m", one, xen.host)
        assert xen.machine.memory != before
        revert("m", one, xen.host, planted)
        assert xen.machine.memory == before

    @pytest.mark.parametrize(
        ("find", "where"),
        [
            ("53 0f b7", "nowhere"),
            ("90 90 31 c0", "nowhere"),  # it is there, in the function behind
            ("cc cc cc cc cc", r"pci_reset_msix_state\+0xc and pci_reset_msix_state\+0xd and"),
        ],
    )
    def test_nowhere_or_twice_is_refused(self, find: str, where: str) -> None:
        xen = Xen()
        with pytest.raises(LabError, match=rf"mutant m does not fit this build: {find} stands {where}"):
            plant("m", mutant((find, "31")), xen.host)
        assert xen.writes == []
        assert not xen.machine.attached

    def test_nothing_is_written_unless_all_places_are_there(self) -> None:
        xen = Xen()
        with pytest.raises(LabError, match="ff ff stands nowhere in pci_reset_msix_state"):
            plant("m", mutant(("75 18", "90 90"), ("ff ff", "90 90")), xen.host)
        assert xen.writes == []

    def test_text_that_cannot_be_written_is_an_error(self) -> None:
        xen = Xen()
        xen.machine.read_only = True
        with pytest.raises(LabError, match=r"pci_reset_msix_state\+0x0 reads 53 0f b6 after writing 31 c0 c3"):
            plant("m", mutant(("53 0f b6", "31 c0 c3")), xen.host)

    def test_an_unknown_function_is_refused_before_attaching(self) -> None:
        xen = Xen()
        with pytest.raises(LabError, match="the nearest is pci_reset_msix_state"):
            plant("m", mutant(("53", "c3"), symbol="pci_reset_msi_state"), xen.host)
        assert xen.machine.log == []

    def test_another_stack_is_refused(self) -> None:
        xen = Xen()
        xen.host.facts["stack"] = "bookworm"
        with pytest.raises(LabError, match=r"mutant m does not fit bookworm \(it is made for trixie\)"):
            plant("m", mutant(("53", "c3")), xen.host)
        assert xen.machine.log == []

    def test_no_debugger(self) -> None:
        xen = Xen()
        xen.host.debugger = None
        with pytest.raises(LabError, match="no debugger to apply mutant m"):
            plant("m", mutant(("53", "c3")), xen.host)


INSIDE = 0xFFFFFFFF81510000
FLR = 0xFFFFFFFFC0300000
KALLSYMS = f"""\
{INSIDE:016x} t uptime_proc_show
{INSIDE + 64:016x} t version_proc_show
{FLR + 32:016x} t behind\t[xen_pciback]
{FLR:016x} t wanted\t[xen_pciback]
{FLR - 16:016x} d wanted\t[other]
{INSIDE + 128:016x} t twice
{INSIDE + 192:016x} t twice
"""


@pytest.fixture
def kernel(tmp_path: Path) -> Host:
    """A dom0 whose awk is this machine's, over a kallsyms of our own."""
    (tmp_path / "kallsyms").write_text(KALLSYMS)
    local = LocalTransport("local")

    def awk(executed: Executed) -> Reply:
        line = executed.shown.replace("/proc/kallsyms", str(tmp_path / "kallsyms"))
        answer = local.run(["sh", "-c", line], deadline=soon())
        return Reply(answer.stdout, answer.stderr, answer.status)

    machine = FakeMachine(stops=[Registers(rip=INSIDE, rsp=0)])
    machine.put(FLR, bytes.fromhex("41 57 41 56").ljust(32, b"\xcc"))
    transport = FakeTransport(
        connected=True, commands={"sh -c 'awk.*": awk}, streams={".*cat /proc/uptime.*": lambda _: b"1 1\n"}
    )
    return Host("fake", transport, {}, GuestFiles("/k", "/i"), debugger=machine, facts={"stack": "trixie"})


def dom0(symbol: str) -> Dom0Mutant:
    changes = [{"symbol": symbol, "find": "41 57", "replace": "31 c0"}]
    return Dom0Mutant.model_validate(SAID | {"layer": "dom0", "builds": {"trixie": changes}})


class TestDom0:
    def test_it_is_written_while_dom0_itself_is_stopped(self, kernel: Host) -> None:
        (made,) = plant("m", dom0("wanted"), kernel)
        assert made.place.address == FLR
        machine = kernel.debugger
        assert isinstance(machine, FakeMachine)
        assert machine.log == [f"break {INSIDE:#x}", "go", "wait", f"clear {INSIDE:#x}", f"write {FLR:#x} 31c0"]

    def test_a_kernel_that_does_not_come_by_is_an_error(self, kernel: Host) -> None:
        assert isinstance(kernel.debugger, FakeMachine)
        kernel.debugger.stops.clear()
        with pytest.raises(LabError, match="dom0 did not come by uptime_proc_show"):
            plant("m", dom0("wanted"), kernel)
        assert not any(one.startswith("write") for one in kernel.debugger.log)

    @pytest.mark.parametrize(
        ("symbol", "words"),
        [("absent", "has 0 functions called absent"), ("twice", "has 2 functions called twice"), ("a b", "no name")],
    )
    def test_a_function_that_is_not_there_once(self, kernel: Host, symbol: str, words: str) -> None:
        with pytest.raises(LabError, match=words):
            plant("m", dom0(symbol), kernel)
        assert isinstance(kernel.debugger, FakeMachine) and kernel.debugger.log == []


def device_model(find: str, replace: str) -> DeviceModelMutant:
    builds = {"trixie": [{"find": find, "replace": replace}]}
    return DeviceModelMutant.model_validate(SAID | {"layer": "device-model", "builds": builds})


@pytest.fixture
def program(tmp_path: Path) -> tuple[Host, Path]:
    """A dom0 with perl and dd of this machine, and a device model of 64 bytes. Nothing is mounted: see the copy."""
    installed, copy = tmp_path / "qemu", tmp_path / "copy"
    installed.write_bytes(b"\n" * 16 + bytes.fromhex("89 da e8 0a 0d 00 ff 85 c0") + b"\0" * 39)
    installed.chmod(0o755)
    local = LocalTransport("local")

    def locally(executed: Executed) -> Reply:
        line = executed.shown.replace(PROGRAMS[0], str(copy if copy.exists() else installed))
        line = re.sub(r"mount --bind \S+ \S+;", ":;", line.replace(COPY, str(copy)))
        answer = local.run(["sh", "-c", line], deadline=soon(), stdin=executed.stdin)
        return Reply(answer.stdout, answer.stderr, answer.status)

    transport = FakeTransport(connected=True, commands={".*": locally})
    return Host("fake", transport, {}, GuestFiles("/k", "/i"), facts={"stack": "trixie"}), copy


class TestDeviceModel:
    def test_a_copy_is_changed_and_the_installed_one_is_not(self, program: tuple[Host, Path], tmp_path: Path) -> None:
        host, copy = program
        before = (tmp_path / "qemu").read_bytes()
        one = device_model("89 da e8 ?? ?? ?? ?? 85", "?? ?? 31 c0 90 90 90")
        planted = plant("m", one, host)
        assert copy.read_bytes() == before.replace(bytes.fromhex("e80a0d00ff"), bytes.fromhex("31c0909090"))
        assert (tmp_path / "qemu").read_bytes() == before
        assert (planted[0].place.address, planted[0].before.hex(" ")) == (16, "89 da e8 0a 0d 00 ff")
        revert("m", one, host, planted)
        assert copy.read_bytes() == before

    @pytest.mark.parametrize("find", ["0a 0a 0a", "89 db"])
    def test_nowhere_or_twice_is_refused_and_nothing_copied(self, program: tuple[Host, Path], find: str) -> None:
        host, copy = program
        with pytest.raises(LabError, match="does not fit this build"):
            plant("m", device_model(find, "90"), host)
        assert not copy.exists()

    def test_a_host_without_a_device_model(self) -> None:
        transport = FakeTransport(connected=True, commands={"test .*": Reply(status=1)})
        host = Host("fake", transport, {}, GuestFiles("/k", "/i"), facts={"stack": "trixie"})
        with pytest.raises(LabError, match="no device model"):
            plant("m", device_model("90", "c3"), host)


def real_xen(stack: str) -> Host:
    """A host with the functions of a real Xen, one behind the other, and with the file it was booted from."""
    machine, lines, address = FakeMachine(), [f"{START:016x} T _stext"], ENTRY
    functions: dict[int, bytes] = {}
    for (layer, name), code in captured(stack).items():
        if layer == "hypervisor":
            lines.append(f"{address:016x} t file.c#{name}")
            machine.put(address, code)
            functions[address] = code
            address += len(code)
    lines.append(f"{address:016x} T _etext")
    build = stack.encode().ljust(20, b"-")
    answers = {
        XENSYMS: Reply("\n".join(lines).encode()),
        "xl info": Reply(xl_info(build)),
        "cat /boot/xen.gz": Reply(elf32(image(functions, called=functions), build)),
        "(?s)sh -c .*zcat.*": Reply(b"/boot/xen.gz"),
    }
    transport = FakeTransport(connected=True, commands=answers)
    return Host("fake", transport, {}, GuestFiles("/k", "/i"), debugger=machine, facts={"stack": stack})


def silent() -> PlainProgress:
    return PlainProgress(io.StringIO())


OURS: dict[str, Mutant] = {name: one for name, one in catalogue().items() if isinstance(one, HypervisorMutant)}


@pytest.mark.parametrize("stack", STACKS)
class TestOurs:
    def test_they_fit_and_leave_nothing_behind(self, stack: str) -> None:
        host = real_xen(stack)
        assert isinstance(host.debugger, FakeMachine)
        before = dict(host.debugger.memory)
        assert dict(misfits(host, OURS, silent())) == {}
        assert host.debugger.memory == before

    def test_each_changes_something_else(self, stack: str) -> None:
        made: dict[tuple[Replaced, ...], str] = {}
        for name, one in OURS.items():
            if not one.changes(stack):
                continue
            planted = plant(name, one, real_xen(stack))
            assert planted not in made, f"{name} is {made.get(planted)} again"
            made[planted] = name

    def test_a_function_that_somebody_patched_is_refused(self, stack: str) -> None:
        host = real_xen(stack)
        assert isinstance(host.debugger, FakeMachine)
        mine = OURS["unmap-does-nothing"]
        (made,) = plant("m", mine, host)
        with pytest.raises(LabError, match="running text of unmap_domain_pirq is not that of its file"):
            plant("m", mine, host)
        revert("m", mine, host, (made,))
        assert plant("m", mine, host) == (made,)

    def test_one_that_does_not_fit_is_told(self, stack: str) -> None:
        host = real_xen(stack)
        wrong = mutant(("de ad be ef", "90"))
        wrong = wrong.model_copy(update={"builds": {stack: wrong.builds["trixie"]}})
        assert list(dict(misfits(host, {"wrong": wrong}, silent()))) == ["wrong"]
