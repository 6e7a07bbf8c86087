"""The guest's initramfs: static busybox, the device's modules from the host's own module tree, init and exercise.

The kernel is the host's own, so every host can boot a guest that always has the right driver, without downloads.
"""

from __future__ import annotations

import gzip
import hashlib
import lzma
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from harness.base.deadline import Deadline
from harness.base.errors import LabError, ParseError
from harness.guest.drivers import Driver
from harness.guest.newc import Member, archive
from harness.transport.base import Script, Transport

REMOTE_DIRECTORY = "/var/lib/maskall"
PV_FRONTEND = "xen-pcifront"  # a PV guest sees its devices through it; elsewhere it refuses to load, which harms nobody


@dataclass(frozen=True)
class GuestFiles:
    """What a guest boots from, as paths on the host."""

    kernel: str
    initramfs: str  # one for all guests: which drivers a guest loads its kernel's command line says


def exercise_script(driver: Driver) -> str:
    """The driver's ready() and traffic() with the common program behind them."""
    common = Path(__file__).with_name("exercise.sh").read_text()
    return f"ready() {{\n{driver.ready}\n}}\ntraffic() {{\n{driver.traffic}\n}}\n{common}"


def parse_dependencies(text: str) -> tuple[str, ...]:
    """Module files in loading order.

    Accepted format: `modprobe --show-depends`, lines `insmod /lib/modules/.../x.ko[.xz] [options]` or `builtin x`.
    """
    paths: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if words[:1] == ["builtin"] or not words:
            continue
        if words[0] != "insmod" or len(words) < 2:
            raise ParseError(f"{line!r}", file="modprobe", line=number, expected="insmod PATH or builtin NAME")
        if words[1] not in paths:
            paths.append(words[1])
    return tuple(paths)


def _plain(path: str, data: bytes) -> bytes:
    """A module as insmod of busybox takes it: not compressed."""
    match PurePosixPath(path).suffix:
        case ".ko":
            return data
        case ".xz":
            return lzma.decompress(data)
        case ".gz":
            return gzip.decompress(data)
    raise LabError(f"cannot unpack the module {path}", hint="modules as .ko, .ko.xz or .ko.gz are understood")


@dataclass(frozen=True)
class ModuleList:
    """A driver with its modules, (path, content) in loading order."""

    driver: Driver
    modules: tuple[tuple[str, bytes], ...]


def build(busybox: bytes, wanted: dict[str, ModuleList]) -> bytes:
    """The archive for guests with any of these drivers. Pure but for reading our own data files."""
    init = Path(__file__).with_name("init.sh").read_bytes()
    members = [
        *(Member.directory(name) for name in ("bin", "dev", "modules", "drivers", "exercise")),
        Member.character_device("dev/console", 5, 1),
        Member.character_device("dev/null", 1, 3),
        Member.file("bin/busybox", busybox, 0o755),
        Member.file("init", init, 0o755),
        Member.file("actions", Path(__file__).with_name("actions.sh").read_bytes()),
    ]
    files = {path: data for one in wanted.values() for path, data in one.modules}
    members += [Member.file(f"modules/{_module(path)}", _plain(path, data)) for path, data in files.items()]
    for name, one in wanted.items():
        listed = "".join(f"{_module(path)}\n" for path, _ in one.modules)
        members.append(Member.file(f"drivers/{name}", listed.encode()))
        members.append(Member.file(f"exercise/{name}", exercise_script(one.driver).encode(), 0o755))
    return archive(members)


def _module(path: str) -> str:
    return PurePosixPath(path).name.split(".ko")[0] + ".ko"


@dataclass(frozen=True)
class OtherKernel:
    """A kernel for the guests that is not dom0's: its image, and for each driver its modules in loading order."""

    image: bytes
    modules: dict[str, tuple[tuple[str, bytes], ...]]


def install(
    transport: Transport,
    wanted: dict[str, Driver],
    deadline: Deadline,
    directory: str = REMOTE_DIRECTORY,
    kernel: OtherKernel | None = None,
) -> GuestFiles:
    """Put the initramfs for these drivers into `directory` on the host, if it is not there yet; `kernel` beside it."""
    busybox = transport.get(_static_busybox(transport, deadline), deadline)
    if kernel is not None:
        image = _kept(transport, kernel.image, f"{directory}/vmlinuz-", "", deadline)
        lists = {name: ModuleList(driver, kernel.modules[name]) for name, driver in wanted.items()}
        return GuestFiles(image, _kept(transport, build(busybox, lists), f"{directory}/guest-", ".cpio", deadline))
    release = transport.run(["uname", "-r"], deadline=deadline).check().text.strip()
    content: dict[str, bytes] = {}
    found = {}
    for name, driver in wanted.items():
        modules = [PV_FRONTEND, *driver.modules]
        listed = transport.run(["modprobe", "--show-depends", "--all", *modules], deadline=deadline).check()
        paths = parse_dependencies(listed.text)
        content |= {path: transport.get(path, deadline) for path in paths if path not in content}
        found[name] = ModuleList(driver, tuple((path, content[path]) for path in paths))
    path = _kept(transport, build(busybox, found), f"{directory}/guest-", ".cpio", deadline)
    return GuestFiles(f"/boot/vmlinuz-{release}", path)


def _kept(transport: Transport, data: bytes, prefix: str, suffix: str, deadline: Deadline) -> str:
    """Where it is on the host, under a name that its content gives."""
    path = f"{prefix}{hashlib.sha256(data).hexdigest()[:16]}{suffix}"
    if not transport.run(["test", "-e", path], deadline=deadline).ok:
        transport.run(["mkdir", "-p", str(PurePosixPath(path).parent)], deadline=deadline, changes=True).check()
        transport.put(data, path, 0o644, deadline)
    return path


def _static_busybox(transport: Transport, deadline: Deadline) -> str:
    """Where the host's busybox is; a dynamically linked one would not start in a guest without libraries."""
    found = transport.run(
        Script('p=$(command -v busybox) && readlink -f "$p" && ! ldd "$p" >/dev/null 2>&1'), deadline=deadline
    )
    if not found.ok:
        raise LabError(
            f"{transport.name}: there is no static busybox in dom0", hint="apt-get install busybox-static on the host"
        )
    return found.text.strip()
