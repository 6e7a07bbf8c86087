"""libvirt's answer to what the scenarios ask of a toolstack, by its Xen driver on the host.

The same libxl is at work below it as below xl, in one daemon for all domains instead of one process for each.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from harness.base.deadline import Deadline, poll
from harness.base.errors import CommandFailed, HostHung, LabError
from harness.base.records import logger
from harness.base.text import whole
from harness.model.address import Bdf
from harness.model.guestspec import GuestSpec
from harness.transport.base import CommandEnd, CommandResult, Stream, Transport, lost_link, quote
from harness.transport.libvirt import library
from harness.transport.received import ReadStream
from harness.xen.toolstack.libvirt_link import LibvirtLink
from harness.xen.toolstack.libvirt_xml import domain_xml, hostdev_xml, node_device
from harness.xen.toolstack.xl import REMOTE_RUN, Created, OnHost

log = logger(__name__)

_DRIVER_LOG = "/var/log/libvirt/libxl/libxl-driver.log"
_LOG_LINES = 20
_CONNECT_SECONDS = 90.0  # libvirtd may have to be started by its socket
_NEW_DEVICE_SECONDS = 10.0  # until libvirt has heard from udev of a device that was just plugged in
_FORGET_SECONDS = 30.0  # for libvirt's own tidying after a domain that libxl has destroyed
_XEN_STUB = "xen"  # virNodeDeviceDetachFlags: the name of the driver that is pciback

Ask = Callable[[Any], str]
"""Gets a virConnect, gives what there is to print. Raises libvirtError when libvirt refuses."""


class LibvirtConnection(Protocol):
    """A connection of libvirt, as `LibvirtLink` is one."""

    connection: Any  # virConnect: libvirt-python has no types

    @property
    def alive(self) -> bool: ...

    def close(self) -> None: ...


Connect = Callable[[Transport, Deadline], LibvirtConnection]


class _LibvirtCall(ReadStream):
    """One call in a thread of its own: the library knows no deadline. As a stream it prints what a program would."""

    def __init__(self, who: str, link: LibvirtConnection, ask: Ask) -> None:
        super().__init__(who)
        self._thread = threading.Thread(target=self._work, args=(link, ask), name=who, daemon=True)
        self._thread.start()

    def _work(self, link: LibvirtConnection, ask: Ask) -> None:
        try:
            self._received.feed(ask(link.connection).encode())
            self._received.end(CommandEnd(status=0))
        except library().libvirtError as error:
            raw = f"libvirtError {error.err!r}\n" if getattr(error, "err", None) else ""
            self._received.feed(f"{raw}error: {error}\n".encode("utf-8", "backslashreplace"))
            if link.alive:
                self._received.end(CommandEnd(status=1))
        finally:
            self._received.end(CommandEnd())  # counts only where nothing better is known: the link is lost

    def wait(self, deadline: Deadline) -> CommandEnd | None:
        """How it ended; None when it has not."""
        self._thread.join(deadline.remaining)
        return self.ending

    def write(self, data: bytes, deadline: Deadline | None = None) -> None:
        raise CommandFailed(f"{self._who}: its input is closed")

    def close(self) -> None:
        """A call cannot be taken back; it ends by itself, or with the link."""


class LibvirtToolstack(OnHost):
    """`Toolstack` by libvirt over a transport. It connects when it first has to, and again when the link broke."""

    quarantines = False  # unlike libxl_device_pci_assignable_add()

    def __init__(self, transport: Transport, connect: Connect = LibvirtLink.opened) -> None:
        super().__init__(transport)
        self._connect = connect
        self._link: LibvirtConnection | None = None
        self._making = threading.Lock()

    def create(self, spec: GuestSpec, deadline: Deadline) -> Created:
        self.refuse_odd(spec.name)
        text = domain_xml(spec)
        result = self._ordered(
            ["create", f"{REMOTE_RUN}/{spec.name}.xml"],
            lambda connection: f"domid {connection.createXML(text, 0).ID()}\n",
            deadline,
        )
        domid = int(result.text.split()[-1]) if result.ok else None
        return Created(replace(result, stdout=text.encode() + result.stdout), domid)

    def destroy(self, domid: int, deadline: Deadline) -> CommandResult:
        return self._ordered(["destroy", str(domid)], _destroy(domid), deadline)

    def start_destroy(self, domid: int, deadline: Deadline) -> Stream:
        del deadline  # for the start of it; the connection has its own
        return self._begun(_virsh(["destroy", str(domid)]), _destroy(domid), self._connected())

    def await_gone(self, domid: int, device: Bdf, deadline: Deadline) -> CommandResult:
        """Also until libvirt itself has forgotten the domain, for so long it gives the device to no other."""
        gone = super().await_gone(domid, device, deadline)
        if not gone.ok:
            return gone
        limit = Deadline.after(_FORGET_SECONDS)
        return self._ordered(
            ["list", "--id"], lambda connection: _forgotten(connection, domid, limit), limit, changes=False
        )

    def make_assignable(self, device: Bdf, deadline: Deadline, check: str = "") -> CommandResult:
        """virNodeDeviceDetachFlags: pciback takes it. Xen is not told: the device stays dom0's until a guest has it."""
        if check:
            raise LabError("libvirt's call runs in no shell, so that nothing can be checked right before: use xl")
        name = node_device(device)

        def ask(connection: Any) -> str:  # noqa: ANN401 - libvirt-python has no types
            _node(connection, name, deadline).detachFlags(_XEN_STUB, 0)
            return ""

        return self._ordered(["nodedev-detach", name, "--driver", _XEN_STUB], ask, deadline)

    def take_back(self, device: Bdf, deadline: Deadline, *, rebind: bool) -> CommandResult:
        """virNodeDeviceReAttach knows only one way: off pciback, and whatever driver wants it may have it."""
        del rebind
        name = node_device(device)

        def ask(connection: Any) -> str:  # noqa: ANN401 - libvirt-python has no types
            _node(connection, name, deadline).reAttach()
            return ""

        return self._ordered(["nodedev-reattach", name], ask, deadline)

    def attach(self, domid: int, device: Bdf, deadline: Deadline) -> CommandResult:
        def ask(connection: Any) -> str:  # noqa: ANN401 - libvirt-python has no types
            connection.lookupByID(domid).attachDeviceFlags(hostdev_xml(device), library().VIR_DOMAIN_AFFECT_LIVE)
            return ""

        return self._ordered(["attach-device", str(domid), "/dev/stdin", "--live"], ask, deadline)

    def detach(self, domid: int, device: Bdf, deadline: Deadline, *, force: bool) -> CommandResult:
        """libvirt's Xen driver knows no force, and says so."""

        def ask(connection: Any) -> str:  # noqa: ANN401 - libvirt-python has no types
            libvirt = library()
            flags = libvirt.VIR_DOMAIN_AFFECT_LIVE | (libvirt.VIR_DOMAIN_DEVICE_MODIFY_FORCE if force else 0)
            connection.lookupByID(domid).detachDeviceFlags(hostdev_xml(device), flags)
            return ""

        option = ["--force"] if force else []
        return self._ordered(["detach-device", str(domid), "/dev/stdin", "--live", *option], ask, deadline)

    def save(self, domid: int, deadline: Deadline) -> CommandResult:
        path = f"{REMOTE_RUN}/saved"

        def ask(connection: Any) -> str:  # noqa: ANN401 - libvirt-python has no types
            connection.lookupByID(domid).save(path)
            return ""

        return self._ordered(["save", str(domid), path], ask, deadline)

    def pause(self, domid: int, deadline: Deadline) -> CommandResult:
        def ask(connection: Any) -> str:  # noqa: ANN401 - libvirt-python has no types
            connection.lookupByID(domid).suspend()
            return ""

        return self._ordered(["suspend", str(domid)], ask, deadline)

    def unpause(self, domid: int, deadline: Deadline) -> CommandResult:
        def ask(connection: Any) -> str:  # noqa: ANN401 - libvirt-python has no types
            connection.lookupByID(domid).resume()
            return ""

        return self._ordered(["resume", str(domid)], ask, deadline)

    def domid(self, name: str, deadline: Deadline) -> int | None:
        found = self._ordered(
            ["domid", name], lambda connection: f"{connection.lookupByName(name).ID()}\n", deadline, changes=False
        )
        return whole(found.text.strip()) if found.ok else None

    def close(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None

    def _connected(self) -> LibvirtConnection:
        with self._making:
            if self._link is None or not self._link.alive:
                self.close()
                self._link = self._connect(self._transport, Deadline.after(_CONNECT_SECONDS))
            return self._link

    def _begun(self, line: str, ask: Ask, link: LibvirtConnection) -> _LibvirtCall:
        log.info("%s: %s", self._transport.name, line)
        return _LibvirtCall(f"{self._transport.name}: {line}", link, ask)

    def _ordered(self, words: list[str], ask: Ask, deadline: Deadline, *, changes: bool = True) -> CommandResult:
        """As `Transport.run`: a refusal is a result, with what libxl wrote into the driver's log; sent once.

        Connecting may start the daemon, and does not count against the call's deadline.
        """
        asked = time.monotonic()
        link = self._connected()
        host, line, began = self._transport.name, _virsh(words), time.monotonic()
        deadline = Deadline(deadline.at + began - asked)
        call = self._begun(line, ask, link)
        ending = call.wait(deadline)
        if ending is None:
            self.close()
            raise HostHung(f"{host}: not ended in time: {line}")
        if ending.lost:
            raise lost_link(host, line, "libvirt's connection was lost", changes=changes)
        seconds = time.monotonic() - began
        if ending.status == 0:
            return CommandResult(line, call.received, b"", 0, None, seconds, host)
        tail = b""
        if changes:
            tail = self._transport.run(["tail", "-n", str(_LOG_LINES), _DRIVER_LOG], deadline=deadline).stdout
        return CommandResult(line, tail, call.received, ending.status, None, seconds, host)


def _virsh(words: list[str]) -> str:
    """What a person would type on the host to have the same done."""
    return quote(["virsh", "-c", "xen:///system", *words])


def _destroy(domid: int) -> Ask:
    def ask(connection: Any) -> str:  # noqa: ANN401 - libvirt-python has no types
        connection.lookupByID(domid).destroy()
        return ""

    return ask


def _node(connection: Any, name: str, deadline: Deadline) -> Any:  # noqa: ANN401 - libvirt-python has no types
    """The host's device, waited for a little: libvirt hears of a new one from udev. libvirtError."""
    libvirt = library()

    def look() -> Any:  # noqa: ANN401 - see above
        try:
            return connection.nodeDeviceLookupByName(name)
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_NODE_DEVICE:
                raise
            return None

    return poll(look, deadline.sooner(_NEW_DEVICE_SECONDS)) or connection.nodeDeviceLookupByName(name)


def _forgotten(connection: Any, domid: int, deadline: Deadline) -> str:  # noqa: ANN401 - libvirt-python has no types
    """Wait until libvirt lists the domain no more."""
    poll(lambda: domid not in connection.listDomainsID(), deadline.sooner(_FORGET_SECONDS - 5))
    left = connection.listDomainsID()
    if domid in left:
        raise library().libvirtError(f"libvirt still has domain {domid}")
    return "".join(f"{one}\n" for one in left)
