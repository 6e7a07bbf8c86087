"""Facts of a plain Debian as the reading program prints them, for a test to change one thing of."""

from __future__ import annotations

from harness.lab.provision.facts import SystemFacts, parse_facts

OS_RELEASE = b'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nID=debian\nVERSION_ID="13"\nHOME_URL="https://x/"\n'
XL_INFO = (
    b"host                   : bench\nrelease                : 6.12.118+deb13-amd64\n"
    b"virt_caps              : pv hvm hvm_directio pv_directio hap\nxen_version            : 4.20.4\n"
    b"xen_commandline        : placeholder\nbuild_id               : 0123\n"
)
SUM = b"0" * 64


def sections(**changed: bytes) -> dict[str, bytes]:
    """All sections of a plain machine; names with `-` are given with `_`."""
    plain = {
        "os-release": OS_RELEASE,
        "boot_id": b"2f1bf8f2-70a2-4b3c-9d8e-0a9a4a0a5a11\n",
        "architecture": b"amd64\n",
        "kernel": b"6.12.118+deb13-amd64\n",
        "kernels": b"vmlinuz-6.12.118+deb13-amd64\n",
        "cmdline": b"root=UUID=1 ro console=tty0 console=ttyS0,115200n8 quiet\n",
        "hypervisor": b"",
        "xl_info": b"",
        "boot": b"systemd\ngrub_default\ngrub_cfg\nupdate_grub\niommu\nhvm\n",
        "space": b"Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/vda1 4045536 370304 3658848 10% /\n",
        "packages": b"kmod ii  34.2-2\niproute2 ii  6.15.0-1\nbusybox un  \n",
        "files": SUM + b"  /boot/grub/grub.cfg\n",
        "backup": b"",
    }
    more = {name if name in plain else name.replace("_", "-"): data for name, data in changed.items()}
    assert more.keys() <= plain.keys()
    return {**plain, **more}


def facts(**changed: bytes) -> SystemFacts:
    """The same, parsed."""
    return parse_facts(sections(**changed))
