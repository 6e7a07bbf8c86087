"""Guests in xl's language, and the facts about drivers."""

from __future__ import annotations

from harness.guest.drivers import drivers
from harness.model.address import Bdf
from harness.model.guestspec import GuestSpec, GuestType, OnEvent
from harness.nested.devices import catalogue

HVM = """\
name = "maskall-a"
type = "hvm"
memory = 128
vcpus = 1
kernel = "/boot/vmlinuz-6.12"
ramdisk = "/var/lib/maskall/nvme-1.cpio"
cmdline = "CMDLINE"
on_poweroff = "destroy"
on_reboot = "preserve"
on_crash = "preserve"
pci = ['0000:04:00.0', '0000:05:00.1']
tsc_mode = "native"
vga = "none"
vnc = 0
usb = 0
"""
PV = """\
name = "maskall-b"
type = "pv"
memory = 256
vcpus = 1
kernel = "/boot/vmlinuz-6.12"
ramdisk = "/var/lib/maskall/rng.cpio"
cmdline = "CMDLINE"
on_poweroff = "destroy"
on_reboot = "restart"
on_crash = "destroy"
pci = ['0000:02:00.0']
tsc_mode = "native"
"""


def golden(spec: GuestSpec) -> tuple[str, list[str]]:
    """The text with the kernel's command line apart, which is tuned more often than the rest."""
    text = spec.xl_config()
    line = next(line for line in text.splitlines() if line.startswith("cmdline"))
    words = line.removeprefix('cmdline = "').removesuffix('"')
    return text.replace(words, "CMDLINE"), words.split()


def test_an_hvm_guest() -> None:
    devices = (Bdf.parse("04:00.0"), Bdf.parse("05:00.1"))
    spec = GuestSpec("maskall-a", GuestType.HVM, "/boot/vmlinuz-6.12", "/var/lib/maskall/nvme-1.cpio", devices)
    text, words = golden(spec)
    assert text == HVM
    assert words[:4] == ["console=hvc0", "rdinit=/init", "panic=-1", "quiet"]
    assert "pci=noearly" in words


def test_a_pv_guest() -> None:
    spec = GuestSpec(
        "maskall-b",
        GuestType.PV,
        "/boot/vmlinuz-6.12",
        "/var/lib/maskall/rng.cpio",
        (Bdf.parse("02:00.0"),),
        memory_mib=256,
        on_reboot=OnEvent.RESTART,
        on_crash=OnEvent.DESTROY,
    )
    text, words = golden(spec)
    assert text == PV
    assert words[:4] == ["console=hvc0", "rdinit=/init", "panic=-1", "quiet"]


def test_no_option_touches_msi() -> None:
    for kind in GuestType:
        _, words = golden(GuestSpec("a", kind, "/k", "/i", ()))
        assert not [word for word in words if "msi" in word or (word.startswith("pci=") and word != "pci=noearly")]


def test_a_guest_without_devices() -> None:
    assert "\npci = []\n" in GuestSpec("a", GuestType.PV, "/k", "/i", ()).xl_config()


def test_the_drivers_file_loads_and_covers_the_devices() -> None:
    known = drivers()
    assert {model.driver for model in catalogue().values()} <= set(known)
    for driver in known.values():
        assert driver.ready.strip() and driver.traffic.strip()
    assert not known["e1000e"].in_dom0, "a network card may carry the host's own traffic"
