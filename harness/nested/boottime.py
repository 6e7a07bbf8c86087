"""What keeps a boot under emulation short: everything here is left out, masked, or made cheaper.

Figures behind it: `systemd-analyze blame` and the kernel's time stamps of an emulated boot.
"""

from __future__ import annotations

# Units that cost boot time under emulation and serve nobody in a host that lives for minutes. Kept: what Xen
# needs (xen.service starts xenstored, xenconsoled and dom0's qemu), udev, the journal, ssh. Without logind nobody
# needs D-Bus either: root's systemctl talks to systemd directly.
MASKED_UNITS = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "console-getty.service",
    "dbus.service",
    "dbus.socket",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty.target",
    "getty@.service",
    "kmod-static-nodes.service",
    "ldconfig.service",
    "libvirt-guests.service",
    "libvirtd-admin.socket",
    "libvirtd-ro.socket",
    "logrotate.timer",
    "man-db.timer",
    "rsyslog.service",
    "serial-getty@.service",
    "ssh.socket",
    "sshd-keygen.service",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-ask-password-console.path",
    "systemd-ask-password-wall.path",
    "systemd-binfmt.service",
    "systemd-firstboot.service",
    "systemd-hwdb-update.service",
    "systemd-journal-catalog-update.service",
    "systemd-journal-flush.service",
    "systemd-logind.service",
    "systemd-machine-id-commit.service",
    "systemd-pcrphase-sysinit.service",
    "systemd-pcrphase.service",
    "systemd-pstore.service",
    "systemd-random-seed.service",
    "systemd-remount-fs.service",
    "systemd-rfkill.service",
    "systemd-sysctl.service",
    "systemd-sysusers.service",
    "systemd-timesyncd.service",
    "systemd-tmpfiles-clean.timer",
    "systemd-tmpfiles-setup-dev-early.service",
    "systemd-tmpfiles-setup-dev.service",
    "systemd-udev-load-credentials.service",
    "systemd-udev-settle.service",
    "systemd-update-done.service",
    "systemd-update-utmp-runlevel.service",
    "systemd-update-utmp.service",
    "systemd-user-sessions.service",
    "virtlogd-admin.socket",
    "virtlogd.service",
    "virtlogd.socket",
    "xendomains.service",  # starts domains from /etc/xen/auto and saves them at shutdown: not with our guests
)

MASKED_GENERATORS = (
    "systemd-cryptsetup-generator",
    "systemd-debug-generator",
    "systemd-getty-generator",
    "systemd-gpt-auto-generator",
    "systemd-hibernate-resume-generator",
    "systemd-integritysetup-generator",
    "systemd-rc-local-generator",
    "systemd-run-generator",
    "systemd-ssh-generator",
    "systemd-system-update-generator",
    "systemd-tpm2-generator",
    "systemd-veritysetup-generator",
)

_SSH_START = """\
# sshd -t before every start takes as long as the start itself. A host that answers is a host whose xl works.
[Unit]
After=xen.service

[Service]
ExecStartPre=
"""

_MODPROBE = """\
# Devices of the emulated board that nothing here uses; udev would spend boot time on their drivers.
blacklist i2c_i801
blacklist iTCO_wdt
blacklist lpc_ich
blacklist pcspkr
blacklist powernow_k8
blacklist psmouse
blacklist vga16fb
blacklist xen_netfront
"""

_COLDPLUG = """\
# Only what has a driver to load: hundreds of tty, memory and cpu events would keep the workers busy for seconds.
[Service]
ExecStart=
ExecStart=-/bin/udevadm trigger --type=devices --action=add --subsystem-match=pci --subsystem-match=virtio \\
  --subsystem-match=net --subsystem-match=block --subsystem-match=nvme --subsystem-match=misc --subsystem-match=usb
"""

# Folders of the kernel's module tree with what the host and its guests load. Newer kernels come with every module
# compressed by xz, and emulated xz costs up to seconds per module at each boot: these are stored as they are.
PLAIN_MODULES = (
    "crypto",
    "drivers/block",
    "drivers/char/hw_random",
    "drivers/firmware",
    "drivers/net/ethernet/intel",
    "drivers/net/virtio",
    "drivers/net/vmxnet3",
    "drivers/net/net_failover",
    "drivers/nvme",
    "drivers/ptp",
    "drivers/usb/common",
    "drivers/usb/core",
    "drivers/usb/host",
    "drivers/virtio",
    "drivers/xen",
    "fs/autofs",
    "fs/ext4",
    "fs/jbd2",
    "fs/mbcache",
    "lib",
    "net/core",
)

FILES: dict[str, tuple[int, str]] = {
    "/etc/modprobe.d/maskall.conf": (0o644, _MODPROBE),
    "/etc/systemd/journald.conf.d/maskall.conf": (0o644, "[Journal]\nStorage=volatile\nAudit=no\n"),
    "/etc/systemd/system/ssh.service.d/maskall.conf": (0o644, _SSH_START),
    "/etc/systemd/system/systemd-udev-trigger.service.d/maskall.conf": (0o644, _COLDPLUG),
}
"""Path -> (mode, text) of the files put into the image for its speed."""

LINKS: dict[str, str] = {
    **{f"/etc/systemd/system/{unit}": "/dev/null" for unit in MASKED_UNITS},
    **{f"/etc/systemd/system-generators/{generator}": "/dev/null" for generator in MASKED_GENERATORS},
}
"""Path -> target of the symbolic links that mask units and generators."""
