"""What makes a Debian root file system a plain machine on a bench: its files, and the script run inside it once.

It knows nothing of Xen. Unlike the ready-made hosts it has an initramfs of its own making, a boot loader and a
partitioned disk, and what it may install lies in an archive on its disk, for it reaches no mirror.
"""

from __future__ import annotations

from harness.nested import boottime, rootfs

ARCHIVE = "/var/local/debs"
"""Where the packages lie that can be installed: a flat repository (sources.list(5))."""

PACKAGES = (
    "linux-image-amd64",
    "grub-pc",
    "initramfs-tools",
    "openssh-server",
    "systemd-sysv",
    "udev",
    "kmod",
    "dbus",
    "iproute2",
    "procps",
    "xz-utils",
    "e2fsprogs",
)
"""A plain Debian without recommended packages."""

XEN_PACKAGES = ("xen-system-amd64", "xen-utils-common", "qemu-system-xen", "pciutils", "busybox-static")
"""What its archive offers, with all they depend on."""

DOWNLOAD = f'chroot "$1" sh -c "apt-get clean && apt-get install --yes --download-only {" ".join(XEN_PACKAGES)}"'
"""mmdebstrap's hook that fetches the archive; it comes before the files below, for those end the name service."""

SETUP = "/maskall-setup"

# What its owner wrote there. Serial console and no menu: nobody sits before it. The options after net.ifnames only
# save time under emulation, as in stacks.yaml.
_GRUB = """\
GRUB_DEFAULT=0
GRUB_TIMEOUT=0
GRUB_DISTRIBUTOR=Debian
GRUB_CMDLINE_LINUX_DEFAULT="quiet"
GRUB_CMDLINE_LINUX="console=ttyS0,115200n8 net.ifnames=0 mitigations=off audit=0 lsm=capability fsck.mode=skip"
GRUB_TERMINAL=serial
GRUB_SERIAL_COMMAND="serial --unit=0 --speed=115200"
GRUB_DISABLE_OS_PROBER=true
GRUB_DISABLE_RECOVERY=true
"""

# Only what this disk needs: MODULES=most makes an initramfs that takes a minute to unpack under emulation.
_INITRAMFS = "MODULES=list\nCOMPRESS=gzip\nFSTYPE=ext4\n"

# dpkg-scanpackages is a package of its own; the index is only these fields (deb822(5), Debian repository format).
_SETUP_SCRIPT = f"""\
#!/bin/sh
# Run once inside the new root file system.
set -eu
rm -f /etc/ssh/ssh_host_rsa_key* /etc/ssh/ssh_host_ecdsa_key* /etc/ssh/ssh_host_dsa_key*
rm -rf /etc/systemd/system/timers.target.wants  # left empty, the next package that is purged would remove it
mkdir -p {ARCHIVE}
mv /var/cache/apt/archives/*.deb {ARCHIVE}/
cd {ARCHIVE}
for deb in *.deb; do
    dpkg-deb --field "$deb"
    printf 'Filename: ./%s\\nSize: %s\\nSHA256: %s\\n\\n' "$deb" "$(stat -c %s "$deb")" \\
        "$(sha256sum "$deb" | cut -d ' ' -f 1)"
done > Packages
cd /
rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/* /var/lib/apt/lists/*
echo 'deb [trusted=yes] file:{ARCHIVE} ./' > /etc/apt/sources.list
apt-get update
for release in $(ls /lib/modules); do
    cd "/lib/modules/$release/kernel"
    find . -name '*.ko.xz' \\( {rootfs.IN_PLAIN_MODULES} \\) -exec unxz {{}} +
    cd /
    depmod "$release"
    update-initramfs -c -k "$release"
    cp "/boot/vmlinuz-$release" /boot/maskall-vmlinuz
    cp "/boot/initrd.img-$release" /boot/maskall-initrd.img
done
dpkg-query -W -f '${{Package}} ${{Version}}\\n' > /boot/maskall-packages.txt
rm -f {SETUP}
"""

_NEEDED = ("systemd-remount-fs.service",)  # the initramfs mounts the root read-only, as everywhere

FILES: dict[str, tuple[int, str]] = {
    **boottime.FILES,
    "/etc/hostname": (0o644, "bench\n"),
    "/etc/hosts": (0o644, "127.0.0.1 localhost\n127.0.1.1 bench\n"),
    "/etc/resolv.conf": (0o644, ""),
    "/etc/machine-id": (0o444, "6d61736b616c6c2d6e65737465642d32\n"),  # a first boot would preset every unit
    "/etc/fstab": (0o644, "/dev/vda1 / ext4 defaults,noatime 0 1\n"),
    "/etc/default/grub": (0o644, _GRUB),
    "/etc/initramfs-tools/conf.d/bench": (0o644, _INITRAMFS),
    "/etc/initramfs-tools/modules": (0o644, "virtio_pci\nvirtio_blk\nvirtio_net\next4\n"),
    "/etc/systemd/system/maskall-network.service": (0o644, rootfs.NETWORK),
    "/etc/ssh/sshd_config.d/10-maskall.conf": (0o644, rootfs.SSHD),
    SETUP: (0o755, _SETUP_SCRIPT),
}
"""Path -> (mode, text) of every file put into the image, but for the keys."""

LINKS: dict[str, str] = {
    path: target for path, target in rootfs.LINKS.items() if path.rpartition("/")[2] not in _NEEDED
}
"""Path -> target of every symbolic link put into the image."""
