"""A developer's own hypervisor: told apart from what is none before anything boots, and kept by its content."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.base.errors import HostUnreachable, LabError, UsageError
from harness.base.process import find, run
from harness.base.progress import PlainProgress
from harness.host.stacks import stack
from harness.nested import snapshot
from harness.nested.cache import Cache
from harness.nested.ownparts import OwnParts, OwnXen, libraries
from harness.nested.program import Program
from harness.nested.silence import Listener, Silences
from suites.selftest.fakes.hypervisorfile import START, elf32, image
from suites.selftest.fakes.patience import soon

CONFIG = "#\n# Automatically generated file; DO NOT EDIT.\n# Xen/{arch} {version} Configuration\n#\nCONFIG_X86=y\n"


def built(version: str | None, arch: str = "x86") -> bytes:
    """A hypervisor's file; with its own config inside, as CONFIG_HYPFS_CONFIG puts it there."""
    config = b"" if version is None else gzip.compress(CONFIG.format(version=version, arch=arch).encode())
    return elf32(image({START + 0x1000: b"\x90" * 64 + b"\x1f\x8b\x08 no gzip" + config + b"\x90" * 64}))


def file(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "xen.gz"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("packed", [True, False], ids=["gzip", "plain"])
@pytest.mark.parametrize(
    ("version", "release"), [("4.20.4", (4, 20)), ("4.17.5-pre", (4, 17)), ("5.0-unstable", (5, 0)), (None, None)]
)
def test_what_it_is_it_says_itself(
    tmp_path: Path, version: str | None, release: tuple[int, int] | None, packed: bool
) -> None:
    data = built(version)
    own = OwnXen.read(file(tmp_path, gzip.compress(data) if packed else data))
    assert (own.release, own.build_id) == (release, bytes(range(20)).hex())
    kept = own.stored(Cache(tmp_path / "cache"))
    assert kept.read_bytes() == data
    assert own.sha256[:16] in str(kept)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x7fELF\x02" + bytes(100), "64-bit ELF, as xen-syms is"),
        (b"MZ" + bytes(100), "an EFI program"),
        (b"#!/bin/sh\n" + bytes(100), "no hypervisor"),
        (b"", "no hypervisor"),
        (gzip.compress(built("4.20.4"))[:-40], "ends too early"),
        (built("4.20.4")[:60], "headers are cut"),
        (elf32(image({START + 0x1000: b"\x90" * 64}), None), "no build-id"),
    ],
)
def test_what_is_none_is_refused_with_what_to_give(tmp_path: Path, data: bytes, words: str) -> None:
    with pytest.raises(UsageError, match=words) as raised:
        OwnXen.read(file(tmp_path, data))
    assert "xen/xen.gz" in raised.value.hint
    assert "\n" not in raised.value.message


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        OwnXen.read(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        OwnXen.read(tmp_path)


@pytest.mark.parametrize(
    ("version", "name", "fits"),
    [
        ("4.20.4", "trixie", True),
        ("4.19.0", "trixie", True),  # the same interfaces
        (None, "trixie", True),  # it does not say; the boot will tell
        ("4.21.0", "trixie", False),
        ("4.17.5", "trixie", False),
        ("4.17.5", "bookworm", True),
        ("4.16.1", "bookworm", False),
        ("5.0-unstable", "trixie", False),
    ],
)
def test_tools_of_another_interface(tmp_path: Path, version: str | None, name: str, fits: bool) -> None:
    own = OwnXen.read(file(tmp_path, built(version)))
    if fits:
        own.fit(stack(name))
    else:
        with pytest.raises(UsageError, match="refuses the tools of stack") as raised:
            own.fit(stack(name))
        assert "--stack" in raised.value.hint


PANIC = "(XEN) Xen version 4.20.4\n(XEN) ****\n(XEN) Panic on CPU 0:\n(XEN) no host today\n(XEN) ****\n"


@pytest.mark.parametrize(
    ("console", "said"),
    [
        (PANIC, "died while it booted: Panic on CPU 0:"),
        ("(XEN) Xen version 4.20.4\n(XEN) Bootloader: unknown\n", "did not bring dom0 up in 600 s"),
        ("", "its last lines: none"),
    ],
)
def test_one_that_does_not_boot_is_told_with_its_last_lines(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, console: str, said: str
) -> None:
    class Silent:
        def console(self) -> str:
            return console

    def connect(*_: object) -> None:
        raise HostUnreachable("nested-trixie: no answer")

    monkeypatch.setattr(snapshot, "connect", connect)
    own = OwnXen.read(file(tmp_path, built("4.20.4")))
    recipe = snapshot.SnapshotRecipe(
        None, None, {}, tmp_path, PlainProgress(io.StringIO()), OwnParts(own)  # type: ignore[arg-type]
    )  # fmt: skip
    with pytest.raises(LabError, match=said) as raised:
        recipe._booted(Silent(), Listener(tmp_path / "console.log"))  # type: ignore[arg-type]
    assert str(own.path) in raised.value.message
    for line in console.splitlines():
        assert f"\n    {line}" in raised.value.message


@pytest.mark.parametrize(("console", "over"), [(PANIC, True), ("(XEN) Xen version 4.20.4\n", False)])
def test_nobody_waits_for_one_that_died(console: str, over: bool) -> None:
    class Booting:
        alive = True

        def console(self) -> str:
            return console

    assert snapshot._WhileAlive(soon().at, Booting()).expired is over  # type: ignore[arg-type]


def test_nobody_waits_for_one_that_hangs(tmp_path: Path) -> None:
    class Booting:
        alive = True

        def console(self) -> str:
            return "(XEN) Xen version 4.20.4\n"

    console = tmp_path / "console.log"
    console.write_text("(XEN) Xen version 4.20.4\n")
    listener = Listener(console, Silences(1.0, 5.0), now=lambda: 100)
    listener.hangs()
    listener.now = lambda: 119
    deadline = snapshot._WhileAlive(soon().at, Booting(), listener)  # type: ignore[arg-type]
    assert not deadline.expired and deadline.remaining
    listener.now = lambda: 121
    assert deadline.expired and not deadline.remaining
    assert "Xen has said nothing for 21 s, and the stock one never for 1.0 s here" in listener.hung


class TestQemu:
    def test_a_program_says_what_it_needs(self) -> None:
        program = Program.read(Path(sys.executable).resolve())
        assert "libc.so.6" in program.needed
        program.fit(program.needed, program.libc, "the image")
        with pytest.raises(UsageError, match=r"needs libc\.so\.6, which the image does not have"):
            program.fit([name for name in program.needed if name != "libc.so.6"], program.libc, "the image")
        with pytest.raises(UsageError, match=r"needs a C library of 2\.\d+, and the image has 2\.1 "):
            program.fit(program.needed, (2, 1), "the image")

    @pytest.mark.parametrize(
        "data", [b"", b"#!/bin/sh\n", b"\x7fELF\x01\x01" + bytes(90), b"\x7fELF\x02\x01" + bytes(90)]
    )
    def test_what_is_no_program_for_the_host(self, tmp_path: Path, data: bytes) -> None:
        with pytest.raises(UsageError, match="is no program for x86-64"):
            Program.read(file(tmp_path, data))

    @given(data=st.binary(max_size=300))
    def test_damaged_headers(self, tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
        head = b"\x7fELF\x02\x01\x01" + bytes(11) + b"\x3e\x00" + bytes(12) + (64).to_bytes(8, "little")
        whole = head + bytes(14) + (56).to_bytes(2, "little") + (3).to_bytes(2, "little") + bytes(6) + data
        with contextlib.suppress(UsageError):
            Program.read(file(tmp_path_factory.mktemp("elf"), whole))

    def test_the_libraries_of_an_image(self, tmp_path: Path) -> None:
        folder = tmp_path / "root/usr/lib/x86_64-linux-gnu"
        folder.mkdir(parents=True)
        (folder / "libc.so.6").write_bytes(b"x")
        disk = tmp_path / "root.ext4"
        disk.write_bytes(b"")
        os.truncate(disk, 4 << 20)
        run([find("mkfs.ext4"), "-q", "-F", "-d", str(tmp_path / "root"), str(disk)], deadline=soon())
        assert "libc.so.6" in libraries(disk)

    def test_both_are_facts_of_the_host(self, tmp_path: Path) -> None:
        own = OwnParts(OwnXen.read(file(tmp_path, built("4.20.4"))), Program.read(Path(sys.executable).resolve()))
        assert set(own.facts) == {"own_xen", "own_qemu"}
        assert own.xen is not None and own.xen.sha256 in own.facts["own_xen"]
        assert OwnParts().facts == {}
