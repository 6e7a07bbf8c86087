"""What makes a Debian root file system our Xen host: its files, its masked units, and the script run inside it."""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from harness.nested import boottime

ADDRESS = "10.0.2.15"
"""The host's address behind QEMU's user networking."""

SETUP = "/maskall-setup"

SSHD = """\
# Answer soon on a slow emulator: one small host key, no PAM, no name look-ups.
HostKey /etc/ssh/ssh_host_ed25519_key
KexAlgorithms curve25519-sha256,curve25519-sha256@libssh.org
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
PrintMotd no
PrintLastLog no
X11Forwarding no
MaxSessions 64
MaxStartups 64
"""

SOONER = 2222
"""The port of an ssh server that answers sooner than sshd."""

_SOONER_KEY = "/etc/ssh/maskall_host_key"

# sshd starts three programs for a connection, and a restored host translates each anew: 0.9 s. This one only forks.
# It has the same host key and lets the same user in.
SOONER_SSH = f"""\
[Unit]
Description=ssh that answers soon after a restore
After=xen.service

[Service]
ExecStart=/usr/sbin/dropbear -F -E -s -j -k -W 1048576 -p {SOONER} -r {_SOONER_KEY}
KillMode=process
"""

NETWORK = f"""\
[Unit]
Description=Static address of the nested Xen host
DefaultDependencies=no
Before=network.target
Wants=network.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/ip link set lo up
ExecStart=/bin/ip address replace {ADDRESS}/24 dev eth0
ExecStart=/bin/ip link set eth0 up
ExecStart=/bin/ip route replace default via 10.0.2.2

[Install]
WantedBy=sysinit.target
"""

# libvirt with its Xen driver. Only the socket is there at boot: the daemon starts when somebody speaks to it.
LIBVIRT_SOCKET = """\
[Socket]
ListenStream=/run/libvirt/libvirt-sock
SocketMode=0600
"""

LIBVIRT_SERVICE = """\
[Unit]
Description=libvirt and its Xen driver
After=xen.service

[Service]
Type=notify
ExecStart=/usr/sbin/libvirtd
KillMode=process
"""

# initramfs-tools' own starts some hundred programs: 10 s and more when emulated. This one starts a dozen.
INIT = """\
#!/bin/busybox sh
# From the initramfs to the real root: load the listed modules in order, mount, hand over. A module may have no
# business on this CPU (crc32c-intel); if a needed one is missing, the mount says so.
b=/bin/busybox
$b mount -t devtmpfs dev /dev
while read -r module; do $b insmod "/lib/$module" 2>/dev/null; done < /modules
n=0
until [ -b /dev/vda ] || [ $n -ge 100 ]; do n=$((n + 1)); $b sleep 0.1; done
$b mount -t ext4 -o noatime /dev/vda /root || exec $b sh
$b mount -o move /dev /root/dev
exec $b switch_root /root /sbin/init
"""

OFTEN_BUILT_IN = ("crc32c_generic",)
INIT_MODULES = ("virtio_pci", "virtio_blk", "virtio_net", *OFTEN_BUILT_IN, "ext4")
"""What the initramfs loads, besides what these depend on. virtio_net here makes its interface eth0 for certain."""

IN_PLAIN_MODULES = " -o ".join(f"-path './{folder}*'" for folder in boottime.PLAIN_MODULES)

