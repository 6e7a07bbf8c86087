"""What this machine or its guests store elsewhere, over the network. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from harness.lab.safety.checks.disks import FAR, FLASH, homeless
from harness.lab.safety.checks.wires import is_address, is_loopback
from harness.lab.safety.facts.facts import FactLine, HostFacts

_SHARED = {"ocfs2", "gfs2", "gpfs"}
"""On a disk that may be this machine's own, while machines agree over the network who writes. Other file systems of
elsewhere are those that stand on no disk of here."""
# FUSE programs that are known to keep their files on this machine; any other may be anywhere.
_NEAR = {
    *("lxcfs", "gvfsd-fuse", "portal", "fuse-overlayfs", "snapfuse", "squashfuse", "mergerfs", "ntfs", "ntfs-3g"),
    *("fuseiso", "fuse-zip", "mhddfs", "ratarmount", "pmxcfs"),
    *("squashfuse_ll", "erofsfuse", "dwarfs", "veracrypt", "go-mtpfs"),
    *("exfat", "exfat-fuse", "encfs", "gocryptfs", "cryfs", "fuse2fs", "ext4", "bindfs", "archivemount", "dislocker"),
    *("vmware-vmblock", "revokefs-fuse", "jmtpfs", "simple-mtpfs"),
    *("unionfs", "catfs", "guestmount", "qemu-storage-daemon"),
    *("kio-fuse", "ifuse", "rar2fs", "apfs-fuse", "ltfs", "securefs", "rofiles-fuse"),
    *("sysboxfs", "envfs", "xrdp-chansrv", "gvfs-fuse-daemon", "xdg-document-portal", "vmware-vmblock-fuse"),
    *("hfsfuse", "fuse-ext2", "fuse-ufs", "lklfuse", "zfs-fuse", "wimfs", "vboximg-mount", "truecrypt"),
    *("ewfmount", "xmount", "affuse", "vshadowmount", "bdemount", "dislocker-fuse", "fuse-archive", "avfsd"),
    *("mp3fs", "ffmpegfs", "gphotofs", "aft-mtp-mount", "posixovl", "loggedfs", "unionfs-fuse", "tagsistant"),
}
_SPREAD = {"ceph", "lustre", "glusterfs", "beegfs", "orangefs", "pvfs2", "panfs", "moosefs", "lizardfs"}
"""Of these a mount names who knows where things are; the data is on servers that nothing tells."""
_SERVED_HERE = {"nfs": "2049", "nfs4": "2049", "cifs": "445", "smb3": "445"}  # what may come from this machine itself
_SOURCE = re.compile(r"//|[^/\s]+:/|[^/\s]+@|\w+://")  # //server/share, server:/path, user@server:, s3://...
# Kinds of file systems that stand on no block device, or number themselves, and keep everything on this machine.
_HERE = {
    *("sysfs", "proc", "devtmpfs", "devpts", "tmpfs", "ramfs", "rootfs", "cgroup", "cgroup2", "cpuset", "bpf"),
    *("pstore", "efivarfs", "configfs", "debugfs", "tracefs", "securityfs", "selinuxfs", "smackfs", "hugetlbfs"),
    *("mqueue", "autofs", "binfmt_misc", "fusectl", "rpc_pipefs", "nfsd", "xenfs", "nsfs", "resctrl", "functionfs"),
    *("gadgetfs", "usbfs", "binder", "oprofilefs", "ocfs2_dlmfs", "qibfs", "ipathfs", "spufs", "openpromfs"),
    *("overlay", "overlayfs", "aufs", "unionfs", "shiftfs", "ecryptfs"),
    *("btrfs", "zfs", "bcachefs", "ubifs", "jffs2", "yaffs2"),
    *("squashfs", "cramfs", "romfs", "erofs", "fuseblk", "virtiofs", "vboxsf", "vmhgfs", "hostfs", "ext4", "xfs"),
    *("oracleasmfs", "vxodmfs", "ibmasmfs", "usbdevfs", "simfs", "sdcardfs", "esdfs", "incremental-fs", "prl_fs"),
    "nullfs",  # below the root of Linux 7
}
_IMAGE = re.compile(
    r"(?:^|:)(?:rbd|nbd(?!:unix:|\+unix:)|iscsi|iser|gluster|sheepdog|ssh|https?|ftps?|nfs|vxhs)(?:\+\w+)?:"
)
# The same as `json:{"driver": "nbd", ...}` (qemu-block-drivers(7)); xenstore-ls writes a backslash before each quote.
_IN_JSON = re.compile(r"\bjson:.*driver\W+(?:rbd|nbd|iscsi|iser|gluster|sheepdog|ssh|https?|ftps?|nfs|vxhs)\b")
_LOCAL_SOCKET = re.compile(r"\btype\W+unix\b")
# `nbd:ADDRESS:PORT`, or the address of a URL (qemu-block-drivers(7)); Ceph's monitors are told otherwise.
_SERVER = re.compile(
    r"(?:^|:)(?:nbd|iscsi|iser|gluster|ssh|nfs|vxhs)(?:\+\w+)?:(?://(?:[^/@]*@)?)?"
    r"(\[[0-9a-f:.]+\]|\d+\.\d+\.\d+\.\d+)(?=[:/]|$)"
)

DIRECT = re.compile(r"LAYOUT_(?:BLOCK_VOLUME|SCSI)\b")
"""Layouts of pNFS that store on disks of this machine; the others on further servers (pnfs_layoutdriver_type)."""
_SEVERAL_WAYS = re.compile(r"\b(?:multichannel|max_connect=)")
"""mount.cifs(8), nfs(5): the server tells its other addresses."""


@dataclass(frozen=True)
class Far:
    """One thing stored elsewhere; `servers`: addresses, empty when nothing tells them; `bound`: to interfaces.

    `more`: it is also stored on servers that nothing tells.
    """

    line: FactLine
    servers: tuple[str, ...]
    bound: tuple[str, ...] = ()
    more: bool = False


def far(facts: HostFacts) -> list[Far]:
    """Mounts, disks and guests' disks that hang when the way to their server is gone."""
    return [*_mounts(facts), *_blocks(facts), *_guests(facts)]


