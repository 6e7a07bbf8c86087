"""A developer's own Xen tools: whose they are, and whether they would start in the host."""

from __future__ import annotations

import hashlib
import shutil
import sys
import tarfile
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.base.deadline import Deadline
from harness.base.errors import LabError, UsageError
from harness.host.stacks import stack
from harness.nested import ownparts
from harness.nested.laidover import LaidOver
from harness.nested.ownparts import OwnParts, OwnXen
from harness.nested.owntools import OwnTools
from harness.nested.program import Program
from harness.nested.snapshot import _assert_run
from suites.selftest.fakes.hypervisorfile import START as TEXT
from suites.selftest.fakes.hypervisorfile import elf32, image
from suites.selftest.fakes.patience import soon
from suites.selftest.nested.test_ownparts import built

PROGRAM = Path(sys.executable).resolve()
QEMU = "/usr/local/lib/xen/bin/qemu-system-i386"


def installed(folder: Path, release: str = "4.20") -> Path:
    """As upstream's `make install-tools` leaves them; a running Python is the program of each."""
    root = folder / "install"
    for name in ("sbin/xl", "sbin/xenstored", "sbin/xenconsoled", "lib/xen/boot/hvmloader"):
        path = root / "usr/local" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(PROGRAM)
    libraries = root / "usr/local/lib"
    (libraries / f"libxenctrl.so.{release}.0").write_bytes(b"x")
    (libraries / f"libxenctrl.so.{release}").symlink_to(f"libxenctrl.so.{release}.0")
    (libraries / f"libxenlight.so.{release}.0").write_bytes(b"\0none\0" + QEMU.encode() + b"\0-M\0")
    return root


def upstream(folder: Path) -> Path:
    """With its own start script, and a program in place of links."""
    root = installed(folder)
    start = root / "etc/init.d/xencommons"
    start.parent.mkdir(parents=True)
    start.write_text("#!/bin/sh\n")
    start.chmod(0o755)
    (root / "var/lib/xenstored").mkdir(parents=True)
    xenstored = root / "usr/local/sbin/xenstored"
    xenstored.unlink()
    shutil.copyfile(PROGRAM, xenstored)
    return root


def test_what_they_say_of_themselves(tmp_path: Path) -> None:
    tools = OwnTools.read(upstream(tmp_path))
    assert (tools.release, tools.device_model, tools.starts_itself) == ((4, 20), QEMU, True)
    assert [one.path.name for one in tools.programs] == ["xl", "xenstored", "xenconsoled"]
    assert not OwnTools.read(installed(tmp_path / "debian")).starts_itself


@pytest.mark.parametrize("lost", ["sbin/xl", "sbin/xenstored", "sbin/xenconsoled", "lib/xen/boot/hvmloader"])
def test_a_tree_that_is_not_whole(tmp_path: Path, lost: str) -> None:
    root = installed(tmp_path)
    (root / "usr/local" / lost).unlink()
    with pytest.raises(UsageError, match=f"holds no {Path(lost).name}") as raised:
        OwnTools.read(root)
    assert "install-tools DESTDIR" in raised.value.hint


def test_no_tree(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no directory"):
        OwnTools.read(tmp_path / "nowhere")


def test_of_two_releases_or_of_none(tmp_path: Path) -> None:
    root = installed(tmp_path)
    (root / "usr/local/lib/libxenctrl.so.4.19.0").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"holds tools of 4\.19 and 4\.20"):
        OwnTools.read(root)
    for one in (root / "usr/local/lib").glob("libxenctrl*"):
        one.unlink()
    with pytest.raises(UsageError, match="holds tools of no release"):
        OwnTools.read(root)


def test_without_libxl(tmp_path: Path) -> None:
    root = installed(tmp_path)
    (root / "usr/local/lib/libxenlight.so.4.20.0").write_bytes(b"no path in it")
    with pytest.raises(UsageError, match="names a qemu-system-i386"):
        OwnTools.read(root)


@pytest.mark.parametrize(
    ("tools", "xen", "fits"),
    [
        ("4.20", None, True),
        ("4.19", None, True),  # the same interfaces
        ("4.17", None, False),
        ("4.21", None, False),
        ("4.17", "4.17.5", True),  # an own hypervisor is what they must fit, not the stack's
        ("4.21", "4.21.0", True),
        ("4.20", "4.21.0", False),
    ],
)
def test_they_must_be_those_of_the_hypervisor(tmp_path: Path, tools: str, xen: str | None, fits: bool) -> None:
    own = None
    if xen is not None:
        (tmp_path / "xen.gz").write_bytes(built(xen))
        own = OwnXen.read(tmp_path / "xen.gz")
    parts = OwnParts(own, tools=OwnTools.read(installed(tmp_path, tools)))
    if fits:
        parts.fit(stack("trixie"), ())
    else:
        with pytest.raises(UsageError, match=rf"holds the tools of Xen {tools}, which Xen .* refuses") as raised:
            parts.fit(stack("trixie"), ())
        assert "--xen" in raised.value.hint


