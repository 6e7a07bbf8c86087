"""The default machine: two devices to borrow, two that must never be touched, and what else a machine has."""

from __future__ import annotations

from suites.selftest.fakes.fakehost.function import Function

MANAGEMENT, NIC, DISK, ROOT_DISK, PLURAL = (
    "0000:01:00.0",
    "0000:02:00.0",
    "0000:03:00.0",
    "0000:04:00.0",
    "0000:05:00.0",
)
NIC_MAC, DISK_SERIAL = "52:54:00:aa:00:02", "MASKALL0001"


def functions() -> list[Function]:
    """Fresh functions in bus order. Each of the devices has a root port of its own."""

    def port(number: int, slot: str | None = None) -> Function:
        return Function(
            f"0000:00:1c.{number}", "8086:a338", 0x060400, "pcieport", slot=slot, vectors=1, flr=False, resets=("pm",)
        )

    return [
        Function("0000:00:00.0", "8086:29c0", 0x060000, resets=(), flr=False),
        Function("0000:00:01.0", "1234:1111", 0x030000, "bochs-drm", boot_vga=True, resets=(), flr=False),
        Function("0000:00:14.0", "8086:a36d", 0x0C0330, "xhci_hcd", vectors=8, flr=False, resets=("pm",)),
        *(port(number, {1: "1", 2: "2"}.get(number)) for number in range(5)),
        Function("0000:00:1f.0", "8086:a303", 0x060100, resets=(), flr=False),
        Function("0000:00:1f.3", "8086:a323", 0x0C0500, "i801_smbus", resets=(), flr=False),
        Function(
            MANAGEMENT,
            "8086:1533",
            0x020000,
            "igb",
            "0000:00:1c.0",
            "8086:0001",
            net="eth0",
            mac="52:54:00:aa:00:01",
            vectors=5,
            dsn=0x525400FFFFAA0001,
        ),
        Function(
            NIC,
            "8086:10d3",
            0x020000,
            "e1000e",
            "0000:00:1c.1",
            "8086:a01f",
            slot="1",
            net="eth1",
            mac=NIC_MAC,
            vectors=5,
            dsn=0x525400FFFFAA0002,
            flr=False,
            resets=("pm", "bus"),
        ),
        Function(
            DISK,
            "1b36:0010",
            0x010802,
            "nvme",
            "0000:00:1c.2",
            "1af4:1100",
            slot="2",
            nvme="nvme1",
            serial=DISK_SERIAL.encode(),
            model=b"QEMU NVMe Ctrl",
            vectors=65,
        ),
        Function(
            ROOT_DISK,
            "144d:a808",
            0x010802,
            "nvme",
            "0000:00:1c.3",
            "144d:a801",
            nvme="nvme0",
            serial=b"ROOT0001",
            model=b"Samsung SSD 970 EVO",
            vectors=33,
        ),
        Function(
            PLURAL,
            "8086:10c9",
            0x020000,
            "igb",
            "0000:00:1c.4",
            "8086:a02b",
            net="eth2",
            mac="52:54:00:aa:00:05",
            vectors=10,
            dsn=0x525400FFFFAA0005,
            total_vfs=7,
        ),
    ]


RELEASE = "6.12.57+deb13-amd64"
MODULES = {  # name of the module -> driver it brings; those loaded at boot come first in the tree
    "pcieport": "pcieport",
    "bochs": "bochs-drm",
    "xhci_pci": "xhci_hcd",
    "i2c_i801": "i801_smbus",
    "igb": "igb",
    "e1000e": "e1000e",
    "nvme": "nvme",
    "xen_pciback": "pciback",
    "vfio_pci": "vfio-pci",
}
NOT_AT_BOOT = {"vfio_pci"}
BUILT_IN = {"pcieport"}

FILES = {  # outside /sys; what a running system needs beyond its devices
    "/etc/os-release": 'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nNAME="Debian GNU/Linux"\nVERSION_ID="13"\n'
    'VERSION="13 (trixie)"\nVERSION_CODENAME=trixie\nID=debian\n',
    "/etc/debian_version": "13.2\n",
    "/etc/hostname": "xenbox1\n",
    "/etc/machine-id": "4f1c0000000000000000000000000001\n",
    "/etc/fstab": "/dev/nvme0n1p2 / ext4 errors=remount-ro 0 1\n/dev/nvme0n1p1 /boot ext4 defaults 0 2\n",
    "/etc/crypttab": "",
    "/etc/default/grub": 'GRUB_DEFAULT=0\nGRUB_TIMEOUT=2\nGRUB_CMDLINE_LINUX=""\n',
    "/boot/grub/grub.cfg": "menuentry 'Debian GNU/Linux, with Xen hypervisor' {\n}\n",
    f"/boot/vmlinuz-{RELEASE}": "kernel\n",
    f"/boot/initrd.img-{RELEASE}": "initrd\n",
    f"/boot/config-{RELEASE}": "CONFIG_XEN_PCIDEV_BACKEND=m\n",
    "/boot/xen-4.20-amd64.gz": "xen\n",
    "/var/lib/dpkg/status": "",
}

