"""A bzImage and the modules of its kernel, as small as they can be and still say what they are."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

RELEASE = "6.12.9-own"


def bzimage(release: str = RELEASE, config: str | None = None, pack: Callable[[bytes], bytes] = gzip.compress) -> bytes:
    """With its .config inside, as CONFIG_IKCONFIG puts it there, packed as the kernel is."""
    inside = b"" if config is None else b"IKCFG_ST" + gzip.compress(config.encode()) + b"IKCFG_ED"
    payload = pack(b"\x90" * 64 + inside + b"\x90" * 64)
    data = bytearray(2 * 512 + 0x100)
    data[0x1F1] = 1  # sectors of the setup
    data[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", data, 0x206, 0x020F)
    struct.pack_into("<H", data, 0x20E, 0x100)
    data[0x236] = 1  # XLF_KERNEL_64
    struct.pack_into("<II", data, 0x248, 0x100, len(payload))
    told = f"{release} (me@here) #1 SMP".encode() + b"\0"
    data[0x300 : 0x300 + len(told)] = told
    return bytes(data) + payload + b"\0" * 8


def module(release: str = RELEASE, depends: str = "") -> bytes:
    """As modpost writes .modinfo, with something of an ELF file around it."""
    return b"\x7fELF" + bytes(60) + f"\0license=GPL\0depends={depends}\0vermagic={release} SMP preempt\0".encode()


def tree(folder: Path, modules: Mapping[str, str], release: str = RELEASE, *, builtin: tuple[str, ...] = ()) -> Path:
    """lib/modules/RELEASE below `folder`: each of the modules with those that it depends on."""
    root = folder / "lib/modules" / release
    for name, depends in modules.items():
        path = root / "kernel/drivers" / f"{name}.ko"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(module(release, depends))
    (root / "modules.builtin").write_text("".join(f"kernel/fs/{name}.ko\n" for name in builtin))
    return folder
