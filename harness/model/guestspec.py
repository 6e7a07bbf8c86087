"""What a test guest is, and its configuration in xl's language (xl.cfg(5)). Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from harness.model.address import Bdf


class GuestType(enum.StrEnum):
    HVM = "hvm"
    PV = "pv"
    PVH = "pvh"


class OnEvent(enum.StrEnum):
    """xl.cfg's on_reboot and on_crash."""

    PRESERVE = "preserve"
    DESTROY = "destroy"
    RESTART = "restart"


@dataclass(frozen=True)
class GuestWishes:
    """How a guest is made where a test does not say it; the fields are those of the fixture `make_guest`."""

    type: GuestType = GuestType.HVM
    vcpus: int = 1
    memory: int = 128  # MiB
    cmdline: str = ""
    on_reboot: OnEvent = OnEvent.PRESERVE
    on_crash: OnEvent = OnEvent.PRESERVE


# Where a guest's boot time goes under an emulator, and what takes it away. No option here touches MSI-X.
#   pci=noearly            two scans for AGP bridges of 5 s each
#   i8042.*, 8250.*        probing hardware that is not there, by port I/O: each access is a VM exit
#   cryptomgr.notests, tsc=reliable, no_timer_check, init_on_alloc=0, audit=0, lsm=, mitigations=off: work nobody needs
_HVM_OPTIONS = (
    "pci=noearly i8042.noaux i8042.nokbd i8042.nopnp 8250.nr_uarts=0 "
    "cryptomgr.notests tsc=reliable no_timer_check init_on_alloc=0 audit=0 lsm= mitigations=off"
)
_PV_OPTIONS = "cryptomgr.notests init_on_alloc=0 audit=0 lsm= mitigations=off"


@dataclass(frozen=True)
class GuestSpec:
    name: str
    type: GuestType
    kernel: str  # path on the host
    initramfs: str  # path on the host
    devices: tuple[Bdf, ...]
    drivers: tuple[str, ...] = ()  # keys of drivers.yaml, loaded as it boots
    memory_mib: int = 128
    vcpus: int = 1
    cmdline: str = ""  # more options for its kernel
    on_reboot: OnEvent = OnEvent.PRESERVE
    on_crash: OnEvent = OnEvent.PRESERVE
    challenge: str | None = None  # of a verifier, which it answers whenever a device is exercised

    @property
    def command_line(self) -> str:
        """All that its kernel is told."""
        options = _HVM_OPTIONS if self.type is GuestType.HVM else _PV_OPTIONS
        options += f" {self.cmdline}" if self.cmdline else ""
        options += f" maskall.challenge={self.challenge}" if self.challenge else ""
        options += f" maskall.drivers={','.join(self.drivers)}" if self.drivers else ""
        return f"console=hvc0 rdinit=/init panic=-1 quiet {options}"

    def xl_config(self) -> str:
        """The text `xl create` reads."""
        lines = [
            f'name = "{self.name}"',
            f'type = "{self.type}"',
            f"memory = {self.memory_mib}",
            f"vcpus = {self.vcpus}",
            f'kernel = "{self.kernel}"',
            f'ramdisk = "{self.initramfs}"',
            f'cmdline = "{self.command_line}"',
            'on_poweroff = "destroy"',
            f'on_reboot = "{self.on_reboot}"',
            f'on_crash = "{self.on_crash}"',
            f"pci = [{', '.join(repr(str(device)) for device in self.devices)}]",
            # xl's default where the CPU's TSC never stops; elsewhere each rdtsc traps, which is a third of a boot
            'tsc_mode = "native"',
        ]
        if self.type is GuestType.HVM:
            lines += ['vga = "none"', "vnc = 0", "usb = 0"]
        return "\n".join(lines) + "\n"
