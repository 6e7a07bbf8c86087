"""Guests and devices in libvirt's language (formatdomain.html), for its Xen driver. Pure."""

from __future__ import annotations

from xml.etree import ElementTree as Xml

from harness.model.address import Bdf
from harness.model.guestspec import GuestSpec, GuestType

# virDomainOSTypeFromString: what libvirt calls xl.cfg's types, with the machine that belongs to each
_OS_TYPES = {
    GuestType.HVM: ("hvm", "xenfv"),
    GuestType.PV: ("xen", "xenpv"),
    GuestType.PVH: ("xenpvh", "xenpvh"),
}


def domain_xml(spec: GuestSpec) -> str:
    """The text virDomainCreateXML(3) reads: the same guest as `GuestSpec.xl_config`.

    Graphics and serial lines are not mentioned, which is libvirt's way to have none; the PV console is always there.
    """
    domain = Xml.Element("domain", type="xen")
    _text(domain, "name", spec.name)
    _text(domain, "memory", str(spec.memory_mib), unit="MiB")
    _text(domain, "vcpu", str(spec.vcpus))
    system = Xml.SubElement(domain, "os")
    kind, machine = _OS_TYPES[spec.type]
    _text(system, "type", kind, arch="x86_64", machine=machine)
    _text(system, "kernel", spec.kernel)
    _text(system, "initrd", spec.initramfs)
    _text(system, "cmdline", spec.command_line)
    if spec.type is GuestType.HVM:
        features = Xml.SubElement(domain, "features")
        for name in ("acpi", "apic", "pae"):  # on in xl unless switched off; off in libvirt unless named
            Xml.SubElement(features, name)
    if spec.type is GuestType.PV and spec.devices:  # xl does so by itself; else Linux uses no swiotlb
        xen = Xml.SubElement(Xml.SubElement(domain, "features"), "xen")
        Xml.SubElement(xen, "e820_host", state="on")
    clock = Xml.SubElement(domain, "clock", offset="utc")
    Xml.SubElement(clock, "timer", name="tsc", mode="native")
    _text(domain, "on_poweroff", "destroy")
    _text(domain, "on_reboot", spec.on_reboot)
    _text(domain, "on_crash", spec.on_crash)
    devices = Xml.SubElement(domain, "devices")
    devices.extend(_hostdev(device) for device in spec.devices)
    Xml.indent(domain)
    return Xml.tostring(domain, encoding="unicode") + "\n"


def hostdev_xml(device: Bdf) -> str:
    """The text virDomainAttachDeviceFlags(3) reads."""
    return Xml.tostring(_hostdev(device), encoding="unicode")


def node_device(device: Bdf) -> str:
    """What libvirt calls a function of the host (udevGenerateDeviceName)."""
    return f"pci_{str(device).replace(':', '_').replace('.', '_')}"


def _hostdev(device: Bdf) -> Xml.Element:
    """Not managed: taking the device from dom0 and giving it back are steps of their own, as with xl."""
    hostdev = Xml.Element("hostdev", mode="subsystem", type="pci", managed="no")
    source = Xml.SubElement(hostdev, "source")
    Xml.SubElement(
        source,
        "address",
        domain=f"{device.segment:#06x}",
        bus=f"{device.bus:#04x}",
        slot=f"{device.device:#04x}",
        function=f"{device.function:#x}",
    )
    return hostdev


def _text(parent: Xml.Element, name: str, text: str, **attributes: str) -> None:
    Xml.SubElement(parent, name, attributes).text = text