_SETUP_SCRIPT = f"""\
#!/bin/sh
# Run once inside the new root file system.
set -eu
rm -f /etc/ssh/ssh_host_rsa_key* /etc/ssh/ssh_host_ecdsa_key* /etc/ssh/ssh_host_dsa_key*
dropbearconvert openssh dropbear /etc/ssh/ssh_host_ed25519_key {_SOONER_KEY}
rm -f /etc/systemd/system/timers.target.wants/* /etc/systemd/system/multi-user.target.wants/libvirtd.service
# Debian's init script reads XENCONSOLED_ARGS, upstream's unit reads XENCONSOLED_TRACE: guests' consoles are logged.
printf 'XENCONSOLED_TRACE=guest\\nXENCONSOLED_ARGS="--log=guest"\\n' >> /etc/default/xen
mkdir -p /var/log/xen/console
# QEMU emulates no virtual-8086 mode, which the humblest CPU that libvirt knows has; without any CPU it does not start.
sed -i /vme/d /usr/share/libvirt/cpu_map/x86_486.xml
for release in $(ls /lib/modules); do
    cd "/lib/modules/$release/kernel"
    find . -name '*.ko.xz' \\( {IN_PLAIN_MODULES} \\) -exec busybox unxz {{}} +
    cd /
    depmod "$release"
done
release=$(ls /lib/modules)
work=/maskall-initramfs
mkdir -p $work/bin $work/dev $work/lib $work/root
mv /maskall-init $work/init
cp "$(command -v busybox)" $work/bin/busybox
for module in {" ".join(INIT_MODULES)}; do modprobe -S "$release" --show-depends "$module"; done > /maskall-depends
while read -r verb path _; do
    name=$(basename "$path" .xz)
    [ "$verb" = insmod ] && ! [ -e "$work/lib/$name" ] || continue
    case $path in *.xz) busybox xzcat "$path" > "$work/lib/$name" ;; *) cp "$path" "$work/lib/$name" ;; esac
    echo "$name" >> $work/modules
done < /maskall-depends
(cd $work && find . | cpio --quiet -o -H newc > /boot/maskall-initrd.img)
rm -r $work /maskall-depends
gunzip -c /boot/xen-4.*.gz > /boot/maskall-xen
cp /boot/vmlinuz-* /boot/maskall-vmlinuz
dpkg-query -W -f '${{Package}} ${{Version}}\\n' > /boot/maskall-packages.txt
rm -f {SETUP}
"""

FILES: dict[str, tuple[int, str]] = {
    **boottime.FILES,
    "/etc/hostname": (0o644, "xenhost\n"),
    "/etc/hosts": (0o644, "127.0.0.1 localhost\n127.0.1.1 xenhost\n"),
    "/etc/resolv.conf": (0o644, ""),
    "/etc/machine-id": (0o444, "6d61736b616c6c2d6e65737465642d31\n"),  # a first boot would preset every unit
    "/etc/fstab": (0o644, "/dev/vda / ext4 defaults,noatime 0 0\n"),
    "/etc/modules-load.d/maskall.conf": (0o644, "xen-pciback\n"),
    "/etc/ssh/sshd_config.d/10-maskall.conf": (0o644, SSHD),
    "/etc/systemd/system/libvirtd.service": (0o644, LIBVIRT_SERVICE),
    "/etc/systemd/system/libvirtd.socket": (0o644, LIBVIRT_SOCKET),
    "/etc/systemd/system/maskall-network.service": (0o644, NETWORK),
    "/etc/systemd/system/maskall-ssh.service": (0o644, SOONER_SSH),
    "/maskall-init": (0o755, INIT),
    SETUP: (0o755, _SETUP_SCRIPT),
}
"""Path -> (mode, text) of every file put into the image, but for the keys."""

LINKS: dict[str, str] = {
    "/etc/systemd/system/multi-user.target.wants/maskall-ssh.service": "../maskall-ssh.service",
    "/etc/systemd/system/sockets.target.wants/libvirtd.socket": "../libvirtd.socket",
    "/etc/systemd/system/sysinit.target.wants/maskall-network.service": "../maskall-network.service",
    **boottime.LINKS,
}
"""Path -> target of every symbolic link put into the image."""


@dataclass(frozen=True)
class KeyPair:
    """An ed25519 key in OpenSSH's formats."""

    private: str
    public: str

    @classmethod
    def fresh(cls, comment: str) -> KeyPair:
        """A new random one."""
        key = Ed25519PrivateKey.generate()
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
        public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        return cls(private.decode(), f"{public.decode()} {comment}\n")


def overlay(
    host: KeyPair, user: KeyPair, files: dict[str, tuple[int, str]] = FILES, links: dict[str, str] = LINKS
) -> bytes:
    """A tar archive of files, links and the keys, all owned by root, to be unpacked over the root directory."""
    keys = {
        "/etc/ssh/ssh_host_ed25519_key": (0o600, host.private),
        "/etc/ssh/ssh_host_ed25519_key.pub": (0o644, host.public),
        "/root/.ssh/authorized_keys": (0o600, user.public),
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        folder = tarfile.TarInfo("./root/.ssh")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o700
        archive.addfile(folder)
        for path, (mode, text) in {**files, **keys}.items():
            member = tarfile.TarInfo(f".{path}")
            member.mode, member.size = mode, len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
        for path, target in links.items():
            member = tarfile.TarInfo(f".{path}")
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    return buffer.getvalue()
