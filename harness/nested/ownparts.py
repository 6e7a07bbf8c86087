"""Parts of the host that a developer built: looked at before anything boots, kept by their content, and then booted.

What a file is, it says itself: its ELF header, its build-id, and the Kconfig text that `xl config` would print.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.base.deadline import Deadline
from harness.base.errors import ParseError, UsageError
from harness.host.stacks import Stack
from harness.mutants.hypervisor_file import HypervisorFile, unpacked
from harness.nested.cache import Cache

_CONFIG = re.compile(r"^# Xen/\S+ (\d+)\.(\d+)\S* (?:\S+ )?Configuration", re.MULTILINE)
_MOST_CONFIG = 1 << 20
_SECONDS = 60.0

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
