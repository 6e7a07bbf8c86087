"""A developer's kernel and tools, laid over the host's root by its initramfs, before anything of it starts.

The image stays as it is: the kernel unpacks the archive that is made here behind the image's own initramfs, whose files
it replaces, and the initramfs unpacks what is in it over the root, which is a layer of the snapshot's own.
"""

from __future__ import annotations

import hashlib
import io
import shlex
import tarfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.base.errors import UsageError
from harness.guest.drivers import Driver
from harness.guest.newc import Member, archive
from harness.nested.image import Image
from harness.nested.ownkernel import OwnKernel
from harness.nested.owntools import START, OwnTools
from harness.nested.rootfs import INIT

_MOST = 400 << 20  # bytes: dom0 has a gigabyte, and holds them twice while it unpacks them
_TAR = "over.tar"
_BEFORE = "$b mount -o move"  # a line of INIT: the root is there, and nothing of it runs
_OVER = """\
$b tar -x -f /{tar} -C /root && $b rm /{tar}
$b chroot /root /sbin/ldconfig
{depmod}
"""

# Debian's own would start the tools of the host's release, by their full paths. The guests' consoles are logged.
_UNIT = f"""\
[Unit]
Description=Xen's tools, started by their own script
After=systemd-modules-load.service local-fs.target

[Service]
Type=oneshot
RemainAfterExit=yes
Environment=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ExecStart=/{START} start
"""
_UNITS = "etc/systemd/system"
_SETTINGS = "etc/default/xencommons"


@dataclass(frozen=True)
class LaidOver:
    """The recipe of what the host boots instead of the image's: `vmlinuz` and `initrd.img`."""

    image: Image
    kernel: OwnKernel | None
    tools: OwnTools | None
    drivers: Collection[Driver]
    name: str = "over"
    needs_bytes: int = 512 << 20

    @property
    def digest(self) -> str:
        modules = self.kernel.modules if self.kernel else None
        parts = [self.image.digest, *(one.sha256 if one else "" for one in (self.kernel, modules, self.tools))]
        parts += [INIT, _OVER, _UNIT, *(module for one in self.drivers for module in one.modules)]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def build(self, directory: Path) -> None:
        """UsageError for parts that are too large for dom0's memory."""
        kernel = self.image.kernel if self.kernel is None else self.kernel.path
        (directory / "vmlinuz").write_bytes(kernel.read_bytes())
        over = self.over()
        if len(over) > _MOST:
            raise UsageError(
                f"what is to be laid over the host has {len(over) >> 20} MiB, and {_MOST >> 20} are the most",
                hint="strip it: make INSTALL_MOD_STRIP=1 modules_install; find DIR -type f -exec strip -g {} +",
            )
        members = [Member.file("init", self._init().encode(), 0o755), Member.file(_TAR, over)]
        if self.kernel is not None:
            modules = {Path(path).name: data for path, data in self.kernel.initial().items()}
            members.append(Member.file("modules", "".join(f"{name}\n" for name in modules).encode()))
            members += [Member.file(f"lib/{name}", data) for name, data in modules.items()]
        with (directory / "initrd.img").open("wb") as file:
            file.write(self.image.initrd.read_bytes())
            file.write(b"\0" * (-file.tell() % 4))
            file.write(archive(members))

    def _init(self) -> str:
        depmod = f"$b chroot /root /sbin/depmod {shlex.quote(self.kernel.image.release)}" if self.kernel else ""
        return INIT.replace(_BEFORE, _OVER.format(tar=_TAR, depmod=depmod) + _BEFORE)

    def over(self) -> bytes:
        """As a tar archive, whose members belong to root."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            if self.tools is not None:
                _add_tools(tar, self.tools)
            for path, data in self._kernels_files():
                _add(tar, path, data)
        return buffer.getvalue()

    def _kernels_files(self) -> Iterator[tuple[str, bytes]]:
        if self.kernel is None:
            return
        release, modules = self.kernel.image.release, self.kernel.modules
        yield f"boot/vmlinuz-{release}", self.kernel.path.read_bytes()
        for path, data in self.kernel.staged(self.drivers).items():
            yield f"lib/modules/{release}/{path}", data
        for name in ("modules.order", "modules.builtin", "modules.builtin.modinfo"):
            if modules is not None and (modules.folder / name).exists():
                yield f"lib/modules/{release}/{name}", (modules.folder / name).read_bytes()


def _add_tools(tar: tarfile.TarFile, tools: OwnTools) -> None:
    for folder in sorted(one for one in tools.path.rglob("*") if one.is_dir() and not any(one.iterdir())):
        member = tarfile.TarInfo(str(folder.relative_to(tools.path)))
        member.type, member.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(member)
    for name in tools.files:
        path = tools.path / name
        if path.is_symlink():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, str(path.readlink())
            tar.addfile(member)
        else:
            _add(tar, name, path.read_bytes(), path.stat().st_mode & 0o7777)
    if tools.starts_itself:
        settings = tools.path / _SETTINGS
        said = settings.read_bytes() if settings.exists() else b""
        _add(tar, _SETTINGS, said + b"\nXENCONSOLED_TRACE=guest\n")
        _add(tar, f"{_UNITS}/xen.service", _UNIT.encode())
        wanted = tarfile.TarInfo(f"{_UNITS}/multi-user.target.wants/xen.service")
        wanted.type, wanted.linkname = tarfile.SYMTYPE, "../xen.service"
        tar.addfile(wanted)


def _add(tar: tarfile.TarFile, name: str, data: bytes, mode: int = 0o644) -> None:
    member = tarfile.TarInfo(name)
    member.mode, member.size = mode, len(data)
    tar.addfile(member, io.BytesIO(data))
