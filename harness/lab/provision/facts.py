"""What decides how a system becomes a Xen dom0, as one reading program printed it. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from harness.base.errors import ParseError
from harness.base.text import whole
from harness.lab.packages import parse_packages
from harness.lab.provision.backup import parse_manifest
from harness.lab.provision.menu import Menu, parse_environment, parse_menu
from harness.xen.keys.xl_output import parse_info

SECTIONS = (
    *("os-release", "boot_id", "architecture", "kernel", "kernels", "cmdline", "hypervisor", "xl_info"),
    *("boot", "loader", "menu", "grubenv", "half", "space", "packages", "files", "backup"),
)
_LONGEST = 4096
"""Characters of a line of os-release(5): shlex takes the square of their number."""
_SHA256 = re.compile(r"\\?([0-9a-f]{64})  (/.*)")


@dataclass(frozen=True)
class SystemFacts:
    """One host at one moment.

    `packages`: name to version, of those asked for that are installed whole. `files`: path to SHA-256, of those asked
    for that exist. `free_mib`: mount point to MiB. `backup`: the manifest of an earlier provisioning, "" without one.
    """

    os_id: str
    os_like: frozenset[str]
    os_version: str
    os_name: str
    boot_id: str
    architecture: str
    kernel: str
    kernels: tuple[str, ...]  # their names below /boot
    initrds: Mapping[str, int]  # path to bytes
    cmdline: str
    domain: str  # "" on bare metal (or in a machine that is no Xen), "dom0" or "domU"
    xen_version: str  # "" where xl does not answer
    hvm_directio: bool
    efi: bool
    secure_boot: bool
    systemd: bool
    grub: bool  # /etc/default/grub, /boot/grub/grub.cfg and update-grub are all there
    iommu: bool  # the firmware describes one: ACPI table DMAR (Intel) or IVRS (AMD)
    hvm: bool  # the CPU offers vmx or svm; hidden from a PV dom0
    pciback: bool
    grubenv: bool  # GRUB's environment block is a plain file, and whole
    kexec: bool  # a reboot goes past the boot loader
    custom_default: bool  # /boot/grub/custom.cfg chooses an entry
    loader: Mapping[str, tuple[str, ...]]  # what was found out about what boots this system, by its first word
    menu: Menu
    environment: Mapping[str, str]  # GRUB's, those that are set
    half: tuple[str, ...]
    free_mib: Mapping[str, int]
    packages: Mapping[str, str]
    files: Mapping[str, str]
    backup: str

    @property
    def dom0(self) -> bool:
        return self.domain == "dom0"

    @property
    def running(self) -> str:
        """The kernel that runs, by its name below /boot."""
        return f"vmlinuz-{self.kernel}"

    @property
    def ours(self) -> tuple[str, ...]:
        """The packages that provisioning brought; () where it never began. ParseError for a damaged backup."""
        return parse_manifest(self.backup).packages if self.backup else ()

    @property
    def system(self) -> str:
        """The operating system in words."""
        return self.os_name or f"{self.os_id} {self.os_version}".strip() or "an unknown system"


def parse_facts(sections: Mapping[str, bytes]) -> SystemFacts:
    """Accepted format: the sections of facts.sh. ParseError when one is missing or cannot be what it is said to be."""
    missing = [name for name in SECTIONS if name not in sections]
    if missing:
        raise ParseError(f"no section {missing[0]}", file="facts", expected=", ".join(SECTIONS))
    text = {name: data.decode("utf-8", "replace") for name, data in sections.items()}
    release = _assignments(text["os-release"])
    flags = set(text["boot"].split())
    info = text["xl_info"].strip()
    xen = parse_info(info, file="xl info") if info else None
    sizes = _sizes(text["kernels"])
    return SystemFacts(
        os_id=release.get("ID", ""),
        os_like=frozenset(release.get("ID_LIKE", "").split()),
        os_version=release.get("VERSION_ID", ""),
        os_name=release.get("PRETTY_NAME", ""),
        boot_id=_one_word(text, "boot_id"),
        architecture=text["architecture"].strip(),
        kernel=_one_word(text, "kernel"),
        kernels=tuple(sorted(name for name in sizes if name.startswith("vmlinu"))),
        initrds={f"/boot/{name}": size for name, size in sorted(sizes.items()) if name.startswith("initrd")},
        cmdline=text["cmdline"].strip(),
        domain=_domain(text["hypervisor"]),
        xen_version=xen.xen_version if xen else "",
        hvm_directio=xen is not None and "hvm_directio" in xen.virt_caps,
        efi="efi" in flags,
        secure_boot="secure_boot" in flags,
        systemd="systemd" in flags,
        grub={"grub_default", "grub_cfg", "update_grub"} <= flags,
        iommu="iommu" in flags,
        hvm="hvm" in flags,
        pciback="pciback" in flags,
        grubenv="grubenv" in flags,
        kexec="kexec" in flags,
        custom_default="custom_default" in flags,
        loader=_by_first_word(text["loader"]),
        menu=parse_menu(text["menu"]),
        environment=parse_environment(text["grubenv"]),
        half=tuple(line.split()[0] for line in text["half"].splitlines() if line.split()),
        free_mib=_space(text["space"]),
        packages=parse_packages(text["packages"]),
        files=parse_sums(text["files"]),
        backup=text["backup"].strip(),
    )


def parse_sums(text: str) -> dict[str, str]:
    """Path to SHA-256. Accepted format: sha256sum(1)."""
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        match = _SHA256.fullmatch(line)
        if match is None:
            raise ParseError(f"{line!r}", file="files", line=number, expected="a SHA-256 and an absolute path")
        found[match[2]] = match[1]
    return found


def _sizes(text: str) -> dict[str, int]:
    """Accepted format: a file's name and its bytes, a line each."""
    found: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        name, _, printed = line.rpartition(" ")
        size = whole(printed)
        if line and (not name or size is None):
            raise ParseError(f"{line!r}", file="kernels", line=number, expected="a name and its bytes")
        if size is not None:
            found[name] = size
    return found


def _by_first_word(text: str) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for word, _, rest in (line.strip().partition(" ") for line in text.splitlines()):
        if rest.strip():
            found.setdefault(word, []).append(rest.strip())
    return {word: tuple(rests) for word, rests in found.items()}


def _one_word(text: Mapping[str, str], name: str) -> str:
    words = text[name].split()
    if len(words) != 1:
        raise ParseError(f"{text[name]!r}", file=name, expected="one word")
    return words[0]


def _assignments(text: str) -> dict[str, str]:
    """os-release(5): NAME=value as a shell reads it."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, equals, value = line.strip()[:_LONGEST].partition("=")
        if equals and re.fullmatch(r"[A-Z_][A-Z0-9_]*", name):
            try:
                found[name] = " ".join(shlex.split(value))
            except ValueError:  # an open quote: the next reader of this file would trip as well
                found[name] = value
    return found


def _domain(text: str) -> str:
    """/sys/hypervisor/type and /proc/xen/capabilities: `control_d` is printed to the control domain only."""
    words = text.split()
    if "xen" not in words and "control_d" not in words:
        return ""
    return "dom0" if "control_d" in words else "domU"


def _space(text: str) -> dict[str, int]:
    """Accepted format: df(1) -P -k: file system, blocks, used, available, capacity, mount point."""
    found: dict[str, int] = {}
    for line in text.splitlines()[1:]:
        words = line.split(maxsplit=5)
        free = whole(words[3]) if len(words) == 6 else None
        if free is not None:
            found[words[5]] = free // 1024
    if not found:
        raise ParseError("no file system", file="space", expected="df -Pk")
    return found
