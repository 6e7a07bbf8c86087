"""A kernel that somebody built: what its image says of itself, and its modules.

Sources: Linux Documentation/arch/x86/boot.rst (the header of a bzImage), scripts/extract-ikconfig, modpost's .modinfo.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from harness.base.errors import ParseError, UsageError
from harness.base.packed import unpacked

_CONFIG = re.compile(rb"IKCFG_ST(\x1f\x8b.*?)IKCFG_ED", re.DOTALL)
_OPTION = re.compile(r"^CONFIG_(\w+)=(.*)$", re.MULTILINE)
_MODULE = re.compile(r"(?P<name>[^/]+)\.ko(?:\.(?:gz|xz|zst))?$")
_INFO = re.compile(rb"\0(depends|vermagic)=([^\0]*)(?=\0)")
_FOLDERS = ("", "lib/modules", "usr/lib/modules")


def _module(name: str) -> str:
    """Its name as the kernel has it: a dash in the file's is an underscore."""
    return name.replace("-", "_")


@dataclass(frozen=True)
class KernelImage:
    """A bzImage for x86-64. `release` is what uname -r says; `config` its options without "CONFIG_", None: unknown."""

    release: str
    config: Mapping[str, str] | None

    @classmethod
    def parse(cls, data: bytes, file: str) -> KernelImage:
        """ParseError for every other kind of file."""
        if data[0x202:0x206] != b"HdrS" or len(data) < 0x260:
            raise ParseError("no bzImage", file=file, expected="arch/x86/boot/bzImage, or a distribution's vmlinuz")
        (protocol,) = struct.unpack_from("<H", data, 0x206)
        if protocol < 0x020C or not data[0x236] & 1:
            raise ParseError("a kernel of 32 bits, or one before 3.8", file=file, expected="one for x86-64")
        (told,) = struct.unpack_from("<H", data, 0x20E)
        said = data[told + 0x200 : told + 0x300].partition(b"\0")[0].split()
        if not told or not said:
            raise ParseError("names no version", file=file, expected="a bzImage as the build left it")
        offset, length = struct.unpack_from("<II", data, 0x248)
        start = ((data[0x1F1] or 4) + 1) * 512 + offset
        found = _CONFIG.search(unpacked(data[start : start + length], file))
        return cls(said[0].decode("ascii", "replace"), options(unpacked(found[1], file).decode()) if found else None)


def options(config: str) -> dict[str, str]:
    """Accepted format: a .config, lines `CONFIG_XEN_DOM0=y`; one that is not set is not there."""
    return dict(_OPTION.findall(config))


@dataclass(frozen=True)
class Modules:
    """The modules of the kernel `release`, below `folder`. Without modules.dep, which a package has not yet."""

    folder: Path
    release: str

    @classmethod
    def find(cls, given: Path, release: str) -> Modules:
        """`given` is what modules_install was told (INSTALL_MOD_PATH), or the lib/modules/RELEASE in it. UsageError."""
        trees = [given, *(one for folder in _FOLDERS for one in sorted((given / folder).glob("*")))]
        found = [one for one in trees if (one / "kernel").is_dir()]
        for tree in found:
            if tree.name == release or tree == given:
                return cls(tree, release)
        hint = f"make modules_install INSTALL_MOD_PATH={given}, in the tree of that kernel"
        if found:
            named = ", ".join(one.name for one in found)
            raise UsageError(f"{given} has modules of {named}, and the kernel is {release}", hint=hint)
        raise UsageError(f"{given} has no modules of {release}", hint=hint)

    @cached_property
    def files(self) -> dict[str, Path]:
        """By the module's name."""
        named = ((_MODULE.search(str(path)), path) for path in sorted(self.folder.rglob("*.ko*")))
        return {_module(match["name"]): path for match, path in named if match}

    @cached_property
    def builtin(self) -> frozenset[str]:
        """Those that the kernel has in itself."""
        listed = self.folder / "modules.builtin"
        lines = listed.read_text().splitlines() if listed.exists() else []
        return frozenset(_module(Path(line).stem) for line in lines)

    def loading(self, names: Iterable[str]) -> dict[str, bytes]:
        """What it takes to load these, by path below `folder` and not packed, each after those that it depends on.

        UsageError for a module that is not there, or is of another kernel.
        """
        found: dict[str, bytes] = {}
        for name in names:
            self._load(_module(name), found)
        return found

    def _load(self, name: str, found: dict[str, bytes]) -> None:
        path = self.files.get(name)
        if path is None and name not in self.builtin:
            raise UsageError(
                f"{self.folder} has no module {name}", hint="'maskall nested kernel-config' prints what it takes"
            )
        if path is None:
            return
        kept = str(path.relative_to(self.folder)).partition(".ko")[0] + ".ko"
        if kept in found:
            return
        data = unpacked(path.read_bytes(), str(path))
        said = {key.decode(): value.decode("ascii", "replace") for key, value in _INFO.findall(data)}
        of = said.get("vermagic", "").partition(" ")[0]
        if of != self.release:
            raise UsageError(
                f"{path} is a module of {of or 'no kernel'}, and the kernel is {self.release}",
                hint="give the modules that 'make modules_install' left for that kernel",
            )
        for other in filter(None, said.get("depends", "").split(",")):
            self._load(_module(other), found)
        found[kept] = data

    @cached_property
    def sha256(self) -> str:
        """Of all of them."""
        summed = hashlib.sha256()
        for name, path in self.files.items():
            summed.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
        return summed.hexdigest()
