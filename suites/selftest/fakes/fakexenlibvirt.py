"""A module like libvirt-python, connected to the Xen driver of the fake host, where libxl is the same as below xl."""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from xml.etree import ElementTree as Xml

from suites.selftest.fakes.fakehost.function import PCIBACK
from suites.selftest.fakes.fakehost.machine import FakeHost, Refused
from suites.selftest.fakes.fakehost.xl import xl


class libvirtError(Exception):
    """With what libvirt-python's own holds: code, domain, message, level, three strings, two numbers."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.err = (code, 42, message, 2, message, None, None, -1, -1)

    def get_error_code(self) -> int:
        return int(self.err[0])


class FakeXenLibvirt(ModuleType):
    """Constants as in virterror.h and libvirt-domain.h."""

    VIR_ERR_INTERNAL_ERROR, VIR_ERR_NO_DOMAIN, VIR_ERR_NO_NODE_DEVICE, VIR_ERR_INVALID_ARG = 1, 42, 53, 8
    VIR_DOMAIN_AFFECT_LIVE, VIR_DOMAIN_DEVICE_MODIFY_FORCE = 1, 4
    libvirtError = libvirtError

    def __init__(self) -> None:
        super().__init__("libvirt")

    def registerErrorHandler(self, function: object, context: object) -> None: ...


def device_of(text: str) -> list[str]:
    """The addresses in a <hostdev> or a <domain>, as sysfs writes them."""
    found = Xml.fromstring(text).iter("address")  # noqa: S314 - our own
    numbers = ([int(one.attrib[name], 16) for name in ("domain", "bus", "slot", "function")] for one in found)
    return [f"{segment:04x}:{bus:02x}:{slot:02x}.{function}" for segment, bus, slot, function in numbers]


@dataclass
class FakeConnection:
    """virConnect to the Xen driver on `host`."""

    host: FakeHost

    def isAlive(self) -> bool:
        return True

    def createXML(self, text: str, flags: int) -> SimpleNamespace:
        """libxlDomainCreateXML: what libxl says goes to the driver's log, not to the caller."""
        domain = Xml.fromstring(text)  # noqa: S314 - our own
        name = domain.findtext("name") or ""
        if name in [one.name for one in self.host.domains.values()]:
            raise libvirtError(f"operation failed: domain '{name}' already exists", 9)
        for device in device_of(text):
            if device not in self.host.functions or self.host.functions[device].bound != PCIBACK:
                raise libvirtError(f"Unmanaged PCI device {device} must be manually detached from the host", 67)
        kind = {"hvm": "hvm", "xen": "pv"}[domain.findtext("os/type") or ""]
        path = f"/run/{name}.cfg"
        self.host.tree.real(path).write_text(
            f'name = "{name}"\ntype = "{kind}"\nmemory = {domain.findtext("memory")}\n'
            f'kernel = "{domain.findtext("os/kernel")}"\nramdisk = "{domain.findtext("os/initrd")}"\n'
            f"pci = {device_of(text)}\n"
        )
        status, _, said = xl(self.host, ["create", path])
        self.host.tree.real(path).unlink()
        if status:
            log = self.host.tree.real("/var/log/libvirt/libxl/libxl-driver.log")
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text(said)
            raise libvirtError(f"internal error: libxenlight failed to create new domain '{name}'")
        return self.lookupByName(name)

    def lookupByName(self, name: str) -> SimpleNamespace:
        for domid, domain in self.host.domains.items():
            if domain.name == name:
                return self._domain(domid)
        raise libvirtError(f"Domain not found: no domain with matching name '{name}'", FakeXenLibvirt.VIR_ERR_NO_DOMAIN)

    def lookupByID(self, domid: int) -> SimpleNamespace:
        if domid not in self.host.domains:
            message = f"Domain not found: no domain with matching id '{domid}'"
            raise libvirtError(message, FakeXenLibvirt.VIR_ERR_NO_DOMAIN)
        return self._domain(domid)

    def _domain(self, domid: int) -> SimpleNamespace:
        return SimpleNamespace(ID=lambda: domid, destroy=lambda: xl(self.host, ["destroy", str(domid)]))

    def listDomainsID(self) -> list[int]:
        return [domid for domid in self.host.domains if domid]

    def nodeDeviceLookupByName(self, name: str) -> SimpleNamespace:
        match = re.fullmatch(r"pci_(\w{4})_(\w\w)_(\w\w)_(\d)", name)
        bdf = "{}:{}:{}.{}".format(*match.groups()) if match else ""
        if bdf not in self.host.functions:
            raise libvirtError(f"no node device with matching name '{name}'", FakeXenLibvirt.VIR_ERR_NO_NODE_DEVICE)
        return SimpleNamespace(
            detachFlags=lambda driver, flags: self._detach(bdf, driver), reAttach=lambda: self._reattach(bdf)
        )

    def _detach(self, bdf: str, driver: str) -> None:
        """virPCIDeviceDetach by driver_override; Xen hears nothing of it."""
        if driver != "xen":
            raise libvirtError(f"unsupported driver name '{driver}'", FakeXenLibvirt.VIR_ERR_INVALID_ARG)
        function = self.host.functions[bdf]
        if function.bound == PCIBACK:
            return
        if function.bound:
            self.host.unbind(bdf, function.bound)
        self.host.slots.add(bdf)
        self.host.tree.pciback()
        owner = function.owner
        try:
            self.host.bind(bdf, PCIBACK)
        except Refused as error:
            raise libvirtError(f"Failed to bind PCI device '{bdf}' to pciback: {error}") from error
        function.owner = owner

    def _reattach(self, bdf: str) -> None:
        """virPCIDeviceReattach: off pciback, then drivers_probe. Whose device it is for Xen stays as it was."""
        function, owner = self.host.functions[bdf], self.host.functions[bdf].owner
        if function.bound == PCIBACK:
            self.host.unbind(bdf, PCIBACK)
            self.host.slots.discard(bdf)
            self.host.tree.pciback()
        self.host.probe(bdf)
        function.owner = owner