PROC = {
    "/proc/cmdline": "placeholder root=/dev/nvme0n1p2 ro console=hvc0\n",
    "/proc/swaps": "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n/dev/nvme0n1p3 partition\t1048576\t\t0\t\t-2\n",
    "/proc/mdstat": "Personalities : \nunused devices: <none>\n",
    "/proc/version": f"Linux version {RELEASE} (debian-kernel@lists.debian.org)\n",
    "/proc/consoles": "hvc0                 -W- (EC p a)  229:0\ntty0                 -WU (E    )    4:1\n",
    "/proc/loadavg": "0.00 0.00 0.00 1/100 1000\n",
    "/proc/meminfo": "MemTotal:        1048576 kB\nMemFree:          524288 kB\nMemAvailable:     700000 kB\n",
    "/proc/cpuinfo": "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu vme hypervisor\n",
    "/proc/stat": "cpu  1 0 1 100 0 0 0 0 0 0\n",
    "/proc/filesystems": "nodev\tsysfs\n\text4\n",
    "/proc/devices": "Character devices:\n  1 mem\n\nBlock devices:\n259 blkext\n",
    "/proc/iomem": "00000000-00000000 : Reserved\n",
    "/proc/dma": " 4: cascade\n",
    "/proc/partitions": "major minor  #blocks  name\n\n 259        0   10485760 nvme0n1\n"
    " 259        1     524288 nvme0n1p1\n 259        2    8912896 nvme0n1p2\n"
    " 259        3    1048576 nvme0n1p3\n 259        4    1048576 nvme1n1\n",
    "/proc/net/route": "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
    "eth0\t00000000\tFE0200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
    "eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n",
    "/proc/net/ipv6_route": "fe800000000000000000000000000000 40 00000000000000000000000000000000 00 "
    "00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0\n",
    "/proc/net/if_inet6": "fe80000000000000505400fffeaa0001 02 40 20 80     eth0\n",
    "/proc/net/fib_trie": "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n"
    "     +-- 192.0.2.0/24 2 0 2\n        |-- 192.0.2.0\n           /24 link UNICAST\n        |-- 192.0.2.1\n"
    "           /32 host LOCAL\n        |-- 192.0.2.255\n           /32 link BROADCAST\nLocal:\n"
    "  +-- 0.0.0.0/0 3 0 5\n     +-- 127.0.0.0/8 2 0 2\n        |-- 127.0.0.1\n           /32 host LOCAL\n"
    "     |-- 192.0.2.1\n        /32 host LOCAL\n",
    "/proc/net/arp": "IP address       HW type     Flags       HW address            Mask     Device\n"
    "192.0.2.10       0x1         0x2         52:54:00:bb:00:01     *        eth0\n",
    "/proc/net/dev": "Inter-|   Receive                                                |  Transmit\n"
    " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls\n"
    "  eth0: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n",
    "/proc/xen/capabilities": "control_d\n",
    "/proc/sys/kernel/hostname": "xenbox1\n",
    "/proc/sys/kernel/osrelease": f"{RELEASE}\n",
    "/proc/sys/kernel/ostype": "Linux\n",
    "/proc/sys/kernel/random/uuid": "6f1c0000-0000-4000-8000-000000000001\n",
    "/proc/1/comm": "systemd\n",
    "/proc/1/cmdline": "/sbin/init\0",
    "/proc/interrupts": "            CPU0       CPU1       \n"
    "   1:          0          9  xen-pirq    -ioapic-edge  i8042\n",
}

ADDRESSES = (
    "1: lo    inet 127.0.0.1/8 scope host lo\\       valid_lft forever preferred_lft forever\n",
    "2: eth0    inet 192.0.2.1/24 brd 192.0.2.255 scope global eth0\\       valid_lft 8613sec preferred_lft 8613sec\n",
    "2: eth0    inet6 fe80::5054:ff:feaa:1/64 scope link \\       valid_lft forever preferred_lft forever\n",
)
ROUTES = "default via 192.0.2.254 dev eth0 \n192.0.2.0/24 dev eth0 proto kernel scope link src 192.0.2.1 \n"
ROUTES += "local 192.0.2.1 dev eth0 table local proto kernel scope host src 192.0.2.1 \n"
ROUTES6 = "fe80::/64 dev eth0 proto kernel metric 256 pref medium\n"

MOUNTS = (  # device, directory, type, major:minor
    ("/dev/nvme0n1p2", "/", "ext4", "259:2"),
    ("sysfs", "/sys", "sysfs", "0:21"),
    ("proc", "/proc", "proc", "0:22"),
    ("udev", "/dev", "devtmpfs", "0:5"),
    ("tmpfs", "/run", "tmpfs", "0:23"),
    ("/dev/nvme0n1p1", "/boot", "ext4", "259:1"),
    ("xenfs", "/proc/xen", "xenfs", "0:40"),
)
