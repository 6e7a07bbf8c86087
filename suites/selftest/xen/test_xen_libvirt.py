"""libvirt's XML, its calls and its connection through the transport, without libvirt."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree as Xml

import pytest

from harness.base.deadline import Deadline
from harness.base.errors import HostHung, LabError, OutcomeUnknown
from harness.model.address import Bdf
from harness.model.guestspec import GuestSpec, GuestType, OnEvent
from harness.transport.base import CommandEnd, Transport
from harness.xen.toolstack.libvirt import LibvirtToolstack
from harness.xen.toolstack.libvirt_link import LibvirtLink
from harness.xen.toolstack.libvirt_xml import domain_xml, hostdev_xml, node_device
from suites.selftest.fakes.faketransport import FakeStream, FakeTransport, Reply
from suites.selftest.fakes.fakexenlibvirt import FakeXenLibvirt, libvirtError
from suites.selftest.fakes.patience import FOREVER, soon

NVME = Bdf.parse("0000:04:1f.7")
SPEC = GuestSpec("maskall-a", GuestType.HVM, "/boot/vmlinuz", "/x.cpio", (NVME,), drivers=("nvme",), vcpus=2)


class TestXml:
    def test_the_same_guest_as_xl_s(self) -> None:
        domain = Xml.fromstring(domain_xml(SPEC))  # noqa: S314 - our own
        assert domain.attrib == {"type": "xen"}
        kind = domain.find("os/type")
        assert kind is not None
        assert (kind.text, kind.attrib) == ("hvm", {"arch": "x86_64", "machine": "xenfv"})
        told = [domain.findtext(name) for name in ("name", "memory", "vcpu", "os/kernel", "os/initrd")]
        assert told == ["maskall-a", "128", "2", "/boot/vmlinuz", "/x.cpio"]
        assert f'cmdline = "{domain.findtext("os/cmdline")}"' in SPEC.xl_config()
        assert "maskall.drivers=nvme" in (domain.findtext("os/cmdline") or "")
        timer = domain.find("clock/timer")
        assert timer is not None
        assert timer.attrib == {"name": "tsc", "mode": "native"}
        assert 'tsc_mode = "native"' in SPEC.xl_config()
        assert [one.tag for one in domain.findall("features/*")] == ["acpi", "apic", "pae"]
        assert [one.tag for one in domain.findall("devices/*")] == ["hostdev"]

    @pytest.mark.parametrize(("kind", "wanted"), [("pv", ("xen", "xenpv")), ("pvh", ("xenpvh", "xenpvh"))])
    def test_other_kinds(self, kind: str, wanted: tuple[str, str]) -> None:
        spec = GuestSpec("maskall-a", GuestType(kind), "/k", "/i", ())
        domain = Xml.fromstring(domain_xml(spec))  # noqa: S314 - our own
        found = domain.find("os/type")
        assert found is not None
        assert (found.text, found.get("machine")) == wanted
        assert domain.find("features") is None

    def test_a_pv_guest_with_a_device_is_told_of_the_hosts_memory_map(self) -> None:
        spec = GuestSpec("maskall-a", GuestType.PV, "/k", "/i", (Bdf.parse("0000:04:00.0"),))
        domain = Xml.fromstring(domain_xml(spec))  # noqa: S314 - our own
        e820_host = domain.find("features/xen/e820_host")
        assert e820_host is not None
        assert e820_host.get("state") == "on"

    def test_what_becomes_of_it(self) -> None:
        spec = GuestSpec("a", GuestType.PV, "/k", "/i", (), on_reboot=OnEvent.RESTART, on_crash=OnEvent.DESTROY)
        domain = Xml.fromstring(domain_xml(spec))  # noqa: S314 - our own
        ends = [domain.findtext(name) for name in ("on_poweroff", "on_reboot", "on_crash")]
        assert ends == ["destroy", "restart", "destroy"]

    def test_nothing_in_a_text_is_markup(self) -> None:
        spec = GuestSpec("a", GuestType.PV, "/k<&>", "/i", (), cmdline="a<b&c \"d'")
        domain = Xml.fromstring(domain_xml(spec))  # noqa: S314 - our own
        assert domain.findtext("os/kernel") == "/k<&>"
        assert "a<b&c \"d'" in (domain.findtext("os/cmdline") or "")

    def test_a_device(self) -> None:
        hostdev = Xml.fromstring(hostdev_xml(NVME))  # noqa: S314 - our own
        assert hostdev.attrib == {"mode": "subsystem", "type": "pci", "managed": "no"}
        address = hostdev.find("source/address")
        assert address is not None
        assert address.attrib == {"domain": "0x0000", "bus": "0x04", "slot": "0x1f", "function": "0x7"}
        assert node_device(NVME) == "pci_0000_04_1f_7"


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> FakeXenLibvirt:
    module = FakeXenLibvirt()
    monkeypatch.setitem(sys.modules, "libvirt", module)
    return module


class Domain:
    def __init__(self, refusal: libvirtError | None = None) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.refusal = refusal

    def __getattr__(self, name: str) -> Callable[..., int]:
        def call(*given: object) -> int:
            self.calls.append((name, *given))
            if self.refusal:
                raise self.refusal
            return 0

        return call


def toolstack(connection: object, *, alive: bool = True, host: FakeTransport | None = None) -> LibvirtToolstack:
    link = SimpleNamespace(connection=connection, alive=alive, close=lambda: None)
    return LibvirtToolstack(host or FakeTransport(connected=True), lambda transport, deadline: link)


@pytest.mark.usefixtures("library")
class TestCalls:
    def test_what_libvirt_is_asked(self) -> None:
        domain = Domain()
        tools = toolstack(SimpleNamespace(lookupByID={5: domain}.__getitem__))
        results = [
            tools.destroy(5, soon()),
            tools.attach(5, NVME, soon()),
            tools.detach(5, NVME, soon(), force=False),
            tools.detach(5, NVME, soon(), force=True),
            tools.save(5, soon()),
            tools.pause(5, soon()),
            tools.unpause(5, soon()),
        ]
        device = hostdev_xml(NVME)
        assert domain.calls == [
            ("destroy",),
            ("attachDeviceFlags", device, 1),
            ("detachDeviceFlags", device, 1),
            ("detachDeviceFlags", device, 5),
            ("save", "/run/maskall/saved"),
            ("suspend",),
            ("resume",),
        ]
        assert [one.status for one in results] == [0] * 7
        assert results[0].shown == "virsh -c xen:///system destroy 5"

    def test_a_refusal_comes_raw_and_with_the_driver_s_log(self) -> None:
        host = FakeTransport(connected=True, commands={"tail -n 20 .*libxl-driver.log": Reply(b"libxl: it is busy\n")})
        refusing = Domain(libvirtError("internal error: libxenlight failed", 1))
        result = toolstack(SimpleNamespace(lookupByID=lambda domid: refusing), host=host).destroy(5, soon())
        assert (result.status, result.stdout) == (1, b"libxl: it is busy\n")
        raw, message = result.stderr.decode().splitlines()
        assert raw.startswith("libvirtError (1, 42, 'internal error: libxenlight failed'")
        assert message == "error: internal error: libxenlight failed"

    def test_a_lost_link_is_no_refusal_and_nothing_is_sent_again(self) -> None:
        domain = Domain(libvirtError("End of file while reading data: Input/output error", 38))
        tools = toolstack(SimpleNamespace(lookupByID=lambda domid: domain), alive=False)
        with pytest.raises(OutcomeUnknown, match="virsh -c xen:///system destroy 5"):
            tools.destroy(5, soon())
        assert domain.calls == [("destroy",)]

    def test_a_call_that_does_not_end_is_a_hang(self) -> None:
        never = threading.Event()
        tools = toolstack(SimpleNamespace(lookupByID=lambda domid: never.wait(FOREVER) and Domain()))
        with pytest.raises(HostHung, match="destroy 5"):
            tools.destroy(5, Deadline.after(0.05))
        never.set()

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
    def test_a_bug_in_a_call_does_not_hang(self) -> None:
        with pytest.raises(OutcomeUnknown):
            toolstack(SimpleNamespace()).destroy(5, soon())

    def test_a_destroy_as_a_stream(self) -> None:
        domain = Domain(libvirtError("no", 1))
        begun = toolstack(SimpleNamespace(lookupByID=lambda domid: domain)).start_destroy(5, soon())
        assert begun.read_until(b"error: no\n", soon())
        assert begun.ending in (CommandEnd(status=1), None)


def conversation(answers: dict[bytes, bytes]) -> Callable[[bytes], bytes | None]:
    return lambda data: answers.get(data, b"")


class TestLink:
    """The fake library speaks into the socket it is given, as libvirt does."""

    @pytest.fixture
    def opened(self, library: FakeXenLibvirt) -> list[socket.socket]:
        sockets: list[socket.socket] = []

        def open_(uri: str) -> Any:  # noqa: ANN401 - virConnect
            scheme, _, path = uri.partition("=")
            assert scheme == "xen+unix:///system?socket"
            assert Path(path).parent.stat().st_mode & 0o777 == 0o700
            near = socket.socket(socket.AF_UNIX)
            near.settimeout(FOREVER)
            near.connect(path)
            sockets.append(near)
            near.sendall(b"\0\x01open")
            if near.recv(100) != b"\xff\0welcome":
                raise libvirtError("End of file while reading data")
            return SimpleNamespace(path=path)

        library.open = open_  # type: ignore[attr-defined]
        return sockets

    def host(self, answers: dict[bytes, bytes], ready: Reply | None = None) -> FakeTransport:
        streams = {".*exec virt-ssh-helper xen:///system .*": conversation(answers)}
        return FakeTransport(name="box", connected=True, commands={".*": ready or Reply()}, streams=streams)

    def test_bytes_go_both_ways_and_nothing_is_left(self, opened: list[socket.socket]) -> None:
        link = LibvirtLink.opened(self.host({b"\0\x01open": b"\xff\0welcome", b"ask": b"tell"}), soon())
        assert link.alive
        opened[0].sendall(b"ask")
        assert opened[0].recv(100) == b"tell"
        folder = Path(link.connection.path).parent
        link.close()
        link.close()
        assert not folder.exists()
        assert not link.alive

    def test_a_daemon_that_ends_is_said(self, opened: list[socket.socket]) -> None:
        link = LibvirtLink.opened(self.host({b"\0\x01open": b"\xff\0welcome"}), soon())
        assert isinstance(link._stream, FakeStream)
        link._stream.end(CommandEnd(status=1))
        assert opened[0].recv(100) == b""
        assert not link.alive
        link.close()

    def test_a_daemon_that_refuses(self, opened: list[socket.socket]) -> None:
        with pytest.raises(LabError, match="box: libvirt's Xen driver does not answer: End of file") as caught:
            LibvirtLink.opened(self.host({b"\0\x01open": b"no"}), soon())
        assert "journalctl" in caught.value.hint

    @pytest.mark.usefixtures("opened")
    def test_a_daemon_that_says_nothing(self) -> None:
        with pytest.raises(LabError, match="does not answer"):
            LibvirtLink.opened(self.host({}), Deadline.after(0.1))

    @pytest.mark.usefixtures("opened")
    def test_no_libvirt_on_the_host(self) -> None:
        with pytest.raises(LabError, match="box: virt-ssh-helper is not installed") as caught:
            LibvirtLink.opened(self.host({}, Reply(stderr=b"virt-ssh-helper is not installed\n", status=127)), soon())
        assert "apt-get install libvirt-daemon" in caught.value.hint

    def test_a_broken_connection_is_made_anew(self, library: FakeXenLibvirt) -> None:
        links = [SimpleNamespace(connection=SimpleNamespace(), alive=True, close=lambda: None) for _ in range(2)]
        made: list[SimpleNamespace] = []

        def connect(transport: Transport, deadline: Deadline) -> SimpleNamespace:
            made.append(links[len(made)])
            made[-1].connection.lookupByName = lambda name: SimpleNamespace(ID=lambda: len(made))
            return made[-1]

        tools = LibvirtToolstack(FakeTransport(connected=True), connect)
        assert [tools.domid("x", soon()), tools.domid("x", soon())] == [1, 1]
        links[0].alive = False
        assert tools.domid("x", soon()) == 2