def _mounts(facts: HostFacts) -> Iterator[Far]:
    layouts = (line.text.partition(" ") for line in facts.lines("layouts"))
    spread = {source for layout, _, source in layouts if not DIRECT.match(layout)}
    for line in facts.lines("mounts"):
        words = line.text.split(" ")
        if "-" not in words[:-2]:
            continue
        at = words.index("-")
        kind, source, options = words[at + 1], words[at + 2], " ".join(words[at + 3 :])
        if kind == "9p" and re.search(r"\btrans=(?:virtio|xen|fd|unix)\b", options):
            continue
        program = source if kind == "fuse" else kind.removeprefix("fuse.")
        if kind == "fuse" and words[4:5] == ["/etc/pve"]:  # Proxmox's, which does not tell its name
            continue
        elsewhere = (
            program in _SHARED
            or (program != kind and program not in _NEAR and not program.lower().endswith(".appimage"))
            or (words[2].startswith("0:") and program == kind and kind not in _HERE)
            or (bool(_SOURCE.match(source)) and kind not in ("zfs", "overlay", "autofs"))
        )
        if elsewhere:
            told = _servers(facts, program, source, options)
            if _through_a_program(kind, told, options):
                told = []
            more = source in spread or program in _SPREAD or bool(_SEVERAL_WAYS.search(options))
            yield Far(line, tuple(told) if all(is_address(one) for one in told) else (), more=more)


def _servers(facts: HostFacts, program: str, source: str, options: str) -> list[str]:
    """What the mount calls them, which may be names."""
    told: list[str] = re.findall(r"\baddr=([0-9a-f.:]+(?:%[^,\s]+)?)", options)
    match program:
        case "ceph":  # `MONITOR,MONITOR:/`, or since Linux 5.17 `USER@FSID.NAME=/` and an option
            monitors = re.search(r"\bmon_addr=([^,\s]+)", options)
            listed = monitors[1].split("/") if monitors else source.partition(":/")[0].split(",")
            told = [re.sub(r"^\[?([0-9a-f.:]*?)\]?(?::\d+)?$", r"\1", one) for one in listed]
        case "lustre":  # LNet's names of servers: `ADDRESS@NETWORK:ADDRESS@NETWORK:/NAME`
            told = [re.sub(r"@(?:tcp|o2ib)\d*$", "", one) for one in re.split("[:,]", source.partition(":/")[0])]
        case "ocfs2" | "gfs2":  # the disk is told as such; over the network they agree who writes
            told = [*facts.peers(program)]
        case "sshfs":  # `USER@ADDRESS:PATH`
            told = [source.rpartition("@")[2].rpartition(":")[0].strip("[]")]
    return told or [source.lstrip("/").partition(":/" if ":/" in source else "/")[0].strip("[]")]


