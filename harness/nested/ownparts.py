"""Parts of the host that a developer built: looked at before anything boots, and then booted.

What a file is, it says itself: its ELF headers, its build-id, the libraries that it needs, and the Kconfig text that
`xl config` would print.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.base.deadline import Deadline
from harness.base.errors import LabError, ParseError, UsageError
from harness.base.process import run
from harness.guest.drivers import Driver
from harness.host.stacks import OWN_DOM0, OWN_GUEST, OWN_QEMU, OWN_TOOLS, OWN_XEN, Stack
from harness.mutants.change import Returns, TextChange
from harness.mutants.devicemodel import PROGRAMS
from harness.mutants.hypervisor import fit
from harness.mutants.hypervisor_file import HypervisorFile, unpacked
from harness.nested.cache import Cache
from harness.nested.ownkernel import OwnKernel
from harness.nested.owntools import OwnTools
from harness.nested.program import Program

_CONFIG = re.compile(r"^# Xen/\S+ (\d+)\.(\d+)\S* (?:\S+ )?Configuration", re.MULTILINE)
_MOST_CONFIG = 1 << 20
_SECONDS = 60.0
_LIBRARIES = ("/usr/lib/x86_64-linux-gnu", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib/x86_64-linux-gnu")

# XEN_DOMCTL_INTERFACE_VERSION and XEN_SYSCTL_INTERFACE_VERSION by release (xen/include/public/domctl.h, sysctl.h).
# A tool of another version is refused by the hypervisor with -EACCES, xenstored and xl above all.
_INTERFACES = {
    (4, 14): (0x12, 0x13),
    (4, 15): (0x13, 0x13),
    (4, 16): (0x14, 0x14),
    (4, 17): (0x15, 0x15),
    (4, 18): (0x16, 0x15),
    (4, 19): (0x17, 0x15),
    (4, 20): (0x17, 0x15),
    (4, 21): (0x17, 0x16),
}


@dataclass(frozen=True)
class OwnXen:
    """A hypervisor that boots by multiboot. `release`: (4, 20), or None where it was built without its config."""

    path: Path
    sha256: str
    build_id: str
    release: tuple[int, int] | None

    @classmethod
    def read(cls, path: Path) -> OwnXen:
        """UsageError, with what to give instead, for whatever is no such file."""
        try:
            data = path.read_bytes()
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}", hint="give the xen.gz of a build") from error
        try:
            file = HypervisorFile.parse(data, str(path))
        except ParseError as error:
            raise UsageError(error.message, hint="'make -C xen' leaves xen/xen.gz, which boots by multiboot") from error
        return cls(path, hashlib.sha256(data).hexdigest(), file.build_id.hex(), _release(file.text))

    def fit(self, stack: Stack) -> None:
        """UsageError where the stack's tools speak another interface than this hypervisor."""
        others = ", give its own tools with --xen-tools, or name its stack with --stack"
        self.refuse_tools(_numbers(stack.xen), f"stack {stack.name}", others)

    def refuse_tools(self, release: tuple[int, int], whose: str, instead: str = "") -> None:
        """UsageError where tools of this release of Xen speak another interface than this hypervisor."""
        if self.release is None or _interface(self.release) == _interface(release):
            return
        mine, theirs = (".".join(map(str, one)) for one in (self.release, release))
        raise UsageError(
            f"{self.path} is Xen {mine}, which refuses the tools of {whose}: they are of Xen {theirs}",
            hint=f"build a {theirs}{instead}",
        )

    def fit_control(self, name: str, changes: Iterable[TextChange | Returns]) -> None:
        """UsageError where this build cannot be made its control, a mutant: a function is inlined, or twice there."""
        try:
            fit(changes, HypervisorFile.parse(self.path.read_bytes(), str(self.path)))
        except LabError as error:
            hint = "hold it against another, --mutant NAME, or against a build that has the defect, --control-xen FILE"
            raise UsageError(f"{self.path} cannot be made {name}: {error.message}", hint=hint) from error

    def stored(self, cache: Cache) -> Path:
        """The file as QEMU boots it, unpacked, under a name that its content gives."""
        entry = cache.obtain(_Kept(self), deadline=Deadline.after(_SECONDS), notice=lambda _: None)
        cache.trim("xen-", 3 * 8 << 20)
        return entry.path / "xen"


def libraries(image: Path) -> frozenset[str]:
    """The names in the library folders of an ext4 image."""
    found: set[str] = set()
    for folder in _LIBRARIES:
        listed = run(["debugfs", "-R", f"ls -p {folder}", str(image)], deadline=Deadline.after(_SECONDS)).stdout
        found.update(line.split("/")[5] for line in listed.splitlines() if line.count("/") >= 6)
    return frozenset(found)


