"""The guest's archive, read back by a reader of its own; and putting it on a host only once."""

from __future__ import annotations

import gzip
import lzma
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.base.errors import CommandFailed, LabError, ParseError
from harness.guest.drivers import Driver, drivers
from harness.guest.initramfs import REMOTE_DIRECTORY, ModuleList, build, exercise_script, install, parse_dependencies
from harness.guest.newc import Member, archive
from suites.selftest.fakes.faketransport import FakeTransport, Reply
from suites.selftest.fakes.patience import soon

GUEST = Path(__file__).parents[3] / "harness/guest"
BUSYBOX = b"\x7fELF static busybox"


@dataclass(frozen=True)
class Entry:
    """A member as the kernel's unpacker sees it."""

    name: str
    inode: int
    mode: int
    links: int
    data: bytes
    rdev: tuple[int, int]


def unpack(image: bytes) -> list[Entry]:
    """A reader from the kernel's buffer-format document, not from our writer. The trailer must be the very end."""
    entries: list[Entry] = []
    at = 0
    while True:
        assert at % 4 == 0, "every header starts on a multiple of 4"
        assert image[at : at + 6] == b"070701"
        fields = [int(image[at + 6 + 8 * place : at + 14 + 8 * place], 16) for place in range(13)]
        inode, mode, _, _, links, _, size, _, _, major, minor, name_size, _ = fields
        name = image[at + 110 : at + 110 + name_size]
        assert name.endswith(b"\0") and name.count(b"\0") == 1
        start = -(-(at + 110 + name_size) // 4) * 4
        data = image[start : start + size]
        assert len(data) == size
        at = -(-(start + size) // 4) * 4
        if name == b"TRAILER!!!\0":
            assert at == len(image)
            return entries
        entries.append(Entry(name[:-1].decode(), inode, mode, links, data, (major, minor)))


def driver(modules: list[str]) -> Driver:
    return Driver(modules=modules, config=["X"], bound_as="x", ready="true", traffic="echo burst", in_dom0=True)


@given(
    st.lists(
        st.tuples(st.from_regex(r"[a-z][a-z0-9./_-]{0,12}", fullmatch=True), st.binary(max_size=70), st.booleans()),
        max_size=6,
    )
)
def test_what_was_written_is_read(files: list[tuple[str, bytes, bool]]) -> None:
    members = [Member.file(name, data, 0o755 if run else 0o644) for name, data, run in files]
    entries = unpack(archive(members))
    assert [(one.name, one.data, stat.S_IMODE(one.mode) == 0o755) for one in entries] == files
    assert all(stat.S_ISREG(one.mode) for one in entries)
    assert len({one.inode for one in entries}) == len(files), "equal inodes would be hard links"


def test_kinds_of_members() -> None:
    folder, device = unpack(archive([Member.directory("dev"), Member.character_device("dev/console", 5, 1)]))
    assert stat.S_ISDIR(folder.mode) and not folder.data
    assert stat.S_ISCHR(device.mode) and device.rdev == (5, 1)


MODULES = [
    ("/lib/modules/6.12/kernel/nvme-core.ko.xz", lzma.compress(b"core")),
    ("/lib/modules/6.12/kernel/nvme.ko", b"nvme"),
    ("/lib/modules/6.12/kernel/a-last.ko.gz", gzip.compress(b"last")),
]


WANTED = {
    "nvme": ModuleList(driver(["nvme"]), tuple(MODULES)),
    "other": ModuleList(driver(["other"]), (MODULES[0], ("/lib/modules/6.12/kernel/other.ko", b"other"))),
}


def test_modules_are_plain_and_listed_in_loading_order() -> None:
    entries = {one.name: one for one in unpack(build(BUSYBOX, WANTED))}
    assert entries["drivers/nvme"].data == b"nvme-core.ko\nnvme.ko\na-last.ko\n"
    assert entries["drivers/other"].data == b"nvme-core.ko\nother.ko\n"
    assert sum(name.startswith("modules/") for name in entries) == 4, "what two drivers need is there once"
    assert entries["modules/nvme-core.ko"].data == b"core"
    assert entries["modules/nvme.ko"].data == b"nvme"
    assert entries["modules/a-last.ko"].data == b"last"


def test_what_a_guest_needs_to_start() -> None:
    entries = {one.name: one for one in unpack(build(BUSYBOX, WANTED))}
    assert entries["bin/busybox"].data == BUSYBOX
    assert {name for name, one in entries.items() if one.mode & 0o111 and stat.S_ISREG(one.mode)} == {
        "bin/busybox",
        "init",
        "exercise/nvme",
        "exercise/other",
    }
    assert entries["dev/console"].rdev == (5, 1)
    names = list(entries)
    for name in names:
        folder = name.rpartition("/")[0]
        assert not folder or names.index(folder) < names.index(name), "a folder comes before what is in it"
    assert build(BUSYBOX, WANTED) == build(BUSYBOX, WANTED)


@pytest.mark.skipif(shutil.which("cpio") is None, reason="cpio is not installed here")
def test_cpio_reads_it_too() -> None:
    image = build(BUSYBOX, WANTED)
    listed = subprocess.run(["cpio", "-t", "--quiet"], input=image, capture_output=True, check=True)  # noqa: S607
    assert listed.stdout.decode().split() == [one.name for one in unpack(image)]
    assert listed.stderr == b""


def test_a_module_in_a_form_we_do_not_know() -> None:
    with pytest.raises(LabError, match=r"cannot unpack the module /x\.ko\.zst"):
        build(BUSYBOX, {"x": ModuleList(driver(["x"]), (("/x.ko.zst", b""),))})


class TestDependencies:
    def test_order_and_duplicates(self) -> None:
        text = "builtin virtio\ninsmod /m/core.ko.xz \ninsmod /m/x.ko a=1\n\ninsmod /m/core.ko.xz\nbuiltin y\n"
        assert parse_dependencies(text) == ("/m/core.ko.xz", "/m/x.ko")

    def test_all_built_in(self) -> None:
        assert parse_dependencies("builtin nvme\n") == ()

    @pytest.mark.parametrize("line", ["insmod", "install /bin/true", "modprobe: FATAL: Module x not found"])
    def test_anything_else_is_told_with_its_line(self, line: str) -> None:
        with pytest.raises(ParseError, match="modprobe:2"):
            parse_dependencies(f"builtin x\n{line}\n")


@dataclass
class Dom0:
    """A host with modules and a static busybox, as far as `install` looks at it."""

    static: bool = True

    def transport(self) -> FakeTransport:
        host = FakeTransport(
            connected=True,
            commands={
                "uname -r": Reply(b"6.12.1-amd64\n"),
                "sh -c .*busybox.*ldd.*": Reply(b"/usr/bin/busybox\n", status=0 if self.static else 1),
                "modprobe --show-depends --all xen-pcifront nvme": Reply(
                    b"insmod /m/nvme-core.ko\ninsmod /m/nvme.ko\n"
                ),
                "modprobe --show-depends --all xen-pcifront virtio_pci virtio_rng": Reply(
                    b"builtin x\ninsmod /m/rng.ko\n"
                ),
                "modprobe .*": Reply(stderr=b"modprobe: FATAL: Module nope not found\n", status=1),
                f"mkdir -p {REMOTE_DIRECTORY}": Reply(),
                "test -e .*": lambda executed: Reply(status=0 if executed.shown.split()[-1] in host.files else 1),
            },
        )
        host.files |= {"/usr/bin/busybox": (BUSYBOX, 0o755)}
        host.files |= {f"/m/{name}.ko": (name.encode(), 0o644) for name in ("nvme-core", "nvme", "rng")}
        return host


class TestInstall:
    def test_only_missing_files_are_sent(self) -> None:
        host = Dom0().transport()
        wanted = {name: drivers()[name] for name in ("nvme", "virtio-rng")}
        files = install(host, wanted, soon())
        assert files.kernel == "/boot/vmlinuz-6.12.1-amd64"
        assert files.initramfs.startswith(f"{REMOTE_DIRECTORY}/guest-")
        entries = {one.name: one.data for one in unpack(host.files[files.initramfs][0])}
        for name, driver in wanted.items():
            assert entries[f"exercise/{name}"].decode() == exercise_script(driver)
        assert entries["drivers/nvme"] == b"nvme-core.ko\nnvme.ko\n"
        sent = [one for one in host.executed if one.shown.startswith("put ")]
        assert len(sent) == 1
        assert install(host, wanted, soon()) == files
        assert [one for one in host.executed if one.shown.startswith("put ")] == sent

    def test_another_module_makes_another_file(self) -> None:
        host = Dom0().transport()
        wanted = {"nvme": drivers()["nvme"]}
        before = install(host, wanted, soon()).initramfs
        host.files["/m/nvme.ko"] = (b"newer", 0o644)
        assert install(host, wanted, soon()).initramfs != before

    def test_a_dynamic_busybox_is_refused(self) -> None:
        with pytest.raises(LabError, match="no static busybox"):
            install(Dom0(static=False).transport(), {"nvme": drivers()["nvme"]}, soon())

    def test_a_missing_module_is_told(self) -> None:
        with pytest.raises(CommandFailed, match="Module nope not found"):
            install(Dom0().transport(), {"x": driver(["nope"])}, soon())