def _through_a_program(kind: str, servers: list[str], options: str) -> bool:
    """Whether a program of here answers and asks another machine (stunnel, ssh): at a port that no server has."""
    port = re.search(r"\bport=(\d+)", options)
    served = kind in _SERVED_HERE and (port is None or port[1] == _SERVED_HERE[kind])
    return not served and any(is_loopback(one) for one in servers)


def _blocks(facts: HostFacts) -> Iterator[Far]:
    """Disks of no controller in this machine. iSCSI by a card of its own hangs below that card."""
    controllers: dict[str, list[FactLine]] = {}
    for line in facts.lines("nvme"):
        controllers.setdefault(line.text.split(" ")[0], []).append(line)
    for lines in controllers.values():
        text = "\n".join(line.text for line in lines)
        if "/nvme-fabrics/" in text and not re.search(r" transport (?:fc|loop)$", text, re.MULTILINE):
            server, bound = re.search(r"\btraddr=([0-9a-f.:%]+)", text), re.search(r"\bhost_iface=([^,\s]+)", text)
            yield Far(lines[0], (server[1],) if server else (), (bound[1],) if bound else ())
    for name, block in facts.blocks.items():
        if "/pci" in block.place or block.attributes.get("size") == "0" or block.attributes.get("partition"):
            continue
        session = re.search(r"/(host\d+)/session(\d+)/", block.place)
        if session:
            host, number = session.groups()
            asked, found, through = (
                [match[1] for line in facts.lines("iscsi") if (match := re.fullmatch(form, line.text))]
                for form in (*(rf"connection{number}:\d+ {key} (\S+)" for key in ("address", "peer")),
                             rf"{host} netdev (\w\S*)")
            )  # fmt: skip
            if found:  # where the connection really is; a portal that was asked by its name is no address
                asked = [one for one in asked if is_address(one)]
            told = (*found, *asked)
            yield Far(block.lines[0], told if all(is_address(one) for one in told) else (), tuple(through))
        elif "/nvme-fabrics/" in block.place and facts.lines("nvme"):
            continue  # told by its controller
        elif fcoe := re.search(r"/net/([^/]+)/ctlr_\d+/", block.place):  # fcoe_ctlr_device_add, drivers/scsi/fcoe
            yield Far(block.lines[0], (), (fcoe[1],))
        elif netif := block.attributes.get("netif"):  # aoedisk_show_netif, drivers/block/aoe/aoeblk.c
            yield Far(block.lines[0], (), tuple(netif.split(",")))
        elif client := re.match(r"\[?([0-9a-f.:]+?)\]?:\d+/", block.attributes.get("client", "")):
            yield Far(block.lines[0], (client[1],))  # its own end, in the network of its cluster (drivers/block/rbd.c)
        elif name.startswith("drbd"):
            peers = facts.peers("drbd")  # one at a loopback address is no peer, but the proxy to it
            yield Far(block.lines[0], () if any(is_loopback(one) for one in peers) else peers)
        elif (
            FAR.match(name)
            or re.search(r"/nvme-fabrics/|/rport-\d|/fcoe|/net/|/vhci_hcd\.", block.place)
            or (homeless(block) and not FLASH.match(name))
        ):
            yield Far(block.lines[0], ())


def _guests(facts: HostFacts) -> Iterator[Far]:
    """Disks of guests that their device model itself fetches."""
    for line in facts.lines("backends"):
        match = re.search(r'/backend/(?:vbd|vbd3|qdisk|tap)/.*/params = "(.*)"', line.text)
        if match and (_IMAGE.search(match[1]) or (_IN_JSON.search(match[1]) and not _LOCAL_SOCKET.search(match[1]))):
            server = _SERVER.search(match[1])
            yield Far(line, (server[1].strip("[]"),) if server else ())
