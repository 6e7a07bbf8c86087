"""What a provisioned host has, and no more. Pure."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from harness.transport.base import quote

GRUB_FILE = "/etc/default/grub.d/maskall.cfg"
"""grub-mkconfig reads this folder in the order of its names; Debian's xen.cfg, which looks at what is set here, is
behind it."""

MODULES_FILE = "/etc/modules-load.d/maskall.conf"
MENU = "/boot/grub/grub.cfg"

EMULATOR = "qemu-system-xen"
PACKAGES = ("xen-system-amd64", "xen-utils-common", EMULATOR, "pciutils", "busybox-static", "kmod", "iproute2")
"""By their names in Debian and Ubuntu of today."""

_EMULATORS = {
    **{("debian", version): "qemu-system-x86" for version in ("10", "11")},
    **{("ubuntu", version): "qemu-system-x86-xen" for version in ("20", "21", "22", "23")},
}
"""What the emulator's package was called before."""

ASKED = (*PACKAGES, *dict.fromkeys(_EMULATORS.values()), "busybox")
"""The packages a host is asked about: busybox excludes busybox-static."""

# A fraction is understood since Xen 4.11 (docs/misc/xen-command-line, dom0_mem).
_XEN_OPTIONS = (
    "dom0_mem=50%,min:1024M,max:4096M",
    "iommu=1",
    "conring_size=1M",
    "loglvl=all",
    "guest_loglvl=info",
)
_CONSOLE = re.compile(r"(?:^|\s)console=ttyS([01])(?:,([0-9]{1,7})([noe])?([78])?)?(?=\s|$)")


@dataclass(frozen=True)
class ProvisionGoal:
    """`files`: path to its text, as it is until Xen was seen to run."""

    packages: tuple[str, ...]
    files: dict[str, str]


def wanted(os_id: str, os_version: str, cmdline: str) -> ProvisionGoal:
    """For this system, whose kernel was started with `cmdline`."""
    emulator = _EMULATORS.get((os_id, os_version.partition(".")[0]), EMULATOR)
    packages = tuple(emulator if name == EMULATOR else name for name in PACKAGES)
    return ProvisionGoal(packages, {GRUB_FILE: grub_text(cmdline), MODULES_FILE: "xen-pciback\n"})


def grub_text(cmdline: str, default: str = "") -> str:
    """A shell fragment for grub-mkconfig: Xen's options; with `default` that entry of the menu is the default too.

    Nothing else of the host gets into it but a number.
    """
    options = " ".join([*_XEN_OPTIONS, *console_options(cmdline)])
    return (
        "# Written by maskall; `maskall unprovision` takes it back.\n"
        "# 0: installing Xen does not make it the default (/etc/default/grub.d/xen.cfg)\n"
        "XEN_OVERRIDE_GRUB_DEFAULT=0\n"
        + (f"# Xen was booted once, and was seen to work\nGRUB_DEFAULT={quote([default])}\n" if default else "")
        + f'GRUB_CMDLINE_XEN_DEFAULT="{options}"\n'
        "# the serial line is Xen's now, dom0 speaks through it; neither log may lose lines\n"
        'GRUB_CMDLINE_LINUX_XEN_REPLACE_DEFAULT="$GRUB_CMDLINE_LINUX_DEFAULT console=hvc0 log_buf_len=1M"\n'
    )


def console_options(cmdline: str) -> list[str]:
    """Xen speaks where Linux does: on its last serial console, if that is one of the two every PC has, and the screen.

    Linux' `console=ttyS0,115200n8` (9600n8 by default) is Xen's `com1=115200,8n1 console=com1`.
    """
    found = list(_CONSOLE.finditer(cmdline))
    if not found:
        return ["console=vga"]
    port, speed, parity, bits = found[-1].groups()
    com = f"com{int(port) + 1}"
    return [f"{com}={int(speed or 9600)},{bits or 8}{parity or 'n'}1", f"console={com},vga"]


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