def test_an_own_hypervisor_without_tools_names_the_option(tmp_path: Path) -> None:
    (tmp_path / "xen.gz").write_bytes(built("4.21.0"))
    with pytest.raises(UsageError) as raised:
        OwnParts(OwnXen.read(tmp_path / "xen.gz")).fit(stack("trixie"), ())
    assert "--xen-tools" in raised.value.hint


class TestInTheImage:
    @pytest.fixture(autouse=True)
    def its_libraries(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.there = Program.read(PROGRAM).needed
        monkeypatch.setattr(ownparts, "libraries", lambda _: frozenset(self.there))

    def fit(self, own: OwnParts, libc: tuple[int, int] = (2, 99)) -> None:
        own.fit_image(Path("root.ext4"), stack("trixie"), libc)

    def test_the_device_model_that_they_look_for_is_nowhere(self, tmp_path: Path) -> None:
        tools = OwnTools.read(installed(tmp_path))
        with pytest.raises(UsageError, match=f"look for {QEMU}, which is neither") as raised:
            self.fit(OwnParts(tools=tools))
        assert "--qemu-dm" in raised.value.hint
        self.fit(OwnParts(qemu=Program.read(PROGRAM), tools=tools))
        (tools.path / QEMU[1:]).parent.mkdir()
        (tools.path / QEMU[1:]).write_bytes(b"x")
        self.fit(OwnParts(tools=OwnTools.read(tools.path)))

    def test_a_library_is_neither_there_nor_theirs(self, tmp_path: Path) -> None:
        root = installed(tmp_path)
        own = OwnParts(qemu=Program.read(PROGRAM), tools=OwnTools.read(root))
        *self.there, last = self.there
        with pytest.raises(UsageError, match=rf"xl needs {last}, which the image of stack trixie does not have"):
            self.fit(own)
        (root / "usr/local/lib" / last).write_bytes(b"x")
        self.fit(OwnParts(qemu=own.qemu, tools=OwnTools.read(root)))

    def test_they_were_built_with_a_newer_c_library(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"xl needs a C library of 2\.\d+, and the image of stack trixie has 2\.1"):
            self.fit(OwnParts(qemu=Program.read(PROGRAM), tools=OwnTools.read(installed(tmp_path))), (2, 1))


def test_what_the_host_gets(tmp_path: Path) -> None:
    with tarfile.open(fileobj=BytesIO(LaidOver(None, None, OwnTools.read(upstream(tmp_path)), ()).over())) as tar:  # type: ignore[arg-type]
        members = {one.name: one for one in tar.getmembers()}
        unit = tar.extractfile("etc/systemd/system/xen.service")
        settings = tar.extractfile("etc/default/xencommons")
        assert unit is not None and b"ExecStart=/etc/init.d/xencommons start" in unit.read()
        assert settings is not None and b"XENCONSOLED_TRACE=guest" in settings.read()
    assert members["usr/local/sbin/xl"].issym()
    assert members["usr/local/sbin/xenstored"].isfile()
    assert members["etc/init.d/xencommons"].mode == 0o755
    assert members["var/lib/xenstored"].isdir()
    assert members["etc/systemd/system/multi-user.target.wants/xen.service"].linkname == "../xen.service"


def test_a_host_that_runs_other_tools_is_no_host_of_theirs(tmp_path: Path) -> None:
    tools = OwnTools.read(upstream(tmp_path))

    class Host:
        def __init__(self, told: str) -> None:
            self.told = told

        def run(self, script: object, deadline: Deadline) -> SimpleNamespace:
            return SimpleNamespace(text=self.told)

    theirs = hashlib.sha256(PROGRAM.read_bytes()).hexdigest()
    _assert_run(tools, Host(f"{theirs}  /proc/500/exe\n"), soon())  # type: ignore[arg-type]
    for told in (f"{'0' * 64}  /proc/500/exe\n", ""):
        with pytest.raises(LabError, match="runs another xenstored"):
            _assert_run(tools, Host(told), soon())  # type: ignore[arg-type]


def test_another_content_is_another_digest(tmp_path: Path) -> None:
    root = installed(tmp_path)
    before = OwnTools.read(root).sha256
    assert OwnTools.read(root).sha256 == before
    (root / "usr/local/lib/libxenctrl.so.4.20").unlink()
    (root / "usr/local/lib/libxenctrl.so.4.20").symlink_to("elsewhere")
    assert OwnTools.read(root).sha256 != before


def test_a_program_of_theirs_is_none(tmp_path: Path) -> None:
    root = installed(tmp_path)
    (root / "usr/local/sbin/xl").unlink()
    (root / "usr/local/sbin/xl").write_bytes(elf32(image({TEXT: b"\x90"})))
    with pytest.raises(UsageError, match="xl is no program for x86-64"):
        OwnTools.read(root)
