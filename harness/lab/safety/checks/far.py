"""What this machine or its guests store elsewhere, over the network. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from harness.lab.safety.checks.wires import is_address
from harness.lab.safety.facts.facts import FactLine, HostFacts

_FILE_SYSTEMS = {
    *("nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "glusterfs", "afs", "coda", "ncpfs", "ocfs2", "gfs2", "lustre"),
    *("beegfs", "orangefs", "pvfs2", "gpfs", "panfs", "davfs", "moosefs", "lizardfs", "quobyte", "weka", "wekafs"),
}
# FUSE programs that are known to keep their files on this machine; any other may be anywhere.
_NEAR = {
    *("lxcfs", "gvfsd-fuse", "portal", "fuse-overlayfs", "snapfuse", "squashfuse", "mergerfs", "ntfs", "ntfs-3g"),
    *("exfat", "exfat-fuse", "encfs", "gocryptfs", "cryfs", "fuse2fs", "ext4", "bindfs", "archivemount", "dislocker"),
    *(
        "vmware-vmblock",
        "revokefs-fuse",
        "jmtpfs",
        "simple-mtpfs",
        "unionfs",
        "catfs",
        "guestmount",
        "qemu-storage-daemon",
    ),
}
_SOURCE = re.compile(r"//|[^/\s]+:/|[^/\s]+@|\w+://")  # //server/share, server:/path, user@server:, s3://...
_BLOCK = re.compile(r"(?:nbd|rbd|drbd|rnbd)\d|etherd!")
_IMAGE = re.compile(r"(?:^|:)(?:rbd|nbd|iscsi|iser|gluster|sheepdog|ssh|https?|ftps?|nfs|vxhs)(?:\+\w+)?:")


@dataclass(frozen=True)
class Far:
    """One thing stored elsewhere; `servers`: addresses, empty when nothing tells them."""

    line: FactLine
    servers: tuple[str, ...]


def far(facts: HostFacts) -> list[Far]:
    """Mounts, disks and guests' disks that hang when the way to their server is gone."""
    return [*_mounts(facts), *_blocks(facts), *_guests(facts)]


def _mounts(facts: HostFacts) -> Iterator[Far]:
    for line in facts.lines("mounts"):
        words = line.text.split(" ")
        if "-" not in words[:-2]:
            continue
        at = words.index("-")
        kind, source, options = words[at + 1], words[at + 2], " ".join(words[at + 3 :])
        if kind == "9p" and re.search(r"\btrans=(?:virtio|xen|fd|unix)\b", options):
            continue
        program = kind.removeprefix("fuse.")
        elsewhere = (
            kind in _FILE_SYSTEMS
            or kind == "9p"
            or program in _FILE_SYSTEMS
            or (kind.startswith("fuse.") and program not in _NEAR)
            or (bool(_SOURCE.match(source)) and kind not in ("zfs", "overlay", "autofs"))
        )
        if elsewhere:
            told = re.findall(r"\baddr=([0-9a-f.:]+(?:%[^,\s]+)?)", options)
            if kind in ("ceph", "fuse.ceph"):
                monitors = re.findall(r"([0-9.]+|\[[0-9a-f:]+\])(?::\d+)?(?=[,:/])", source)
                told = [one.strip("[]") for one in monitors]
            if not told:
                told = [source.lstrip("/").partition(":/" if ":/" in source else "/")[0].strip("[]")]
            yield Far(line, tuple(told) if all(is_address(one) for one in told) else ())


def _blocks(facts: HostFacts) -> Iterator[Far]:
    """Disks of no controller in this machine. iSCSI by a card of its own hangs below that card."""
    controllers: dict[str, list[FactLine]] = {}
    for line in facts.lines("nvme"):
        controllers.setdefault(line.text.split(" ")[0], []).append(line)
    for lines in controllers.values():
        text = "\n".join(line.text for line in lines)
        if "/nvme-fabrics/" in text and " transport fc" not in text:
            server = re.search(r"traddr=([0-9a-f.:%]+)", text)
            yield Far(lines[0], (server[1],) if server else ())
    for name, block in facts.blocks.items():
        if "/pci" in block.place or block.attributes.get("size") == "0" or block.attributes.get("partition"):
            continue
        session = re.search(r"/host\d+/session(\d+)/", block.place)
        if session:
            found = (
                re.fullmatch(rf"connection{session[1]}:\d+ address (\S+)", line.text) for line in facts.lines("iscsi")
            )
            told = tuple(match[1] for match in found if match)
            yield Far(block.lines[0], told if all(is_address(one) for one in told) else ())
        elif "/nvme-fabrics/" in block.place and facts.lines("nvme"):
            continue  # told by its controller
        elif _BLOCK.match(name) or re.search(r"/nvme-fabrics/|/rport-\d|/fcoe|/net/", block.place):
            yield Far(block.lines[0], ())


def _guests(facts: HostFacts) -> Iterator[Far]:
    """Disks of guests that their device model itself fetches."""
    for line in facts.lines("backends"):
        match = re.search(r'/backend/(?:vbd|vbd3|qdisk|tap)/.*/params = "(.*)"', line.text)
        if match and _IMAGE.search(match[1]):
            yield Far(line, ())