@dataclass(frozen=True)
class OwnParts:
    """What takes the place of the stack's own. `guest` is the guests' kernel where that is not dom0's."""

    xen: OwnXen | None = None
    qemu: Program | None = None
    tools: OwnTools | None = None
    dom0: OwnKernel | None = None
    guest: OwnKernel | None = None

    @property
    def facts(self) -> dict[str, str]:
        """For results: each by its name and its content."""
        parts = {
            OWN_XEN: self.xen,
            OWN_QEMU: self.qemu,
            OWN_TOOLS: self.tools,
            OWN_DOM0: self.dom0,
            OWN_GUEST: self.guest,
        }
        told = {name: f"{one.path.name}, SHA-256 {one.sha256}" for name, one in parts.items() if one is not None}
        for name, kernel in ((OWN_DOM0, self.dom0), (OWN_GUEST, self.guest)):
            if kernel is not None and kernel.modules is not None:
                told[name] += f", modules SHA-256 {kernel.modules.sha256}"
        return told

    def fit(self, stack: Stack, drivers: Iterable[Driver]) -> None:
        """UsageError where one cannot work with the others, with the stack, or with a device that has such a driver."""
        if self.tools is not None:
            self._fit_tools(self.tools, stack)
        elif self.xen is not None:
            self.xen.fit(stack)
        for kernel in (self.dom0, self.guest):
            if kernel is not None:
                kernel.fit(drivers)

    def _fit_tools(self, tools: OwnTools, stack: Stack) -> None:
        xen = _numbers(stack.xen) if self.xen is None else self.xen.release
        if xen is None or _interface(xen) == _interface(tools.release):
            return
        mine, theirs = (".".join(map(str, one)) for one in (tools.release, xen))
        raise UsageError(
            f"{tools.path} holds the tools of Xen {mine}, which Xen {theirs} refuses",
            hint=f"give the tools of a {theirs}, or with --xen a hypervisor of a {mine}",
        )

    def fit_image(self, image: Path, stack: Stack, libc: tuple[int, int]) -> None:
        """UsageError when the image lacks what a program needs."""
        if self.qemu is None and self.tools is None:
            return
        there, where = libraries(image), f"the image of stack {stack.name}"
        if self.tools is not None:
            self.tools.fit(there, libc, where)
            wanted = self.tools.device_model
            if self.qemu is None and wanted not in PROGRAMS and wanted[1:] not in self.tools.files:
                raise UsageError(
                    f"the tools of {self.tools.path} look for {wanted}, which is neither there nor in the image",
                    hint="name a qemu-system-i386 of your build with --qemu-dm",
                )
        if self.qemu is not None:
            self.qemu.fit({*there, *(self.tools.libraries if self.tools else ())}, libc, where)

    @property
    def guest_kernel(self) -> OwnKernel | None:
        """The guests' where it is not the stack's: their own, else dom0's own."""
        return self.guest or self.dom0

    def drivers(self, known: Mapping[str, Driver]) -> dict[str, Driver]:
        """Those of the drivers that the guests' kernel has."""
        kernel = self.guest_kernel
        return {name: one for name, one in known.items() if kernel is None or kernel.drives(one)}


@dataclass(frozen=True)
class _Kept:
    own: OwnXen
    name: str = "xen"
    needs_bytes: int = 16 << 20

    @property
    def digest(self) -> str:
        return self.own.sha256

    def build(self, directory: Path) -> None:
        (directory / "xen").write_bytes(unpacked(self.own.path.read_bytes(), str(self.own.path)))


def _numbers(release: str) -> tuple[int, int]:
    major, minor = release.split(".")[:2]
    return int(major), int(minor)


def _interface(release: tuple[int, int]) -> tuple[int, int]:
    """What the release speaks; one that is not in the table speaks its own."""
    return _INTERFACES.get(release, release)


def _release(text: bytes) -> tuple[int, int] | None:
    for config in _configs(text):
        if match := _CONFIG.search(config):
            return int(match[1]), int(match[2])
    return None


def _configs(text: bytes) -> Iterator[str]:
    """Texts that are packed by gzip inside of the image: its own .config is one (CONFIG_HYPFS_CONFIG, `xl config`)."""
    for match in re.finditer(rb"\x1f\x8b\x08", text):
        try:
            yield (
                zlib.decompressobj(wbits=31).decompress(text[match.start() :], _MOST_CONFIG).decode("ascii", "replace")
            )
        except zlib.error:
            continue
