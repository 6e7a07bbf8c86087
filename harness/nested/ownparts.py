"""Parts of the host that a developer built: looked at before anything boots, and then booted.

What a file is, it says itself: its ELF headers, its build-id, the libraries that it needs, and the Kconfig text that
`xl config` would print.
"""

from __future__ import annotations

import hashlib
import re
import struct
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.base.deadline import Deadline
from harness.base.errors import ParseError, UsageError
from harness.base.process import run
from harness.host.stacks import OWN_QEMU, OWN_XEN, Stack
from harness.mutants.hypervisor_file import HypervisorFile, unpacked
from harness.nested.cache import Cache

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
        major, minor = map(int, stack.xen.split("."))
        theirs = (major, minor)
        if self.release is None or _interface(self.release) == _interface(theirs):
            return
        mine = ".".join(map(str, self.release))
        raise UsageError(
            f"{self.path} is Xen {mine}, which refuses the tools of stack {stack.name}: they are of Xen {stack.xen}",
            hint=f"build a {stack.xen}, or name the stack of a {mine} with --stack",
        )

    def stored(self, cache: Cache) -> Path:
        """The file as QEMU boots it, unpacked, under a name that its content gives."""
        entry = cache.obtain(_Kept(self), deadline=Deadline.after(_SECONDS), notice=lambda _: None)
        cache.trim("xen-", 3 * 8 << 20)
        return entry.path / "xen"


@dataclass(frozen=True)
class OwnQemu:
    """A device model: qemu-system-i386, built with --enable-xen. `needed`: its libraries, by their sonames."""

    path: Path
    sha256: str
    needed: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> OwnQemu:
        """UsageError, with what to give instead, for whatever is no program of an x86-64 host."""
        try:
            data = path.read_bytes()
        except OSError as error:
            hint = "give the qemu-system-i386 of a build"
            raise UsageError(f"{path} cannot be read: {error.strerror}", hint=hint) from error
        if data[:6] != b"\x7fELF\x02\x01" or data[18:20] != b"\x3e\x00":
            raise UsageError(f"{path} is no program for x86-64", hint="give the qemu-system-i386 of a build")
        try:
            needed = tuple(_needed(data))
        except (struct.error, ValueError) as error:
            raise UsageError(f"{path}: its ELF headers are damaged", hint="build it again") from error
        return cls(path, hashlib.sha256(data).hexdigest(), needed)

    def fit(self, there: Collection[str], stack: Stack) -> None:
        """UsageError when the image has not all of its libraries; `there` are the files of its library folders."""
        if missing := [name for name in self.needed if name not in there]:
            raise UsageError(
                f"{self.path} needs {', '.join(missing)}, which the image of stack {stack.name} does not have",
                hint="configure it without them, or link it statically",
            )


def libraries(image: Path) -> frozenset[str]:
    """The names in the library folders of an ext4 image."""
    found: set[str] = set()
    for folder in _LIBRARIES:
        listed = run(["debugfs", "-R", f"ls -p {folder}", str(image)], deadline=Deadline.after(_SECONDS)).stdout
        found.update(line.split("/")[5] for line in listed.splitlines() if line.count("/") >= 6)
    return frozenset(found)


def _needed(data: bytes) -> Iterator[str]:
    """The DT_NEEDED of an ELF64 program, in its order; nothing for one that is linked statically."""
    (table,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    segments = [struct.unpack_from("<IIQQQQQ", data, table + index * size) for index in range(count)]
    loaded = [(address, offset, length) for kind, _, offset, address, _, length, _ in segments if kind == 1]
    for kind, _, offset, _, _, length, _ in segments:
        if kind != 2:
            continue
        entries = [struct.unpack_from("<QQ", data, offset + place) for place in range(0, length, 16)]
        (strings,) = [value for tag, value in entries if tag == 5][:1]  # DT_STRTAB, an address; ValueError without one
        (base,) = [at + strings - start for start, at, size in loaded if start <= strings < start + size][:1]
        for tag, value in entries:
            if tag == 0:
                return
            if tag == 1:
                yield data[base + value : data.index(b"\0", base + value)].decode("ascii")


@dataclass(frozen=True)
class OwnParts:
    """What takes the place of the stack's own."""

    xen: OwnXen | None = None
    qemu: OwnQemu | None = None

    @property
    def facts(self) -> dict[str, str]:
        """For results: each by its name and its content."""
        parts = {OWN_XEN: self.xen, OWN_QEMU: self.qemu}
        return {name: f"{one.path.name}, SHA-256 {one.sha256}" for name, one in parts.items() if one is not None}


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
